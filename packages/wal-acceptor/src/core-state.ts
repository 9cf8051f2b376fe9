/**
 * The consensus core's view of one timeline: what is durable, what memory knows better, and the rules by which
 * positions advance.
 *
 * Kept true here: commit <= flush, commit never goes back, nothing in memory is ever behind what is durable, and
 * every write of the control file carries the newest values of memory. Only the core's handlers change it, one at a
 * time. The rules are those of Neon's safekeeper; the time of the last control write is kept up to date here, so
 * that the periodic save does not turn into one at every wake-up.
 */
import * as assert from "node:assert";
import { INVALID_LSN, maxLsn, minLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { effectiveHistory, lastLogTerm } from "@millrace/wal-protocol";
import type { Configuration, TermHistory } from "@millrace/wal-protocol";
import type { Clock } from "./clock.js";
import type { ControlStore } from "./control-store.js";
import { sameState } from "./persistent-state.js";
import type { PersistentState, ServerInfo } from "./persistent-state.js";
import type { WalStore } from "./wal-store.js";

/** Everything about a timeline's state that may be looked at. Every field is current at each access. */
export interface AcceptorStateView {
  readonly nodeId: bigint;
  readonly tenantId: string;
  readonly timelineId: string;
  readonly configuration: Configuration;
  readonly server: ServerInfo;
  /** Highest term voted for or learned. */
  readonly term: bigint;
  /** The whole history as received, possibly beyond the log's end. */
  readonly termHistory: TermHistory;
  /** The part of `termHistory` that the log has reached. */
  readonly effectiveHistory: TermHistory;
  /** Term of the log's end: with `flushLsn`, the key by which logs are compared. 0 for an empty log. */
  readonly lastLogTerm: bigint;
  /** Where the current term begins; 0 until a ProposerElected was handled since the timeline was opened. */
  readonly termStartLsn: Lsn;
  readonly writeLsn: Lsn;
  /** End of the last complete durable record, and never below the timeline's start. */
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  /** What a restart would fall back to. */
  readonly persistedCommitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly peerHorizonLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  readonly timelineStartLsn: Lsn;
  readonly localStartLsn: Lsn;
  /** Why the timeline refuses every message, or undefined while it does not. */
  readonly brokenReason: string | undefined;
}

/** Mutable state of the core. Internal to the package. */
export class CoreState implements AcceptorStateView {
  readonly control: ControlStore;
  readonly wal: WalStore;
  readonly nodeId: bigint;
  readonly #clock: Clock;
  #commitLsn: Lsn;
  #backupLsn: Lsn;
  #peerHorizonLsn: Lsn;
  #remoteConsistentLsn: Lsn;
  #lastPersistMs: number;
  termStartLsn: Lsn = INVALID_LSN;
  brokenReason: string | undefined;

  constructor(control: ControlStore, wal: WalStore, nodeId: bigint, clock: Clock) {
    this.control = control;
    this.wal = wal;
    this.nodeId = nodeId;
    this.#clock = clock;
    const durable = control.get();
    this.#commitLsn = durable.commitLsn;
    this.#backupLsn = durable.backupLsn;
    this.#peerHorizonLsn = durable.peerHorizonLsn;
    this.#remoteConsistentLsn = durable.remoteConsistentLsn;
    this.#lastPersistMs = clock.monotonicMs();
  }

  get tenantId(): string {
    return this.control.get().tenantId;
  }

  get timelineId(): string {
    return this.control.get().timelineId;
  }

  get configuration(): Configuration {
    return this.control.get().configuration;
  }

  get server(): ServerInfo {
    return this.control.get().server;
  }

  get term(): bigint {
    return this.control.get().term;
  }

  get termHistory(): TermHistory {
    return this.control.get().termHistory;
  }

  get effectiveHistory(): TermHistory {
    return effectiveHistory(this.termHistory, this.flushLsn);
  }

  get lastLogTerm(): bigint {
    return lastLogTerm(this.termHistory, this.flushLsn);
  }

  get writeLsn(): Lsn {
    return this.wal.writeLsn;
  }

  get flushLsn(): Lsn {
    return maxLsn(this.wal.flushLsn, this.timelineStartLsn);
  }

  get commitLsn(): Lsn {
    return this.#commitLsn;
  }

  get persistedCommitLsn(): Lsn {
    return this.control.get().commitLsn;
  }

  get backupLsn(): Lsn {
    return this.#backupLsn;
  }

  get peerHorizonLsn(): Lsn {
    return this.#peerHorizonLsn;
  }

  get remoteConsistentLsn(): Lsn {
    return this.#remoteConsistentLsn;
  }

  get timelineStartLsn(): Lsn {
    return this.control.get().timelineStartLsn;
  }

  get localStartLsn(): Lsn {
    return this.control.get().localStartLsn;
  }

  /** Monotonic milliseconds at which the control file was last written, or the timeline opened. */
  get lastPersistMs(): number {
    return this.#lastPersistMs;
  }

  /** Whether memory knows something that a restart would lose. */
  get dirty(): boolean {
    return !sameState(this.#withMemory({}), this.control.get());
  }

  /**
   * Writes the control file with `change` and everything newer that memory knows. When it rejects, neither memory
   * nor what is durable has changed.
   */
  async persist(change: Partial<PersistentState>): Promise<void> {
    const next = this.#withMemory(change);
    if (sameState(next, this.control.get())) return;
    await this.control.persist(next);
    this.#lastPersistMs = this.#clock.monotonicMs();
    this.#commitLsn = next.commitLsn;
    this.#backupLsn = next.backupLsn;
    this.#peerHorizonLsn = next.peerHorizonLsn;
    this.#remoteConsistentLsn = next.remoteConsistentLsn;
  }

  /**
   * Advances commit towards `candidate`, as far as the log is durable. The control file is written once when commit
   * first reaches the current term's start: a proposer that only synchronises acceptors waits for the durable value.
   */
  async advanceCommit(candidate: Lsn): Promise<void> {
    const commitLsn = minLsn(maxLsn(candidate, this.#commitLsn), this.flushLsn);
    // Truncation below commit is refused and recovery starts at it, so the log always reaches that far.
    assert.ok(commitLsn >= this.#commitLsn, "the log ends before its commit position");
    this.#commitLsn = commitLsn;
    if (commitLsn >= this.termStartLsn && this.persistedCommitLsn < this.termStartLsn) await this.persist({});
  }

  /** Nobody needs WAL below `lsn`. May run ahead of a lagging node's own log. */
  raisePeerHorizon(lsn: Lsn): void {
    this.#peerHorizonLsn = maxLsn(this.#peerHorizonLsn, lsn);
  }

  raiseRemoteConsistent(lsn: Lsn): void {
    this.#remoteConsistentLsn = maxLsn(this.#remoteConsistentLsn, lsn);
  }

  raiseBackup(lsn: Lsn): void {
    this.#backupLsn = maxLsn(this.#backupLsn, lsn);
  }

  #withMemory(change: Partial<PersistentState>): PersistentState {
    return {
      ...this.control.get(),
      commitLsn: this.#commitLsn,
      backupLsn: this.#backupLsn,
      peerHorizonLsn: this.#peerHorizonLsn,
      remoteConsistentLsn: this.#remoteConsistentLsn,
      ...change,
    };
  }
}

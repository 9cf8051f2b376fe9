/**
 * One timeline of an acceptor while it is loaded: the consensus core behind a lock, and everything around it.
 *
 * What it keeps true:
 * - every call into the core runs alone, first come first served, disk access included (`AsyncMutex`);
 * - watches are brought up to date before the lock is passed on, so a woken reader finds what it was woken for;
 * - a timeline that failed in a way that leaves its state in doubt (a failed sync, an attempt to cut committed WAL,
 *   a bug) is broken: it refuses everything until it is opened again;
 * - `cancel` makes every later call fail; `enter` hands out guards, and closing waits until all are gone.
 *
 * The shape (shared state, watches, registries, gate, manager) is that of Neon's safekeeper.
 */
import { setMaxListeners } from "node:events";
import { Gate } from "@millrace/duplex";
import type { GateGuard } from "@millrace/duplex";
import type { Lsn } from "@millrace/lsn";
import type {
  AcceptorMessage,
  AppendRequest,
  AppendResponse,
  Configuration,
  ProposerMessage,
  TermHistory,
} from "@millrace/wal-protocol";

import type { PushTarget } from "./acceptor-task.js";
import { AsyncMutex } from "./async-mutex.js";
import type { Clock } from "./clock.js";
import { ComputeRegistry } from "./compute-registry.js";
import type { ComputeConnectionGuard } from "./compute-registry.js";
import type { ControlStore } from "./control-store.js";
import type { SystemIdMismatchPolicy } from "./core-greeting.js";
import type { AcceptorStateView } from "./core-state.js";
import { publish } from "./diagnostics.js";
import { AcceptorError, isAcceptorError, isOperatingError } from "./errors.js";
import { FeedbackHub } from "./feedback-hub.js";
import { CONTROL_SAVE_INTERVAL_MS, SafekeeperCore } from "./safekeeper-core.js";
import type { FlushWal, MembershipSwitchResult, PeerPositions, TermBumpResult } from "./safekeeper-core.js";
import { causeChain } from "./stream-end.js";
import { TimelineManager } from "./timeline-manager.js";
import type { TimelineReaders } from "./timeline-readers.js";
import type { TimelineStatus } from "./timeline-status.js";
import { digestWal } from "./wal-digest.js";
import type { WalReader, WalStore } from "./wal-store.js";
import { Watch } from "./watch.js";

/** Where the log ends, in the order in which logs are compared. */
export interface LogEnd {
  readonly lastLogTerm: bigint;
  readonly flushLsn: Lsn;
}

/** What a timeline is made of. */
export interface TimelineOptions {
  readonly control: ControlStore;
  /** Given: closed with the timeline. */
  readonly wal: WalStore;
  /** Given: closed with the timeline. */
  readonly readers: TimelineReaders;
  readonly nodeId: bigint;
  readonly clock: Clock;
  readonly onSystemIdMismatch?: SystemIdMismatchPolicy | undefined;
  /** Default 300 s. */
  readonly controlSaveIntervalMs?: number | undefined;
}

/** A loaded timeline. Made by the registry; a message reaches it only between `enter` and the guard's release. */
export class Timeline implements PushTarget {
  readonly tenantId: string;
  readonly timelineId: string;
  /** Feedback of WAL readers on its way to the proposer. */
  readonly feedback: FeedbackHub = new FeedbackHub();
  /** Who streams WAL into this timeline. */
  readonly receivers: ComputeRegistry = new ComputeRegistry();
  /** Who reads WAL, and what is kept for whom. */
  readonly readers: TimelineReaders;
  /** The commit position; a reader without a term may go so far. */
  readonly commitWatch: Watch<Lsn>;
  /** The log's end; a reader with a term may go so far while the term stays. */
  readonly logEndWatch: Watch<LogEnd>;
  /** Grows with every call into the core that may have changed something. */
  readonly versionWatch: Watch<number> = new Watch(0);

  readonly #core: SafekeeperCore;
  readonly #wal: WalStore;
  readonly #clock: Clock;
  readonly #controlSaveIntervalMs: number;
  readonly #mutex = new AsyncMutex();
  readonly #gate = new Gate();
  readonly #cancel = new AbortController();
  readonly #manager: TimelineManager;
  #active = false;
  #managerRuns = 0;
  #broken: AcceptorError | undefined;
  #closed: Promise<void> | undefined;
  #knownHistory: TermHistory | undefined;

  constructor(options: TimelineOptions) {
    const { control, wal, nodeId, clock, onSystemIdMismatch } = options;
    this.#wal = wal;
    this.readers = options.readers;
    setMaxListeners(0, this.#cancel.signal); // one listener for each stream, and each takes its own away
    this.#clock = clock;
    this.#controlSaveIntervalMs = options.controlSaveIntervalMs ?? CONTROL_SAVE_INTERVAL_MS;
    this.#core = new SafekeeperCore({
      control,
      wal,
      nodeId,
      clock,
      hotStandbyFeedback: () => this.feedback.hotStandby,
      ...(onSystemIdMismatch === undefined ? {} : { onSystemIdMismatch }),
    });
    const { state } = this.#core;
    this.tenantId = state.tenantId;
    this.timelineId = state.timelineId;
    this.commitWatch = new Watch(state.commitLsn);
    this.logEndWatch = new Watch<LogEnd>(
      { lastLogTerm: state.lastLogTerm, flushLsn: state.flushLsn },
      sameLogEnd,
    );
    this.#knownHistory = state.termHistory;
    this.#manager = new TimelineManager({ clock, run: () => this.#manage() });
    this.#active = this.#shouldBeActive();
  }

  /** Positions and terms of this moment. Between two of its fields nothing can change without an `await`. */
  get state(): AcceptorStateView {
    return this.#core.state;
  }

  get flushLsn(): Lsn {
    return this.#core.state.flushLsn;
  }

  /** Aborted by `cancel` and at the start of `close`. */
  get cancelSignal(): AbortSignal {
    return this.#cancel.signal;
  }

  /** Whether a compute is connected or committed WAL is still to be taken away; updated by the manager. */
  get active(): boolean {
    return this.#active;
  }

  /** Why everything is refused, or undefined. */
  get brokenReason(): string | undefined {
    return this.#broken?.message;
  }

  /** How often obeying a proposer would have cut committed WAL. */
  get safetyViolations(): number {
    return this.#core.safetyViolations;
  }

  /** Number of the oldest segment on disk. */
  get oldestSegment(): bigint | undefined {
    return this.#wal.oldestSegment;
  }

  /** How often the background duties have run. */
  get managerRuns(): number {
    return this.#managerRuns;
  }

  /** Guards handed out by `enter` and not released. */
  get users(): number {
    return this.#gate.holders;
  }

  /**
   * Takes part: the timeline is not closed while the guard is held.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_CANCELLED
   */
  enter(): GateGuard {
    this.#checkCancelled();
    return this.#gate.enter();
  }

  /** Takes a place among the receivers; see `ComputeRegistry.register`. */
  registerReceiver(connectionId: number | undefined): ComputeConnectionGuard {
    const guard = this.receivers.register(connectionId);
    this.#manager.wake();
    return guard;
  }

  /**
   * Handles one message of a proposer.
   *
   * @returns the reply, if the message has one
   * @throws {AcceptorError} a refusal or a failure of the disk; ERR_ACCEPTOR_CANCELLED, ERR_ACCEPTOR_BROKEN
   */
  process(message: ProposerMessage | FlushWal): Promise<AcceptorMessage | undefined> {
    return this.#exclusive(() => this.#core.process(message));
  }

  appendBatch(requests: readonly AppendRequest[]): Promise<AppendResponse | undefined> {
    return this.#exclusive(() => this.#core.appendBatch(requests));
  }

  takeTransactionEnd(): boolean {
    return this.#wal.takeTransactionEnd();
  }

  /** Switches to a configuration of a higher generation; see `SafekeeperCore.switchMembership`. */
  switchMembership(configuration: Configuration): Promise<MembershipSwitchResult> {
    return this.#exclusive(() => this.#core.switchMembership(configuration));
  }

  /** Raises the term; see `SafekeeperCore.bumpTerm`. */
  bumpTerm(term?: bigint): Promise<TermBumpResult> {
    return this.#exclusive(() => this.#core.bumpTerm(term));
  }

  /** Learns from another acceptor; see `SafekeeperCore.recordPeer`. */
  recordPeer(peer: PeerPositions): Promise<void> {
    return this.#exclusive(() => this.#core.recordPeer(peer));
  }

  /** Saves the control file if memory knows more. */
  checkpoint(): Promise<void> {
    return this.#exclusive(() => this.#core.checkpoint());
  }

  /** A reader has everything below `lsn` in consistent storage elsewhere; kept in memory until the next save. */
  recordRemoteConsistentLsn(lsn: Lsn): void {
    this.#core.recordRemoteConsistentLsn(lsn);
    this.#manager.wake();
  }

  /** Something that decides about removal has moved. */
  wakeManager(): void {
    this.#manager.wake();
  }

  /** SHA-256 of the WAL in [fromLsn, untilLsn); see `digestWal`. */
  digest(fromLsn: Lsn, untilLsn: Lsn): Promise<string> {
    return digestWal(this, fromLsn, untilLsn);
  }

  /** Reads stored WAL; the caller keeps its reads below the position it may see. */
  openReader(lsn: Lsn): WalReader {
    this.#checkCancelled();
    return this.#wal.openReader(lsn);
  }

  /** Everything there is to say about the timeline at this moment. */
  status(): TimelineStatus {
    const { state } = this;
    return {
      tenantId: this.tenantId,
      timelineId: this.timelineId,
      configuration: state.configuration,
      acceptorState: { term: state.term, lastLogTerm: state.lastLogTerm, termHistory: state.termHistory },
      server: state.server,
      writeLsn: state.writeLsn,
      flushLsn: state.flushLsn,
      timelineStartLsn: state.timelineStartLsn,
      localStartLsn: state.localStartLsn,
      commitLsn: state.commitLsn,
      persistedCommitLsn: state.persistedCommitLsn,
      backupLsn: state.backupLsn,
      peerHorizonLsn: state.peerHorizonLsn,
      remoteConsistentLsn: state.remoteConsistentLsn,
      walReceivers: this.receivers.list(),
      walSenders: this.readers.senders.list(),
      slots: this.readers.slots.list(),
      pgTimelines: this.readers.pgTimelines.value.list(),
      active: this.#active,
      brokenReason: this.brokenReason,
    };
  }

  /** Refuses everything from now on: the state in memory can no longer be trusted. The first reason stays. */
  markBroken(cause: unknown): void {
    if (this.#broken !== undefined) return;
    this.#broken = new AcceptorError("ERR_ACCEPTOR_BROKEN", `timeline is broken: ${causeChain(cause)}`, {
      cause,
    });
    publish(() => ({ ...this.#place(), type: "timeline-broken", level: "error", error: cause }));
  }

  /** Tells everybody to leave: streams end without a message, later calls fail. Waits for nothing. */
  cancel(): void {
    this.#cancel.abort();
    this.commitWatch.close();
    this.logEndWatch.close();
    this.versionWatch.close();
    this.readers.close();
  }

  /**
   * Ends the timeline: cancels, waits until every guard is released, saves the control file and closes the stores.
   *
   * @param save false for a timeline that is about to be removed
   * @throws {AcceptorError} what saving or closing failed with; the stores are closed all the same
   */
  close(save: boolean): Promise<void> {
    this.#closed ??= this.#close(save);
    return this.#closed;
  }

  async #close(save: boolean): Promise<void> {
    this.cancel();
    await this.#gate.close();
    await this.#manager.stop();
    await this.#mutex.run(async () => {
      try {
        if (!save || this.#broken !== undefined) return;
        // What was written and not yet synced is synced: a clean stop should lose nothing that was received.
        await this.#core.process({ type: "flush-wal" });
        await this.#core.checkpoint();
        await this.readers.slots.save();
      } catch (error) {
        this.#judge(error);
        throw error;
      } finally {
        await this.#wal.close();
      }
    });
  }

  #exclusive<T>(body: () => Promise<T>): Promise<T> {
    return this.#mutex.run(async () => {
      this.#checkCancelled();
      if (this.#broken !== undefined) throw this.#broken;
      try {
        return await body();
      } catch (error) {
        this.#judge(error);
        throw error;
      } finally {
        this.#publish();
      }
    });
  }

  // Some failures are about more than the call that met them.
  #judge(error: unknown): void {
    const fatal =
      isAcceptorError(error, "ERR_ACCEPTOR_POISONED") ||
      isAcceptorError(error, "ERR_ACCEPTOR_SAFETY_VIOLATION") ||
      (!isOperatingError(error) && !(error instanceof RangeError));
    if (fatal) this.markBroken(error);
  }

  #publish(): void {
    const { state } = this.#core;
    this.commitWatch.set(state.commitLsn);
    // The last log term needs a walk over the history: only when one of the two has moved.
    const { flushLsn, termHistory } = state;
    if (flushLsn !== this.logEndWatch.value.flushLsn || termHistory !== this.#knownHistory) {
      this.#knownHistory = termHistory;
      this.logEndWatch.set({ lastLogTerm: state.lastLogTerm, flushLsn });
    }
    this.versionWatch.set(this.versionWatch.value + 1);
    this.#manager.wake();
  }

  #shouldBeActive(): boolean {
    const { state } = this.#core;
    return this.receivers.computes.value > 0 || state.remoteConsistentLsn < state.commitLsn;
  }

  async #manage(): Promise<number | undefined> {
    this.#managerRuns += 1;
    if (this.#cancel.signal.aborted || this.#broken !== undefined) return undefined;
    const wasActive = this.#active;
    this.#active = this.#shouldBeActive();
    try {
      await this.#mutex.run(async () => {
        if (wasActive && !this.#active) await this.#core.checkpoint();
        else await this.#core.maybePersist(this.#clock.monotonicMs(), this.#controlSaveIntervalMs);
      });
    } catch (error) {
      this.#judge(error);
      publish(() => ({ ...this.#place(), type: "background-save-failed", level: "error", error }));
    }
    await this.#removeWal();
    const saveMs = this.#core.dirty ? this.#controlSaveIntervalMs : undefined;
    const expiryMs = this.readers.slots.nextExpiryMs();
    return saveMs === undefined || expiryMs === undefined ? (saveMs ?? expiryMs) : Math.min(saveMs, expiryMs);
  }

  // What nobody needs, by positions that are on disk. The lock is held only if there is something to remove.
  async #removeWal(): Promise<void> {
    try {
      for (const slot of await this.readers.tidySlots(this.#core.state.server.segmentBytes)) {
        publish(() => ({ ...this.#place(), type: "slot-expired", level: "warn", slot }));
      }
    } catch (error) {
      // On a full disk slots cannot be saved; what their old positions allow is still removed, which makes room.
      publish(() => ({ ...this.#place(), type: "background-save-failed", level: "error", error }));
    }
    try {
      const oldest = this.#wal.oldestSegment;
      const last = this.readers.removable(this.#core.state);
      if (oldest === undefined || last === undefined || last < oldest) return;
      await this.#mutex.run(async () => {
        // Asked again: while the lock was waited for a slot or a hold may have come.
        const segno = this.readers.removable(this.#core.state);
        if (this.#cancel.signal.aborted || segno === undefined) return;
        const count = await this.#wal.removeUpTo(segno);
        this.readers.removedSegments += count;
        if (count > 0)
          publish(() => ({ ...this.#place(), type: "wal-removed", level: "info", segments: count }));
      });
    } catch (error) {
      this.#judge(error);
      publish(() => ({ ...this.#place(), type: "wal-removal-failed", level: "error", error }));
    }
  }

  #checkCancelled(): void {
    if (this.#cancel.signal.aborted) {
      throw new AcceptorError("ERR_ACCEPTOR_CANCELLED", "the timeline is being closed or deleted");
    }
  }

  #place(): { readonly tenantId: string; readonly timelineId: string } {
    return { tenantId: this.tenantId, timelineId: this.timelineId };
  }
}

function sameLogEnd(a: LogEnd, b: LogEnd): boolean {
  return a.lastLogTerm === b.lastLogTerm && a.flushLsn === b.flushLsn;
}

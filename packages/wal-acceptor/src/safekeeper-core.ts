/**
 * The acceptor's consensus state machine for one timeline, over a WAL store and a control store.
 *
 * It promises what the protocol builds on: one vote a term, nothing acknowledged that a crash could lose, no
 * committed byte cut off, no term accepted after a higher one was heard of. It knows no sockets, no files and no
 * time except the injected clock, so a simulator drives exactly this class. A handler runs to its end, disk
 * included, before the next: the caller holds the timeline's lock, and overlapping calls are a bug that throws.
 *
 * Idea and behaviour: SafeKeeper of Neon's safekeeper. Differences: a proposer that would cut committed WAL is
 * refused and the timeline stops, where Neon panics; a foreign system id is refused by default; a full disk leaves
 * votes working; adjacent appends are written together.
 */
import * as assert from "node:assert";
import { channel as diagnosticsChannel } from "node:diagnostics_channel";
import type { Lsn } from "@millrace/lsn";
import { checkConfiguration, NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type {
  AcceptorMessage,
  AppendRequest,
  AppendResponse,
  Configuration,
  HotStandbyFeedback,
  ProposerMessage,
} from "@millrace/wal-protocol";
import type { Clock } from "./clock.js";
import type { ControlStore } from "./control-store.js";
import { appendResponse, handleAppends } from "./core-append.js";
import { handleElected } from "./core-elected.js";
import { handleGreeting, handleVoteRequest } from "./core-greeting.js";
import type { SystemIdMismatchPolicy } from "./core-greeting.js";
import { CoreState } from "./core-state.js";
import type { AcceptorStateView } from "./core-state.js";
import { AcceptorError } from "./errors.js";
import type { WalStore } from "./wal-store.js";

/** An append request that does not wait for the disk to sync. Never on the wire: the pipeline makes it. */
export interface NoFlushAppendRequest extends Omit<AppendRequest, "type"> {
  readonly type: "no-flush-append-request";
}

/** Asks for a sync and an answer that covers everything appended so far. Never on the wire. */
export interface FlushWal {
  readonly type: "flush-wal";
}

/** What the pipeline sends to the core besides what a proposer sent. */
export type InternalMessage = NoFlushAppendRequest | FlushWal;

/** What `SafekeeperCore` is made of. */
export interface SafekeeperCoreOptions {
  readonly control: ControlStore;
  readonly wal: WalStore;
  /** This node's id (u64, not 0). */
  readonly nodeId: bigint;
  readonly clock: Clock;
  /** Default "reject": WAL of another cluster under the same timeline id is a misconfiguration. */
  readonly onSystemIdMismatch?: SystemIdMismatchPolicy;
  /** What goes into append responses; nothing when absent. */
  readonly hotStandbyFeedback?: () => HotStandbyFeedback;
}

/** What another acceptor of the same timeline says about itself. */
export interface PeerPositions {
  readonly lastLogTerm: bigint;
  readonly commitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  readonly peerHorizonLsn: Lsn;
}

/** Answer to a membership switch. `lastLogTerm` and `flushLsn` rank this log among its peers'. */
export interface MembershipSwitchResult {
  readonly previous: Configuration;
  readonly current: Configuration;
  readonly lastLogTerm: bigint;
  readonly flushLsn: Lsn;
}

/** Answer to a term bump. */
export interface TermBumpResult {
  readonly previousTerm: bigint;
  readonly currentTerm: bigint;
}

/** Published on the diagnostics channel `SAFETY_VIOLATION_CHANNEL`. */
export interface SafetyViolation {
  readonly tenantId: string;
  readonly timelineId: string;
  readonly reason: string;
}

/** Name of the diagnostics channel that hears of refused attempts to cut committed WAL. */
export const SAFETY_VIOLATION_CHANNEL = "millrace:wal-acceptor:safety-violation";

/** The control file is saved this long after its last write if memory knows more. */
export const CONTROL_SAVE_INTERVAL_MS = 300_000;

const safetyViolations = diagnosticsChannel(SAFETY_VIOLATION_CHANNEL);

/** Terms are u64. */
const TERM_MAX = 2n ** 64n - 1n;

/** Consensus state machine of one timeline. Calls must not overlap. */
export class SafekeeperCore {
  readonly #state: CoreState;
  readonly #onSystemIdMismatch: SystemIdMismatchPolicy;
  readonly #hotStandbyFeedback: () => HotStandbyFeedback;
  #running: string | undefined;
  #safetyViolations = 0;

  /** @throws {RangeError} `nodeId` is not a u64 above 0 */
  constructor(options: SafekeeperCoreOptions) {
    const { control, wal, nodeId, clock } = options;
    if (nodeId <= 0n || nodeId > TERM_MAX) throw new RangeError(`node id ${String(nodeId)}`);
    this.#state = new CoreState(control, wal, nodeId, clock);
    this.#onSystemIdMismatch = options.onSystemIdMismatch ?? "reject";
    this.#hotStandbyFeedback =
      options.hotStandbyFeedback ?? ((): HotStandbyFeedback => NO_HOT_STANDBY_FEEDBACK);
  }

  /** Everything there is to see; fields are current at each access, the object is always the same. */
  get state(): AcceptorStateView {
    return this.#state;
  }

  /** How many times obeying a proposer would have cut committed WAL. Anything but 0 needs an operator. */
  get safetyViolations(): number {
    return this.#safetyViolations;
  }

  /** Whether memory knows positions that a restart would lose; what `maybePersist` and `checkpoint` write. */
  get dirty(): boolean {
    return this.#state.dirty;
  }

  /**
   * Handles one message of a proposer or of the pipeline, disk I/O included.
   *
   * @param message an append's `walData` is lent until the promise settles
   * @returns the answer to send, or undefined when the protocol has none
   * @throws {AcceptorError} a refusal or a storage failure; the connection cannot go on. The timeline can, except
   *   after ERR_ACCEPTOR_SAFETY_VIOLATION (everything then gives ERR_ACCEPTOR_BROKEN) and ERR_ACCEPTOR_POISONED
   */
  process(message: ProposerMessage | InternalMessage): Promise<AcceptorMessage | undefined> {
    return this.#exclusive(message.type, () => this.#handle(message));
  }

  /**
   * Appends a run of adjacent requests with one write and without a sync: the same as processing each of them as a
   * no-flush request, in order, but with one system call a megabyte.
   *
   * @param messages not empty; their `walData` is lent until the promise settles
   * @returns an answer only if a segment was completed or the proposer's term is over
   * @throws {AcceptorError} as `process`; requests before the bad one took effect
   */
  appendBatch(
    messages: readonly (AppendRequest | NoFlushAppendRequest)[],
  ): Promise<AppendResponse | undefined> {
    return this.#exclusive("append batch", () => this.#append(messages, false));
  }

  /**
   * Switches to a configuration of a higher generation, durably. One of the same or a lower generation changes
   * nothing: compare `current` with what was asked for.
   *
   * @throws {ProtocolError} ERR_PROTOCOL_CONFIGURATION
   */
  switchMembership(configuration: Configuration): Promise<MembershipSwitchResult> {
    return this.#exclusive("membership switch", async () => {
      checkConfiguration(configuration);
      const state = this.#state;
      const previous = state.configuration;
      if (configuration.generation > previous.generation) await state.persist({ configuration });
      return {
        previous,
        current: state.configuration,
        lastLogTerm: state.lastLogTerm,
        flushLsn: state.flushLsn,
      };
    });
  }

  /**
   * Raises the term, durably, which ends the reign of every proposer of a lower one.
   *
   * @param term the term to reach, one more than the current when absent; a lower one changes nothing
   * @throws {RangeError} `term` is no u64, or there is no higher one
   */
  bumpTerm(term?: bigint): Promise<TermBumpResult> {
    return this.#exclusive("term bump", async () => {
      const state = this.#state;
      const previousTerm = state.term;
      const wanted = term ?? previousTerm + 1n;
      if (wanted < 0n || wanted > TERM_MAX) throw new RangeError(`term ${String(wanted)} is not a u64`);
      if (wanted > previousTerm) await state.persist({ term: wanted });
      return { previousTerm, currentTerm: state.term };
    });
  }

  /**
   * Learns from another acceptor. Its commit position counts only if its log ends in the same term as ours, as then
   * the one is a prefix of the other. Horizons more than a segment ahead of the control file are saved at once.
   */
  recordPeer(peer: PeerPositions): Promise<void> {
    return this.#exclusive("peer positions", async () => {
      const state = this.#state;
      if (peer.lastLogTerm === state.lastLogTerm) await state.advanceCommit(peer.commitLsn);
      state.raiseBackup(peer.backupLsn);
      state.raiseRemoteConsistent(peer.remoteConsistentLsn);
      state.raisePeerHorizon(peer.peerHorizonLsn);
      const durable = state.control.get();
      const ahead = BigInt(state.server.segmentBytes);
      if (
        state.backupLsn > durable.backupLsn + ahead ||
        state.remoteConsistentLsn > durable.remoteConsistentLsn + ahead ||
        state.peerHorizonLsn > durable.peerHorizonLsn + ahead
      ) {
        await state.persist({});
      }
    });
  }

  /** A reader of the WAL has made everything below `lsn` consistent elsewhere. In memory only. */
  recordRemoteConsistentLsn(lsn: Lsn): void {
    this.#state.raiseRemoteConsistent(lsn);
  }

  /**
   * Saves the control file if that is due: `CONTROL_SAVE_INTERVAL_MS` after its last write, or as soon as commit is a
   * segment ahead of it. Call it now and then, under the lock.
   *
   * @param nowMs the clock's monotonic time
   * @returns whether it was written
   */
  maybePersist(nowMs: number, intervalMs: number = CONTROL_SAVE_INTERVAL_MS): Promise<boolean> {
    return this.#exclusive("periodic save", async () => {
      const state = this.#state;
      if (!state.dirty) return false;
      const due = nowMs - state.lastPersistMs >= intervalMs;
      const ahead = state.commitLsn - state.persistedCommitLsn >= BigInt(state.server.segmentBytes);
      if (!due && !ahead) return false;
      await state.persist({});
      return true;
    });
  }

  /** Saves the control file if memory knows more. For shutdown, deactivation and operators. */
  checkpoint(): Promise<void> {
    return this.#exclusive("checkpoint", () => this.#state.persist({}));
  }

  #handle(message: ProposerMessage | InternalMessage): Promise<AcceptorMessage | undefined> {
    switch (message.type) {
      case "greeting":
        return handleGreeting(this.#state, message, this.#onSystemIdMismatch);
      case "vote-request":
        return handleVoteRequest(this.#state, message);
      case "elected":
        return this.#elected(message);
      case "append-request":
        return this.#append([message], true);
      case "no-flush-append-request":
        return this.#append([message], false);
      case "flush-wal":
        break;
    }
    return this.#flush();
  }

  async #elected(message: Extract<ProposerMessage, { type: "elected" }>): Promise<undefined> {
    await handleElected(this.#state, message, (reason) => this.#refuseUnsafe(reason));
    return undefined;
  }

  #append(
    messages: readonly Omit<AppendRequest, "type">[],
    flush: boolean,
  ): Promise<AppendResponse | undefined> {
    return handleAppends(this.#state, messages, flush, this.#hotStandbyFeedback);
  }

  async #flush(): Promise<AppendResponse> {
    await this.#state.wal.flush();
    return appendResponse(this.#state, this.#hotStandbyFeedback());
  }

  #refuseUnsafe(reason: string): AcceptorError {
    this.#safetyViolations += 1;
    this.#state.brokenReason = reason;
    const { tenantId, timelineId } = this.#state;
    safetyViolations.publish({ tenantId, timelineId, reason } satisfies SafetyViolation);
    return new AcceptorError("ERR_ACCEPTOR_SAFETY_VIOLATION", reason);
  }

  // One handler at a time is the caller's duty; here it is only checked, so that a missing lock cannot go unseen.
  async #exclusive<T>(what: string, body: () => Promise<T>): Promise<T> {
    assert.ok(
      this.#running === undefined,
      `${what} while ${this.#running ?? ""} is being handled: lock missing`,
    );
    if (this.#state.brokenReason !== undefined) {
      throw new AcceptorError("ERR_ACCEPTOR_BROKEN", `timeline is broken: ${this.#state.brokenReason}`);
    }
    this.#running = what;
    try {
      return await body();
    } finally {
      this.#running = undefined;
    }
  }
}

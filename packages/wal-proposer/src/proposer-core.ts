/**
 * ProposerCore: the decisions of a WAL proposer, without clock, socket or a byte of WAL.
 *
 * It collects terms from a quorum of acceptors, campaigns in the next higher one, adopts the most advanced log among
 * a quorum of votes, tells every acceptor from where on to follow, and counts acknowledgements. A core lives for one
 * term: it never goes back, and when the term is lost it says `restart` and falls silent.
 *
 * What it guarantees to its shell, whatever acceptors send:
 * - `elected` comes at most once, after a quorum gave its votes in exactly that term and generation. Acceptors vote
 *   once a term, so no two cores are ever elected in one.
 * - `commit` only rises, is never below the start of the term, and covers only what a quorum acknowledged in this
 *   term and generation; in a joint configuration a quorum of both sets. A promise outlives its connection, yet an
 *   acceptor that comes back with less than it acknowledged counts for nothing until it acknowledges again.
 * - `truncate` only rises and never passes the commit LSN or the slowest acceptor, listed or member, seen or unseen.
 * - Same events, same effects. Nothing an acceptor says throws: it costs that acceptor its connection, or us the term.
 *
 * Idea: Neon's walproposer.c and its TLA+ model, here as (state, event) to (state, effects) like etcd's raft.
 */
import { strict as assert } from "node:assert";
import { addBytes, checkSegmentBytes, INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { MAX_APPEND_BYTES } from "@millrace/wal-protocol";
import type {
  AcceptorMessage,
  AppendRequestFields,
  Configuration,
  TermHistory,
} from "@millrace/wal-protocol";
import type { AcceptorProgress } from "./acceptor-progress.js";
import { Acknowledgements } from "./acknowledgements.js";
import { Campaign } from "./campaign.js";
import {
  ACCEPTORS_MAX,
  CONNECTION_TIMEOUT_MS_DEFAULT,
  HEARTBEAT_MS_DEFAULT,
  RECONNECT_MS_DEFAULT,
} from "./proposer-events.js";
import type { AcceptorView, ProposerCoreOptions, ProposerEffect, ProposerEvent } from "./proposer-events.js";
import { TermState } from "./term-state.js";
import type { ProposerState } from "./term-state.js";

export type {
  AcceptorView,
  ProposerCoreOptions,
  ProposerEffect,
  ProposerEvent,
  RestartReason,
} from "./proposer-events.js";

export type { ProposerState } from "./term-state.js";

const NO_EFFECTS: readonly ProposerEffect[] = Object.freeze([]);

/** One term of one proposer; see the head of this file for what it guarantees. Not re-entrant, single owner. */
export class ProposerCore {
  readonly #reconnectMs: number;
  readonly #connectionTimeoutMs: number;
  readonly #heartbeatMs: number;
  readonly #shared: TermState;
  readonly #campaign: Campaign;
  readonly #acknowledgements: Acknowledgements;
  #handling = false;

  /**
   * @throws {RangeError} no or too many acceptors, an impossible segment size, generations together with protocol
   *   version 2
   * @throws {ProtocolError} ERR_PROTOCOL_CONFIGURATION for a configuration that contradicts itself
   */
  constructor(options: ProposerCoreOptions) {
    const { acceptors, configuration } = options;
    if (!Number.isInteger(acceptors) || acceptors < 1 || acceptors > ACCEPTORS_MAX) {
      throw new RangeError(
        `a proposer has 1 to ${String(ACCEPTORS_MAX)} acceptors, not ${String(acceptors)}`,
      );
    }
    checkSegmentBytes(options.segmentBytes);
    if (configuration !== undefined && options.protocolVersion === 2) {
      throw new RangeError("generations need protocol version 3");
    }
    this.#reconnectMs = options.reconnectMs ?? RECONNECT_MS_DEFAULT;
    this.#connectionTimeoutMs = options.connectionTimeoutMs ?? CONNECTION_TIMEOUT_MS_DEFAULT;
    this.#heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS_DEFAULT;
    this.#shared = new TermState(options);
    this.#campaign = new Campaign(this.#shared);
    this.#acknowledgements = new Acknowledgements(this.#shared);
  }

  get state(): ProposerState {
    return this.#shared.state;
  }

  /** 0 before the campaign. */
  get term(): bigint {
    return this.#shared.term;
  }

  /** 0/0 before the election. */
  get termStartLsn(): Lsn {
    return this.#shared.termStartLsn;
  }

  /** What a quorum has durable under this term; 0/0 until that reaches the start of the term. */
  get commitLsn(): Lsn {
    return this.#shared.commitLsn;
  }

  /** No acceptor will ask for WAL below this; 0/0 before the election. */
  get truncateLsn(): Lsn {
    return this.#shared.truncateLsn;
  }

  /** Ends with (term, termStartLsn); empty before the election. */
  get history(): TermHistory {
    return this.#shared.history;
  }

  /** The members that count; undefined when generations are off or nothing has been learnt yet. */
  get configuration(): Configuration | undefined {
    return this.#shared.membership.known;
  }

  /** Whether `restart` or `synced` has been said. */
  get finished(): boolean {
    return this.#shared.end !== undefined;
  }

  /** When the next tick is due; Infinity if nothing is waited for. */
  get deadlineMs(): number {
    let deadline = Number.POSITIVE_INFINITY;
    if (this.finished) return deadline;
    for (const acceptor of this.#shared.acceptors) {
      const { state, awaiting, attemptedAtMs, waitingSinceMs, lastSentMs } = acceptor;
      if (state === "offline") deadline = Math.min(deadline, attemptedAtMs + this.#reconnectMs);
      if (awaiting || this.#isIdle(acceptor)) {
        deadline = Math.min(deadline, waitingSinceMs + this.#connectionTimeoutMs);
      }
      if (state === "active") deadline = Math.min(deadline, lastSentMs + this.#heartbeatMs);
    }
    return deadline;
  }

  /** One acceptor for a status page; a copy. */
  acceptorView(index: number): AcceptorView {
    const acceptor = this.#acceptor(index);
    const record = this.#shared.find(acceptor);
    return {
      state: acceptor.state,
      nodeId: acceptor.nodeId,
      member: this.#shared.membership.counts(acceptor),
      flushLsn: record?.flushLsn ?? INVALID_LSN,
      commitLsn: record?.commitLsn ?? INVALID_LSN,
      streamingLsn: acceptor.streamingLsn,
      voted: record?.vote?.voteGiven === true,
      lastHeardMs: acceptor.lastHeardMs,
    };
  }

  /** Where the next byte for this acceptor is; undefined unless an election has decided that for its connection. */
  wantsLsn(index: number): Lsn | undefined {
    return this.#acceptor(index).streamingLsn;
  }

  /**
   * Who can give away WAL that is missing locally: the streaming acceptor that has acknowledged most, or the donor
   * of the election as long as nobody has acknowledged more than the start of the term. Undefined before the election.
   */
  get donor(): { readonly acceptor: number; readonly endLsn: Lsn } | undefined {
    if (this.#shared.state !== "elected") return undefined;
    let best = { acceptor: this.#shared.electionDonor, endLsn: this.#shared.termStartLsn };
    for (const acceptor of this.#shared.acceptors) {
      const flushLsn = acceptor.state === "active" ? this.acceptorView(acceptor.index).flushLsn : INVALID_LSN;
      if (flushLsn > best.endLsn) best = { acceptor: acceptor.index, endLsn: flushLsn };
    }
    return best;
  }

  /**
   * Takes the next piece for a streaming acceptor and moves its position: at most MAX_APPEND_BYTES, up to
   * `availableLsn`, with the commit and truncate positions of this moment. Without WAL to send the request is empty
   * and comes only if one is due; so calling until undefined always ends.
   *
   * @param availableLsn end of the WAL the caller can put behind the header; below the acceptor's position it has none
   */
  nextAppend(index: number, availableLsn: Lsn): AppendRequestFields | undefined {
    const acceptor = this.#acceptor(index);
    const beginLsn = acceptor.streamingLsn;
    if (acceptor.state !== "active" || beginLsn === undefined || this.#shared.end === "restart")
      return undefined;
    const hasWal = availableLsn > beginLsn;
    if (!hasWal && !acceptor.heartbeatDue) return undefined;
    let endLsn = beginLsn;
    if (hasWal) {
      endLsn =
        availableLsn - beginLsn > MAX_APPEND_BYTES ? addBytes(beginLsn, MAX_APPEND_BYTES) : availableLsn;
    }
    acceptor.streamingLsn = endLsn;
    acceptor.heartbeatDue = false;
    acceptor.lastSentMs = this.#shared.nowMs;
    return {
      generation: this.#shared.membership.generation,
      term: this.#shared.term,
      beginLsn,
      endLsn,
      commitLsn: this.#shared.commitLsn,
      truncateLsn: this.#shared.truncateLsn,
    };
  }

  /** Takes one event and says what is to be done. The result is given to the caller. */
  handle(event: ProposerEvent): readonly ProposerEffect[] {
    assert(!this.#handling, "ProposerCore.handle called from within itself");
    const shared = this.#shared;
    if (shared.end !== undefined) return NO_EFFECTS;
    this.#handling = true;
    shared.nowMs = event.nowMs;
    try {
      this.#dispatch(event);
      this.#acknowledgements.mergeHotStandby();
      this.#acknowledgements.checkSynced();
      if (event.type === "tick" || event.type === "disconnected") this.#connectDue();
    } finally {
      this.#handling = false;
    }
    return shared.takeEffects();
  }

  #dispatch(event: ProposerEvent): void {
    switch (event.type) {
      case "message":
        this.#onMessage(this.#acceptor(event.acceptor), event.message);
        break;
      case "wal-available":
        this.#onWal(event.endLsn);
        break;
      case "connected":
        this.#onConnected(this.#acceptor(event.acceptor));
        break;
      case "disconnected":
        this.#onDisconnected(this.#acceptor(event.acceptor), event.reason);
        break;
      case "start-streaming":
        if (this.#shared.state === "elected" && !this.#shared.released) this.#campaign.release();
        break;
      case "tick":
        for (const acceptor of this.#shared.acceptors) this.#checkTimers(acceptor);
        break;
    }
  }

  #onMessage(acceptor: AcceptorProgress, message: AcceptorMessage): void {
    const { state } = acceptor;
    const { nowMs } = this.#shared;
    if (state === "offline" || state === "connecting" || state === "closing") return; // of a connection given up
    acceptor.lastHeardMs = nowMs;
    acceptor.waitingSinceMs = nowMs;
    if (message.type === "append-response" && state === "active") {
      this.#acknowledgements.onAppendResponse(acceptor, message);
    } else if (message.type === "greeting" && state === "handshake") {
      this.#campaign.onGreeting(acceptor, message);
    } else if (message.type === "vote-response" && state === "wait-verdict") {
      this.#campaign.onVoteResponse(acceptor, message);
    } else {
      this.#shared.disconnect(acceptor, "unexpected_message", `${message.type} in state ${state}`);
    }
  }

  #onWal(endLsn: Lsn): void {
    for (const acceptor of this.#shared.acceptors) {
      const { state, streamingLsn } = acceptor;
      if (state === "active" && streamingLsn !== undefined && streamingLsn < endLsn)
        this.#shared.pump(acceptor);
    }
  }

  #onConnected(acceptor: AcceptorProgress): void {
    if (acceptor.state !== "connecting") return; // given up meanwhile
    this.#shared.greet(acceptor, "connected");
  }

  #onDisconnected(acceptor: AcceptorProgress, reason: string): void {
    if (acceptor.state !== "offline") this.#shared.move(acceptor, "offline", reason);
  }

  #checkTimers(acceptor: AcceptorProgress): void {
    const { state, awaiting, waitingSinceMs, lastSentMs } = acceptor;
    const { nowMs } = this.#shared;
    if (awaiting && nowMs >= waitingSinceMs + this.#connectionTimeoutMs) {
      const waitedFor =
        state === "connecting" ? "connect_timeout" : state === "handshake" ? "handshake_timeout" : "silence";
      const detail = `nothing heard for ${String(this.#connectionTimeoutMs)} ms`;
      this.#shared.disconnect(acceptor, waitedFor, detail);
    } else if (this.#isIdle(acceptor) && nowMs >= waitingSinceMs + this.#connectionTimeoutMs) {
      this.#shared.greet(acceptor, "idle");
    } else if (state === "active" && nowMs >= lastSentMs + this.#heartbeatMs) {
      this.#shared.requestHeartbeat(acceptor);
    }
  }

  /**
   * Whether nothing is said on the connection until a quorum has greeted. That quorum may be one of members who have
   * been replaced meanwhile, and an acceptor tells of a newer configuration only when it is greeted.
   */
  #isIdle({ state }: AcceptorProgress): boolean {
    return state === "wait-voting" && this.#shared.membership.known !== undefined;
  }

  #connectDue(): void {
    const { acceptors, nowMs, end } = this.#shared;
    if (end !== undefined) return;
    for (const acceptor of acceptors) {
      // Attempts are spaced, not delayed: a connection that lasted is replaced at once.
      if (acceptor.state !== "offline" || nowMs < acceptor.attemptedAtMs + this.#reconnectMs) continue;
      acceptor.attemptedAtMs = nowMs;
      this.#shared.move(acceptor, "connecting", "attempt");
      this.#shared.emit({ type: "connect", acceptor: acceptor.index });
    }
  }

  #acceptor(index: number): AcceptorProgress {
    const acceptor = this.#shared.acceptors[index];
    if (acceptor === undefined) throw new RangeError(`there is no acceptor ${String(index)}`);
    return acceptor;
  }
}

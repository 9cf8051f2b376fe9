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
import { addBytes, formatLsn, INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import {
  EMPTY_CONFIGURATION,
  hasQuorum,
  MAX_APPEND_BYTES,
  NO_HOT_STANDBY_FEEDBACK,
  ProtocolError,
  streamingStart,
} from "@millrace/wal-protocol";
import type {
  AcceptorGreeting,
  AcceptorMessage,
  AppendRequestFields,
  AppendResponse,
  Configuration,
  HotStandbyFeedback,
  TermHistory,
  VoteResponse,
} from "@millrace/wal-protocol";
import { AcceptorProgress } from "./acceptor-progress.js";
import type { AcceptorState } from "./acceptor-progress.js";
import { forgetAcknowledged, QuorumLedger } from "./commit-position.js";
import type { VoterRecord } from "./commit-position.js";
import { decideElection, historyProblem } from "./election.js";
import type { Ballot } from "./election.js";
import { mergeHotStandby, PageserverMerge, sameHotStandby } from "./feedback-merge.js";
import { Membership } from "./membership.js";
import {
  ACCEPTORS_MAX,
  CONNECTION_TIMEOUT_MS_DEFAULT,
  HEARTBEAT_MS_DEFAULT,
  RECONNECT_MS_DEFAULT,
} from "./proposer-events.js";
import type {
  AcceptorView,
  AlarmCode,
  DisconnectReason,
  ProposerCoreOptions,
  ProposerEffect,
  ProposerEvent,
  RestartReason,
} from "./proposer-events.js";

export type { AcceptorState } from "./acceptor-progress.js";
export type {
  AcceptorView,
  AlarmCode,
  DisconnectReason,
  ProposerCoreOptions,
  ProposerEffect,
  ProposerEvent,
  RestartReason,
} from "./proposer-events.js";

/** The proposer's own state; it only moves to the right. */
export type ProposerState = "collecting-terms" | "campaign" | "elected";

const TERM_MAX = 0xffff_ffff_ffff_ffffn;
const NO_EFFECTS: readonly ProposerEffect[] = Object.freeze([]);

/** One term of one proposer; see the head of this file for what it guarantees. Not re-entrant, single owner. */
export class ProposerCore {
  readonly #options: ProposerCoreOptions;
  readonly #reconnectMs: number;
  readonly #connectionTimeoutMs: number;
  readonly #heartbeatMs: number;
  readonly #membership: Membership;
  readonly #acceptors: readonly AcceptorProgress[];
  readonly #ledger = new QuorumLedger();
  readonly #pageservers = new PageserverMerge();
  /** One frozen object an acceptor, because this effect is the most frequent one. */
  readonly #pumps: readonly ProposerEffect[];
  #state: ProposerState = "collecting-terms";
  #term = 0n;
  #termStartLsn: Lsn = INVALID_LSN;
  #commitLsn: Lsn = INVALID_LSN;
  #truncateLsn: Lsn = INVALID_LSN;
  #history: TermHistory = [];
  #electionDonor = 0;
  /** Whether acceptors may be told of the election. */
  #released = false;
  /** The last effect: nothing more will happen. */
  #end: "restart" | "synced" | undefined;
  #hotStandby: HotStandbyFeedback = NO_HOT_STANDBY_FEEDBACK;
  #nowMs = 0;
  #effects: ProposerEffect[] = [];
  #handling = false;

  /**
   * @throws {RangeError} no or too many acceptors, generations together with protocol version 2
   * @throws {ProtocolError} ERR_PROTOCOL_CONFIGURATION for a configuration that contradicts itself
   */
  constructor(options: ProposerCoreOptions) {
    const { acceptors, configuration } = options;
    if (!Number.isInteger(acceptors) || acceptors < 1 || acceptors > ACCEPTORS_MAX) {
      throw new RangeError(
        `a proposer has 1 to ${String(ACCEPTORS_MAX)} acceptors, not ${String(acceptors)}`,
      );
    }
    if (configuration !== undefined && options.protocolVersion === 2) {
      throw new RangeError("generations need protocol version 3");
    }
    this.#options = options;
    this.#reconnectMs = options.reconnectMs ?? RECONNECT_MS_DEFAULT;
    this.#connectionTimeoutMs = options.connectionTimeoutMs ?? CONNECTION_TIMEOUT_MS_DEFAULT;
    this.#heartbeatMs = options.heartbeatMs ?? HEARTBEAT_MS_DEFAULT;
    this.#membership = new Membership(acceptors, configuration);
    this.#acceptors = Array.from({ length: acceptors }, (_, index) => new AcceptorProgress(index));
    this.#pumps = this.#acceptors.map(({ index }) => Object.freeze({ type: "pump", acceptor: index }));
  }

  get state(): ProposerState {
    return this.#state;
  }

  /** 0 before the campaign. */
  get term(): bigint {
    return this.#term;
  }

  /** 0/0 before the election. */
  get termStartLsn(): Lsn {
    return this.#termStartLsn;
  }

  /** What a quorum has durable under this term; 0/0 until that reaches the start of the term. */
  get commitLsn(): Lsn {
    return this.#commitLsn;
  }

  /** No acceptor will ask for WAL below this; 0/0 before the election. */
  get truncateLsn(): Lsn {
    return this.#truncateLsn;
  }

  /** Ends with (term, termStartLsn); empty before the election. */
  get history(): TermHistory {
    return this.#history;
  }

  /** The members that count; undefined when generations are off or nothing has been learnt yet. */
  get configuration(): Configuration | undefined {
    return this.#membership.known;
  }

  /** Whether `restart` or `synced` has been said. */
  get finished(): boolean {
    return this.#end !== undefined;
  }

  /** When the next tick is due; Infinity if nothing is waited for. */
  get deadlineMs(): number {
    let deadline = Number.POSITIVE_INFINITY;
    if (this.#end !== undefined) return deadline;
    for (const acceptor of this.#acceptors) {
      if (acceptor.state === "offline")
        deadline = Math.min(deadline, acceptor.attemptedAtMs + this.#reconnectMs);
      if (acceptor.awaiting)
        deadline = Math.min(deadline, acceptor.waitingSinceMs + this.#connectionTimeoutMs);
      if (acceptor.state === "active") deadline = Math.min(deadline, acceptor.lastSentMs + this.#heartbeatMs);
    }
    return deadline;
  }

  acceptorView(index: number): AcceptorView {
    const acceptor = this.#acceptor(index);
    const record = this.#find(acceptor);
    return {
      state: acceptor.state,
      nodeId: acceptor.nodeId,
      member: this.#membership.counts(acceptor),
      flushLsn: record?.flushLsn ?? INVALID_LSN,
      commitLsn: record?.commitLsn ?? INVALID_LSN,
      streamingLsn: acceptor.streamingLsn,
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
    if (this.#state !== "elected") return undefined;
    let best = { acceptor: this.#electionDonor, endLsn: this.#termStartLsn };
    for (const acceptor of this.#acceptors) {
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
    if (acceptor.state !== "active" || beginLsn === undefined || this.#end === "restart") return undefined;
    const hasWal = availableLsn > beginLsn;
    if (!hasWal && !acceptor.heartbeatDue) return undefined;
    let endLsn = beginLsn;
    if (hasWal) {
      endLsn =
        availableLsn - beginLsn > MAX_APPEND_BYTES ? addBytes(beginLsn, MAX_APPEND_BYTES) : availableLsn;
    }
    acceptor.streamingLsn = endLsn;
    acceptor.heartbeatDue = false;
    acceptor.lastSentMs = this.#nowMs;
    return {
      generation: this.#membership.generation,
      term: this.#term,
      beginLsn,
      endLsn,
      commitLsn: this.#commitLsn,
      truncateLsn: this.#truncateLsn,
    };
  }

  /** Takes one event and says what is to be done. The result is given to the caller. */
  handle(event: ProposerEvent): readonly ProposerEffect[] {
    assert(!this.#handling, "ProposerCore.handle called from within itself");
    if (this.#end !== undefined) return NO_EFFECTS;
    this.#handling = true;
    this.#effects = [];
    this.#nowMs = event.nowMs;
    try {
      this.#dispatch(event);
    } finally {
      this.#handling = false;
    }
    return this.#effects;
  }

  #dispatch(event: ProposerEvent): void {
    switch (event.type) {
      case "message":
        this.#onMessage(this.#acceptor(event.acceptor), event.message);
        break;
      case "wal-available":
        for (const acceptor of this.#acceptors) {
          if (acceptor.state === "active" && (acceptor.streamingLsn ?? event.endLsn) < event.endLsn)
            this.#pump(acceptor);
        }
        break;
      case "connected":
        this.#onConnected(this.#acceptor(event.acceptor));
        break;
      case "disconnected":
        this.#onDisconnected(this.#acceptor(event.acceptor), event.reason);
        break;
      case "start-streaming":
        if (this.#state === "elected" && !this.#released) this.#release();
        break;
      case "tick":
        this.#onTick();
        break;
    }
  }

  // Connections.

  #onTick(): void {
    for (const acceptor of this.#acceptors) {
      if (acceptor.awaiting && this.#nowMs >= acceptor.waitingSinceMs + this.#connectionTimeoutMs) {
        const { state } = acceptor;
        const reason =
          state === "connecting"
            ? "connect_timeout"
            : state === "handshake"
              ? "handshake_timeout"
              : "silence";
        this.#disconnect(acceptor, reason, `nothing heard for ${String(this.#connectionTimeoutMs)} ms`);
      } else if (acceptor.state === "active" && this.#nowMs >= acceptor.lastSentMs + this.#heartbeatMs) {
        this.#requestHeartbeat(acceptor);
      }
    }
    this.#connectDue();
  }

  #connectDue(): void {
    for (const acceptor of this.#acceptors) {
      // Attempts are spaced, not delayed: a connection that lasted is replaced at once.
      if (acceptor.state !== "offline" || this.#nowMs < acceptor.attemptedAtMs + this.#reconnectMs) continue;
      acceptor.attemptedAtMs = this.#nowMs;
      this.#move(acceptor, "connecting", "attempt");
      this.#emit({ type: "connect", acceptor: acceptor.index });
    }
  }

  #onConnected(acceptor: AcceptorProgress): void {
    if (acceptor.state !== "connecting") return; // given up meanwhile
    this.#greet(acceptor, "connected");
  }

  #onDisconnected(acceptor: AcceptorProgress, reason: string): void {
    if (acceptor.state === "offline") return;
    this.#move(acceptor, "offline", reason);
    this.#mergeHotStandby();
    this.#checkSynced();
    if (this.#end === undefined) this.#connectDue();
  }

  #disconnect(acceptor: AcceptorProgress, reason: DisconnectReason, detail: string): void {
    this.#move(acceptor, "closing", reason);
    this.#emit({ type: "disconnect", acceptor: acceptor.index, reason, detail });
    this.#mergeHotStandby();
  }

  #greet(acceptor: AcceptorProgress, reason: string): void {
    const { tenantId, timelineId, pgVersion, systemId, segmentBytes } = this.#options;
    if (acceptor.state !== "handshake") this.#move(acceptor, "handshake", reason);
    acceptor.greetedGeneration = this.#membership.generation;
    const configuration = this.#membership.known ?? EMPTY_CONFIGURATION;
    this.#emit({
      type: "send",
      acceptor: acceptor.index,
      message: { type: "greeting", tenantId, timelineId, configuration, pgVersion, systemId, segmentBytes },
    });
  }

  #onMessage(acceptor: AcceptorProgress, message: AcceptorMessage): void {
    const { state } = acceptor;
    if (state === "offline" || state === "connecting" || state === "closing") return; // of a connection given up
    acceptor.lastHeardMs = this.#nowMs;
    acceptor.waitingSinceMs = this.#nowMs;
    if (message.type === "append-response" && state === "active") this.#onAppendResponse(acceptor, message);
    else if (message.type === "greeting" && state === "handshake") this.#onGreeting(acceptor, message);
    else if (message.type === "vote-response" && state === "wait-verdict")
      this.#onVoteResponse(acceptor, message);
    else this.#disconnect(acceptor, "unexpected_message", `${message.type} in state ${state}`);
  }

  // Greetings and the campaign.

  #onGreeting(acceptor: AcceptorProgress, greeting: AcceptorGreeting): void {
    if (!this.#identify(acceptor, greeting.nodeId)) return;
    if (!this.#reconcileGeneration(acceptor, greeting.configuration)) return;
    if (greeting.term === TERM_MAX) {
      this.#disconnect(acceptor, "foreign_term", "no term is left above the acceptor's");
      return;
    }
    if (this.#state === "collecting-terms") {
      acceptor.greetedTerm = greeting.term;
      this.#move(acceptor, "wait-voting", "greeted");
      this.#tryCampaign();
      return;
    }
    if (greeting.term > this.#term) {
      this.#onHigherTerm(acceptor, greeting.term);
      return;
    }
    this.#checkVoteKept(acceptor, greeting.term);
    this.#move(acceptor, "wait-voting", "greeted");
    this.#requestVote(acceptor);
  }

  /** Takes note of who answers at this address; false if that cannot be right and the connection is given up. */
  #identify(acceptor: AcceptorProgress, nodeId: bigint): boolean {
    const conflict = this.#membership.conflict(acceptor, nodeId, this.#acceptors);
    if (conflict !== undefined) return this.#refuse(acceptor, "node_conflict", conflict);
    const gone = this.#membership.identify(acceptor, nodeId, this.#acceptors);
    if (gone !== undefined) this.#ledger.drop(gone); // so that records are bounded by members and addresses
    return true;
  }

  /** Brings the acceptor's configuration and ours together; false if this greeting goes no further. */
  #reconcileGeneration(acceptor: AcceptorProgress, theirs: Configuration): boolean {
    const ours = this.#membership.generation;
    const relation = this.#membership.compare(theirs);
    const detail = `the acceptor is in generation ${String(theirs.generation)}, we are in ${String(ours)}`;
    if (relation === "same") return true;
    if (relation === "conflict") {
      return this.#refuse(
        acceptor,
        "configuration_conflict",
        `generation ${String(ours)} has other members there`,
      );
    }
    if (relation === "higher") {
      if (this.#state === "collecting-terms") this.#adopt(theirs, acceptor);
      else this.#restart("generation_change", detail);
      return this.#end === undefined;
    }
    // Lagging behind: it follows if the greeting tells it to. If this greeting did already, it will not.
    if (relation === "foreign" || acceptor.greetedGeneration === ours) {
      return this.#refuse(acceptor, "generation_mismatch", detail);
    }
    this.#greet(acceptor, "generation");
    return false;
  }

  #adopt(configuration: Configuration, source: AcceptorProgress): void {
    this.#membership.adopt(configuration);
    for (const acceptor of this.#acceptors) {
      if (acceptor !== source && acceptor.state === "wait-voting") this.#greet(acceptor, "generation");
    }
  }

  #tryCampaign(): void {
    const greeted = (key: bigint): boolean =>
      this.#acceptors.some(
        (acceptor) => acceptor.state === "wait-voting" && this.#membership.keyOf(acceptor) === key,
      );
    if (!hasQuorum(this.#membership.quorum, greeted)) return;
    let highest = 0n;
    for (const { greetedTerm } of this.#acceptors) if (greetedTerm > highest) highest = greetedTerm;
    this.#term = highest + 1n;
    this.#state = "campaign";
    this.#emit({ type: "campaign", term: this.#term });
    for (const acceptor of this.#acceptors) if (acceptor.state === "wait-voting") this.#requestVote(acceptor);
  }

  #requestVote(acceptor: AcceptorProgress): void {
    this.#move(acceptor, "wait-verdict", "vote requested");
    const message = {
      type: "vote-request",
      generation: this.#membership.generation,
      term: this.#term,
    } as const;
    this.#emit({ type: "send", acceptor: acceptor.index, message });
  }

  /** A vote is durable before it is sent, so an acceptor that shows a lower term has lost its disk. */
  #checkVoteKept(acceptor: AcceptorProgress, term: bigint): void {
    const record = this.#recordOf(acceptor);
    if (!record.voted || term >= this.#term) return;
    this.#alarm(acceptor, "lost_vote", `term ${String(term)} after a vote in term ${String(this.#term)}`);
    forgetAcknowledged(record);
    record.voted = false;
    record.vote = undefined;
  }

  // Votes and the election.

  #onVoteResponse(acceptor: AcceptorProgress, vote: VoteResponse): void {
    if (!this.#checkGeneration(acceptor, vote.generation)) return;
    if (vote.term > this.#term) {
      this.#onHigherTerm(acceptor, vote.term);
      return;
    }
    if (vote.term < this.#term) {
      this.#disconnect(acceptor, "stale_term", `vote-response of term ${String(vote.term)}`);
      return;
    }
    if (!vote.voteGiven && this.#state === "campaign") {
      this.#onRefusal(acceptor);
      return;
    }
    const problem = historyProblem(vote, this.#term, this.#state === "elected");
    if (problem !== undefined) {
      this.#refuse(acceptor, "corrupt_history", problem);
      return;
    }
    const record = this.#recordOf(acceptor);
    if (vote.flushLsn < record.flushLsn) {
      const detail = `${formatLsn(vote.flushLsn)} after acknowledging ${formatLsn(record.flushLsn)}`;
      this.#alarm(acceptor, "lost_wal", detail);
      forgetAcknowledged(record);
    }
    record.vote = vote;
    record.voted ||= vote.voteGiven;
    this.#move(acceptor, "wait-elected", vote.voteGiven ? "voted" : "had voted in this term");
    if (this.#state === "campaign") this.#tryElect();
    else this.#place(acceptor);
  }

  /** In the campaign an equal term means that another proposer got this vote, or we lost track of our own. */
  #onRefusal(acceptor: AcceptorProgress): void {
    const detail = `acceptor ${String(acceptor.index)} has already voted in term ${String(this.#term)}`;
    if (this.#membership.counts(acceptor)) this.#restart("refused_vote", detail);
    else this.#disconnect(acceptor, "foreign_term", detail);
  }

  /** Somebody else was or will be elected. A node outside the configuration cannot know that and is only left alone. */
  #onHigherTerm(acceptor: AcceptorProgress, term: bigint): void {
    const detail = `acceptor ${String(acceptor.index)} is in term ${String(term)}, we are in ${String(this.#term)}`;
    if (this.#membership.counts(acceptor)) this.#restart("higher_term", detail);
    else this.#disconnect(acceptor, "foreign_term", detail);
  }

  #checkGeneration(acceptor: AcceptorProgress, generation: number): boolean {
    if (generation === this.#membership.generation) return true;
    const detail = `an answer of generation ${String(generation)}, we are in ${String(this.#membership.generation)}`;
    if (this.#membership.counts(acceptor)) this.#restart("generation_change", detail);
    else this.#disconnect(acceptor, "generation_mismatch", detail);
    return false;
  }

  #tryElect(): void {
    if (!this.#ledger.hasVotes(this.#membership.quorum)) return;
    const ballots: Ballot[] = [];
    for (const acceptor of this.#acceptors) {
      const record = this.#find(acceptor);
      if (record?.vote === undefined || !record.voted || !this.#membership.counts(acceptor)) continue;
      ballots.push({ acceptor: acceptor.index, vote: record.vote });
    }
    const election = decideElection(ballots, this.#term, this.#options.bootstrapLsn);
    if (election === undefined) {
      this.#restart("empty_timeline", "no acceptor has any WAL, and none may be begun");
      return;
    }
    const { termStartLsn, truncateLsn, history, donor } = election;
    this.#state = "elected";
    this.#termStartLsn = termStartLsn;
    this.#truncateLsn = truncateLsn;
    this.#history = history;
    this.#electionDonor = donor;
    this.#emit({ type: "elected", term: this.#term, termStartLsn, truncateLsn, history, donor });
    for (const acceptor of this.#acceptors) if (acceptor.state === "wait-elected") this.#place(acceptor);
    if (this.#options.mode === "sync" && truncateLsn === termStartLsn)
      this.#finish({ type: "synced", lsn: termStartLsn });
    else if (this.#options.holdAfterElection !== true) this.#release();
  }

  #release(): void {
    this.#released = true;
    for (const acceptor of this.#acceptors) if (acceptor.state === "wait-elected") this.#admit(acceptor);
  }

  /** Works out where this voter has to start from, and lets it start if that is allowed already. */
  #place(acceptor: AcceptorProgress): void {
    const vote = this.#recordOf(acceptor).vote;
    assert(vote !== undefined, "an acceptor waits for the outcome without having answered");
    try {
      acceptor.streamingLsn = streamingStart(this.#history, vote.history, vote.flushLsn).lsn;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#refuse(acceptor, "corrupt_history", error.message);
      return;
    }
    if (this.#released) this.#admit(acceptor);
  }

  #admit(acceptor: AcceptorProgress): void {
    const startStreamingAt = acceptor.streamingLsn;
    assert(
      startStreamingAt !== undefined,
      "an acceptor is told of the election without a place to start from",
    );
    this.#move(acceptor, "active", `streaming from ${formatLsn(startStreamingAt)}`);
    this.#emit({
      type: "send",
      acceptor: acceptor.index,
      message: {
        type: "elected",
        generation: this.#membership.generation,
        term: this.#term,
        startStreamingAt,
        history: this.#history,
      },
    });
    this.#requestHeartbeat(acceptor);
  }

  // Acknowledgements.

  #onAppendResponse(acceptor: AcceptorProgress, response: AppendResponse): void {
    if (!this.#checkGeneration(acceptor, response.generation)) return;
    if (response.term > this.#term) {
      this.#onHigherTerm(acceptor, response.term);
      return;
    }
    if (response.term < this.#term) {
      this.#disconnect(acceptor, "stale_term", `append-response of term ${String(response.term)}`);
      return;
    }
    if (!this.#acknowledge(acceptor, response)) return;
    if (!sameHotStandby(response.hotStandby, acceptor.hotStandby)) {
      acceptor.hotStandby = response.hotStandby;
      this.#mergeHotStandby();
    }
    if (response.pageserver !== undefined) {
      const feedback = this.#pageservers.add(response.pageserver);
      if (feedback !== undefined) this.#emit({ type: "pageserver", feedback });
    }
    this.#checkSynced();
  }

  /** Enters an acknowledgement and what follows from it; false if it cannot be true. */
  #acknowledge(acceptor: AcceptorProgress, { flushLsn, commitLsn }: AppendResponse): boolean {
    const record = this.#recordOf(acceptor);
    if (flushLsn < record.flushLsn) {
      const detail = `${formatLsn(flushLsn)} after acknowledging ${formatLsn(record.flushLsn)}`;
      forgetAcknowledged(record);
      return this.#refuse(acceptor, "lost_wal", detail);
    }
    if (flushLsn > this.#highestPossibleFlush(acceptor)) {
      const detail = `${formatLsn(flushLsn)} acknowledged, ${formatLsn(acceptor.streamingLsn ?? INVALID_LSN)} sent`;
      return this.#refuse(acceptor, "impossible_position", detail);
    }
    record.commitLsn = commitLsn;
    if (flushLsn !== record.flushLsn) {
      record.flushLsn = flushLsn;
      this.#advanceCommit();
      this.#advanceTruncate();
    }
    return true;
  }

  /**
   * An acceptor never has more than it was sent, with one exception: the record that switches to the next segment is
   * complete before the zeros behind it have come, and ends where that segment begins.
   */
  #highestPossibleFlush(acceptor: AcceptorProgress): bigint {
    const segmentBytes = BigInt(this.#options.segmentBytes);
    const sentLsn = acceptor.streamingLsn ?? INVALID_LSN;
    return ((sentLsn + segmentBytes - 1n) / segmentBytes) * segmentBytes;
  }

  #advanceCommit(): void {
    const candidate = this.#ledger.commitCandidate(this.#membership.quorum, this.#termStartLsn);
    if (candidate <= this.#commitLsn) return;
    this.#commitLsn = candidate;
    this.#emit({ type: "commit", commitLsn: candidate });
    for (const acceptor of this.#acceptors) if (acceptor.state === "active") this.#requestHeartbeat(acceptor);
  }

  #advanceTruncate(): void {
    const listed = this.#acceptors.map((acceptor) => this.#membership.keyOf(acceptor));
    const candidate = this.#ledger.slowest(this.#membership.quorum, listed, this.#commitLsn);
    if (candidate <= this.#truncateLsn) return;
    this.#truncateLsn = candidate;
    this.#emit({ type: "truncate", truncateLsn: candidate });
  }

  #mergeHotStandby(): void {
    const streaming = this.#acceptors.filter(({ state }) => state === "active");
    const merged = mergeHotStandby(streaming.map(({ hotStandby }) => hotStandby));
    if (sameHotStandby(merged, this.#hotStandby)) return;
    this.#hotStandby = merged;
    this.#emit({ type: "hot-standby", feedback: merged });
  }

  /** Mode "sync": done when a quorum has persisted our commit and every connected acceptor has been waited for. */
  #checkSynced(): void {
    if (this.#options.mode !== "sync" || this.#state !== "elected" || !this.#released) return;
    if (this.#commitLsn < this.#termStartLsn) return;
    if (this.#ledger.persistedCommit(this.#membership.quorum) < this.#termStartLsn) return;
    for (const acceptor of this.#acceptors) {
      if (acceptor.state === "offline" || acceptor.state === "connecting" || acceptor.state === "closing")
        continue;
      if (this.#recordOf(acceptor).commitLsn < this.#termStartLsn) return;
    }
    // One last word, so that nobody is left with an older commit LSN than the others.
    for (const acceptor of this.#acceptors) if (acceptor.state === "active") this.#requestHeartbeat(acceptor);
    this.#finish({ type: "synced", lsn: this.#termStartLsn });
  }

  // Small things.

  #acceptor(index: number): AcceptorProgress {
    const acceptor = this.#acceptors[index];
    if (acceptor === undefined) throw new RangeError(`there is no acceptor ${String(index)}`);
    return acceptor;
  }

  #find(acceptor: AcceptorProgress): VoterRecord | undefined {
    const key = this.#membership.keyOf(acceptor);
    return key === undefined ? undefined : this.#ledger.find(key);
  }

  /** For acceptors that have greeted. */
  #recordOf(acceptor: AcceptorProgress): VoterRecord {
    const key = this.#membership.keyOf(acceptor);
    assert(key !== undefined, "an acceptor without a name has nothing on record");
    return this.#ledger.enter(key);
  }

  #move(acceptor: AcceptorProgress, to: AcceptorState, reason: string): void {
    const from = acceptor.move(to, this.#nowMs);
    this.#emit({ type: "transition", acceptor: acceptor.index, from, to, reason });
  }

  #requestHeartbeat(acceptor: AcceptorProgress): void {
    acceptor.heartbeatDue = true;
    this.#pump(acceptor);
  }

  #pump(acceptor: AcceptorProgress): void {
    const pump = this.#pumps[acceptor.index];
    if (pump !== undefined) this.#emit(pump);
  }

  #alarm(acceptor: AcceptorProgress, code: AlarmCode, detail: string): void {
    this.#emit({ type: "alarm", acceptor: acceptor.index, code, detail });
  }

  /** Gives up a connection over something that an operator has to look at. */
  #refuse(acceptor: AcceptorProgress, code: AlarmCode & DisconnectReason, detail: string): false {
    this.#alarm(acceptor, code, detail);
    this.#disconnect(acceptor, code, detail);
    return false;
  }

  #restart(reason: RestartReason, detail: string): void {
    this.#finish({ type: "restart", reason, detail });
  }

  #finish(effect: ProposerEffect & { readonly type: "restart" | "synced" }): void {
    this.#emit(effect);
    this.#end ??= effect.type;
  }

  #emit(effect: ProposerEffect): void {
    if (this.#end === undefined) this.#effects.push(effect);
  }
}

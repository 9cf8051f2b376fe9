/**
 * What the parts of a ProposerCore share: the positions and the history of the term, the acceptors, the ledger, the
 * effects of the event at hand, and the few actions that every part needs.
 *
 * One object for one core, written only by its parts while an event is handled: Campaign decides term, state and
 * history, Acknowledgements decides commit and truncate positions, the core itself the time. After `finish` nothing
 * is emitted any more, so a part may run to its end without looking.
 */
import { strict as assert } from "node:assert";
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { EMPTY_CONFIGURATION } from "@millrace/wal-protocol";
import type { TermHistory } from "@millrace/wal-protocol";
import { AcceptorProgress } from "./acceptor-progress.js";
import type { AcceptorState } from "./acceptor-progress.js";
import { QuorumLedger } from "./commit-position.js";
import type { VoterRecord } from "./commit-position.js";
import { Membership } from "./membership.js";
import type {
  AlarmCode,
  DisconnectReason,
  ProposerCoreOptions,
  ProposerEffect,
  RestartReason,
} from "./proposer-events.js";

/** The proposer's own state; it only moves to the right. */
export type ProposerState = "collecting-terms" | "campaign" | "elected";

/** Mutable, owned by one ProposerCore. */
export class TermState {
  readonly options: ProposerCoreOptions;
  readonly membership: Membership;
  readonly acceptors: readonly AcceptorProgress[];
  readonly ledger: QuorumLedger = new QuorumLedger();
  state: ProposerState = "collecting-terms";
  term = 0n;
  termStartLsn: Lsn = INVALID_LSN;
  commitLsn: Lsn = INVALID_LSN;
  truncateLsn: Lsn = INVALID_LSN;
  history: TermHistory = [];
  electionDonor = 0;
  /** Whether acceptors may be told of the election. */
  released = false;
  /** Whether the set of streaming acceptors, or what one of them asks for, has changed. */
  standbysChanged = false;
  /** The last effect: nothing more will happen. */
  end: "restart" | "synced" | undefined;
  nowMs = 0;
  /** One frozen object an acceptor, because this effect is the most frequent one. */
  readonly #pumps: readonly ProposerEffect[];
  #effects: ProposerEffect[] = [];

  /** @throws {ProtocolError} ERR_PROTOCOL_CONFIGURATION */
  constructor(options: ProposerCoreOptions) {
    const { acceptors, configuration } = options;
    this.options = options;
    this.membership = new Membership(acceptors, configuration);
    this.acceptors = Array.from({ length: acceptors }, (_, index) => new AcceptorProgress(index));
    this.#pumps = this.acceptors.map(({ index }) => Object.freeze({ type: "pump", acceptor: index }));
  }

  /** The effects since the last call; given to the caller. */
  takeEffects(): readonly ProposerEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  find(acceptor: AcceptorProgress): VoterRecord | undefined {
    const key = this.membership.keyOf(acceptor);
    return key === undefined ? undefined : this.ledger.find(key);
  }

  /** For acceptors that have greeted. */
  recordOf(acceptor: AcceptorProgress): VoterRecord {
    const key = this.membership.keyOf(acceptor);
    assert(key !== undefined, "an acceptor without a name has nothing on record");
    return this.ledger.enter(key);
  }

  move(acceptor: AcceptorProgress, to: AcceptorState, reason: string): void {
    const from = acceptor.move(to, this.nowMs);
    if (from === "active") this.standbysChanged = true;
    this.emit({ type: "transition", acceptor: acceptor.index, from, to, reason });
  }

  requestHeartbeat(acceptor: AcceptorProgress): void {
    acceptor.heartbeatDue = true;
    this.pump(acceptor);
  }

  pump(acceptor: AcceptorProgress): void {
    const pump = this.#pumps[acceptor.index];
    if (pump !== undefined) this.emit(pump);
  }

  alarm(acceptor: AcceptorProgress, code: AlarmCode, detail: string): void {
    this.emit({ type: "alarm", acceptor: acceptor.index, code, detail });
  }

  /** Gives up a connection over something that an operator has to look at. */
  refuse(acceptor: AcceptorProgress, code: AlarmCode & DisconnectReason, detail: string): false {
    this.alarm(acceptor, code, detail);
    this.disconnect(acceptor, code, detail);
    return false;
  }

  restart(reason: RestartReason, detail: string): void {
    this.finish({ type: "restart", reason, detail });
  }

  finish(effect: ProposerEffect & { readonly type: "restart" | "synced" }): void {
    this.emit(effect);
    this.end ??= effect.type;
  }

  emit(effect: ProposerEffect): void {
    if (this.end === undefined) this.#effects.push(effect);
  }

  disconnect(acceptor: AcceptorProgress, reason: DisconnectReason, detail: string): void {
    this.move(acceptor, "closing", reason);
    this.emit({ type: "disconnect", acceptor: acceptor.index, reason, detail });
  }

  greet(acceptor: AcceptorProgress, reason: string): void {
    const { tenantId, timelineId, pgVersion, systemId, segmentBytes } = this.options;
    if (acceptor.state !== "handshake") this.move(acceptor, "handshake", reason);
    acceptor.greetedGeneration = this.membership.generation;
    const configuration = this.membership.known ?? EMPTY_CONFIGURATION;
    this.emit({
      type: "send",
      acceptor: acceptor.index,
      message: { type: "greeting", tenantId, timelineId, configuration, pgVersion, systemId, segmentBytes },
    });
  }

  /** Somebody else was or will be elected. A node outside the configuration cannot know that and is only left alone. */
  onHigherTerm(acceptor: AcceptorProgress, term: bigint): void {
    const detail = `acceptor ${String(acceptor.index)} is in term ${String(term)}, we are in ${String(this.term)}`;
    if (this.membership.counts(acceptor)) this.restart("higher_term", detail);
    else this.disconnect(acceptor, "foreign_term", detail);
  }

  checkGeneration(acceptor: AcceptorProgress, generation: number): boolean {
    if (generation === this.membership.generation) return true;
    const detail = `an answer of generation ${String(generation)}, we are in ${String(this.membership.generation)}`;
    if (this.membership.counts(acceptor)) this.restart("generation_change", detail);
    else this.disconnect(acceptor, "generation_mismatch", detail);
    return false;
  }
}

/**
 * One acceptor as the proposer sees it: a state, and what belongs to the current connection.
 *
 * The states follow one conversation: no connection, connecting, greeting sent, greeted and waiting for the campaign,
 * vote requested, voted and waiting for the outcome, streaming. `MOVES` is the table of what may follow what and
 * `move` the only function that changes a state; anything not in the table is a bug of ours and stops the process
 * before it can count a vote twice. Leaving for "closing" or "offline" forgets everything that is true of one connection only;
 * what the acceptor has promised for good (its vote, what it acknowledged) lives in the ledger and stays.
 *
 * Idea: the per-safekeeper states of Neon's walproposer. Its states for parts of a connection attempt are the
 * shell's business here.
 */
import { strict as assert } from "node:assert";
import type { Lsn } from "@millrace/lsn";
import { NO_HOT_STANDBY_FEEDBACK } from "@millrace/wal-protocol";
import type { HotStandbyFeedback } from "@millrace/wal-protocol";

/** Where the conversation with one acceptor stands. */
export type AcceptorState =
  | "offline" // no connection; the next attempt has a time
  | "connecting" // the shell is opening the stream
  | "handshake" // our greeting is out
  | "wait-voting" // greeted; the campaign has not begun
  | "wait-verdict" // our vote-request is out
  | "wait-elected" // answered; the election is not over, or held
  | "active" // told who is elected, streaming
  | "closing"; // given up by us; the shell has not reported the end of the connection yet

const MOVES: Readonly<Record<AcceptorState, readonly AcceptorState[]>> = {
  offline: ["connecting"],
  connecting: ["handshake", "closing", "offline"],
  handshake: ["wait-voting", "closing", "offline"],
  // Back to the handshake: a higher configuration was learnt and the acceptor is asked to follow it, or it is asked
  // whether it knows a higher one.
  "wait-voting": ["wait-verdict", "handshake", "closing", "offline"],
  "wait-verdict": ["wait-elected", "closing", "offline"],
  "wait-elected": ["active", "closing", "offline"],
  active: ["closing", "offline"],
  closing: ["offline"],
};

/** States in which the acceptor owes us an answer, so that its silence means something. */
const AWAITING: ReadonlySet<AcceptorState> = new Set(["connecting", "handshake", "wait-verdict", "active"]);

/** Mutable, owned by one ProposerCore; nobody else holds one. */
export class AcceptorProgress {
  readonly index: number;
  #state: AcceptorState = "offline";
  /** Who answered at this address last; kept while offline. */
  nodeId: bigint | undefined;
  /** The term of its last greeting before the campaign; also of a connection that has ended since. */
  greetedTerm = 0n;
  /** The generation that our last greeting on this connection carried. */
  greetedGeneration = 0;
  /** Where the next append-request begins; undefined until the election has decided it for this connection. */
  streamingLsn: Lsn | undefined;
  /** An append-request has to go out even if there is no WAL for it. */
  heartbeatDue = false;
  hotStandby: HotStandbyFeedback = NO_HOT_STANDBY_FEEDBACK;
  /** Last message received, whatever the connection. */
  lastHeardMs: number | undefined;
  /** From when on its silence counts. */
  waitingSinceMs = 0;
  lastSentMs = 0;
  /** When the last attempt to connect began. */
  attemptedAtMs: number = Number.NEGATIVE_INFINITY;

  constructor(index: number) {
    this.index = index;
  }

  get state(): AcceptorState {
    return this.#state;
  }

  /** Whether the acceptor owes an answer. */
  get awaiting(): boolean {
    return AWAITING.has(this.#state);
  }

  /** The only way to change the state; gives the state that was left. Anything outside the table is our bug. */
  move(to: AcceptorState, nowMs: number): AcceptorState {
    const from = this.#state;
    assert(MOVES[from].includes(to), `acceptor ${String(this.index)} cannot move from ${from} to ${to}`);
    this.#state = to;
    this.waitingSinceMs = nowMs;
    if (to === "offline" || to === "closing") {
      this.greetedGeneration = 0;
      this.streamingLsn = undefined;
      this.heartbeatDue = false;
      this.hotStandby = NO_HOT_STANDBY_FEEDBACK;
    }
    return from;
  }
}

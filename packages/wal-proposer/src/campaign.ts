/**
 * From the first greeting to a streaming acceptor: who answers, in which generation and term, whose log is adopted,
 * and from where on each acceptor has to follow.
 *
 * The campaign begins when a quorum has greeted, in the term above all terms that were shown, and is won with a
 * quorum of votes. Afterwards every acceptor that greets is asked for its vote all the same: that raises its term to
 * ours and tells where its log ends, and whether it can still vote does not matter any more.
 */
import { strict as assert } from "node:assert";
import { formatLsn } from "@millrace/lsn";
import { hasQuorum, ProtocolError, streamingStart } from "@millrace/wal-protocol";
import type { AcceptorGreeting, Configuration, VoteResponse } from "@millrace/wal-protocol";
import type { AcceptorProgress } from "./acceptor-progress.js";
import { forgetAcknowledged } from "./commit-position.js";
import { decideElection, historyProblem } from "./election.js";
import type { Ballot } from "./election.js";
import type { TermState } from "./term-state.js";

const TERM_MAX = 0xffff_ffff_ffff_ffffn;

/** Decides term, state and history of the term it is made for. */
export class Campaign {
  readonly #shared: TermState;

  constructor(shared: TermState) {
    this.#shared = shared;
  }

  onGreeting(acceptor: AcceptorProgress, greeting: AcceptorGreeting): void {
    if (!this.#identify(acceptor, greeting.nodeId)) return;
    if (!this.#reconcileGeneration(acceptor, greeting.configuration)) return;
    if (greeting.term === TERM_MAX) {
      this.#shared.disconnect(acceptor, "foreign_term", "no term is left above the acceptor's");
      return;
    }
    if (this.#shared.state === "collecting-terms") {
      acceptor.greetedTerm = greeting.term;
      this.#shared.move(acceptor, "wait-voting", "greeted");
      this.#tryCampaign();
      return;
    }
    if (greeting.term > this.#shared.term) {
      this.#shared.onHigherTerm(acceptor, greeting.term);
      return;
    }
    this.#checkVoteKept(acceptor, greeting.term);
    this.#shared.move(acceptor, "wait-voting", "greeted");
    this.#requestVote(acceptor);
  }

  /** Takes note of who answers at this address; false if that cannot be right and the connection is given up. */
  #identify(acceptor: AcceptorProgress, nodeId: bigint): boolean {
    const conflict = this.#shared.membership.conflict(acceptor, nodeId, this.#shared.acceptors);
    if (conflict !== undefined) return this.#shared.refuse(acceptor, "node_conflict", conflict);
    const gone = this.#shared.membership.identify(acceptor, nodeId, this.#shared.acceptors);
    if (gone !== undefined) this.#shared.ledger.drop(gone); // so that records are bounded by members and addresses
    return true;
  }

  /** Brings the acceptor's configuration and ours together; false if this greeting goes no further. */
  #reconcileGeneration(acceptor: AcceptorProgress, theirs: Configuration): boolean {
    const ours = this.#shared.membership.generation;
    const relation = this.#shared.membership.compare(theirs);
    const detail = `the acceptor is in generation ${String(theirs.generation)}, we are in ${String(ours)}`;
    if (relation === "same") return true;
    if (relation === "conflict") {
      return this.#shared.refuse(
        acceptor,
        "configuration_conflict",
        `generation ${String(ours)} has other members there`,
      );
    }
    if (relation === "higher") {
      if (this.#shared.state === "collecting-terms") this.#adopt(theirs, acceptor);
      else this.#shared.restart("generation_change", detail);
      return this.#shared.end === undefined;
    }
    // Lagging behind: it follows if the greeting tells it to. If this greeting did already, it will not.
    if (relation === "foreign" || acceptor.greetedGeneration === ours) {
      return this.#shared.refuse(acceptor, "generation_mismatch", detail);
    }
    this.#shared.greet(acceptor, "generation");
    return false;
  }

  #adopt(configuration: Configuration, source: AcceptorProgress): void {
    this.#shared.membership.adopt(configuration);
    for (const acceptor of this.#shared.acceptors) {
      if (acceptor !== source && acceptor.state === "wait-voting") this.#shared.greet(acceptor, "generation");
    }
  }

  #tryCampaign(): void {
    const greeted = (key: bigint): boolean =>
      this.#shared.acceptors.some(
        (acceptor) => acceptor.state === "wait-voting" && this.#shared.membership.keyOf(acceptor) === key,
      );
    if (!hasQuorum(this.#shared.membership.quorum, greeted)) return;
    let highest = 0n;
    for (const { greetedTerm } of this.#shared.acceptors) if (greetedTerm > highest) highest = greetedTerm;
    this.#shared.term = highest + 1n;
    this.#shared.state = "campaign";
    this.#shared.emit({ type: "campaign", term: this.#shared.term });
    for (const acceptor of this.#shared.acceptors)
      if (acceptor.state === "wait-voting") this.#requestVote(acceptor);
  }

  #requestVote(acceptor: AcceptorProgress): void {
    this.#shared.move(acceptor, "wait-verdict", "vote requested");
    const message = {
      type: "vote-request",
      generation: this.#shared.membership.generation,
      term: this.#shared.term,
    } as const;
    this.#shared.emit({ type: "send", acceptor: acceptor.index, message });
  }

  /** A vote is durable before it is sent, so an acceptor that shows a lower term has lost its disk. */
  #checkVoteKept(acceptor: AcceptorProgress, term: bigint): void {
    const record = this.#shared.recordOf(acceptor);
    if (record.vote === undefined || term >= this.#shared.term) return;
    this.#shared.alarm(
      acceptor,
      "lost_vote",
      `term ${String(term)} after a vote in term ${String(this.#shared.term)}`,
    );
    forgetAcknowledged(record);
    record.vote = undefined;
  }

  onVoteResponse(acceptor: AcceptorProgress, vote: VoteResponse): void {
    if (!this.#shared.checkGeneration(acceptor, vote.generation)) return;
    if (vote.term > this.#shared.term) {
      this.#shared.onHigherTerm(acceptor, vote.term);
      return;
    }
    if (vote.term < this.#shared.term) {
      this.#shared.disconnect(acceptor, "stale_term", `vote-response of term ${String(vote.term)}`);
      return;
    }
    if (!vote.voteGiven && this.#shared.state === "campaign") {
      this.#onRefusal(acceptor);
      return;
    }
    const problem = historyProblem(vote, this.#shared.term, this.#shared.state === "elected");
    if (problem !== undefined) {
      this.#shared.refuse(acceptor, "corrupt_history", problem);
      return;
    }
    const record = this.#shared.recordOf(acceptor);
    if (vote.flushLsn < record.flushLsn) {
      const detail = `${formatLsn(vote.flushLsn)} after acknowledging ${formatLsn(record.flushLsn)}`;
      this.#shared.alarm(acceptor, "lost_wal", detail);
      forgetAcknowledged(record);
    }
    record.vote = vote;
    this.#shared.move(acceptor, "wait-elected", vote.voteGiven ? "voted" : "had voted in this term");
    if (this.#shared.state === "campaign") this.#tryElect();
    else this.#place(acceptor);
  }

  /** In the campaign an equal term means that another proposer got this vote, or we lost track of our own. */
  #onRefusal(acceptor: AcceptorProgress): void {
    const detail = `acceptor ${String(acceptor.index)} has already voted in term ${String(this.#shared.term)}`;
    if (this.#shared.membership.counts(acceptor)) this.#shared.restart("refused_vote", detail);
    else this.#shared.disconnect(acceptor, "foreign_term", detail);
  }

  #tryElect(): void {
    if (!this.#shared.ledger.hasVotes(this.#shared.membership.quorum)) return;
    const ballots: Ballot[] = [];
    for (const acceptor of this.#shared.acceptors) {
      const record = this.#shared.find(acceptor);
      if (record?.vote?.voteGiven !== true || !this.#shared.membership.counts(acceptor)) continue;
      ballots.push({ acceptor: acceptor.index, vote: record.vote });
    }
    const election = decideElection(ballots, this.#shared.term, this.#shared.options.bootstrapLsn);
    if (election === undefined) {
      this.#shared.restart("empty_timeline", "no acceptor has any WAL, and none may be begun");
      return;
    }
    const { termStartLsn, truncateLsn, history, donor } = election;
    this.#shared.state = "elected";
    this.#shared.termStartLsn = termStartLsn;
    this.#shared.truncateLsn = truncateLsn;
    this.#shared.history = history;
    this.#shared.electionDonor = donor;
    this.#shared.emit({
      type: "elected",
      term: this.#shared.term,
      termStartLsn,
      truncateLsn,
      history,
      donor,
    });
    for (const acceptor of this.#shared.acceptors)
      if (acceptor.state === "wait-elected") this.#place(acceptor);
    if (this.#shared.options.holdAfterElection !== true) this.release();
  }

  release(): void {
    this.#shared.released = true;
    for (const acceptor of this.#shared.acceptors)
      if (acceptor.state === "wait-elected") this.#admit(acceptor);
  }

  /** Works out where this voter has to start from, and lets it start if that is allowed already. */
  #place(acceptor: AcceptorProgress): void {
    const vote = this.#shared.recordOf(acceptor).vote;
    assert(vote !== undefined, "an acceptor waits for the outcome without having answered");
    try {
      acceptor.streamingLsn = streamingStart(this.#shared.history, vote.history, vote.flushLsn).lsn;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#shared.refuse(acceptor, "corrupt_history", error.message);
      return;
    }
    if (this.#shared.released) this.#admit(acceptor);
  }

  #admit(acceptor: AcceptorProgress): void {
    const startStreamingAt = acceptor.streamingLsn;
    assert(
      startStreamingAt !== undefined,
      "an acceptor is told of the election without a place to start from",
    );
    this.#shared.move(acceptor, "active", `streaming from ${formatLsn(startStreamingAt)}`);
    this.#shared.emit({
      type: "send",
      acceptor: acceptor.index,
      message: {
        type: "elected",
        generation: this.#shared.membership.generation,
        term: this.#shared.term,
        startStreamingAt,
        history: this.#shared.history,
      },
    });
    this.#shared.requestHeartbeat(acceptor);
  }
}

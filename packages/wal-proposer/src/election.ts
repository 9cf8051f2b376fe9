/**
 * What the votes of a quorum decide: whose log is adopted, where our term starts, and what our history is.
 *
 * The most advanced log among a quorum of votes contains every committed byte: a commit needs a quorum under one
 * term, every quorum shares a voter with ours, and the comparison (last term, then length) prefers that voter's log
 * to any other that could lack the commit. So the winner's log is adopted up to its end, and our term starts there.
 * If nobody has any WAL there is no log to adopt, and ours begins where the database does.
 *
 * Idea: Raft's election restriction moved to the proposer, as in Neon's walproposer (DetermineEpochStartLsn).
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import {
  checkTermHistory,
  compareLogPosition,
  effectiveHistory,
  lastLogTerm,
  ProtocolError,
} from "@millrace/wal-protocol";
import type { TermHistory, VoteResponse } from "@millrace/wal-protocol";

/** One vote and who gave it. */
export interface Ballot {
  /** Index of the acceptor that gave it. */
  readonly acceptor: number;
  readonly vote: VoteResponse;
}

/** The outcome of an election. */
export interface Election {
  /** Index of the acceptor whose log is adopted. */
  readonly donor: number;
  readonly termStartLsn: Lsn;
  readonly truncateLsn: Lsn;
  /** The adopted history and, last, (term, termStartLsn). */
  readonly history: TermHistory;
}

/**
 * Decides an election.
 *
 * @param ballots votes of one quorum, at least one; every history is ordered and older than `term`
 * @param bootstrapLsn where the log begins if all ballots are empty; 0/0 to refuse that
 * @returns undefined if there is nothing to adopt and nothing may be begun
 */
export function decideElection(
  ballots: readonly Ballot[],
  term: bigint,
  bootstrapLsn: Lsn,
): Election | undefined {
  let donor: Ballot | undefined;
  let truncateLsn: Lsn = INVALID_LSN;
  for (const ballot of ballots) {
    if (donor === undefined || compareLogPosition(position(ballot.vote), position(donor.vote)) > 0)
      donor = ballot;
    if (ballot.vote.truncateLsn > truncateLsn) truncateLsn = ballot.vote.truncateLsn;
  }
  if (donor === undefined) return undefined;
  const { flushLsn } = donor.vote;
  if (flushLsn === INVALID_LSN) {
    if (bootstrapLsn === INVALID_LSN) return undefined;
    return {
      donor: donor.acceptor,
      termStartLsn: bootstrapLsn,
      truncateLsn: bootstrapLsn,
      history: [{ term, lsn: bootstrapLsn }],
    };
  }
  return {
    donor: donor.acceptor,
    termStartLsn: flushLsn,
    truncateLsn,
    history: [...effectiveHistory(donor.vote.history, flushLsn), { term, lsn: flushLsn }],
  };
}

/**
 * Says why the history of a vote-response in `term` cannot be true; undefined if it can. It must be ordered, must not
 * begin at 0/0 (an election over empty acceptors once left such logs behind in Neon), and can know `term` itself only
 * if its proposer, we, has been elected.
 */
export function historyProblem(vote: VoteResponse, term: bigint, elected: boolean): string | undefined {
  const { history } = vote;
  try {
    checkTermHistory(history);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    return error.message;
  }
  if (history[0]?.lsn === INVALID_LSN) return "the history starts at 0/0";
  const last = history.at(-1)?.term ?? 0n;
  if (last > term || (last === term && !elected)) {
    return `the history knows term ${String(last)} in term ${String(term)}`;
  }
  return undefined;
}

function position(vote: VoteResponse): { lastLogTerm: bigint; flushLsn: Lsn } {
  return { lastLogTerm: lastLogTerm(vote.history, vote.flushLsn), flushLsn: vote.flushLsn };
}

/**
 * Term histories: which term wrote which part of a log.
 *
 * A history is a list of (term, lsn), each entry saying that from `lsn` on the log was written in `term`. Along a
 * valid history terms rise strictly and LSNs never fall, and one term starts at one LSN on every node, because only
 * the one proposer elected in it decides where. So two logs agree exactly as far as their histories do, and the
 * functions below find that point without looking at a byte of WAL. Entries beyond the end of a node's log are
 * promises of an elected proposer that were never filled; only the effective part says what is really there. An
 * entry counts as soon as the log reaches its LSN, as if a zero-length record stood there.
 *
 * Both sides of the protocol compute the same point here: the proposer to know where to start streaming, the
 * acceptor to check that before it truncates.
 *
 * Idea: Neon's safekeeper (TermHistory, find_highest_common_point), which is Raft's log matching without indexes.
 */
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { ProtocolError } from "./errors.js";

/** `lsn` is where `term` begins in a history, or a position reached in `term`. */
export interface TermLsn {
  /** u64. */
  readonly term: bigint;
  readonly lsn: Lsn;
}

/** Terms rising strictly, LSNs never falling. Borrowed wherever it is passed: nobody changes one in place. */
export type TermHistory = readonly TermLsn[];

/** What decides which of two logs is the more advanced one: first the term of its end, then its length. */
export interface LogPosition {
  readonly lastLogTerm: bigint;
  readonly flushLsn: Lsn;
}

/**
 * Checks that terms rise strictly and LSNs never fall. An empty history is in order.
 *
 * @throws {ProtocolError} ERR_PROTOCOL_HISTORY
 */
export function checkTermHistory(history: TermHistory): void {
  let previous: TermLsn | undefined;
  for (const entry of history) {
    if (previous !== undefined && (entry.term <= previous.term || entry.lsn < previous.lsn)) {
      throw new ProtocolError(
        "ERR_PROTOCOL_HISTORY",
        `term history is not ordered: term ${String(entry.term)} follows term ${String(previous.term)}`,
      );
    }
    previous = entry;
  }
}

/** The entries that a log ending at `flushLsn` has really reached. The result is `history` itself if that is all. */
export function effectiveHistory(history: TermHistory, flushLsn: Lsn): TermHistory {
  const length = effectiveLength(history, flushLsn);
  return length === history.length ? history : history.slice(0, length);
}

/** The term in which the end of a log at `flushLsn` was written; 0 if the history does not reach that far back. */
export function lastLogTerm(history: TermHistory, flushLsn: Lsn): bigint {
  return history[effectiveLength(history, flushLsn) - 1]?.term ?? 0n;
}

/** Orders logs by how advanced they are: negative, zero or positive as `a` is behind, level with or ahead of `b`. */
export function compareLogPosition(a: LogPosition, b: LogPosition): number {
  if (a.lastLogTerm !== b.lastLogTerm) return a.lastLogTerm < b.lastLogTerm ? -1 : 1;
  if (a.flushLsn !== b.flushLsn) return a.flushLsn < b.flushLsn ? -1 : 1;
  return 0;
}

/**
 * The last point at which an acceptor's log and an elected proposer's log are certainly the same, or undefined if
 * they share no term. Past it the acceptor's log must be cut before the proposer's may be appended.
 *
 * @param acceptorHistory only its effective part is looked at
 * @param acceptorEndLsn where the acceptor's log ends (its flush LSN)
 * @throws {ProtocolError} ERR_PROTOCOL_HISTORY if the same term starts at different LSNs, which means corruption
 */
export function highestCommonPoint(
  proposerHistory: TermHistory,
  acceptorHistory: TermHistory,
  acceptorEndLsn: Lsn,
): TermLsn | undefined {
  const acceptorLength = effectiveLength(acceptorHistory, acceptorEndLsn);
  const limit = Math.min(proposerHistory.length, acceptorLength);
  let common: TermLsn | undefined;
  let next = 0;
  for (; next < limit; next += 1) {
    const ours = proposerHistory[next];
    const theirs = acceptorHistory[next];
    if (ours === undefined || theirs === undefined || ours.term !== theirs.term) break;
    if (ours.lsn !== theirs.lsn) {
      throw new ProtocolError(
        "ERR_PROTOCOL_HISTORY",
        `term ${String(ours.term)} starts at ${formatLsn(ours.lsn)} for the proposer and at ${formatLsn(theirs.lsn)} for the acceptor`,
      );
    }
    common = ours;
  }
  if (common === undefined) return undefined;
  const proposerTermEnd = proposerHistory[next]?.lsn;
  // The term the proposer is in has no end yet: the acceptor's whole log counts.
  if (proposerTermEnd === undefined) return { term: common.term, lsn: acceptorEndLsn };
  const acceptorNext = next < acceptorLength ? acceptorHistory[next] : undefined;
  const acceptorTermEnd = acceptorNext?.lsn ?? acceptorEndLsn;
  return { term: common.term, lsn: acceptorTermEnd < proposerTermEnd ? acceptorTermEnd : proposerTermEnd };
}

/**
 * Where a proposer must start streaming to an acceptor, and to where the acceptor must cut its log: the highest
 * common point, or the very start of the proposer's log if there is none.
 *
 * @throws {ProtocolError} ERR_PROTOCOL_HISTORY if the proposer's history is empty or contradicts the acceptor's
 */
export function streamingStart(
  proposerHistory: TermHistory,
  acceptorHistory: TermHistory,
  acceptorEndLsn: Lsn,
): TermLsn {
  const first = proposerHistory[0];
  if (first === undefined)
    throw new ProtocolError("ERR_PROTOCOL_HISTORY", "the proposer's term history is empty");
  return highestCommonPoint(proposerHistory, acceptorHistory, acceptorEndLsn) ?? first;
}

function effectiveLength(history: TermHistory, flushLsn: Lsn): number {
  // Backwards: the unfilled tail is nearly always empty, the history may have hundreds of entries.
  for (let length = history.length; length > 0; length -= 1) {
    const entry = history[length - 1];
    if (entry !== undefined && entry.lsn <= flushLsn) return length;
  }
  return 0;
}

/**
 * ProposerElected: bringing this log in line with an elected proposer's.
 *
 * The order is the safety argument. First everything is checked without touching anything. Then the log is cut,
 * durably. Only then the new history is written: the other way round, a crash in between would leave foreign
 * records under the new term's label. A crash after the cut leaves a shorter log under its old labels, which this
 * node was in before. Idea: process_elected of Neon's safekeeper, with refusals where it would panic.
 */
import { formatLsn, INVALID_LSN, maxLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { checkTermHistory, ProtocolError, streamingStart } from "@millrace/wal-protocol";
import type { ProposerElected, TermLsn } from "@millrace/wal-protocol";
import { checkGeneration, describeLog } from "./core-greeting.js";
import type { CoreState } from "./core-state.js";
import { AcceptorError } from "./errors.js";
import { canStartWal } from "./first-segment.js";

/**
 * Follows the proposer elected in the message's term, if this node has not moved on to a higher one.
 *
 * @param refuseUnsafe called when obeying would cut committed WAL; marks the timeline broken and gives the error
 */
export async function handleElected(
  state: CoreState,
  message: ProposerElected,
  refuseUnsafe: (reason: string) => AcceptorError,
): Promise<void> {
  checkGeneration(state, message.generation, "proposer elected");
  const { first, last } = checkHistory(state, message);
  if (state.term < message.term) await state.persist({ term: message.term });
  // Another proposer was heard of since; the next append request tells this one.
  if (state.term > message.term) return;
  const start = message.startStreamingAt;
  checkStart(state, message);
  if (start < state.commitLsn) {
    throw refuseUnsafe(
      `proposer of term ${String(message.term)} wants to cut at ${formatLsn(start)}, below what is committed (${describeLog(state)})`,
    );
  }

  const timelineStartLsn = state.timelineStartLsn === INVALID_LSN ? first.lsn : state.timelineStartLsn;
  const localStartLsn = state.localStartLsn === INVALID_LSN ? start : state.localStartLsn;
  if (start === localStartLsn) await state.wal.initFirstSegment(start);
  await state.wal.truncate(start);
  await state.persist({
    timelineStartLsn,
    localStartLsn,
    peerHorizonLsn: state.peerHorizonLsn === INVALID_LSN ? timelineStartLsn : state.peerHorizonLsn,
    commitLsn: maxLsn(state.commitLsn, timelineStartLsn),
    backupLsn: maxLsn(state.backupLsn, timelineStartLsn),
    remoteConsistentLsn: maxLsn(state.remoteConsistentLsn, timelineStartLsn),
    termHistory: message.history,
  });
  state.termStartLsn = last.lsn;
}

function checkHistory(state: CoreState, message: ProposerElected): { first: TermLsn; last: TermLsn } {
  const invalid = (reason: string, cause?: unknown): AcceptorError =>
    new AcceptorError("ERR_ACCEPTOR_HISTORY_INVALID", `proposer elected: ${reason}`, { cause });
  const first = message.history[0];
  const last = message.history.at(-1);
  if (first === undefined || last === undefined) throw invalid("the term history is empty");
  if (last.term !== message.term) {
    throw invalid(`the term history ends with term ${String(last.term)} instead of ${String(message.term)}`);
  }
  // A history that begins at 0/0 would match every log for ever after.
  if (first.lsn === INVALID_LSN) throw invalid("the term history begins at 0/0");
  try {
    checkTermHistory(message.history);
  } catch (error) {
    throw invalid(error instanceof Error ? error.message : String(error), error);
  }
  if (!canStartWal(message.startStreamingAt, state.server.segmentBytes)) {
    throw invalid(`no record can begin at ${formatLsn(message.startStreamingAt)}`);
  }
  return { first, last };
}

// The proposer computed where the two logs part from what this node said when it voted. If it comes out differently
// now, another connection has written since, and a reconnect cures it.
function checkStart(state: CoreState, message: ProposerElected): void {
  const unexpected = (expected: Lsn): AcceptorError =>
    new AcceptorError(
      "ERR_ACCEPTOR_TRUNCATION_POINT",
      `unexpected truncation point: proposer starts streaming at ${formatLsn(message.startStreamingAt)}, ` +
        `expected ${formatLsn(expected)} (${describeLog(state)})`,
    );
  let common: TermLsn;
  try {
    common = streamingStart(message.history, state.effectiveHistory, state.flushLsn);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    throw new AcceptorError("ERR_ACCEPTOR_HISTORY_INVALID", `proposer elected: ${error.message}`, {
      cause: error,
    });
  }
  if (common.lsn !== message.startStreamingAt) throw unexpected(common.lsn);
  // Without a common term the proposer's log may begin behind the end of ours; between the two there is nothing.
  if (state.wal.flushLsn !== INVALID_LSN && common.lsn > state.flushLsn) throw unexpected(state.flushLsn);
}

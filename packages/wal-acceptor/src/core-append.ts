/**
 * Append requests: writing WAL in order, and saying how much of it is safe.
 *
 * A log is written by one proposer at a time, each byte once, without a hole: an append must begin exactly where
 * the log ends. A run of adjacent requests is written with one call. Only what a sync has covered is acknowledged,
 * together with the commit position that would survive a restart.
 */
import { addBytes, formatLsn, INVALID_LSN, maxLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { AppendRequest, AppendResponse, HotStandbyFeedback } from "@millrace/wal-protocol";
import { checkGeneration } from "./core-greeting.js";
import type { CoreState } from "./core-state.js";
import { AcceptorError } from "./errors.js";

/** What this acceptor acknowledges at this moment. */
export function appendResponse(state: CoreState, hotStandby: HotStandbyFeedback): AppendResponse {
  return {
    type: "append-response",
    generation: state.configuration.generation,
    term: state.term,
    flushLsn: state.flushLsn,
    commitLsn: state.persistedCommitLsn,
    hotStandby,
  };
}

/** What a proposer of an older term is told: that there is a newer one, and nothing else. */
function termOnlyResponse(state: CoreState, hotStandby: HotStandbyFeedback): AppendResponse {
  return {
    type: "append-response",
    generation: state.configuration.generation,
    term: state.term,
    flushLsn: INVALID_LSN,
    commitLsn: INVALID_LSN,
    hotStandby,
  };
}

/** The outcome of looking at one request of a run. */
type Verdict = "append" | "stale-term" | AcceptorError;

function judge(state: CoreState, message: Omit<AppendRequest, "type">, writeLsn: Lsn): Verdict {
  try {
    checkGeneration(state, message.generation, "append request");
  } catch (error) {
    if (error instanceof AcceptorError) return error;
    throw error;
  }
  if (state.term > message.term) return "stale-term";
  // Without ProposerElected the new records would stand under the label of an older term.
  if (state.term < message.term || state.termHistory.at(-1)?.term !== message.term) {
    return new AcceptorError(
      "ERR_ACCEPTOR_BEFORE_ELECTED",
      `append request before ProposerElected: term ${String(message.term)}, this acceptor has ${String(state.term)}`,
    );
  }
  if (message.beginLsn === writeLsn) return "append";
  const [code, word] =
    writeLsn > message.beginLsn
      ? (["ERR_ACCEPTOR_REWRITE", "rewrites"] as const)
      : (["ERR_ACCEPTOR_GAP", "leaves a gap in"] as const);
  return new AcceptorError(
    code,
    `append request at ${formatLsn(message.beginLsn)} ${word} the log, which was written up to ${formatLsn(writeLsn)}`,
  );
}

/**
 * Processes requests in order, as if one by one, with one write for all of them. The first bad request ends the run:
 * those before it have their effect, then its error is thrown.
 *
 * @param flush make the log durable and answer in any case; without it there is an answer only if the log became
 *   durable further on its own, at a segment's end
 */
export async function handleAppends(
  state: CoreState,
  messages: readonly Omit<AppendRequest, "type">[],
  flush: boolean,
  hotStandby: () => HotStandbyFeedback,
): Promise<AppendResponse | undefined> {
  const flushBefore = state.flushLsn;
  const beginLsn = state.writeLsn;
  let writeLsn = beginLsn;
  let commitCandidate = INVALID_LSN;
  let horizon = INVALID_LSN;
  let verdict: Verdict = "append";
  let accepted = 0;
  const buffers: Uint8Array[] = [];
  for (const message of messages) {
    verdict = judge(state, message, writeLsn);
    if (verdict !== "append") break;
    accepted += 1;
    if (addBytes(message.beginLsn, message.walData.byteLength) !== message.endLsn) {
      throw new RangeError("an append request's WAL is not as long as its positions say");
    }
    writeLsn = message.endLsn;
    if (message.walData.byteLength > 0) buffers.push(message.walData);
    commitCandidate = maxLsn(commitCandidate, message.commitLsn);
    horizon = maxLsn(horizon, message.truncateLsn);
  }

  if (buffers.length > 0) await state.wal.write(beginLsn, buffers);
  if (flush && accepted > 0) await state.wal.flush();
  if (commitCandidate !== INVALID_LSN) await state.advanceCommit(commitCandidate);
  if (horizon !== INVALID_LSN) state.raisePeerHorizon(horizon);
  if (verdict instanceof AcceptorError) throw verdict;
  if (verdict === "stale-term") return termOnlyResponse(state, hotStandby());
  if (!flush && state.flushLsn === flushBefore) return undefined;
  return appendResponse(state, hotStandby());
}

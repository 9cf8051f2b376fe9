/**
 * Hot-standby feedback: the oldest transactions that readers of a standby may still need.
 *
 * Standbys report 32-bit transaction ids with their epochs; the proposer protocol carries full 64-bit ids, in which
 * 0 means "none". An acceptor merges what its standbys say, the proposer merges what its acceptors say, both with
 * the same rule: the oldest id wins and zeros do not take part.
 *
 * Idea: hot_standby_feedback of PostgreSQL's walreceiver; the merge is that of Neon's walproposer.
 */

/** Full 64-bit transaction ids; 0 means none. `timestamp` is in microseconds since 2000-01-01 (i64). */
export interface HotStandbyFeedback {
  readonly timestamp: bigint;
  readonly xmin: bigint;
  readonly catalogXmin: bigint;
}

/** Nobody asks for anything. */
export const NO_HOT_STANDBY_FEEDBACK: HotStandbyFeedback = Object.freeze({
  timestamp: 0n,
  xmin: 0n,
  catalogXmin: 0n,
});

/** The full transaction id of a 32-bit `xid` in `epoch`; 0 stays 0 whatever the epoch is, because it is no transaction. */
export function fullTransactionId(xid: number, epoch: number): bigint {
  return xid === 0 ? 0n : (BigInt(epoch) << 32n) | BigInt(xid);
}

/**
 * Merges what several readers asked for: the smallest xmin and the smallest catalog xmin other than 0, and the
 * latest timestamp among those who gave either. {@link NO_HOT_STANDBY_FEEDBACK} if nobody did.
 */
export function aggregateHotStandby(list: Iterable<HotStandbyFeedback>): HotStandbyFeedback {
  let timestamp = 0n;
  let xmin = 0n;
  let catalogXmin = 0n;
  for (const feedback of list) {
    if (feedback.xmin === 0n && feedback.catalogXmin === 0n) continue;
    xmin = smallerExceptZero(xmin, feedback.xmin);
    catalogXmin = smallerExceptZero(catalogXmin, feedback.catalogXmin);
    if (feedback.timestamp > timestamp) timestamp = feedback.timestamp;
  }
  return xmin === 0n && catalogXmin === 0n ? NO_HOT_STANDBY_FEEDBACK : { timestamp, xmin, catalogXmin };
}

function smallerExceptZero(a: bigint, b: bigint): bigint {
  if (a === 0n) return b;
  return b === 0n || a < b ? a : b;
}

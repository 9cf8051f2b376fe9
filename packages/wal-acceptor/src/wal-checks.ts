/**
 * What every WAL store refuses, whatever it keeps its bytes in. Pure; the texts are what a proposer gets to read.
 */
import { formatLsn, INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { AcceptorError } from "./errors.js";
import type { WalPositions } from "./wal-positions.js";

/**
 * Whether a write may begin at `beginLsn`.
 *
 * @param truncateFirst why writes are refused until a truncation, or undefined
 * @throws {AcceptorError} ERR_ACCEPTOR_TRUNCATE_FIRST, ERR_ACCEPTOR_REWRITE, ERR_ACCEPTOR_GAP
 */
export function checkWrite(positions: WalPositions, truncateFirst: string | undefined, beginLsn: Lsn): void {
  if (truncateFirst !== undefined) {
    throw new AcceptorError(
      "ERR_ACCEPTOR_TRUNCATE_FIRST",
      `WAL cannot be written before a truncation: ${truncateFirst}`,
    );
  }
  const { writeLsn } = positions;
  if (beginLsn === writeLsn) return;
  const rewrites = beginLsn < writeLsn;
  throw new AcceptorError(
    rewrites ? "ERR_ACCEPTOR_REWRITE" : "ERR_ACCEPTOR_GAP",
    `write at ${formatLsn(beginLsn)} ${rewrites ? "rewrites" : "leaves a gap in"} the log, which ends at ${formatLsn(writeLsn)}`,
  );
}

/**
 * Whether there is anything to truncate at `endLsn`: nothing is if the log ends there, cleanly and durably.
 *
 * @throws {RangeError} `endLsn` is beyond the log
 */
export function needsCut(positions: WalPositions, truncateFirst: string | undefined, endLsn: Lsn): boolean {
  const { writeLsn, writeRecordLsn, flushLsn } = positions;
  if (endLsn === INVALID_LSN || (writeLsn !== INVALID_LSN && endLsn > writeRecordLsn)) {
    throw new RangeError(`cannot truncate at ${formatLsn(endLsn)}, WAL ends at ${formatLsn(writeRecordLsn)}`);
  }
  return truncateFirst !== undefined || endLsn !== writeLsn || endLsn !== flushLsn;
}

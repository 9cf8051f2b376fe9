/**
 * How much WAL goes into one message to a reader. Pure.
 *
 * The rules are those of PostgreSQL's XLogSendPhysical: at most 16 pages; a message that does not reach the end of
 * what may be sent ends with a page, so that whatever a standby has on disk after a crash ends with a page too; and
 * no message crosses a segment's end, because a reader opens one file at a time.
 */
import { BLOCK_BYTES, blockOffset, segmentOffset } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

/** WAL bytes in one XLogData message at most: 16 pages, as everywhere in this protocol. */
export const XLOG_DATA_BYTES_MAX: number = 16 * BLOCK_BYTES;

/**
 * Bytes of the next message that starts at `startLsn`, below `endLsn`.
 *
 * @returns 1 to XLOG_DATA_BYTES_MAX
 */
export function chunkBytes(startLsn: Lsn, endLsn: Lsn, segmentBytes: number): number {
  const available = endLsn - startLsn;
  const whole = XLOG_DATA_BYTES_MAX - blockOffset(startLsn);
  const bytes = available <= BigInt(XLOG_DATA_BYTES_MAX) ? Number(available) : whole;
  return Math.min(bytes, segmentBytes - segmentOffset(startLsn, segmentBytes));
}

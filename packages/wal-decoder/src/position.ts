/**
 * LSNs as two 32-bit halves, for the inner loop: no bigint is made per record.
 *
 * Halves are kept as signed 32-bit integers, which V8 holds without allocating; the sign means nothing. A position
 * inside a segment is the segment's start plus an offset, and as segments are aligned to their size, adding an
 * offset below that size never carries into the high half. Only a segment's end may, and `lsnOf` adds in bigint.
 */
import type { Lsn } from "@millrace/lsn";

/** High half of an LSN or of any other u64, as a signed 32-bit integer. */
export function highHalf(value: bigint): number {
  return Number(BigInt.asIntN(32, value >> 32n));
}

/** Low half of an LSN or of any other u64, as a signed 32-bit integer. */
export function lowHalf(value: bigint): number {
  return Number(BigInt.asIntN(32, value));
}

/** The LSN `offset` bytes after the one whose halves are given. The caller knows that it is below 2^64. */
export function lsnOf(high: number, low: number, offset: number): Lsn {
  return ((BigInt(high >>> 0) << 32n) + BigInt((low >>> 0) + offset)) as Lsn;
}

/** Whether one pair of halves is below another, both read as unsigned. */
export function isBelow(high: number, low: number, otherHigh: number, otherLow: number): boolean {
  return high === otherHigh ? low >>> 0 < otherLow >>> 0 : high >>> 0 < otherHigh >>> 0;
}

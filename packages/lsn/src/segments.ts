/**
 * WAL segments: which file holds a position, at which offset, and how that file is called.
 *
 * A segment is a file of one fixed power of two between 1 MiB and 1 GiB, chosen at initdb. Its name is three
 * groups of eight upper-case hexadecimal digits: timeline, segment / S and segment % S, where S = 2^32 / segment
 * size. The last group therefore counts to S - 1 only (FF for 16 MiB), and a name beyond it is not ours.
 * `.partial` marks a segment that is still being filled (pg_receivewal, safekeeper) or was left at a promotion.
 *
 * Idea: the XLogFileName family of PostgreSQL's xlog_internal.h. Here the inverse refuses impossible names.
 */
import { MAX_LSN, toLsn } from "./lsn.js";
import type { Lsn } from "./lsn.js";

/** Smallest segment initdb accepts, bytes. */
export const SEGMENT_BYTES_MIN: number = 2 ** 20;
/** Largest segment initdb accepts, bytes. */
export const SEGMENT_BYTES_MAX: number = 2 ** 30;
/** What initdb takes when nothing is said, bytes. */
export const SEGMENT_BYTES_DEFAULT: number = 2 ** 24;

/** Ends the name of a segment that is not yet, or never became, complete. */
export const PARTIAL_SUFFIX = ".partial";

/** Timeline ids are unsigned 32-bit; 0 is never assigned. */
export const TIMELINE_ID_MAX = 0xffff_ffff;

/** What the name of a segment file says. */
export interface SegmentFile {
  readonly timelineId: number;
  readonly segmentNumber: bigint;
  /** The name ends in `.partial`. */
  readonly partial: boolean;
}

const SEGMENT_NAME = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})(\.partial)?$/;

/** Whether `bytes` is a segment size that PostgreSQL can run with. */
export function isSegmentBytes(bytes: number): boolean {
  // The range test also refuses NaN and infinities; the bit test then refuses fractions and sums of powers.
  return (
    bytes >= SEGMENT_BYTES_MIN && bytes <= SEGMENT_BYTES_MAX && (bytes & (bytes - 1)) === 0 && bytes % 1 === 0
  );
}

/** @throws {RangeError} `bytes` is not a power of two from 1 MiB to 1 GiB */
export function checkSegmentBytes(bytes: number): void {
  if (!isSegmentBytes(bytes)) {
    throw new RangeError(`segment size must be a power of two from 1 MiB to 1 GiB: ${String(bytes)}`);
  }
}

/** @throws {RangeError} `timelineId` is not an integer from 1 to 2^32 - 1 */
export function checkTimelineId(timelineId: number): void {
  if (!Number.isInteger(timelineId) || timelineId < 1 || timelineId > TIMELINE_ID_MAX) {
    throw new RangeError(`timeline id must be an integer from 1 to 2^32 - 1: ${String(timelineId)}`);
  }
}

/**
 * The number of the segment that holds the byte at `lsn`. A position on a border belongs to the later segment;
 * for the segment of a record's *end*, ask with the position of its last byte.
 *
 * @throws {RangeError} bad `segmentBytes`
 */
export function segmentNumber(lsn: Lsn, segmentBytes: number): bigint {
  checkSegmentBytes(segmentBytes);
  return lsn / BigInt(segmentBytes);
}

/**
 * Bytes from the start of its segment to `lsn`: 0 to `segmentBytes` - 1.
 *
 * @throws {RangeError} bad `segmentBytes`
 */
export function segmentOffset(lsn: Lsn, segmentBytes: number): number {
  checkSegmentBytes(segmentBytes);
  return Number(lsn & BigInt(segmentBytes - 1));
}

/**
 * The position of the first byte of a segment.
 *
 * @throws {RangeError} bad `segmentBytes`, or the segment lies outside the 64-bit address space
 */
export function segmentStart(segno: bigint, segmentBytes: number): Lsn {
  checkSegmentNumber(segno, segmentBytes);
  return toLsn(segno * BigInt(segmentBytes));
}

/**
 * The name of a complete segment file, 24 characters; append `PARTIAL_SUFFIX` for one in progress.
 *
 * @param segno the segment's number, not its start
 * @throws {RangeError} any argument out of range
 */
export function segmentFileName(timelineId: number, segno: bigint, segmentBytes: number): string {
  checkTimelineId(timelineId);
  checkSegmentNumber(segno, segmentBytes);
  const perHigh = BigInt(2 ** 32 / segmentBytes);
  return hex8(timelineId) + hex8(Number(segno / perHigh)) + hex8(Number(segno % perHigh));
}

/**
 * Reads a segment's file name; the inverse of `segmentFileName`, with or without `.partial`.
 *
 * @returns undefined for any other name: history and backup files, lower-case digits, timeline 0, and names that a
 *   server with this segment size cannot have written
 * @throws {RangeError} bad `segmentBytes`
 */
export function parseSegmentFileName(name: string, segmentBytes: number): SegmentFile | undefined {
  checkSegmentBytes(segmentBytes);
  const match = SEGMENT_NAME.exec(name);
  if (match === null) return undefined;
  const timelineId = Number.parseInt(match[1] ?? "", 16);
  const high = Number.parseInt(match[2] ?? "", 16);
  const low = Number.parseInt(match[3] ?? "", 16);
  const perHigh = 2 ** 32 / segmentBytes;
  if (timelineId === 0 || low >= perHigh) return undefined;
  return {
    timelineId,
    segmentNumber: BigInt(high) * BigInt(perHigh) + BigInt(low),
    partial: match[4] !== undefined,
  };
}

/** Eight upper-case digits of an unsigned 32-bit number: what every WAL file name is made of. */
export function hex8(value: number): string {
  return value.toString(16).toUpperCase().padStart(8, "0");
}

function checkSegmentNumber(segno: bigint, segmentBytes: number): void {
  checkSegmentBytes(segmentBytes);
  if (segno < 0n || segno > MAX_LSN / BigInt(segmentBytes)) {
    throw new RangeError(`no such segment of ${String(segmentBytes)} bytes: ${String(segno)}`);
  }
}

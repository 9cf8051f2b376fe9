/**
 * Finds the end of valid WAL in files: what crash recovery asks first.
 *
 * Files end in every possible way: missing, short, zeros that were never written, a record cut off by the crash, old
 * WAL of a recycled segment. All of that is an answer here and no error; only the read function's own failures
 * pass through. The end is always the end of a verified record, or the start position.
 *
 * Reads are aligned to their own size, so that none crosses a segment and each can be given to a file that was
 * opened for direct I/O. What follows a segment switch is not read.
 */
import { checkSegmentBytes } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { WalDecoder } from "./decoder.js";
import type { WalDecoderOptions } from "./decoder.js";
import { WalDecodeError } from "./errors.js";

/** Bytes of a read: large enough to be cheap per byte, and a divisor of every segment size. */
export const SCAN_BLOCK_BYTES: number = 256 * 1024;

/** Why the valid WAL ends where it does. */
export type WalEndReason =
  /** Nothing is there: a missing segment, or a file that is shorter than a segment. */
  | "end-of-data"
  /** Zeros where a record or a page would begin: never written. */
  | "zeros"
  /** A page of another position: a segment that was renamed for reuse and not written since. */
  | "recycled"
  /** Something that is not the continuation of this WAL; `error` says what. */
  | "invalid";

/** Where valid WAL ends. */
export interface WalEnd {
  /** End of the last complete record: the next segment's start after a segment switch; `startLsn` if there is none. */
  readonly endLsn: Lsn;
  readonly reason: WalEndReason;
  /** Start of the last complete record. */
  readonly lastRecordLsn: Lsn | undefined;
  /** Complete records found. */
  readonly recordCount: number;
  /** Timeline of the last page header read; 0 if there was none. */
  readonly timelineId: number;
  /** What stopped the decoder; undefined for "end-of-data". */
  readonly error: WalDecodeError | undefined;
}

export interface WalScanOptions extends WalDecoderOptions {
  /**
   * Reads bytes at `lsn` into `target`, which is lent until the promise settles. `lsn` is a multiple of
   * `target.byteLength`, and the range lies in one segment.
   *
   * @returns how many are there; fewer than `target.byteLength` only where the data ends, 0 for a missing segment
   */
  readonly read: (lsn: Lsn, target: Uint8Array) => Promise<number>;
  /** For the reads, lent until the scan ends: a power of two from 256 KiB to `segmentBytes`. Default: a new one. */
  readonly buffer?: Uint8Array;
  /** Ends the scan between two reads; its reason is thrown. */
  readonly signal?: AbortSignal;
}

/**
 * Decodes from `startLsn` until the WAL stops being valid.
 *
 * @throws {WalDecodeError} ERR_WAL_VERSION, ERR_WAL_START, ERR_WAL_LSN_LIMIT about the start position; never about
 *   what is found in the files
 * @throws {RangeError} bad `segmentBytes`, `buffer`, or a result of `read` that is no count of bytes
 * @throws whatever `read` and `onRecord` throw
 */
export async function scanWal(options: WalScanOptions): Promise<WalEnd> {
  checkSegmentBytes(options.segmentBytes);
  const buffer = options.buffer ?? new Uint8Array(SCAN_BLOCK_BYTES);
  const blockBytes = buffer.byteLength;
  if (
    blockBytes < SCAN_BLOCK_BYTES ||
    blockBytes > options.segmentBytes ||
    (blockBytes & (blockBytes - 1)) !== 0
  ) {
    throw new RangeError(
      `a buffer of ${String(blockBytes)} bytes is not a power of two that divides a segment`,
    );
  }
  const decoder = new WalDecoder(options);
  for (;;) {
    options.signal?.throwIfAborted();
    decoder.skipToRecordEnd();
    const inBlock = Number(decoder.nextLsn & BigInt(blockBytes - 1));
    const blockLsn = (decoder.nextLsn - BigInt(inBlock)) as Lsn;
    const count = await options.read(blockLsn, buffer);
    if (!Number.isInteger(count) || count < 0 || count > blockBytes) {
      throw new RangeError(`read() says that it read ${String(count)} of ${String(blockBytes)} bytes`);
    }
    const error = feedUntilError(decoder, buffer.subarray(inBlock, Math.max(inBlock, count)));
    if (error !== undefined) return walEnd(decoder, reasonOf(error, buffer, blockLsn), error);
    if (count < blockBytes) {
      // A segment switch ends its segment, whether or not the file goes on behind it.
      decoder.skipToRecordEnd();
      if (decoder.nextLsn < blockLsn + BigInt(blockBytes)) return walEnd(decoder, "end-of-data", undefined);
    }
  }
}

function feedUntilError(decoder: WalDecoder, bytes: Uint8Array): WalDecodeError | undefined {
  try {
    decoder.feed(bytes);
  } catch (error) {
    if (error !== decoder.error) throw error;
  }
  return decoder.error;
}

/** Whether `error` is about bytes that were never written, or about a file's former life. */
function reasonOf(error: WalDecodeError, block: Uint8Array, blockLsn: Lsn): WalEndReason {
  if (error.code === "ERR_WAL_PAGE_ADDRESS") return "recycled";
  if (error.code !== "ERR_WAL_RECORD_LENGTH" && error.code !== "ERR_WAL_PAGE_MAGIC") return "invalid";
  // Both are found in the first bytes of what the error names, and blocks tear neither length nor magic.
  const at = Number(error.lsn - blockLsn);
  const zeros = block[at] === 0 && block[at + 1] === 0 && block[at + 2] === 0 && block[at + 3] === 0;
  return zeros ? "zeros" : "invalid";
}

function walEnd(decoder: WalDecoder, reason: WalEndReason, error: WalDecodeError | undefined): WalEnd {
  return {
    endLsn: decoder.recordEndLsn,
    reason,
    lastRecordLsn: decoder.lastRecordLsn,
    recordCount: decoder.recordCount,
    timelineId: decoder.timelineId,
    error,
  };
}

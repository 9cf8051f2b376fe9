/**
 * Many reads of one file as one call: merged, aligned, bounded, each with an outcome of its own.
 *
 * Reads may be in any order, overlap and repeat. What cannot be read fails for those who want it only, so a call as a whole
 * rejects for bad arguments and for an abort, and for nothing else.
 *
 * Idea: vectored_dio_read.rs of Neon's pageserver. Different: several batches may be in flight, and results are bytes.
 */
import type { AlignedArena } from "@millrace/aligned-buffers";
import { UnexpectedEofError } from "@millrace/virtual-file";
import { BATCH_BYTES_DEFAULT, chunkOf, IN_FLIGHT_DEFAULT, Piece, readPieces } from "./batched-read.js";
import type { ReadSource } from "./batched-read.js";
import { endOf, roundUp } from "./read-plan.js";
import type { ByteRange } from "./read-plan.js";
import { orAbort } from "./stops.js";

/** Bytes of all reads of a call together: results are memory of this process. */
export const VECTORED_BYTES_MAX: number = 2 ** 30;
/** Batches in flight: the most that @millrace/aio has. */
const IN_FLIGHT_MAX = 1024;
/** Bytes that no file has: what ends beyond is beyond the end, and is not asked for. */
const FILE_BYTES_MAX: number = 2 ** 52;

/** How reads are done. */
export interface VectoredOptions {
  /** Largest read that is issued, bytes: a multiple of 512 and of the file's alignment; 128 KiB by default. */
  readonly batchBytesMax?: number;
  /** Reads that are issued at the same time; 8 by default. With 1 they are issued in the order of the file. */
  readonly inFlightMax?: number;
  /** Abort rejects at once; what is in flight ends by itself, and no further read is issued. */
  readonly signal?: AbortSignal;
}

/** What has become of a read. */
export type VectoredResult =
  /** All of its bytes; the caller's. */
  | { readonly ok: true; readonly bytes: Uint8Array }
  /** Why not. Reads that failed by the same read of the disk share it. */
  | { readonly ok: false; readonly error: Error };

/** Options with their defaults. */
export interface VectoredLimits {
  readonly batchBytesMax: number;
  readonly inFlightMax: number;
}

/**
 * Reads many ranges of a file.
 *
 * @param source stays open until the promise has settled, and after an abort until its reads have
 * @param arena memory that the source can read into
 * @param ranges in any order; an empty one succeeds wherever it is
 * @returns an outcome for each range, in their order; a range that ends beyond the file fails with ERR_FILE_UNEXPECTED_EOF,
 *   one that a read of the disk fails for with that read's error
 * @throws {RangeError} an offset or a length that is no byte count, more than 1 GiB in total, or limits out of range
 */
export async function readVectored(
  source: ReadSource,
  arena: AlignedArena,
  ranges: readonly ByteRange[],
  options: VectoredOptions = {},
): Promise<VectoredResult[]> {
  const { signal } = options;
  const limits = limitsOf(options, source);
  checkRanges(ranges);
  signal?.throwIfAborted();
  const pieces = ranges.map((range) =>
    endOf(range) > FILE_BYTES_MAX
      ? pieceBeyond(source.path, range, 0)
      : new Piece(range.offsetBytes, range.lengthBytes, newBytes(range.lengthBytes)),
  );
  const stops = signal === undefined ? [] : [signal];
  await orAbort(readPieces(pieces, { source, arena, ...limits, stops }), signal, () => undefined);
  return pieces.map(resultOf);
}

/** @throws {RangeError} not what a limit can be */
export function limitsOf(
  options: VectoredOptions,
  source: Pick<ReadSource, "alignmentBytes">,
): VectoredLimits {
  const chunkBytes = chunkOf(source);
  const { batchBytesMax = roundUp(BATCH_BYTES_DEFAULT, chunkBytes), inFlightMax = IN_FLIGHT_DEFAULT } =
    options;
  if (!Number.isSafeInteger(batchBytesMax) || batchBytesMax <= 0 || batchBytesMax % chunkBytes !== 0)
    throw new RangeError(
      `batchBytesMax must be a positive multiple of ${String(chunkBytes)}: ${String(batchBytesMax)}`,
    );
  if (!Number.isInteger(inFlightMax) || inFlightMax < 1 || inFlightMax > IN_FLIGHT_MAX)
    throw new RangeError(`inFlightMax must be from 1 to ${String(IN_FLIGHT_MAX)}: ${String(inFlightMax)}`);
  return { batchBytesMax, inFlightMax };
}

/** @throws {RangeError} ranges that no file has, or too much */
export function checkRanges(ranges: readonly ByteRange[]): void {
  let total = 0;
  for (const { offsetBytes, lengthBytes } of ranges) {
    checkBytes("offset", offsetBytes);
    checkBytes("length", lengthBytes);
    total += lengthBytes;
  }
  if (total > VECTORED_BYTES_MAX)
    throw new RangeError(`${String(total)} bytes in one call; at most ${String(VECTORED_BYTES_MAX)}`);
}

/** @throws {RangeError} not a number of bytes */
export function checkBytes(what: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a good ${what}: ${String(value)}`);
}

/** A piece that has failed: its range ends behind the file, which has `gotBytes` of it. */
export function pieceBeyond(path: string, { offsetBytes, lengthBytes }: ByteRange, gotBytes: number): Piece {
  const piece = new Piece(offsetBytes, 0, newBytes(0));
  // Nothing at all ends nowhere.
  if (lengthBytes > 0) piece.error = new UnexpectedEofError(path, offsetBytes, lengthBytes, gotBytes);
  return piece;
}

/** Memory for a result, not zeroed: all of it is written, or nobody sees it. */
export function newBytes(lengthBytes: number): Uint8Array {
  return Buffer.allocUnsafeSlow(lengthBytes);
}

/** What the caller is told. */
export function resultOf({ bytes, error }: Piece): VectoredResult {
  return error === undefined ? { ok: true, bytes } : { ok: false, error };
}

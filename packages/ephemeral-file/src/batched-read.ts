/**
 * Reading many pieces of a file with few reads: batches of whole chunks into memory of the arena, copied from there.
 *
 * A piece fails if a batch that it needs fails, and no other does. A batch that only failed pieces need is left out. Where the
 * arena has no room for a whole batch, it is read in parts: one free chunk is all that a read needs to get on, so that it
 * cannot wait for memory that others keep. Memory goes back to the arena once the kernel is done with it, and not before.
 */
import type { AlignedArena, IoBuffer, IoBufferMut } from "@millrace/aligned-buffers";
import { UnexpectedEofError } from "@millrace/virtual-file";
import type { PositionalReader } from "@millrace/virtual-file";
import { endOf, planBatches } from "./read-plan.js";
import type { Batch, ByteRange } from "./read-plan.js";
import { anyOf, throwIfStopped } from "./stops.js";
import type { Stops } from "./stops.js";

/** Where bytes come from; a `VirtualFile` of @millrace/virtual-file is one. */
export interface ReadSource extends PositionalReader {
  /** For errors. */
  readonly path: string;
  /** What offsets and lengths of reads, and their memory, must be multiples of, bytes: a power of two; 1 if nothing. */
  readonly alignmentBytes: number;
}

/** Smallest chunk, bytes: to ask a disk for less saves nothing, and neighbours would be read one by one. */
export const CHUNK_BYTES_MIN = 512;
/** Largest batch, bytes: beyond it a disk gains little, and a slow reader would hold much memory. */
export const BATCH_BYTES_DEFAULT: number = 128 * 1024;
/** Batches of one call that are read at the same time: enough to keep a disk busy, at most 1 MiB of memory. */
export const IN_FLIGHT_DEFAULT = 8;

/** How pieces are read. */
export interface BatchedReadOptions {
  readonly source: ReadSource;
  readonly arena: AlignedArena;
  /** A multiple of the source's chunk. */
  readonly batchBytesMax: number;
  /** At least 1. With 1, batches are read one after the other, ascending. */
  readonly inFlightMax: number;
  readonly stops: Stops;
}

/** Bytes that somebody wants, and what has become of that. */
export class Piece implements ByteRange {
  readonly offsetBytes: number;
  /** How many come from the file: the first ones of `bytes`. */
  readonly lengthBytes: number;
  readonly bytes: Uint8Array;
  /** Why they are not there. The first failure counts. */
  error: Error | undefined;

  constructor(offsetBytes: number, lengthBytes: number, bytes: Uint8Array) {
    this.offsetBytes = offsetBytes;
    this.lengthBytes = lengthBytes;
    this.bytes = bytes;
  }
}

/** The unit in which a source is read, bytes. */
export function chunkOf({ alignmentBytes }: Pick<ReadSource, "alignmentBytes">): number {
  return Math.max(alignmentBytes, CHUNK_BYTES_MIN);
}

/**
 * Reads pieces. Each has its bytes afterwards, or its error.
 *
 * @returns rejects with the reason of a stop, once nothing is in flight any more
 */
export async function readPieces(pieces: readonly Piece[], options: BatchedReadOptions): Promise<void> {
  const { source, batchBytesMax, inFlightMax, stops } = options;
  const batches = planBatches(pieces, chunkOf(source), batchBytesMax);
  let next = 0;
  const readOn = async (): Promise<void> => {
    while (next < batches.length) {
      const batch = batches[next] as Batch<Piece>;
      next += 1;
      if (batch.wantedBy.some(({ error }) => error === undefined)) await readBatch(batch, options);
    }
  };
  await Promise.all(Array.from({ length: Math.min(inFlightMax, batches.length) }, readOn));
  throwIfStopped(stops);
}

/** Reads a batch. Never rejects: a stop fails what is left, and is told by who has started it. */
async function readBatch(batch: Batch<Piece>, options: BatchedReadOptions): Promise<void> {
  const end = endOf(batch);
  try {
    for (let at = batch.offsetBytes; at < end;) {
      const got = await readPart(batch, at, options);
      if (got === 0) break;
      at += got;
    }
  } catch (error) {
    for (const piece of batch.wantedBy) piece.error ??= error as Error;
  }
}

/** Reads as much of a batch as memory allows. @returns bytes done; 0 where the file has ended */
async function readPart(batch: Batch<Piece>, at: number, options: BatchedReadOptions): Promise<number> {
  const { source, stops } = options;
  throwIfStopped(stops);
  using buffer = await takeUpTo(endOf(batch) - at, options);
  throwIfStopped(stops);
  const { capacity } = buffer;
  const got = await source.readAt(buffer, at, capacity);
  // Bytes that the caller may have back already must not be touched.
  throwIfStopped(stops);
  using part = buffer.freeze();
  for (const piece of batch.wantedBy) if (piece.error === undefined) copyPart(part, at, piece);
  if (got === capacity) return got;
  for (const piece of batch.wantedBy) checkEnd(piece, batch, at + got, source.path);
  return 0;
}

/** Memory for up to so many bytes: half as many where there is no room, and so on; a chunk is waited for. */
async function takeUpTo(lengthBytes: number, options: BatchedReadOptions): Promise<IoBufferMut> {
  const { source, arena, stops } = options;
  const chunkBytes = chunkOf(source);
  const align = Math.max(arena.alignment, source.alignmentBytes);
  const { total } = arena.stats;
  for (let chunks = lengthBytes / chunkBytes; chunks > 1; chunks = Math.floor(chunks / 2)) {
    const buffer = chunks * chunkBytes > total ? undefined : arena.tryAlloc(chunks * chunkBytes, { align });
    if (buffer !== undefined) return buffer;
  }
  return (
    arena.tryAlloc(chunkBytes, { align }) ??
    (await arena.allocAsync(chunkBytes, { align, signal: anyOf(stops) }))
  );
}

/** Copies what a piece wants of bytes that were read at `at`. */
function copyPart(part: IoBuffer, at: number, piece: Piece): void {
  const begin = Math.max(piece.offsetBytes, at);
  const end = Math.min(endOf(piece), at + part.length);
  if (begin >= end) return;
  using wanted = part.slice(begin - at, end - at);
  wanted.copyTo(piece.bytes, begin - piece.offsetBytes);
}

/** Fails a piece that wanted bytes of a batch from beyond where the file has ended. */
function checkEnd(piece: Piece, batch: ByteRange, fileEnd: number, path: string): void {
  if (Math.min(endOf(piece), endOf(batch)) <= fileEnd) return;
  const { offsetBytes, lengthBytes } = piece;
  piece.error ??= new UnexpectedEofError(path, offsetBytes, lengthBytes, Math.max(0, fileEnd - offsetBytes));
}

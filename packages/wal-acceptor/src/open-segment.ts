/**
 * The one segment that is open for writing: how bytes get to the kernel so that the sync behind them is short.
 *
 * Two things make a small commit wait for more than its own bytes, and both are avoided here:
 * - A segment is sparse when it is made or cut. A sync after writing into a hole has to commit the file system's journal,
 *   because blocks were allocated: on ext4 three times the time of a sync of allocated blocks. So a write that reaches
 *   into a hole carries ZERO_AHEAD_BYTES of zeros behind its bytes, in the same call, and the next syncs find the blocks
 *   there. The file reads as before. PostgreSQL fills whole segments for the same reason; here only who writes little at a
 *   time pays, and never for more than it is about to use. Long writes amortise their own allocation.
 * - A call in libuv's thread pool costs two thread switches, several times the copy of a few KiB into the page cache. So
 *   short writes are made at once, on this thread. Syncs never are.
 *
 * Invariant it relies on: behind the end of the log the segment reads as zeros, which holds whenever writes are allowed.
 * Zeros that cannot be written (a full disk) never stop WAL that can.
 */
import type { OpenFile } from "./file-system.js";
import { dropBytes, writeFully } from "./write-fully.js";

/** Zeros behind a write into a hole: some hundred commits' worth, and half a millisecond of one of their syncs. */
export const ZERO_AHEAD_BYTES: number = 256 * 1024;
/** Longer writes get no zeros: a proposer that catches up would write its bytes and as many zeros. */
const ZERO_AHEAD_WRITE_MAX: number = 64 * 1024;
/** Longer writes go through the thread pool: a copy of four pages takes a few microseconds. */
export const WRITE_NOW_BYTES_MAX: number = 16 * 1024;

const ZEROS = new Uint8Array(ZERO_AHEAD_BYTES);

/** What an open segment is made of. */
export interface OpenSegmentOptions {
  readonly segno: bigint;
  /** Given: closed with the segment. */
  readonly file: OpenFile;
  readonly segmentBytes: number;
  /** False where nothing is synced: allocation then costs nobody anything. */
  readonly zeroAhead: boolean;
}

/** A segment file that is written in order. One call at a time. */
export class OpenSegment {
  readonly segno: bigint;
  readonly #file: OpenFile;
  readonly #segmentBytes: number;
  /** Below this, from the end of the log on, blocks are allocated. */
  #allocatedEnd: number;

  constructor(options: OpenSegmentOptions) {
    this.segno = options.segno;
    this.#file = options.file;
    this.#segmentBytes = options.segmentBytes;
    this.#allocatedEnd = options.zeroAhead ? 0 : options.segmentBytes;
  }

  /**
   * Writes `buffers`, `bytes` in all, at `offsetBytes`, which is where the log ends.
   *
   * @param buffers lent until the promise settles
   * @returns undefined when the bytes are written already
   * @throws what the file's calls throw, at once or by the promise
   */
  write(buffers: readonly Uint8Array[], bytes: number, offsetBytes: number): Promise<void> | undefined {
    const end = offsetBytes + bytes;
    if (end > this.#allocatedEnd && bytes <= ZERO_AHEAD_WRITE_MAX) {
      return this.#writeWithZeros(buffers, end, offsetBytes);
    }
    if (end > this.#allocatedEnd) this.#allocatedEnd = end;
    if (bytes > WRITE_NOW_BYTES_MAX) return writeFully(this.#file, buffers, offsetBytes);
    const written = this.#file.writeNow?.(buffers, offsetBytes) ?? 0;
    if (written === bytes) return undefined;
    return writeFully(this.#file, dropBytes(buffers, written), offsetBytes + written);
  }

  fdatasync(): Promise<void> {
    return this.#file.fdatasync();
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #writeWithZeros(buffers: readonly Uint8Array[], end: number, offsetBytes: number): Promise<void> {
    const zeros = ZEROS.subarray(0, Math.min(ZERO_AHEAD_BYTES, this.#segmentBytes - end));
    this.#allocatedEnd = end + zeros.byteLength;
    try {
      await writeFully(this.#file, [...buffers, zeros], offsetBytes);
    } catch {
      // Perhaps there is room for the WAL alone. If not, this says why; no more zeros are tried in this segment.
      this.#allocatedEnd = this.#segmentBytes;
      await writeFully(this.#file, buffers, offsetBytes);
    }
  }
}

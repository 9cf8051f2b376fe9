/**
 * The memory that I/O is done on: segments by number, and this thread's views of them.
 *
 * Every byte that another thread or the kernel may touch lies in one of the WebAssembly memories the system was made
 * with; a piece of it is (segment, offset, length). Their base addresses are the same in all threads, since there is one
 * mapping, and are asked for once where the native part can tell them.
 */
import { isSharedArrayBuffer } from "node:util/types";

import type { SharedMemory } from "@millrace/aligned-buffers";

import { AioError } from "./errors.js";

/** Segments of a system at most. */
export const SEGMENTS_MAX = 256;
/** Bytes of a segment are below this: an offset is an int32 word. */
const SEGMENT_BYTES_END = 2 ** 31;
/** Told by its tag: `instanceof` would refuse one that comes from another realm. A plain buffer is not page-aligned. */
const MEMORY_TAG = "[object WebAssembly.Memory]";

/** Segment numbers, views and addresses, as one thread sees them. */
export class SegmentTable {
  readonly #views: Uint8Array[];
  readonly #numbers = new Map<ArrayBufferLike, number>();
  readonly #addresses: Float64Array;
  #lastBuffer: ArrayBufferLike | undefined;
  #lastNumber = -1;

  /**
   * @param addressOf the base address of a view, where the native part is there
   * @throws {AioError} ERR_AIO_MEMORY: a memory is not a shared WebAssembly memory, is too large, or there are too many
   */
  constructor(memories: readonly SharedMemory[], addressOf: ((view: Uint8Array) => number) | undefined) {
    if (memories.length > SEGMENTS_MAX) {
      throw new AioError("ERR_AIO_MEMORY", `more than ${SEGMENTS_MAX} segments of memory`);
    }
    this.#views = memories.map((memory) => {
      if (Object.prototype.toString.call(memory) !== MEMORY_TAG || !isSharedArrayBuffer(memory.buffer)) {
        throw new AioError("ERR_AIO_MEMORY", "memory for I/O must be a shared WebAssembly.Memory");
      }
      if (memory.buffer.byteLength >= SEGMENT_BYTES_END) {
        throw new AioError("ERR_AIO_MEMORY", "a segment of memory for I/O must have less than 2 GiB");
      }
      return new Uint8Array(memory.buffer);
    });
    this.#addresses = new Float64Array(memories.length);
    for (const [number, view] of this.#views.entries()) {
      this.#numbers.set(view.buffer, number);
      this.#addresses[number] = addressOf?.(view) ?? 0;
    }
  }

  get count(): number {
    return this.#views.length;
  }

  /** All of a segment. */
  view(segment: number): Uint8Array {
    const view = this.#views[segment];
    if (view === undefined) throw new AioError("ERR_AIO_MEMORY", `no segment ${segment}`);
    return view;
  }

  /** A segment's base address; 0 without the native part. */
  address(segment: number): number {
    return this.#addresses[segment] ?? 0;
  }

  /**
   * The number of the segment that a buffer is.
   *
   * @throws {AioError} ERR_AIO_MEMORY: it is none of this system's
   */
  numberOf(buffer: ArrayBufferLike): number {
    if (buffer === this.#lastBuffer) return this.#lastNumber;
    const number = this.#numbers.get(buffer);
    if (number === undefined) {
      throw new AioError(
        "ERR_AIO_MEMORY",
        "these bytes are not in a memory segment of this system: take them from one of its arenas " +
          "(a plain ArrayBuffer or SharedArrayBuffer is not page-aligned and cannot be seen by all threads)",
      );
    }
    this.#lastBuffer = buffer;
    this.#lastNumber = number;
    return number;
  }

  /** @throws {AioError} ERR_AIO_MEMORY: the piece is not inside its segment */
  check(segment: number, offsetBytes: number, lengthBytes: number): void {
    const view = this.view(segment);
    const areNumbers = Number.isInteger(offsetBytes) && Number.isInteger(lengthBytes);
    if (!areNumbers || offsetBytes < 0 || lengthBytes < 0 || offsetBytes + lengthBytes > view.byteLength) {
      throw new AioError(
        "ERR_AIO_MEMORY",
        `${lengthBytes} bytes at ${offsetBytes} are not inside segment ${segment} of ${view.byteLength}`,
      );
    }
  }
}

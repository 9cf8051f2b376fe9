/**
 * CRC-32C as its users see it: one-shot, streaming, and combined from parts.
 *
 * Checksums are unsigned 32-bit numbers with the usual inversions, so that the value of no bytes is 0 and a checksum
 * can be continued by passing it back in.
 */
import { checkBytes } from "./arguments.js";
import { updateInJavaScript } from "./crc32c-javascript.js";
import { tryCreateKernel } from "./crc32c-kernel.js";
import type { Crc32cKernel } from "./crc32c-kernel.js";
import { multiply, powerOfX8 } from "./polynomial.js";
import { runtimeWebAssembly } from "./webassembly.js";

/**
 * Shortest input that goes to WebAssembly, bytes. Below it the call and the copy cost more than the lookups save; where
 * they break even was measured with Node 20 on x86-64.
 */
export const KERNEL_BYTES_MIN = 128;

/**
 * The CRC-32C of `bytes`, or of everything so far.
 *
 * @param bytes borrowed for the call; may be a view of shared memory that nobody writes to meanwhile
 * @param previous the checksum of the bytes before these; 0 to start
 * @returns unsigned 32-bit
 * @throws {TypeError} `bytes` is not an array of bytes
 * @throws {RangeError} `previous` is not an unsigned 32-bit integer
 */
export function crc32c(bytes: Uint8Array, previous = 0): number {
  checkBytes(bytes);
  checkChecksum(previous);
  const kernel = bytes.length < KERNEL_BYTES_MIN ? undefined : thisThreadsKernel();
  if (kernel !== undefined) return ~kernel.update(~previous, bytes) >>> 0;
  return ~updateInJavaScript(~previous, bytes) >>> 0;
}

/**
 * The CRC-32C of the bytes from `start` to before `end`, without a view of them: where inputs are many and short, making the
 * view costs as much as the checksum.
 *
 * @param bytes borrowed for the call, as for `crc32c`
 * @param previous the checksum of the bytes before these; 0 to start
 * @returns unsigned 32-bit
 * @throws {TypeError} `bytes` is not an array of bytes
 * @throws {RangeError} `previous` is not an unsigned 32-bit integer, or the range is not within `bytes`
 */
export function crc32cOfRange(bytes: Uint8Array, start: number, end: number, previous = 0): number {
  checkBytes(bytes);
  checkChecksum(previous);
  if (!(
    start >= 0 &&
    start <= end &&
    end <= bytes.length &&
    Number.isInteger(start) &&
    Number.isInteger(end)
  )) {
    throw new RangeError(`no bytes ${String(start)} to ${String(end)} in ${String(bytes.length)}`);
  }
  const kernel = end - start < KERNEL_BYTES_MIN ? undefined : thisThreadsKernel();
  if (kernel !== undefined) return ~kernel.update(~previous, bytes.subarray(start, end)) >>> 0;
  return ~updateInJavaScript(~previous, bytes, start, end) >>> 0;
}

/** What computes long inputs here: "webassembly", or "javascript" where there is no WebAssembly. Compiles the kernel. */
export function crc32cMethod(): "webassembly" | "javascript" {
  return thisThreadsKernel() === undefined ? "javascript" : "webassembly";
}

/** undefined: not tried yet; null: tried, and there is none. */
let kernelOfThread: Crc32cKernel | null | undefined;

function thisThreadsKernel(): Crc32cKernel | undefined {
  if (kernelOfThread === undefined) kernelOfThread = tryCreateKernel(runtimeWebAssembly()) ?? null;
  return kernelOfThread ?? undefined;
}

/** A checksum that grows. Holds four bytes of state and none of the bytes it was given. */
export class Crc32c {
  #checksum = 0;

  /**
   * Adds `bytes` at the end.
   *
   * @param bytes borrowed for the call
   * @throws {TypeError} `bytes` is not an array of bytes; the state is unchanged
   */
  update(bytes: Uint8Array): this {
    this.#checksum = crc32c(bytes, this.#checksum);
    return this;
  }

  /** The checksum of everything since the start or the last reset. Can be asked for at any time. */
  digest(): number {
    return this.#checksum;
  }

  /** Starts over. */
  reset(): this {
    this.#checksum = 0;
    return this;
  }
}

/**
 * The checksum of two pieces in a row, from theirs: no byte is read again, and the work grows
 * with the digits of the length only.
 *
 * @param first checksum of the first piece
 * @param second checksum of the second piece, computed from the start
 * @param secondBytes length of the second piece
 * @throws {RangeError} a checksum is not unsigned 32-bit, or the length is not a safe integer from 0 up
 */
export function combineCrc32c(first: number, second: number, secondBytes: number): number {
  checkChecksum(first);
  checkChecksum(second);
  if (!Number.isSafeInteger(secondBytes) || secondBytes < 0) {
    throw new RangeError(`not a number of bytes: ${String(secondBytes)}`);
  }
  return (multiply(powerOfX8(secondBytes), first) ^ second) >>> 0;
}

function checkChecksum(checksum: number): void {
  if (checksum >>> 0 !== checksum)
    throw new RangeError(`not an unsigned 32-bit checksum: ${String(checksum)}`);
}

/**
 * Calls on descriptors for which Node has no function: advice, preallocation, early write-back, alignment.
 *
 * Each says "unsupported" without the native part, which a caller must be able to live with: advice is only advice,
 * and preallocation has a slower way. Zero, a count or a negative errno otherwise.
 */
import { nativeOrNone } from "./native.js";

/** What a call says that cannot be made here. */
export type Unsupported = "unsupported";

/** Advice of fadvise. */
export const FADVISE = { normal: 0, random: 1, sequential: 2, willNeed: 3, dontNeed: 4, noReuse: 5 } as const;

/** Modes of fallocate, to be combined. */
export const FALLOCATE = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const;

/** Flags of syncFileRange. */
export const SYNC_FILE_RANGE = { waitBefore: 1, write: 2, waitAfter: 4 } as const;

function check(fd: number, offset: number, length: number): void {
  if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`fd: ${fd}`);
  if (!Number.isSafeInteger(offset) || offset < 0) throw new RangeError(`offset: ${offset}`);
  if (!Number.isSafeInteger(length) || length < 0) throw new RangeError(`length: ${length}`);
}

/** Tells the kernel how a range will be used; length 0 is up to the end. @returns 0 or a negative errno */
export function fadvise(fd: number, offset: number, length: number, advice: number): number | Unsupported {
  check(fd, offset, length);
  return nativeOrNone()?.fadvise(fd, offset, length, advice) ?? "unsupported";
}

/** Allocates, punches or zeroes a range. @returns 0 or a negative errno: -EOPNOTSUPP by the file system */
export function fallocate(fd: number, mode: number, offset: number, length: number): number | Unsupported {
  check(fd, offset, length);
  return nativeOrNone()?.fallocate(fd, offset, length, mode) ?? "unsupported";
}

/**
 * Starts write-back of a range early. Never durability: neither metadata nor the device's cache is flushed.
 *
 * @returns 0 or a negative errno
 */
export function syncFileRange(
  fd: number,
  offset: number,
  length: number,
  flags: number,
): number | Unsupported {
  check(fd, offset, length);
  return nativeOrNone()?.syncFileRange(fd, offset, length, flags) ?? "unsupported";
}

/** Alignments that direct I/O on a file needs, in bytes. */
export interface DirectIoAlignment {
  readonly memory: number;
  readonly offset: number;
}

/**
 * What direct I/O on this file must be aligned to.
 *
 * @returns undefined if the file cannot do direct I/O, or nobody can say (kernels before 6.1, no native part)
 */
export function directIoAlignment(fd: number): DirectIoAlignment | undefined {
  check(fd, 0, 0);
  const native = nativeOrNone();
  if (native === undefined) return undefined;
  const answer = new Uint32Array(2);
  const [memory = 0, offset = 0] = native.dioAlign(fd, answer) === 0 ? answer : [];
  return memory > 0 && offset > 0 ? { memory, offset } : undefined;
}

/**
 * Pages of a range that are in the page cache, for benchmarks that claim it is cold.
 *
 * @param offset a multiple of the page size   @returns pages, or a negative errno
 */
export function residentPages(fd: number, offset: number, length: number): number | Unsupported {
  check(fd, offset, length);
  return nativeOrNone()?.residentPages(fd, offset, length) ?? "unsupported";
}

/**
 * Memory as the kernel sees it: the address of a view, whether huge pages lie under it, and giving pages back.
 *
 * The bytes of a typed array over WebAssembly memory, a SharedArrayBuffer or an ordinary ArrayBuffer stay where they
 * are for as long as the buffer lives and is not detached, resized or transferred. An address keeps nothing alive.
 * Large direct reads are twice as fast into huge pages: one segment for the device instead of one for each 4 KiB.
 */
import { readFileSync } from "node:fs";
import { nativeOrNone, nativeOrThrow } from "./native.js";

/** Every view that has elements; a DataView has none. */
export type TypedArray = NodeJS.TypedArray;

function mustBeTypedArray(view: TypedArray): void {
  if (!ArrayBuffer.isView(view) || view instanceof DataView) throw new TypeError("not a typed array");
}

/**
 * Where the view's first byte is, as a double (addresses are below 2^53).
 *
 * @throws {UringError} ERR_URING_UNAVAILABLE
 */
export function addressOf(view: TypedArray): number {
  mustBeTypedArray(view);
  const address = nativeOrThrow().addressOf(view);
  if (address < 0) throw new RangeError("the address does not fit a double");
  return address;
}

export interface HugePageAdvice {
  /** Also collapse what is there into huge pages at once (MADV_COLLAPSE, Linux 6.1). */
  readonly collapse?: boolean;
}

/**
 * Asks for huge pages under the whole pages of the view; they come with the first touch. Give it 2 MiB and more.
 *
 * @returns whether the kernel took the advice; false without the native part, if transparent huge pages are switched
 *   off, and with `collapse` if some range could not be collapsed. Advice taken is no huge page yet: hugePageBytes
 */
export function adviseHugePages(view: TypedArray, advice: HugePageAdvice = {}): boolean {
  mustBeTypedArray(view);
  const native = nativeOrNone();
  if (native === undefined || native.adviseHugePages(view, false) < 0) return false;
  return advice.collapse !== true || native.adviseHugePages(view, true) === 0;
}

/**
 * Gives the whole pages of the view back to the kernel (MADV_DONTNEED): they read as zeros from now on, and are memory again
 * when they are written to. Nobody may be using them. Never for memory that is registered with a ring: its I/O would go on in
 * the old pages, which no view shows any more.
 *
 * @returns bytes given back; 0 without the native part, if there is no whole page in the view, and if the kernel refuses
 */
export function discardPages(view: TypedArray): number {
  mustBeTypedArray(view);
  return Math.max(0, nativeOrNone()?.discardPages(view) ?? 0);
}

/**
 * How many bytes of huge pages the mappings under the view have, at most its size. Reads /proc/self/smaps: for the
 * start and for diagnosis, not for a loop.
 *
 * @returns undefined if nobody can say: no native part, no /proc
 */
export function hugePageBytes(view: TypedArray): number | undefined {
  mustBeTypedArray(view);
  const native = nativeOrNone();
  if (native === undefined) return undefined;
  const start = native.addressOf(view);
  let smaps: string;
  try {
    smaps = readFileSync("/proc/self/smaps", "latin1");
  } catch {
    return undefined;
  }
  return Math.min(hugeBytesBetween(smaps, start, start + view.byteLength), view.byteLength);
}

/** Sums up the huge pages of all mappings in the text of smaps that overlap the range. */
export function hugeBytesBetween(smaps: string, start: number, end: number): number {
  let isInside = false;
  let bytes = 0;
  for (const line of smaps.split("\n")) {
    const mapping = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (mapping !== null)
      isInside = parseInt(mapping[1] ?? "", 16) < end && parseInt(mapping[2] ?? "", 16) > start;
    const huge = isInside ? /^(?:AnonHugePages|ShmemPmdMapped|FilePmdMapped): +(\d+) kB/.exec(line) : null;
    if (huge !== null) bytes += Number(huge[1]) * 1024;
  }
  return bytes;
}

/**
 * A segment: one shared WebAssembly memory that never grows, and the part of it that is used for I/O.
 *
 * Why WebAssembly: its memories start on a page (64 KiB in V8), so that O_DIRECT works on them without native code, and
 * several threads can have them at once. A plain SharedArrayBuffer starts at 16 or 32 modulo 64, and the kernel
 * answers EINVAL. Alignment is proven by identity: a view of a segment's buffer whose offset is a multiple of n is
 * aligned to n. What cannot be traced to a segment is not I/O memory, whatever its address happens to be.
 *
 * Pages are untouched until somebody writes to them: a segment costs address space (some 10 GiB, because V8 keeps guard
 * regions), not memory. Huge pages need the kernel's advice and the address, which only native code can give and tell;
 * both come in as hooks.
 */
import { isSharedArrayBuffer } from "node:util/types";
import { AlignedBufferError } from "./errors.js";
import { createSharedMemory, memoryOperations, runtimeWebAssembly, WASM_PAGE_BYTES } from "./webassembly.js";
import type { MemoryOperations, SharedMemory } from "./webassembly.js";

/** Largest I/O part of a segment, bytes: what io_uring takes as one fixed buffer. */
export const SEGMENT_BYTES_MAX: number = 2 ** 30;
/** Every segment starts on this boundary at least, bytes: the page of x86-64 and the largest block of common disks. */
export const PAGE_ALIGNMENT = 4096;
/** A huge page of x86-64 and arm64 with 4 KiB pages, bytes. */
export const HUGE_PAGE_BYTES: number = 2 ** 21;

/** What native code can add to a segment. Both are called once, while the segment is created. */
export interface MemoryHooks {
  /**
   * Asks the kernel to back `bytes` with huge pages.
   *
   * @param bytes the I/O part, borrowed for the call; not touched yet
   * @returns whether the kernel agreed
   */
  readonly adviseHugePages?: (bytes: Uint8Array) => boolean;
  /** The address of the first byte of `view`. Given this, the I/O part starts on a boundary of 2 MiB. */
  readonly addressOf?: (view: Uint8Array) => number | bigint;
}

/** `unavailable`: nobody could ask the kernel. */
export type HugePages = "advised" | "refused" | "unavailable";

/** A segment as it travels to another thread: a structured clone keeps the memory shared. */
export interface MemorySegmentHandle {
  readonly memory: SharedMemory;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly alignment: number;
  readonly hugePages: HugePages;
}

/** A range of a segment. Offsets count from the start of `segment.buffer`, like `byteOffset` of a view. */
export interface MemoryLocation {
  readonly segment: MemorySegment;
  readonly byteOffset: number;
  readonly length: number;
}

/** Invariant: `byteOffset` is a multiple of `alignment` in memory, not only in the buffer. */
export class MemorySegment {
  readonly memory: SharedMemory;
  /** The whole memory. Always the same object in one thread. */
  readonly buffer: SharedArrayBuffer;
  /** Where the I/O part starts in `buffer`. 0 without `addressOf`. */
  readonly byteOffset: number;
  /** Length of the I/O part, a multiple of 4096. */
  readonly byteLength: number;
  /** Proven alignment of the I/O part's start: 4096, or 2 MiB with `addressOf`. */
  readonly alignment: number;
  readonly hugePages: HugePages;
  /** The I/O part. What is registered with the kernel as a fixed buffer is this, as `buffer` may be above 1 GiB. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  #operations: MemoryOperations | undefined;

  constructor(handle: MemorySegmentHandle) {
    this.memory = handle.memory;
    this.buffer = handle.memory.buffer;
    this.byteOffset = handle.byteOffset;
    this.byteLength = handle.byteLength;
    this.alignment = handle.alignment;
    this.hugePages = handle.hugePages;
    this.bytes = new Uint8Array(this.buffer, this.byteOffset, this.byteLength);
  }

  /** What to post to another thread, which attaches it with `attachMemorySegment`. */
  get handle(): MemorySegmentHandle {
    const { memory, byteOffset, byteLength, alignment, hugePages } = this;
    return { memory, byteOffset, byteLength, alignment, hugePages };
  }

  /** Whether a range lies in the I/O part. */
  contains(byteOffset: number, length: number): boolean {
    return (
      Number.isSafeInteger(byteOffset) &&
      Number.isSafeInteger(length) &&
      length >= 0 &&
      byteOffset >= this.byteOffset &&
      byteOffset + length <= this.byteOffset + this.byteLength
    );
  }

  /**
   * Whether the byte at an offset is provably aligned in memory.
   *
   * @param alignment a power of two; false above `this.alignment`, which is as far as the proof goes
   */
  isAligned(byteOffset: number, alignment: number): boolean {
    return alignment <= this.alignment && (byteOffset - this.byteOffset) % alignment === 0;
  }

  /**
   * The bytes of a range of the I/O part, borrowed.
   *
   * @throws {RangeError} the range is not inside
   */
  view(byteOffset: number, length: number): Uint8Array<SharedArrayBuffer> {
    this.#check(byteOffset, length);
    return new Uint8Array(this.buffer, byteOffset, length);
  }

  /**
   * Sets a range to a byte. As fast as memset, unlike `fill` of a view of shared memory.
   *
   * @throws {RangeError} the range is not inside the I/O part
   */
  fill(byteOffset: number, length: number, byte: number): void {
    this.#check(byteOffset, length);
    this.#operate().fill(byteOffset, byte, length);
  }

  /**
   * Copies within the I/O part; the ranges may overlap.
   *
   * @throws {RangeError} a range is not inside
   */
  copyWithin(target: number, source: number, length: number): void {
    this.#check(target, length);
    this.#check(source, length);
    this.#operate().copy(target, source, length);
  }

  #check(byteOffset: number, length: number): void {
    if (!this.contains(byteOffset, length))
      throw new RangeError(`not in the segment: ${String(length)} bytes at ${String(byteOffset)}`);
  }

  /** Made at first use: most segments of most threads are never filled. */
  #operate(): MemoryOperations {
    const webAssembly = runtimeWebAssembly();
    if (webAssembly === undefined) throw unavailable(undefined); // never: the segment is a WebAssembly memory
    this.#operations ??= memoryOperations(webAssembly, this.memory);
    return this.#operations;
  }
}

/** The segments of this thread by their buffer: what makes a view's memory provable. */
const segmentsOfThread = new WeakMap<ArrayBufferLike, MemorySegment>();

/**
 * Makes a segment. Its bytes are zero and not yet in memory.
 *
 * @param bytes length of the I/O part, 1 to 1 GiB; rounded up to a multiple of 4096
 * @throws {RangeError} a size out of range
 * @throws {AlignedBufferError} ERR_ARENA_UNAVAILABLE: no WebAssembly, or no address space (`cause`)
 */
export function createMemorySegment(bytes: number, hooks: MemoryHooks = {}): MemorySegment {
  if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > SEGMENT_BYTES_MAX)
    throw new RangeError(`a segment has 1 to ${String(SEGMENT_BYTES_MAX)} bytes, not ${String(bytes)}`);
  const byteLength = Math.ceil(bytes / PAGE_ALIGNMENT) * PAGE_ALIGNMENT;
  // The address is known only when the memory is there, so there is room to move by less than a huge page.
  const slackBytes = hooks.addressOf === undefined ? 0 : HUGE_PAGE_BYTES - PAGE_ALIGNMENT;
  const memory = allocate(Math.ceil((byteLength + slackBytes) / WASM_PAGE_BYTES));
  const whole = new Uint8Array(memory.buffer);
  const byteOffset = hooks.addressOf === undefined ? 0 : bytesToHugePage(hooks.addressOf(whole));
  const alignment = hooks.addressOf === undefined ? PAGE_ALIGNMENT : HUGE_PAGE_BYTES;
  const ioPart = whole.subarray(byteOffset, byteOffset + byteLength);
  const hugePages = advise(hooks, ioPart);
  return register(new MemorySegment({ memory, byteOffset, byteLength, alignment, hugePages }));
}

/**
 * Another thread's segment in this one. Attaching the same handle object again gives the same segment.
 *
 * @param handle from `segment.handle`, posted here
 * @throws {TypeError} this is no such handle
 */
export function attachMemorySegment(handle: MemorySegmentHandle): MemorySegment {
  const buffer: unknown = (handle as Partial<MemorySegmentHandle> | undefined)?.memory?.buffer;
  if (!isSharedArrayBuffer(buffer)) throw new TypeError("not the handle of a memory segment");
  return segmentsOfThread.get(buffer) ?? register(new MemorySegment(handle));
}

/**
 * Where a view lies, if it lies in the I/O part of a segment that this thread created or attached.
 *
 * @param view any view; only looked at
 */
export function locate(view: ArrayBufferView): MemoryLocation | undefined {
  const segment = segmentsOfThread.get(view.buffer);
  const { byteOffset, byteLength: length } = view;
  return segment?.contains(byteOffset, length) === true ? { segment, byteOffset, length } : undefined;
}

/**
 * Whether direct I/O can use a view: it lies in a segment known to this thread, at a proven alignment.
 *
 * A plain ArrayBuffer or SharedArrayBuffer is never I/O memory. The kernel would refuse most of them with EINVAL, and
 * accept a few short reads by luck, which is why this does not ask the kernel.
 *
 * @param alignment power of two, bytes; 1 asks for the memory alone
 */
export function isIoMemory(view: ArrayBufferView, alignment = 1): boolean {
  const location = locate(view);
  return location !== undefined && location.segment.isAligned(location.byteOffset, alignment);
}

function register(segment: MemorySegment): MemorySegment {
  segmentsOfThread.set(segment.buffer, segment);
  return segment;
}

function allocate(pages: number): SharedMemory {
  const webAssembly = runtimeWebAssembly();
  if (webAssembly === undefined) throw unavailable(undefined);
  try {
    return createSharedMemory(webAssembly, pages);
  } catch (error) {
    throw unavailable(error);
  }
}

function unavailable(cause: unknown): AlignedBufferError {
  const message = "the runtime gave no shared WebAssembly memory";
  return new AlignedBufferError("ERR_ARENA_UNAVAILABLE", message, cause === undefined ? {} : { cause });
}

/** Bytes from an address to the next one that is a multiple of 2 MiB; an address may have up to 57 bits. */
function bytesToHugePage(address: number | bigint): number {
  const into = Number(BigInt(address) % BigInt(HUGE_PAGE_BYTES));
  if (into % PAGE_ALIGNMENT !== 0) throw new RangeError(`not the address of a page: ${String(address)}`);
  return into === 0 ? 0 : HUGE_PAGE_BYTES - into;
}

function advise(hooks: MemoryHooks, bytes: Uint8Array): HugePages {
  if (hooks.adviseHugePages === undefined) return "unavailable";
  return hooks.adviseHugePages(bytes) ? "advised" : "refused";
}

/**
 * Memory of a pool: equal frames, numbered from 0 over as many segments as it takes.
 *
 * A frame's segment and offset come from its number by a shift and a mask, so that frames need no table. Frames whose
 * numbers follow each other lie side by side, except across the border of a segment: a run never crosses it, and
 * `runFramesMax` says how far one may go. Which frames are free, pinned or dirty is the pool's business, not known here.
 *
 * All threads may hold the same memory (`handle`, `attachPoolMemory`); who may touch a frame is again up to the pool.
 */
import { copyBytes } from "./copy-bytes.js";
import { attachMemorySegment, createMemorySegment, SEGMENT_BYTES_MAX } from "./memory-segment.js";
import type { MemoryHooks, MemorySegment, MemorySegmentHandle } from "./memory-segment.js";
import { isPowerOfTwo } from "./sizes.js";

/** Smallest frame, bytes. */
export const FRAME_BYTES_MIN = 512;
/** Most segments of one memory: 256 GiB of frames, and far below what the address space of a process holds. */
export const POOL_SEGMENTS_MAX = 256;

/** What a memory is made of. */
export interface PoolMemoryOptions {
  readonly frameCount: number;
  /** A power of two from 512 to `segmentBytes`; by default PostgreSQL's 8192. */
  readonly frameBytes?: number;
  /** Bytes of frames in a segment, a power of two up to 1 GiB, the default. The last segment may be shorter. */
  readonly segmentBytes?: number;
  /** From native code, where there is some. */
  readonly hooks?: MemoryHooks;
}

/** A memory as it travels to another thread. */
export interface PoolMemoryHandle {
  readonly segments: readonly MemorySegmentHandle[];
  readonly frameCount: number;
  readonly frameBytes: number;
  readonly segmentBytes: number;
}

/** Invariant: frame n lies in segment `n >>> segmentShift`, for every n below `frameCount`. */
export class PoolMemory {
  readonly segments: readonly MemorySegment[];
  readonly frameCount: number;
  readonly frameBytes: number;
  /** Frames of every segment but the last, a power of two. */
  readonly framesPerSegment: number;
  readonly #segmentShift: number;
  readonly #frameMask: number;
  readonly #segmentBytes: number;

  constructor(segments: readonly MemorySegment[], handle: Omit<PoolMemoryHandle, "segments">) {
    this.segments = segments;
    this.frameCount = handle.frameCount;
    this.frameBytes = handle.frameBytes;
    this.framesPerSegment = handle.segmentBytes / handle.frameBytes;
    this.#segmentShift = Math.log2(this.framesPerSegment);
    this.#frameMask = this.framesPerSegment - 1;
    this.#segmentBytes = handle.segmentBytes;
  }

  /** What to post to another thread, which attaches it with `attachPoolMemory`. */
  get handle(): PoolMemoryHandle {
    const { frameCount, frameBytes } = this;
    const segments = this.segments.map(({ handle }) => handle);
    return { segments, frameCount, frameBytes, segmentBytes: this.#segmentBytes };
  }

  /** Index in `segments`. Not checked: the frame is below `frameCount`. */
  segmentIndexOf(frame: number): number {
    return frame >>> this.#segmentShift;
  }

  /** Offset in its segment's `buffer`. Not checked: the frame is below `frameCount`. */
  byteOffsetOf(frame: number): number {
    const { byteOffset } = this.segments[frame >>> this.#segmentShift] as MemorySegment;
    return byteOffset + (frame & this.#frameMask) * this.frameBytes;
  }

  /** Frames from this one to the end of its segment, itself included: the longest run that starts here. */
  runFramesMax(frame: number): number {
    const toBorder = this.framesPerSegment - (frame & this.#frameMask);
    return Math.min(toBorder, this.frameCount - frame);
  }

  /**
   * The bytes of one frame or of a run, borrowed.
   *
   * @throws {RangeError} there is no such frame, or the run crosses the border of a segment
   */
  view(frame: number, count = 1): Uint8Array<SharedArrayBuffer> {
    this.#check(frame, count);
    const segment = this.segments[this.segmentIndexOf(frame)] as MemorySegment;
    return segment.view(this.byteOffsetOf(frame), count * this.frameBytes);
  }

  /**
   * Sets a frame or a run to zeros.
   *
   * @throws {RangeError} as `view`
   */
  zero(frame: number, count = 1): void {
    this.#check(frame, count);
    const segment = this.segments[this.segmentIndexOf(frame)] as MemorySegment;
    segment.fill(this.byteOffsetOf(frame), count * this.frameBytes, 0);
  }

  /**
   * Copies one frame over another.
   *
   * @throws {RangeError} there is no such frame
   */
  copyFrame(target: number, source: number): void {
    this.#check(target, 1);
    this.#check(source, 1);
    const index = this.segmentIndexOf(source);
    const segment = this.segments[index] as MemorySegment;
    if (this.segmentIndexOf(target) === index)
      segment.copyWithin(this.byteOffsetOf(target), this.byteOffsetOf(source), this.frameBytes);
    else copyBytes(this.view(source), this.view(target), 0);
  }

  #check(frame: number, count: number): void {
    const isFrame = Number.isInteger(frame) && frame >= 0 && frame < this.frameCount;
    if (!isFrame || !Number.isInteger(count) || count < 1 || count > this.runFramesMax(frame))
      throw new RangeError(`no run of ${String(count)} frames at frame ${String(frame)}`);
  }
}

/**
 * Makes the memory of a pool. All frames are zero and not yet in memory.
 *
 * @throws {RangeError} a size out of range
 * @throws {AlignedBufferError} ERR_ARENA_UNAVAILABLE: no memory to be had
 */
export function createPoolMemory(options: PoolMemoryOptions): PoolMemory {
  const { frameCount, frameBytes = 8192, segmentBytes = SEGMENT_BYTES_MAX, hooks } = options;
  if (!isPowerOfTwo(frameBytes, FRAME_BYTES_MIN, SEGMENT_BYTES_MAX))
    throw new RangeError(`not a size of frames: ${String(frameBytes)}`);
  if (!isPowerOfTwo(segmentBytes, Math.max(frameBytes, 4096), SEGMENT_BYTES_MAX))
    throw new RangeError(`not a size of segments: ${String(segmentBytes)}`);
  const framesPerSegment = segmentBytes / frameBytes;
  if (!Number.isInteger(frameCount) || frameCount < 1 || frameCount > framesPerSegment * POOL_SEGMENTS_MAX)
    throw new RangeError(`not a number of frames: ${String(frameCount)}`);
  const segments: MemorySegment[] = [];
  for (let rest = frameCount; rest > 0; rest -= framesPerSegment)
    segments.push(createMemorySegment(Math.min(rest, framesPerSegment) * frameBytes, hooks));
  return new PoolMemory(segments, { frameCount, frameBytes, segmentBytes });
}

/**
 * Another thread's memory in this one.
 *
 * @throws {TypeError} a segment's handle is none
 */
export function attachPoolMemory(handle: PoolMemoryHandle): PoolMemory {
  return new PoolMemory(
    handle.segments.map((segment) => attachMemorySegment(segment)),
    handle,
  );
}

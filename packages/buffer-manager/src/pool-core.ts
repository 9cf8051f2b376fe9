/**
 * A pool as any thread sees it, whether it is a backend or only completes I/O: the shared words, the frames, the settings.
 *
 * This is what travels to other threads; each makes its own views of it.
 */
import { attachPoolMemory } from "@millrace/aligned-buffers";
import type { PoolMemory, PoolMemoryHandle, SharedMemory } from "@millrace/aligned-buffers";
import type { AioShared } from "@millrace/aio";

import { BufferError } from "./errors.js";
import { HEADER, readPoolLayout, SCRATCH_FRAMES } from "./layout.js";
import type { PoolLayout } from "./layout.js";
import type { PoolSettings } from "./settings.js";
import { wakeAll } from "./wake-all.js";
import { STATISTICS_DOUBLES } from "./statistics.js";

/** A pool without its I/O: structured-cloneable, opaque. What the registry of the I/O workers is made from. */
export interface PoolCore {
  /** The words of layout.ts. */
  readonly control: SharedMemory;
  readonly frames: PoolMemoryHandle;
  readonly settings: PoolSettings;
}

/** A pool as it is sent to other threads: structured-cloneable, opaque. */
export interface PoolShared extends PoolCore {
  readonly aio: AioShared;
}

/** A thread's views of a pool. */
export interface PoolView {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly layout: PoolLayout;
  /** Frame i is the page of buffer i; behind them are the backends' scratch frames. */
  readonly frames: PoolMemory;
  readonly settings: PoolSettings;
}

/** Opens a pool in this thread. @throws {TypeError} not the memory of a pool of this version */
export function openPool(core: PoolCore): PoolView {
  const words = new Int32Array(core.control.buffer);
  return {
    words,
    doubles: new Float64Array(core.control.buffer),
    layout: readPoolLayout(words, STATISTICS_DOUBLES),
    frames: attachPoolMemory(core.frames),
    settings: core.settings,
  };
}

/** Frames that a pool of these settings has: the buffers', and behind them the scratch frames and local buffers. */
export function countFrames({ buffersMax, backends, localBuffers }: PoolSettings): number {
  return buffersMax + backends * (SCRATCH_FRAMES + localBuffers);
}

/** The first frame of a backend's local buffers. */
export function localFrame({ buffersMax, backends, localBuffers }: PoolSettings, backend: number): number {
  return buffersMax + backends * SCRATCH_FRAMES + backend * localBuffers;
}

/** The first of a backend's scratch frames. */
export function scratchFrame(layout: PoolLayout, backend: number): number {
  return layout.buffersMax + backend * SCRATCH_FRAMES;
}

/** @throws {BufferError} ERR_BUFFER_PANIC: the pool has stopped */
export function checkPoolPanic(words: Int32Array): void {
  if (words[HEADER.panic] === 0) return;
  const message = "the pool has stopped: a thread died while it changed what all threads share";
  throw new BufferError("ERR_BUFFER_PANIC", message);
}

/** Stops the pool for every thread, and wakes those that sleep to see it. */
export function panicPool(words: Int32Array, layout: PoolLayout): void {
  Atomics.store(words, HEADER.panic, 1);
  wakeAll(words, layout);
}

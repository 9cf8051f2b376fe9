/**
 * The scratch frames of one backend: what it writes pages from, so that a page may change while its write is under way.
 *
 * Taken as runs that lie side by side, because then a combined write is one piece of memory. A run is taken by one flow and
 * stays taken until its write is over, in whatever way. Frames of a backend are known to nobody else.
 */
import type { PoolMemory } from "@millrace/aligned-buffers";

import { SCRATCH_FRAMES } from "./layout.js";

/** Which frames are taken. */
export class ScratchFrames {
  /** Frames of the run that was taken last. */
  count = 0;
  readonly #frames: PoolMemory;
  readonly #first: number;
  readonly #isTaken: boolean[] = Array.from({ length: SCRATCH_FRAMES }, () => false);

  /** @param first the backend's first scratch frame */
  constructor(frames: PoolMemory, first: number) {
    this.#frames = frames;
    this.#first = first;
  }

  /**
   * Takes the longest run there is, `most` frames at most; `count` says how many they are.
   *
   * @returns the first frame; -1 if none is free
   */
  tryTake(most: number): number {
    let [best, length] = [-1, 0];
    for (let at = 0; at < SCRATCH_FRAMES && length < most;) {
      const run = this.#freeFrom(at, most);
      if (run > length) [best, length] = [at, run];
      at += run + 1;
    }
    this.count = length;
    if (best < 0) return -1;
    this.#isTaken.fill(true, best, best + length);
    return this.#first + best;
  }

  /** Gives frames back. */
  give(frame: number, count: number): void {
    const at = frame - this.#first;
    this.#isTaken.fill(false, at, at + count);
  }

  /** Frames that are taken. */
  get takenCount(): number {
    return this.#isTaken.filter(Boolean).length;
  }

  #freeFrom(at: number, most: number): number {
    const end = Math.min(SCRATCH_FRAMES, at + Math.min(most, this.#frames.runFramesMax(this.#first + at)));
    let free = at;
    while (free < end && this.#isTaken[free] === false) free += 1;
    return free - at;
  }
}

/**
 * PostgreSQL 18's rule: one distance for everything. Every I/O that is waited for doubles it, every hit takes one off.
 *
 * It does not matter whether a wait took any time. So what a stream reads depends on the block numbers and on what is
 * cached, and on nothing else; and one miss among many hits finds the distance gone, so that sparse misses are read one
 * by one. Version 19 mended the latter and gave up the former.
 */
import type { LookAhead, LookAheadBounds } from "./look-ahead.js";

/** The rules of mode `"pg18"`. */
export class LookAhead18 implements LookAhead {
  readonly dropsPendingOnReset = false;
  readonly readsSynchronouslyOnFastPath = false;
  readonly #maxIos: number;
  readonly #maxPinned: number;
  readonly #combine: number;
  #distance: number;
  #resumeDistance: number;

  constructor({ maxIos, maxPinned, combine }: LookAheadBounds, isFull: boolean) {
    this.#maxIos = maxIos;
    this.#maxPinned = maxPinned;
    this.#combine = combine;
    this.#distance = isFull ? Math.min(maxPinned, combine) : 1;
    this.#resumeDistance = this.#distance;
  }

  get distance(): number {
    return this.#distance;
  }

  get isResting(): boolean {
    return this.#distance === 1;
  }

  wantsBlock(pinned: number, pending: number, inProgress: number): boolean {
    return inProgress < this.#maxIos && pinned + pending < this.#distance;
  }

  isComplete(pending: number): boolean {
    return pending === this.#combine;
  }

  /** Reaching the distance is no reason: the read may still grow while buffers are consumed. */
  mustStart(pinned: number, pending: number, inProgress: number): boolean {
    if (pending === 0 || inProgress >= this.#maxIos) return false;
    // "At least", because a shortage of pins may have brought the distance below what is pending already.
    return pending === this.#combine || (pinned === 0 && pending >= this.#distance) || this.#distance === 0;
  }

  afterHit(): void {
    if (this.#distance > 1) this.#distance -= 1;
  }

  afterWait(): void {
    this.#distance = Math.min(this.#distance * 2, this.#maxPinned);
  }

  shrinkTo(distance: number): void {
    if (distance < this.#distance) this.#distance = distance;
  }

  atEnd(): void {
    this.#distance = 0;
  }

  restart(): void {
    this.#distance = 1;
    this.#resumeDistance = 1;
  }

  pause(): void {
    if (this.#distance > 0) this.#resumeDistance = this.#distance;
    this.#distance = 0;
  }

  resume(): void {
    if (this.#distance === 0) this.#distance = this.#resumeDistance;
  }
}

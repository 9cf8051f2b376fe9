/**
 * PostgreSQL 19's rule: one distance for reading ahead, another for the size of reads.
 *
 * Reading further ahead is worth its pins only if waits take time, so only such waits double the first. Larger reads are
 * cheaper in any case, so any I/O doubles the second. Hits take from both, but not while I/O is in progress nor until as
 * many hits as could ever be pinned have followed the last I/O, as an I/O that far away would still have been found.
 */
import type { LookAhead, LookAheadBounds } from "./look-ahead.js";

/** The rules of mode `"pg19"`. */
export class LookAhead19 implements LookAhead {
  readonly dropsPendingOnReset = true;
  readonly readsSynchronouslyOnFastPath = true;
  readonly #maxIos: number;
  readonly #maxPinned: number;
  /** The largest read: what one I/O and what the queue can hold. */
  readonly #combineMax: number;
  #distance: number;
  #combineDistance: number;
  #holdOff = 0;
  #resumeDistance: number;
  #resumeCombineDistance: number;

  constructor({ maxIos, maxPinned, combine }: LookAheadBounds, isFull: boolean) {
    this.#maxIos = maxIos;
    this.#maxPinned = maxPinned;
    this.#combineMax = Math.min(combine, maxPinned);
    this.#distance = isFull ? this.#combineMax : 1;
    this.#combineDistance = this.#distance;
    this.#resumeDistance = this.#distance;
    this.#resumeCombineDistance = this.#combineDistance;
  }

  get distance(): number {
    return this.#distance;
  }

  /** How large the next read should become. */
  get combineDistance(): number {
    return this.#combineDistance;
  }

  get isResting(): boolean {
    return this.#distance === 1 && this.#combineDistance === 1;
  }

  wantsBlock(pinned: number, pending: number, inProgress: number): boolean {
    if (this.#distance === 0 || inProgress >= this.#maxIos) return false;
    // With nothing prepared yet, a read may grow beyond the distance: its size never exceeds what may be pinned.
    if (pending > 0 && pinned === 0 && pending < this.#combineDistance) return true;
    return pinned + pending < this.#distance;
  }

  isComplete(pending: number): boolean {
    return pending > 0 && pending >= this.#combineDistance;
  }

  mustStart(pinned: number, pending: number, inProgress: number): boolean {
    if (pending === 0 || inProgress >= this.#maxIos) return false;
    if (this.#distance === 0 || pending >= this.#combineDistance) return true;
    return pinned === 0 && !this.wantsBlock(pinned, pending, inProgress);
  }

  afterHit(inProgress: number): void {
    if (inProgress > 0) return;
    if (this.#holdOff > 0) {
      this.#holdOff -= 1;
      return;
    }
    if (this.#distance > 1) this.#distance -= 1;
    if (this.#combineDistance > 1) this.#combineDistance -= 1;
  }

  afterWait(hadToWait: boolean): void {
    if (hadToWait) this.#distance = Math.min(this.#distance * 2, this.#maxPinned);
    this.#combineDistance = Math.min(this.#combineDistance * 2, this.#combineMax);
    this.#holdOff = this.#maxPinned;
  }

  shrinkTo(distance: number): void {
    if (distance < this.#distance) this.#distance = distance;
  }

  atEnd(): void {
    this.#distance = 0;
    this.#combineDistance = 0;
  }

  restart(): void {
    this.#distance = 1;
    this.#combineDistance = 1;
    this.#resumeDistance = 1;
    this.#resumeCombineDistance = 1;
    this.#holdOff = 0;
  }

  pause(): void {
    if (this.#distance > 0) {
      this.#resumeDistance = this.#distance;
      this.#resumeCombineDistance = this.#combineDistance;
    }
    this.atEnd();
  }

  resume(): void {
    if (this.#distance > 0) return;
    this.#distance = this.#resumeDistance;
    this.#combineDistance = this.#resumeCombineDistance;
  }
}

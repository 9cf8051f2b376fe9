/**
 * The I/Os a stream has started and not waited for: a ring of as many places as may be in progress.
 *
 * They are waited for in the order in which they were started, because their buffers are returned in that order. Each
 * remembers the queue slot of its first buffer, which is how the stream notices that a wait is due.
 */

/** First in, first out; the arrays are indexed by I/O slot, as the pool's operations are. */
export class IoQueue {
  readonly slots: Int32Array;
  readonly blocks: Uint32Array;
  readonly counts: Int32Array;
  readonly #isSynchronous: Uint8Array;
  readonly #size: number;
  oldest = 0;
  next = 0;
  inProgress = 0;

  constructor(size: number) {
    this.#size = size;
    this.slots = new Int32Array(size);
    this.blocks = new Uint32Array(size);
    this.counts = new Int32Array(size);
    this.#isSynchronous = new Uint8Array(size);
  }

  /** Whether the oldest I/O brings the buffer in `slot`. */
  isDue(slot: number): boolean {
    return this.inProgress > 0 && this.slots[this.oldest] === slot;
  }

  /** Whether the oldest I/O was asked to run while it was started. */
  get oldestIsSynchronous(): boolean {
    return this.#isSynchronous[this.oldest] === 1;
  }

  /** Adds an I/O in the place that `next` named. */
  push(slot: number, block: number, count: number, isSynchronous: boolean): void {
    const io = this.next;
    this.slots[io] = slot;
    this.blocks[io] = block;
    this.counts[io] = count;
    this.#isSynchronous[io] = isSynchronous ? 1 : 0;
    this.next = io + 1 === this.#size ? 0 : io + 1;
    this.inProgress += 1;
  }

  /** Takes the oldest out. @returns its first block */
  shift(): number {
    const io = this.oldest;
    this.oldest = io + 1 === this.#size ? 0 : io + 1;
    this.inProgress -= 1;
    return this.blocks[io] as number;
  }
}

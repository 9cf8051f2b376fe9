/**
 * The circular queue of pinned buffers, by number, with room behind it for reads that cross its end.
 *
 * One read needs its buffers in a row. A read that starts near the end of the queue spills into the overflow slots behind
 * it; what was spilled is copied to the front, where it will be consumed, while the operation goes on to use the spilled
 * copy. Both are emptied when the buffer leaves, because a slot that is not 0 means a pin forwarded by the pool: taken
 * for a part of a request that did not become part of the read, to be passed again at the same place.
 *
 * The slot that is spare (a queue is one longer than what may be pinned) keeps `oldest` and `next` apart when the queue is
 * as full as it can be, so that they are equal exactly when it is empty.
 */

/** Slots `oldest` to `next` are the stream's; from `next` on come pins forwarded, and they are not counted in `pinned`. */
export class BufferQueue {
  readonly size: number;
  readonly overflow: number;
  readonly slots: Int32Array;
  oldest = 0;
  next = 0;
  pinned = 0;
  forwarded = 0;

  constructor(size: number, overflow: number) {
    this.size = size;
    this.overflow = overflow;
    this.slots = new Int32Array(size + overflow);
  }

  /** The slot `distance` (at most the queue's size) after `slot`. */
  after(slot: number, distance: number): number {
    const sum = slot + distance;
    return sum >= this.size ? sum - this.size : sum;
  }

  /** `covered` buffers were pinned by a read of up to `requested` from `next` on; what lies beyond was forwarded. */
  add(covered: number, requested: number): void {
    const { slots, next, size } = this;
    let end = covered;
    while (end < requested && slots[next + end] !== 0) end += 1;
    const spilled = next + end - size;
    if (spilled > 0) slots.copyWithin(0, size, size + spilled);
    this.forwarded = end - covered;
    this.pinned += covered;
    this.next = this.after(next, covered);
  }

  /** Takes the oldest buffer out. */
  shift(): number {
    const slot = this.oldest;
    this.pinned -= 1;
    this.oldest = this.after(slot, 1);
    return this.#empty(slot);
  }

  /** Takes one forwarded pin back. @returns 0 if there is none */
  takeForwarded(): number {
    if (this.forwarded === 0) return 0;
    this.forwarded -= 1;
    return this.#empty(this.after(this.next, this.forwarded));
  }

  /** Empties the copy of the oldest buffer, which is going to stay in its slot while others come and go in it. */
  forgetCopyOfOldest(): void {
    if (this.oldest < this.overflow) this.slots[this.size + this.oldest] = 0;
  }

  /** Forgets everything without letting go of anything: the pins are gone already. */
  abandon(): void {
    this.oldest = this.next;
    this.pinned = 0;
    this.forwarded = 0;
  }

  #empty(slot: number): number {
    const buffer = this.slots[slot] as number;
    this.slots[slot] = 0;
    if (slot < this.overflow) this.slots[this.size + slot] = 0;
    return buffer;
  }
}

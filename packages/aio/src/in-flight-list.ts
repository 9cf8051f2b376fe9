/**
 * A backend's handles that have been submitted and not been reclaimed, in the order of their submission.
 *
 * A doubly linked list over two small arrays, private to the owner: the oldest is what one waits for, and any may be
 * reclaimed out of order. Positions are handle numbers minus the backend's first.
 */
const NONE = -1;

/** The list; all operations take constant time. */
export class InFlightList {
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  #head = NONE;
  #tail = NONE;
  #size = 0;

  constructor(capacity: number) {
    this.#next = new Int32Array(capacity).fill(NONE);
    this.#previous = new Int32Array(capacity).fill(NONE);
  }

  get size(): number {
    return this.#size;
  }

  /** The oldest; -1 when empty. */
  get oldest(): number {
    return this.#head;
  }

  /** The one submitted after `position`; -1 at the end. */
  after(position: number): number {
    return this.#next[position] as number;
  }

  push(position: number): void {
    this.#previous[position] = this.#tail;
    this.#next[position] = NONE;
    if (this.#tail === NONE) this.#head = position;
    else this.#next[this.#tail] = position;
    this.#tail = position;
    this.#size += 1;
  }

  /** Takes out a position that is in the list. */
  remove(position: number): void {
    const previous = this.#previous[position] as number;
    const next = this.#next[position] as number;
    if (previous === NONE) this.#head = next;
    else this.#next[previous] = next;
    if (next === NONE) this.#tail = previous;
    else this.#previous[next] = previous;
    this.#size -= 1;
  }
}

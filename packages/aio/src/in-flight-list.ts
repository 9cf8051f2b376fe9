/**
 * A backend's handles that have been submitted and not been reclaimed, in the order of their submission.
 *
 * A list with gaps, private to the owner: who leaves out of order leaves a gap, which is skipped when the oldest is asked
 * for, and closed when the last place is taken. There are twice as many places as there can be entries, so that closing the
 * gaps costs two looks an entry at most, and adding and taking out a store or two. Positions are handle numbers minus the
 * backend's first.
 */
const NONE = -1;

/** The list. */
export class InFlightList {
  /** Positions, NONE in a gap. */
  readonly #entries: Int32Array;
  /** Where in the entries each position is. */
  readonly #placeOf: Int32Array;
  readonly #places: number;
  /** Nothing is before it; nothing is from the end on. */
  #start = 0;
  #end = 0;
  #size = 0;

  constructor(capacity: number) {
    this.#places = 2 * capacity;
    this.#entries = new Int32Array(this.#places).fill(NONE);
    this.#placeOf = new Int32Array(capacity);
  }

  get size(): number {
    return this.#size;
  }

  /** The oldest; -1 when empty. */
  get oldest(): number {
    if (this.#size === 0) return NONE;
    while (this.#entries[this.#start] === NONE) this.#start += 1;
    return this.#entries[this.#start] as number;
  }

  /** The one submitted after `position`; -1 at the end. */
  after(position: number): number {
    for (let place = (this.#placeOf[position] as number) + 1; place < this.#end; place++) {
      const next = this.#entries[place] as number;
      if (next !== NONE) return next;
    }
    return NONE;
  }

  push(position: number): void {
    if (this.#end === this.#places) this.#closeGaps();
    const place = this.#end;
    this.#entries[place] = position;
    this.#placeOf[position] = place;
    this.#end = place + 1;
    this.#size += 1;
  }

  /** Takes out a position that is in the list. */
  remove(position: number): void {
    this.#entries[this.#placeOf[position] as number] = NONE;
    this.#size -= 1;
  }

  /** Moves everything to the front. */
  #closeGaps(): void {
    let place = 0;
    for (let from = this.#start; from < this.#end; from++) {
      const position = this.#entries[from] as number;
      if (position === NONE) continue;
      this.#entries[place] = position;
      this.#placeOf[position] = place;
      place += 1;
    }
    this.#start = 0;
    this.#end = place;
  }
}

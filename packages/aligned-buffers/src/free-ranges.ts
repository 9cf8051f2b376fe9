/**
 * Which units of an arena are free: a two-level segregated fit, with its bookkeeping beside the memory and not in it,
 * because other threads and the kernel write to that.
 *
 * Free ranges of similar length share a list: a group for each power of two, 16 lists in a group, exact below 16 units.
 * Bitmaps find the next list that is not empty, so that taking and giving back cost the same however many ranges there
 * are. Neighbours merge at once. A range of the wanted list's own length class is preferred: equal sizes reuse each
 * other's places and do not fragment. Only when all longer lists are empty is the rest of the own list searched, so
 * that a request fails only if really no free range is long enough.
 *
 * Invariants: no two free ranges touch. `#lengths` is positive at the first and last unit of a free range, negative at
 * the first unit of a taken one, and zero everywhere else.
 *
 * Idea: Masmano, Ripoll, Crespo and Real, "TLSF: a new dynamic memory allocator for real-time systems" (2004).
 */
import assert from "node:assert/strict";

const LISTS_LOG2 = 4;
const LISTS = 1 << LISTS_LOG2;
const GROUPS_MAX = 32 - LISTS_LOG2;

/** Works on whole units; what a unit is, is the arena's business. */
export class FreeRanges {
  readonly units: number;
  #freeUnits: number;
  readonly #lengths: Int32Array;
  /** Links of free ranges, at their first unit. Like `#heads` they hold a unit plus one; 0 is the end. */
  readonly #next: Int32Array;
  readonly #previous: Int32Array;
  readonly #heads: Int32Array = new Int32Array(GROUPS_MAX * LISTS);
  /** Bit n of a group's word: its list n is not empty. */
  readonly #listBits: Int32Array = new Int32Array(GROUPS_MAX);
  /** Bit n: group n has a list that is not empty. */
  #groupBits = 0;

  /** @param units 1 to 2^30; all are free */
  constructor(units: number) {
    assert(Number.isSafeInteger(units) && units >= 1 && units <= 2 ** 30);
    this.units = units;
    this.#freeUnits = units;
    this.#lengths = new Int32Array(units);
    this.#next = new Int32Array(units);
    this.#previous = new Int32Array(units);
    this.#insert(0, units);
  }

  get freeUnits(): number {
    return this.#freeUnits;
  }

  /**
   * Takes a range.
   *
   * @param length at least 1
   * @param align its first unit is a multiple of this
   * @returns the first unit, or undefined if no free range has room
   */
  take(length: number, align = 1): number | undefined {
    assert(length >= 1 && align >= 1);
    if (length > this.#freeUnits) return undefined;
    // Wherever a range of that length starts, the aligned one is inside.
    let range = this.#find(length + align - 1);
    if (range === undefined && align > 1) range = this.#searchAligned(length, align);
    if (range === undefined) return undefined;
    const start = alignUp(range, align);
    const end = range + this.#lengthAt(range);
    this.#remove(range);
    if (start > range) this.#insert(range, start - range);
    if (end > start + length) this.#insert(start + length, end - start - length);
    this.#lengths[start] = -length;
    this.#freeUnits -= length;
    return start;
  }

  /** Gives a range back. `start` came from `take` and was not given back since. */
  give(start: number): void {
    let length = -this.#lengthAt(start);
    assert(length > 0, "given back twice, or never taken");
    this.#freeUnits += length;
    this.#lengths[start] = 0;
    let first = start;
    const after = start + length;
    if (after < this.units && this.#lengthAt(after) > 0) {
      length += this.#lengthAt(after);
      this.#remove(after);
    }
    if (start > 0 && this.#lengthAt(start - 1) > 0) {
      first = start - this.#lengthAt(start - 1);
      length += start - first;
      this.#remove(first);
    }
    this.#insert(first, length);
  }

  /** First unit of a free range of at least `length`. */
  #find(length: number): number | undefined {
    if (length > this.units) return undefined;
    const own = listOf(length);
    const head = at(this.#heads, own) - 1;
    if (head >= 0 && this.#lengthAt(head) >= length) return head;
    const list = this.#nextListAfter(own);
    if (list !== undefined) return at(this.#heads, list) - 1;
    for (let range = head; range >= 0; range = at(this.#next, range) - 1) {
      if (this.#lengthAt(range) >= length) return range;
    }
    return undefined;
  }

  /** The first list above `list` that is not empty: all its ranges are longer. */
  #nextListAfter(list: number): number | undefined {
    const group = list >>> LISTS_LOG2;
    const inGroup = at(this.#listBits, group) & (-2 << (list & (LISTS - 1)));
    if (inGroup !== 0) return group * LISTS + lowestBit(inGroup);
    // A shift by 32 would be one by 0; GROUPS_MAX is below 31.
    const groups = this.#groupBits & (-2 << group);
    if (groups === 0) return undefined;
    const next = lowestBit(groups);
    return next * LISTS + lowestBit(at(this.#listBits, next));
  }

  /** Every free range, for a request that is aligned beyond the unit and finds no range with room to spare. */
  #searchAligned(length: number, align: number): number | undefined {
    for (const head of this.#heads) {
      for (let range = head - 1; range >= 0; range = at(this.#next, range) - 1) {
        if (alignUp(range, align) + length <= range + this.#lengthAt(range)) return range;
      }
    }
    return undefined;
  }

  #insert(first: number, length: number): void {
    const list = listOf(length);
    const head = at(this.#heads, list);
    this.#lengths[first] = length;
    this.#lengths[first + length - 1] = length;
    this.#next[first] = head;
    this.#previous[first] = 0;
    if (head !== 0) this.#previous[head - 1] = first + 1;
    this.#heads[list] = first + 1;
    const group = list >>> LISTS_LOG2;
    this.#listBits[group] = at(this.#listBits, group) | (1 << (list & (LISTS - 1)));
    this.#groupBits |= 1 << group;
  }

  #remove(first: number): void {
    const length = this.#lengthAt(first);
    const next = at(this.#next, first);
    const previous = at(this.#previous, first);
    this.#lengths[first] = 0;
    this.#lengths[first + length - 1] = 0;
    if (next !== 0) this.#previous[next - 1] = previous;
    if (previous !== 0) {
      this.#next[previous - 1] = next;
      return;
    }
    const list = listOf(length);
    this.#heads[list] = next;
    if (next !== 0) return;
    const group = list >>> LISTS_LOG2;
    this.#listBits[group] = at(this.#listBits, group) & ~(1 << (list & (LISTS - 1)));
    if (this.#listBits[group] === 0) this.#groupBits &= ~(1 << group);
  }

  #lengthAt(unit: number): number {
    return at(this.#lengths, unit);
  }
}

/** The list for ranges of a length: lists are in the order of their lengths. */
function listOf(length: number): number {
  if (length < LISTS) return length;
  const log2 = 31 - Math.clz32(length);
  return (log2 - LISTS_LOG2 + 1) * LISTS + ((length >>> (log2 - LISTS_LOG2)) & (LISTS - 1));
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

function alignUp(unit: number, align: number): number {
  return Math.ceil(unit / align) * align;
}

/** A word that is certainly there. */
function at(words: Int32Array, index: number): number {
  return words[index] as number;
}

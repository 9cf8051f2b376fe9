/**
 * What a checkpoint has to write: one entry a buffer, sorted into the order of the files.
 *
 * The tag is copied when the buffer is marked, because it may change while others are sorted; an entry that has become wrong
 * costs a look at its buffer and no more. Sorted by tablespace, relation, database, fork and block: PostgreSQL leaves the
 * database out, which interleaves the blocks of relations that have the same number in two databases, and neighbours are what
 * a combined write is made of.
 *
 * The sort is a radix sort, eleven bits at a time, which passes over every digit that all entries have in common: most of a
 * tag. A million entries take some tens of milliseconds, and no comparison function is called.
 */

const TABLESPACE = 0;
const RELATION = 1;
const DATABASE = 2;
const FORK_KEY = 3;
const BLOCK = 4;
const KEYS = 5;

const DIGIT_BITS = 11;
const DIGITS: number = 2 ** DIGIT_BITS;
const DIGITS_OF_KEY = 3;
const CAPACITY_FIRST = 1024;

/** Buffers with their tags. `position` counts in the sorted order, from 0; before `sort` in the order of the pushes. */
export class CheckpointList {
  #keys: Int32Array[] = Array.from({ length: KEYS }, () => new Int32Array(CAPACITY_FIRST));
  #buffers: Int32Array = new Int32Array(CAPACITY_FIRST);
  #order: Int32Array = new Int32Array(0);
  #count = 0;

  /** Entries. */
  get count(): number {
    return this.#count;
  }

  /** Adds a buffer. Numbers of the tag are words as the descriptor has them. */
  push(
    buffer: number,
    tablespace: number,
    database: number,
    relation: number,
    fork: number,
    block: number,
  ): void {
    const at = this.#count;
    if (at === this.#buffers.length) this.#grow();
    const [tablespaces, relations, databases, forks, blocks] = this.#keys as [
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
    ];
    tablespaces[at] = tablespace;
    relations[at] = relation;
    databases[at] = database;
    forks[at] = fork;
    blocks[at] = block;
    this.#buffers[at] = buffer;
    this.#count = at + 1;
  }

  /** Puts the entries in the order of the files. */
  sort(): void {
    const count = this.#count;
    let order = Int32Array.from({ length: count }, (_, at) => at);
    let other = new Int32Array(count);
    const starts = new Int32Array(DIGITS + 1);
    for (let key = KEYS - 1; key >= 0; key--) {
      const words = this.#keys[key] as Int32Array;
      for (let digit = 0; digit < DIGITS_OF_KEY; digit++) {
        if (!distribute(words, digit * DIGIT_BITS, order, other, starts)) continue;
        [order, other] = [other, order];
      }
    }
    this.#order = order;
  }

  /** The buffer at a position. */
  buffer(position: number): number {
    return this.#buffers[this.#order[position] as number] as number;
  }

  /** Its tablespace. */
  tablespace(position: number): number {
    return this.#key(TABLESPACE, position) >>> 0;
  }

  /** Its block. */
  block(position: number): number {
    return this.#key(BLOCK, position) >>> 0;
  }

  /** Whether the entry at `position + 1` is the block after this one's, of the same fork. */
  isFollowed(position: number): boolean {
    if (position + 1 >= this.#count) return false;
    for (const key of [RELATION, DATABASE, FORK_KEY, TABLESPACE]) {
      if (this.#key(key, position) !== this.#key(key, position + 1)) return false;
    }
    return this.block(position + 1) === this.block(position) + 1;
  }

  #key(key: number, position: number): number {
    return (this.#keys[key] as Int32Array)[this.#order[position] as number] as number;
  }

  #grow(): void {
    const capacity = this.#buffers.length * 2;
    const grown = (words: Int32Array): Int32Array => {
      const larger = new Int32Array(capacity);
      larger.set(words);
      return larger;
    };
    this.#keys = this.#keys.map(grown);
    this.#buffers = grown(this.#buffers);
  }
}

/**
 * One pass: entries move from `order` to `other`, sorted by one digit and otherwise as they were.
 *
 * @param starts scratch memory
 * @returns false if all have the same digit, and nothing was moved
 */
function distribute(
  words: Int32Array,
  shift: number,
  order: Int32Array,
  other: Int32Array,
  starts: Int32Array,
): boolean {
  const count = order.length;
  if (count === 0) return false;
  const mask = DIGITS - 1;
  starts.fill(0);
  for (let at = 0; at < count; at++) {
    const digit = ((words[at] as number) >>> shift) & mask;
    starts[digit + 1] = (starts[digit + 1] as number) + 1;
  }
  const some = ((words[0] as number) >>> shift) & mask;
  if (starts[some + 1] === count) return false;
  for (let digit = 0; digit < DIGITS; digit++) {
    starts[digit + 1] = (starts[digit + 1] as number) + (starts[digit] as number);
  }
  for (let at = 0; at < count; at++) {
    const entry = order[at] as number;
    const digit = ((words[entry] as number) >>> shift) & mask;
    const target = starts[digit] as number;
    starts[digit] = target + 1;
    other[target] = entry;
  }
  return true;
}

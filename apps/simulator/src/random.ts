/**
 * The only source of chance in the simulator: small generators, all derived from one seed.
 *
 * Every actor of a run has a stream of its own, named, so that dropping one fault from a schedule changes as little
 * as possible of what the others draw: that is what lets a failing schedule be shortened. The generator is sfc32
 * (Chris Doty-Humphrey's, public domain), seeded by an FNV-1a hash of seed and name; statistical quality beyond
 * "no visible pattern" does not matter here, speed and reproducibility do.
 */

/** One stream of pseudo-random numbers. */
export class Random {
  readonly #seed: number;
  readonly #name: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** @param seed any safe integer; equal seed and name give equal streams */
  constructor(seed: number, name: string) {
    this.#seed = seed;
    this.#name = name;
    this.#a = hashText(name, 0x811c9dc5 ^ seed);
    this.#b = hashText(name, 0x01000193 ^ Math.floor(seed / 2 ** 32));
    this.#c = seed | 0;
    for (let round = 0; round < 12; round += 1) this.next();
  }

  /** A number in [0, 1). */
  next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  }

  /** An integer in [0, bound). */
  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** A number in [low, high). */
  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of `items`, which are not empty. */
  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)];
    if (item === undefined) throw new RangeError("nothing to pick from");
    return item;
  }

  /** A stream of its own that depends on this one's seed and names only, not on what was drawn. */
  fork(name: string): Random {
    return new Random(this.#seed, `${this.#name}/${name}`);
  }
}

function hashText(text: string, basis: number): number {
  let hash = basis | 0;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  return hash ^ (hash >>> 15);
}

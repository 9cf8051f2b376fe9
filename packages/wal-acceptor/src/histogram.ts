/**
 * Counts of values in fixed buckets: what a monitoring system can make quantiles of, at the price of an addition.
 *
 * `observe` walks a few bounds and adds to two slots of a typed array: no allocation, no promise, no string, so it may
 * stand on the write path. Counts and sum are doubles, exact up to 2^53. One thread. Reading copies nothing that the
 * writer could disturb, because nothing runs between two statements of a synchronous reader.
 */

/** What a histogram holds at one moment, in the terms of Prometheus. */
export interface HistogramSnapshot {
  /** Ascending; a value belongs to the first bucket whose bound is not below it. */
  readonly upperBounds: readonly number[];
  /** For each bound, how many values were at or below it. */
  readonly cumulativeCounts: readonly number[];
  /** All values, those above the last bound included. */
  readonly count: number;
  readonly sum: number;
}

/** One histogram. */
export class Histogram {
  readonly #upperBounds: readonly number[];
  /** A count for each bound, one for what is above them, and the sum. */
  readonly #slots: Float64Array;

  /**
   * @param upperBounds kept, not empty
   * @throws {RangeError} they do not ascend
   */
  constructor(upperBounds: readonly number[]) {
    if (upperBounds.length === 0) throw new RangeError("a histogram needs a bound");
    for (let index = 1; index < upperBounds.length; index += 1) {
      if (!((upperBounds[index] ?? 0) > (upperBounds[index - 1] ?? 0))) {
        throw new RangeError(`the bounds of a histogram must ascend: ${upperBounds.join(", ")}`);
      }
    }
    this.#upperBounds = upperBounds;
    this.#slots = new Float64Array(upperBounds.length + 2);
  }

  /** Counts one value; NaN counts as above every bound. */
  observe(value: number): void {
    const bounds = this.#upperBounds;
    const slots = this.#slots;
    let index = 0;
    while (index < bounds.length && !(value <= (bounds[index] ?? 0))) index += 1;
    slots[index] = (slots[index] ?? 0) + 1;
    slots[bounds.length + 1] = (slots[bounds.length + 1] ?? 0) + value;
  }

  /** The state of this moment; given. */
  snapshot(): HistogramSnapshot {
    let count = 0;
    const cumulativeCounts = this.#upperBounds.map((_, index) => (count += this.#slots[index] ?? 0));
    count += this.#slots[this.#upperBounds.length] ?? 0;
    const sum = this.#slots[this.#upperBounds.length + 1] ?? 0;
    return { upperBounds: this.#upperBounds, cumulativeCounts, count, sum };
  }
}

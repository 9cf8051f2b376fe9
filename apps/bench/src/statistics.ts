/**
 * The few statistics that a row needs: medians, percentiles and the spread over rounds.
 *
 * Pure. Inputs are never empty and never changed; whoever measures nothing has no row. No means and no deviations:
 * noise on a shared machine only ever adds time, so its distribution has one tail and a mean is somewhere in it.
 */

/** Median, smallest and largest of the rounds. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/**
 * The value below which `fraction` of the values lie, by the nearest-rank method: always one of the values.
 *
 * @param values at least one, in any order
 * @param fraction 0 to 1; 0 gives the smallest, 1 the largest
 * @throws {RangeError} no values, or a fraction outside of 0 to 1
 */
export function percentile(values: Iterable<number>, fraction: number): number {
  if (!(fraction >= 0 && fraction <= 1)) throw new RangeError(`fraction must be 0 to 1: ${fraction}`);
  const sorted = Float64Array.from(values).sort();
  const rank = Math.max(1, Math.ceil(fraction * sorted.length));
  const value = sorted[rank - 1];
  if (value === undefined) throw new RangeError("a percentile needs at least one value");
  return value;
}

/**
 * The middle value, or the mean of the two middle ones.
 *
 * @throws {RangeError} no values
 */
export function median(values: Iterable<number>): number {
  const sorted = Float64Array.from(values).sort();
  const upper = sorted[sorted.length >> 1];
  if (upper === undefined) throw new RangeError("a median needs at least one value");
  if (sorted.length % 2 === 1) return upper;
  return (upper + (sorted[(sorted.length >> 1) - 1] ?? upper)) / 2;
}

/**
 * Median, minimum and maximum.
 *
 * @throws {RangeError} no values
 */
export function spread(values: readonly number[]): Spread {
  return { median: median(values), min: Math.min(...values), max: Math.max(...values) };
}

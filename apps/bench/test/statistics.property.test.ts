import fc from "fast-check";
import { expect, test } from "vitest";
import { median, percentile, spread } from "../src/statistics.js";

const rates = fc.array(fc.double({ min: 1e-3, max: 1e9, noNaN: true }), {
  minLength: 1,
  maxLength: 60,
  size: "max",
});

// Aim: a percentile is what its definition says. Method: count the values at and below it, for any list and fraction.
test("a percentile is a value of the list with the asked share at or below it", () => {
  fc.assert(
    fc.property(rates, fc.double({ min: 0, max: 1, noNaN: true }), (values, fraction) => {
      const found = percentile(values, fraction);
      expect(values).toContain(found);
      expect(values.filter((value) => value <= found).length).toBeGreaterThanOrEqual(
        fraction * values.length,
      );
      expect(values.filter((value) => value < found).length).toBeLessThanOrEqual(
        Math.max(0, fraction * values.length),
      );
    }),
  );
});

// Aim: the median has as many values below as above. Method: count, for lists of odd and even length.
test("the median splits the list in halves and lies within the spread", () => {
  fc.assert(
    fc.property(rates, (values) => {
      const middle = median(values);
      const below = values.filter((value) => value < middle).length;
      const above = values.filter((value) => value > middle).length;
      expect(Math.max(below, above)).toBeLessThanOrEqual(values.length / 2);
      const { min, max } = spread(values);
      expect(values).toContain(min);
      expect(values).toContain(max);
      expect(values.every((value) => value >= min && value <= max)).toBe(true);
      expect(middle).toBeGreaterThanOrEqual(min);
      expect(middle).toBeLessThanOrEqual(max);
    }),
  );
});

// Aim: nothing is computed from nothing. Method: empty lists and fractions that are none.
test("no values and impossible fractions are refused", () => {
  expect(() => median([])).toThrow(RangeError);
  expect(() => percentile([], 0.5)).toThrow(RangeError);
  expect(() => percentile([1], 1.01)).toThrow(RangeError);
  expect(() => percentile([1], Number.NaN)).toThrow(RangeError);
  expect([median([3, 1, 2]), median([4, 1, 2, 3]), percentile([5, 1, 3], 0.99)]).toEqual([2, 2.5, 5]);
});

import * as fc from "fast-check";
import { expect, test } from "vitest";

import { Histogram } from "../src/histogram.js";

// Aim: buckets, count and sum are those of the values. Method: random values and bounds against plain filtering.
test("a histogram agrees with counting the values", () => {
  const bounds = fc.uniqueArray(fc.integer({ min: -20, max: 20 }), {
    minLength: 1,
    maxLength: 12,
    size: "max",
  });
  const values = fc.array(fc.integer({ min: -30, max: 30 }), { maxLength: 200, size: "max" });
  fc.assert(
    fc.property(bounds, values, (unordered, observed) => {
      const upperBounds = unordered.toSorted((a, b) => a - b);
      const histogram = new Histogram(upperBounds);
      for (const value of observed) histogram.observe(value);
      expect(histogram.snapshot()).toEqual({
        upperBounds,
        cumulativeCounts: upperBounds.map((bound) => observed.filter((value) => value <= bound).length),
        count: observed.length,
        sum: observed.reduce((sum, value) => sum + value, 0),
      });
    }),
  );
});

test("a snapshot stays as it was taken, and no value gets lost between two bounds", () => {
  const histogram = new Histogram([1, 2]);
  histogram.observe(1);
  const before = histogram.snapshot();
  for (const value of [1.5, 2, 3, Number.NaN]) histogram.observe(value);
  expect(before.cumulativeCounts).toEqual([1, 1]);
  expect(histogram.snapshot()).toMatchObject({ cumulativeCounts: [1, 3], count: 5 });
});

test.each([[[]], [[1, 1]], [[2, 1]], [[0, Number.NaN]]])("bounds %j are refused", (bounds) => {
  expect(() => new Histogram(bounds)).toThrow(RangeError);
});

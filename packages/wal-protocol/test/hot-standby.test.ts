/**
 * Merging what hot standbys ask for.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { aggregateHotStandby, fullTransactionId, NO_HOT_STANDBY_FEEDBACK } from "../src/index.js";

// Aim: epochs extend transaction ids, and nothing stays nothing. Method: epoch 0 and 1, xid 0 and the largest.
test("transaction ids are extended by their epoch", () => {
  expect(fullTransactionId(5, 0)).toBe(5n);
  expect(fullTransactionId(5, 1)).toBe(2n ** 32n + 5n);
  expect(fullTransactionId(0xffffffff, 0xffffffff)).toBe(2n ** 64n - 1n);
  expect(fullTransactionId(0, 1)).toBe(0n);
});

// Aim: the oldest request wins, zeros do not take part. Method: readers that give one, both or none.
test("the smallest ids other than 0 win", () => {
  const merged = aggregateHotStandby([
    { timestamp: 10n, xmin: 700n, catalogXmin: 0n },
    { timestamp: 30n, xmin: 0n, catalogXmin: 0n },
    { timestamp: 20n, xmin: 800n, catalogXmin: 600n },
  ]);
  expect(merged).toEqual({ timestamp: 20n, xmin: 700n, catalogXmin: 600n });
  expect(aggregateHotStandby([])).toBe(NO_HOT_STANDBY_FEEDBACK);
  expect(aggregateHotStandby([{ timestamp: 9n, xmin: 0n, catalogXmin: 0n }])).toBe(NO_HOT_STANDBY_FEEDBACK);
});

// Aim: the merge is the definition and knows no order. Method: filter and sort instead of a loop.
test("the merge equals the sorted minimum in any order", () => {
  const id = fc.bigInt({ min: 0n, max: 5n });
  const feedback = fc.record({ timestamp: fc.bigInt({ min: 0n, max: 9n }), xmin: id, catalogXmin: id });
  const list = fc.array(feedback, { maxLength: 8, size: "max" });
  const smallest = (values: bigint[]): bigint =>
    values.filter((value) => value !== 0n).sort((a, b) => (a < b ? -1 : 1))[0] ?? 0n;
  fc.assert(
    fc.property(list, (all) => {
      const merged = aggregateHotStandby(all);
      expect(merged.xmin).toBe(smallest(all.map((one) => one.xmin)));
      expect(merged.catalogXmin).toBe(smallest(all.map((one) => one.catalogXmin)));
      expect(aggregateHotStandby([...all].reverse())).toEqual(merged);
    }),
  );
});

/**
 * The state word: its fields do not touch each other, and it survives Atomics on signed words.
 */
import fc from "fast-check";
import { expect, test } from "vitest";

import {
  FLAGS_MASK,
  packState,
  REFCOUNT_MASK,
  refcountOf,
  STATE,
  USAGE_MAX,
  usageOf,
} from "../src/buffer-state.js";

const flags = Object.values(STATE);

test("counts and flags come back as they were packed, also with the top bit set and through a compare-exchange", () => {
  const refcounts = fc.oneof(
    fc.integer({ min: 0, max: REFCOUNT_MASK }),
    fc.constantFrom(0, 1, REFCOUNT_MASK),
  );
  fc.assert(
    fc.property(
      refcounts,
      fc.integer({ min: 0, max: USAGE_MAX }),
      fc.subarray(flags),
      (refcount, usage, set) => {
        const all = set.reduce((sum, flag) => sum | flag, 0);
        const state = packState(refcount, usage, all);
        const words = new Int32Array(new SharedArrayBuffer(4));
        expect(Atomics.compareExchange(words, 0, 0, state)).toBe(0);
        const loaded = Atomics.load(words, 0);
        expect(loaded).toBe(state);
        expect([refcountOf(loaded), usageOf(loaded)]).toEqual([refcount, usage]);
        for (const flag of flags) expect((loaded & flag) !== 0).toBe(set.includes(flag));
      },
    ),
  );
});

test("flags are single bits that do not overlap the counts", () => {
  expect(new Set(flags).size).toBe(10);
  expect(packState(REFCOUNT_MASK, USAGE_MAX, 0) & (FLAGS_MASK | STATE.locked)).toBe(0);
  expect(FLAGS_MASK & STATE.locked).toBe(0);
  expect(STATE.permanent).toBeLessThan(0);
});

test("a count that does not fit is refused", () => {
  for (const refcount of [-1, REFCOUNT_MASK + 1, 0.5])
    expect(() => packState(refcount, 0, 0)).toThrow(RangeError);
  for (const usage of [-1, USAGE_MAX + 1]) expect(() => packState(0, usage, 0)).toThrow(RangeError);
});

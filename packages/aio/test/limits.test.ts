/** The numbers behind settings: PostgreSQL's formulas, and what is out of range. */
import { describe, expect, test } from "vitest";

import { COMBINE_MAX, CONCURRENCY_MAX } from "../src/layout.js";
import { autoConcurrency, checkCombine, checkConcurrency, CombineLimit } from "../src/limits.js";

describe("automatic concurrency", () => {
  // Values as PostgreSQL 18 shows them for shared_buffers and max_backends.
  test.each([
    [16_384, 136, 64],
    [4096, 136, 23],
    [128, 136, 1],
    [1_048_576, 136, 64],
    [8192, 100, 59],
  ])("%i buffers and %i backends give %i handles each", (buffers, backends, handles) => {
    expect(autoConcurrency(buffers, backends)).toBe(handles);
  });

  test("refuses what is not a count", () => {
    for (const count of [0, -1, 1.5, Number.NaN]) {
      expect(() => autoConcurrency(count, 1)).toThrow(RangeError);
      expect(() => autoConcurrency(1, count)).toThrow(RangeError);
    }
  });
});

test("a backend has from 1 to 1024 handles; 0 does not mean unlimited", () => {
  expect([checkConcurrency(1), checkConcurrency(CONCURRENCY_MAX)]).toEqual([1, 1024]);
  for (const count of [0, -1, CONCURRENCY_MAX + 1, 1.5, Number.NaN]) {
    expect(() => checkConcurrency(count)).toThrow(RangeError);
  }
});

describe("the combine limit of a session", () => {
  // Aim: a session sees what it asked for, and gets what the system allows.
  test("is shown as asked for and has effect up to the system's", () => {
    const limit = new CombineLimit(16);
    expect([limit.asked, limit.effective]).toEqual([16, 16]);
    limit.set(32);
    expect([limit.asked, limit.effective]).toEqual([32, 16]);
    limit.set(4);
    expect([limit.asked, limit.effective]).toEqual([4, 4]);
    expect(new CombineLimit(COMBINE_MAX, 128).effective).toBe(128);
  });

  test("is from 1 to 128 blocks; a refused one changes nothing", () => {
    const limit = new CombineLimit(16, 8);
    for (const blocks of [0, -1, COMBINE_MAX + 1, 1.5, Number.NaN]) {
      expect(() => limit.set(blocks)).toThrow(RangeError);
      expect(() => checkCombine(blocks)).toThrow(RangeError);
      expect(() => new CombineLimit(blocks)).toThrow(RangeError);
    }
    expect(limit.asked).toBe(8);
  });
});

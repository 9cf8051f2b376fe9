/** Results in two words: the layout of PostgreSQL 18, its limits, and nothing lost on the way. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  copyResult,
  createIoResult,
  packResult,
  RESULT_ERROR_MAX,
  RESULT_STATUS,
  unpackResult,
} from "../src/result.js";
import type { IoResult, IoStatus } from "../src/result.js";

const STATUSES = Object.keys(RESULT_STATUS) as IoStatus[];

describe("the packed word", () => {
  // Aim: dumps mean what PostgreSQL's mean. Method: words computed by hand, id + status * 64 + error * 512.
  test("has the id in 6 bits, the status in 3, the error in 23", () => {
    expect(packResult({ callback: 2, status: "error", error: 5, result: 0 })).toBe(2818);
    expect(packResult({ callback: 1, status: "partial", error: 0, result: 9 })).toBe(129);
    const most: IoResult = { callback: 63, status: "error", error: RESULT_ERROR_MAX, result: -1 };
    expect(packResult(most) >>> 0).toBe(0xffff_ff3f);
  });

  // Aim: what does not fit is refused, not cut. Method: each field just beyond its limit, and a status from nowhere.
  test("refuses what does not fit", () => {
    const fine: IoResult = { callback: 1, status: "ok", error: 0, result: 0 };
    for (const callback of [64, -1, 0.5]) {
      expect(() => packResult({ ...fine, callback })).toThrow(RangeError);
    }
    for (const error of [RESULT_ERROR_MAX + 1, -1, 0.5]) {
      expect(() => packResult({ ...fine, error })).toThrow(RangeError);
    }
    expect(() => packResult({ ...fine, status: "status7" as IoStatus })).toThrow("not a status");
    expect(() => unpackResult(63 | (7 << 6), 0, createIoResult())).toThrow("not a packed result");
  });

  // Aim: nothing is lost. Method: ten thousand random results through a word of an Int32Array and back.
  test("gives back every result", () => {
    const results = fc.record({
      callback: fc.nat(63),
      status: fc.constantFrom(...STATUSES),
      error: fc.oneof(fc.nat(RESULT_ERROR_MAX), fc.constant(RESULT_ERROR_MAX)),
      result: fc.integer(),
    });
    fc.assert(
      fc.property(results, (result) => {
        const words = Int32Array.of(packResult(result), result.result);
        expect(unpackResult(words[0] as number, words[1] as number, createIoResult())).toEqual(result);
      }),
      { numRuns: 10_000 },
    );
  });
});

test("a copied result is the caller's own", () => {
  const source: IoResult = { callback: 3, status: "warning", error: 4, result: 5 };
  const target = copyResult(source, createIoResult());
  expect(target).toEqual(source);
  source.error = 6;
  expect(target.error).toBe(4);
});

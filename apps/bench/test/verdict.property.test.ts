import fc from "fast-check";
import { expect, test } from "vitest";
import { isVoid, ratioOf, VOID_SPREAD, verdictOf } from "../src/verdict.js";
import type { Bound, Case } from "../src/verdict.js";

const rate = fc.double({ min: 0.01, max: 1e6, noNaN: true });
const bound: fc.Arbitrary<Bound | undefined> = fc.option(
  fc.record({ ratio: rate, rate }, { requiredKeys: [] }),
  { nil: undefined },
);
const anyCase: fc.Arbitrary<Case> = fc.record({
  ratio: rate,
  rate,
  gate: bound,
  goal: bound,
  isVoid: fc.boolean(),
  quick: fc.boolean(),
});

// Aim: only a missed gate fails, and neither a smoke run nor a wobbling reference does. Method: all combinations of
// figures and bounds, the verdict compared with the sentence that defines it.
test("FAIL means a judged row below its gate, and nothing else", () => {
  fc.assert(
    fc.property(anyCase, (one) => {
      const misses = (wanted: Bound | undefined): boolean =>
        one.ratio < (wanted?.ratio ?? 0) || one.rate < (wanted?.rate ?? 0);
      const isJudged = !one.quick && !one.isVoid;
      expect(verdictOf(one) === "FAIL").toBe(isJudged && misses(one.gate));
      expect(verdictOf(one) === "below goal").toBe(isJudged && !misses(one.gate) && misses(one.goal));
      if (one.quick) expect(verdictOf(one)).toBe("smoke");
      if (!one.quick && one.isVoid) expect(verdictOf(one)).toBe("inconclusive");
    }),
    { numRuns: 500 },
  );
});

// Aim: a better candidate never gets a worse verdict. Method: the same row with a higher ratio and rate.
test("a verdict does not get worse when the candidate gets better", () => {
  const order = ["FAIL", "below goal", "measured", "pass"];
  fc.assert(
    fc.property(anyCase, fc.double({ min: 1, max: 10, noNaN: true }), (one, factor) => {
      const better = { ...one, ratio: one.ratio * factor, rate: one.rate * factor };
      expect(order.indexOf(verdictOf(better))).toBeGreaterThanOrEqual(order.indexOf(verdictOf(one)));
    }),
  );
});

// Aim: the void rule compares the extremes and nothing else. Method: references with a known spread in any order.
test("a reference is void exactly when its extremes are more than the limit apart", () => {
  const inside = fc.array(fc.double({ min: 1, max: VOID_SPREAD, noNaN: true }), {
    size: "max",
    maxLength: 30,
  });
  fc.assert(
    fc.property(inside, rate, (factors, base) => {
      const steady = [1, ...factors];
      expect(isVoid(steady.map((factor) => factor * base))).toBe(false);
      expect(isVoid([...steady, VOID_SPREAD * 1.01].map((factor) => factor * base))).toBe(true);
    }),
  );
});

// Aim: rounds are compared pairwise. Method: a machine that slows both sides of a round by the same factor.
test("what slows both sides of a round down leaves the ratios alone", () => {
  const rounds = fc.array(fc.tuple(rate, fc.double({ min: 0.1, max: 1, noNaN: true })), {
    minLength: 1,
    maxLength: 20,
    size: "max",
  });
  fc.assert(
    fc.property(rounds, fc.double({ min: 0.5, max: 5, noNaN: true }), (list, times) => {
      const reference = list.map(([base, slowed]) => base * slowed);
      const candidate = list.map(([base, slowed]) => base * slowed * times);
      const ratio = ratioOf(reference, candidate, "median");
      for (const found of [ratio.median, ratio.min, ratio.max, ratio.judged])
        expect(found).toBeCloseTo(times, 6);
    }),
  );
});

// Aim: best-of judging takes each side's best round. Method: an example where the median says otherwise.
test("best compares the best rounds, median the rounds' ratios", () => {
  const [reference, candidate] = [
    [10, 8, 5],
    [20, 10, 4],
  ];
  expect(ratioOf(reference ?? [], candidate ?? [], "best")).toEqual({
    median: 1.25,
    min: 0.8,
    max: 2,
    judged: 2,
  });
  expect(ratioOf(reference ?? [], candidate ?? [], "median").judged).toBe(1.25);
  expect(() => ratioOf([1], [1, 2], "median")).toThrow(RangeError);
});

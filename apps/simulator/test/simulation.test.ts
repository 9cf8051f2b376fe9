/**
 * The simulator's own verdict over five hundred seeds, and that a seed decides everything.
 */
import { expect, test } from "vitest";
import { describeFailure, describeSet, isGood } from "../src/report.js";
import { runSeed, runSeeds } from "../src/runner.js";

/** A loaded machine may need several times the usual half a minute. */
const SET_TIMEOUT_MS = 600_000;

// Aim: no invariant is violated, and enough happened for that to mean something. Method: 500 schedules; the report says
// what was reached, each threshold missed fails the test as a violation does.
test(
  "five hundred seeds with competing proposers on 3 and on 5 acceptors violate nothing and reach enough",
  async () => {
    const set = await runSeeds({ firstSeed: 1, seeds: 500 });
    expect(set.failures.flatMap(describeFailure)).toEqual([]);
    expect(set.unrepeatable).toEqual([]);
    expect(set.totals.rows().filter(({ isReached }) => !isReached)).toEqual([]);
    expect(isGood(set)).toBe(true);
    expect(describeSet(set).join("\n")).toContain("500 seeds");
  },
  SET_TIMEOUT_MS,
);

// Aim: a run depends on its seed alone. Method: the same seed, traced and not, gives one hash; another seed another.
test("a seed replays by its number, traced or not", async () => {
  const lines: string[] = [];
  const first = await runSeed(17);
  const second = await runSeed(17, (line) => lines.push(line));
  const other = await runSeed(18);
  expect(second.traceHash).toBe(first.traceHash);
  expect(lines).toHaveLength(first.traceEntries);
  expect(other.traceHash).not.toBe(first.traceHash);
});

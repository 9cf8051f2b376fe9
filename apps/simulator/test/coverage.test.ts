/**
 * A set of runs that reached too little fails, and says what was missing.
 */
import { expect, test } from "vitest";
import { Coverage, CoverageTotals } from "../src/coverage.js";
import { FAULT_KINDS, makePlan } from "../src/plan.js";
import { describeFailure, describePlan, describeSet, isGood } from "../src/report.js";
import { runSeed } from "../src/runner.js";
import type { SetResult } from "../src/runner.js";

function setOf(totals: CoverageTotals, change: Partial<SetResult> = {}): SetResult {
  return {
    runs: 300,
    events: 1,
    totals,
    failures: [],
    unrepeatable: [],
    slowestRecoveryMs: 1,
    ...change,
  };
}

/** A hundred runs; in `commits` of them something was committed, and everything else happened in all. */
function totalsWith(commits: number): CoverageTotals {
  const totals = new CoverageTotals();
  for (let index = 0; index < 100; index += 1) {
    const run = new Coverage();
    for (const event of [
      "election",
      "election",
      "divergent-tail-cut",
      "recovery",
      "reader-bytes",
      "term-reader-bytes",
      "reader-lost-term",
      "donor-feed",
      "catch-up",
      "divergence-found",
      "stale-append",
      "peer-commit",
      "segment-crossed",
      "membership-change",
      "controller-crash",
      "sync-finished",
      "refused-start",
      "disk-full-refusal",
      "files",
      "generations",
      "liveness-checked",
      "competing-proposers",
      "three-acceptors",
      "five-acceptors",
      ...FAULT_KINDS,
    ] as const) {
      run.count(event);
    }
    if (index < commits) run.count("commit");
    totals.add(run);
  }
  return totals;
}

// Aim: a threshold is a threshold. Method: one run more or less around the least share of runs with a commit.
test("a set fails as soon as one threshold is missed", () => {
  expect(isGood(setOf(totalsWith(60)))).toBe(true);
  const short = setOf(totalsWith(59));
  expect(isGood(short)).toBe(false);
  expect(describeSet(short).filter((line) => line.includes("TOO FEW"))).toHaveLength(1);
  expect(isGood({ ...short, runs: 299 })).toBe(true); // too few to say
  expect(isGood(setOf(totalsWith(60), { unrepeatable: [7] }))).toBe(false);
});

test("a report names the seed, its schedule and what became of it", async () => {
  const result = await runSeed(3);
  expect(describeFailure(result).join("\n")).toContain("seed 3: nothing was violated");
  const plan = describePlan(makePlan(3));
  expect(plan).toHaveLength(2 + makePlan(3).faults.length);
  const violation = { invariant: "I2 LogSafety", detail: "other bytes", atMs: 12 } as const;
  expect(describeFailure({ ...result, violation })[0]).toBe("seed 3 violates I2 LogSafety at 12.000 ms:");
});

/**
 * Wrong cores are found, and found faults are told briefly. The full list runs by `npm run simulate -- --mutations`.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { MUTATIONS } from "../src/mutations/list.js";
import { applyPatches, buildMutant } from "../src/mutations/mutant.js";

const root = join(import.meta.dirname, "../../..");
/** Building a simulator and running some dozen seeds, on a machine that does much else. */
const TIMEOUT_MS = 120_000;

// Aim: no mutation goes stale when the code under it changes. Method: every snippet is looked up in today's sources.
test.each(MUTATIONS.map((mutation) => [mutation.name, mutation] as const))(
  "the snippets of %s exist once",
  (_, mutation) => {
    for (const file of new Set(mutation.patches.map((patch) => patch.file))) {
      const patches = mutation.patches.filter((patch) => patch.file === file);
      const text = readFileSync(join(root, file), "utf8");
      expect(applyPatches(text, patches, mutation.name)).not.toBe(text);
    }
  },
);

test("a snippet that is missing or ambiguous is refused", () => {
  const patch = { file: "a.ts", find: "x", replace: "y" };
  expect(() => applyPatches("z", [patch], "none")).toThrow("0 times instead of once");
  expect(() => applyPatches("xx", [patch], "two")).toThrow("2 times instead of once");
});

test("there are at least twenty-five mutations, each under its own name", () => {
  expect(new Set(MUTATIONS.map(({ name }) => name)).size).toBe(MUTATIONS.length);
  expect(MUTATIONS.length).toBeGreaterThanOrEqual(25);
});

// Aim: the simulator sees what it is there for. Method: one wrong acceptor, wrong senders, one wrong store on files, one
// wrong proposer and one wrong rule of both, run until found.
test.each([
  ["acknowledge-before-sync", /^I(3|13) /],
  ["reader-beyond-commit", /^I13 /],
  ["reader-term-checked-before-read", /^I13 /],
  ["control-file-without-directory-sync", /^I[34] /],
  ["log-without-o-dsync", /^I3 /],
  ["adopt-first-voter", /^I2 /],
  ["joint-by-old-members", /^I1[12] /],
])(
  "the mutation %s is found as %s",
  async (name, invariants) => {
    const mutation = MUTATIONS.find((candidate) => candidate.name === name);
    if (mutation === undefined) throw new Error(`no mutation ${name}`);
    const mutant = await buildMutant(mutation);
    const { failures } = await mutant.runSeeds({ firstSeed: 1, seeds: 300, stopAtFailure: true });
    expect(failures[0]?.violation?.invariant).toMatch(invariants);
  },
  TIMEOUT_MS,
);

// Aim: a failing schedule gets shorter and stays failing. Method: a wrong core's first failure with several faults is
// shortened, and the result, run again, violates the same.
test(
  "a failing schedule is shortened to one that still fails",
  async () => {
    const mutation = MUTATIONS.find(({ name }) => name === "commit-below-term-start");
    if (mutation === undefined) throw new Error("mutation renamed");
    const mutant = await buildMutant(mutation);
    const { failures } = await mutant.runSeeds({ firstSeed: 1, seeds: 100 });
    const failure = failures.find(({ plan }) => plan.faults.length > 3);
    if (failure === undefined) throw new Error("no failure with several faults");
    const { result, attempts } = await mutant.shorten(failure);
    expect(attempts).toBeGreaterThan(0);
    expect(result.plan.faults.length).toBeLessThan(failure.plan.faults.length);
    expect(result.violation?.invariant).toBe(failure.violation?.invariant);
    const again = await mutant.runSeed(failure.plan.seed, undefined, () => result.plan);
    expect(again.traceHash).toBe(result.traceHash);
  },
  TIMEOUT_MS,
);

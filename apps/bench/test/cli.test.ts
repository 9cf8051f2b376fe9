import { readFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "@millrace/postgres-process";
import { expect, test } from "vitest";
import { runBench } from "../src/cli.js";
import { contest } from "../src/contest.js";
import { BenchError } from "../src/errors.js";
import type { Results } from "../src/results.js";
import type { Suite } from "../src/suite.js";
import { SUITES } from "../src/suites/all.js";

interface Captured {
  readonly code: number;
  readonly printed: string;
  readonly progress: string;
}

async function bench(argv: readonly string[], suites: readonly Suite[]): Promise<Captured> {
  const [printed, progress]: [string[], string[]] = [[], []];
  const code = await runBench(argv, suites, {
    print: (line) => printed.push(line),
    progress: (line) => progress.push(line),
  });
  return { code, printed: printed.join("\n"), progress: progress.join("\n") };
}

/** A suite of one row whose candidate has a given rate against a reference of 10. */
function fixedSuite(name: string, rate: number): Suite {
  return {
    name,
    question: `is ${name} fast?`,
    async run({ rounds, quick }) {
      const side = (of: string, value: number) => ({
        name: of,
        command: of,
        run: () => [{ rate: value, checksum: "beef", details: { p99Ms: 2 } }],
      });
      const rows = await contest({
        contestants: [side("old", 10), side("new", rate)],
        rows: [
          {
            id: "G0",
            name: `row of ${name}`,
            question: "how fast?",
            unit: "1/s",
            reference: "old",
            candidate: "new",
            judge: "median",
            gate: { ratio: 1 },
            cache: "none",
          },
        ],
        rounds,
        quick,
      });
      return { method: ["by hand"], rows };
    },
  };
}

// Aim: no benchmark rots. Method: every suite there is, in its smoke size, through the program's own code, against a
// real PostgreSQL and the built server; each row must say what it did.
test("every suite runs in its smoke size and states its rows", { timeout: 240_000 }, async () => {
  await using directory = await temporaryDirectory("bench-");
  const file = join(directory.path, "results", "quick.json");
  const { code, printed } = await bench(["--quick", "--json", file, "--directory", directory.path], SUITES);
  expect(code).toBe(0);
  const results = JSON.parse(readFileSync(file, "utf8")) as Results;
  expect(results.machine).toMatchObject({ node: process.version });
  expect(results.suites.map(({ name }) => name)).toEqual(SUITES.map(({ name }) => name));
  for (const suite of results.suites) {
    if (suite.skipped === undefined) expect(suite.rows.length).toBeGreaterThan(0);
    for (const row of suite.rows) {
      expect(row.verdict).toBe("smoke");
      expect(row.checksum).not.toBe("");
      expect(row.question).toMatch(/\?$/);
      expect(row.reference.rounds).toHaveLength(1);
      expect(row.ratio.median).toBeGreaterThan(0);
      expect(printed).toContain(row.name);
    }
  }
});

// Aim: CI can tell a missed gate. Method: a suite that misses its gate, with and without --quick.
test("a missed gate is exit code 1, but not in a smoke run", async () => {
  const suites = [fixedSuite("good", 20), fixedSuite("bad", 5)];
  const failed = await bench([], suites);
  expect(failed.code).toBe(1);
  expect(failed.printed).toMatch(/gate missed: bad: row of bad$/);
  expect(failed.printed).toContain("checksum beef");
  expect((await bench(["good"], suites)).code).toBe(0);
  expect((await bench(["--quick"], suites)).code).toBe(0);
});

// Aim: what was measured is not lost by what fails later. Method: a second suite that throws; the file of the first.
test("results are written after every suite", async () => {
  await using directory = await temporaryDirectory("bench-");
  const file = join(directory.path, "results.json");
  const broken: Suite = {
    name: "broken",
    question: "?",
    run: () => Promise.reject(new BenchError("ERR_BENCH_PROGRAM", "gone")),
  };
  await expect(bench(["--json", file], [fixedSuite("good", 20), broken])).rejects.toMatchObject({
    code: "ERR_BENCH_PROGRAM",
  });
  const { suites } = JSON.parse(readFileSync(file, "utf8")) as Results;
  expect(suites).toMatchObject([{ name: "good", rows: [{ id: "G0", verdict: "pass", unit: "1/s" }] }]);
});

// Aim: a wrong command line runs nothing. Method: an unknown suite; the help.
test("usage goes to where it belongs", async () => {
  const wrong = await bench(["nothing"], [fixedSuite("good", 20)]);
  expect(wrong).toMatchObject({ code: 64, printed: "" });
  expect(wrong.progress).toContain("no suite is named nothing");
  const help = await bench(["--help"], [fixedSuite("good", 20)]);
  expect(help).toMatchObject({ code: 0, progress: "" });
  expect(help.printed).toContain("is good fast?");
});

/**
 * The figures in READMEs are those of the results files.
 */
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const script = join(root, "scripts", "readme-numbers.mjs");
const work = mkdtempSync(join(tmpdir(), "readme-numbers-"));
afterAll(() => rmSync(work, { recursive: true, force: true }));

function run(...args: string[]): { code: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [script, ...args], { encoding: "utf8" });
  return { code: status, output: stdout + stderr };
}

const side = (name: string, median: number): object => ({
  name,
  command: name,
  median,
  min: median,
  max: median * 2,
  rounds: [median, median],
  details: { p99Ms: 2.5 },
});

/** A results file with one row in the suite `s`. */
function results(date: string, rate: number, verdict = "pass"): string {
  const row = {
    id: "G0",
    name: "a row",
    question: "how fast?",
    unit: "1/s",
    judge: "median",
    reference: side("old", 1000),
    candidate: side("new", rate),
    ratio: { median: rate / 1000, min: 0.5, max: 12.3, judged: rate / 1000 },
    gate: { ratio: 1 },
    goal: { ratio: 2, rate: 5 },
    verdict,
    tries: 1,
    checksum: "c",
    cache: "none",
  };
  const machine = {
    cpu: "CPU",
    cores: 2,
    memoryBytes: 2 ** 34,
    kernel: "Linux 6",
    fileSystem: "ext4",
    device: "/dev/vda",
    node: "v20.0.0",
    date,
    commit: "abc",
  };
  return JSON.stringify({
    machine,
    suites: [{ name: "s", question: "Is it fast?", method: ["by hand"], rows: [row] }],
  });
}

/** A small repository with one README. */
function repository(name: string, readme: string, files: Readonly<Record<string, string>>): string {
  const directory = join(work, name);
  mkdirSync(join(directory, "apps", "bench", "results"), { recursive: true });
  cpSync(join(root, ".prettierrc.json"), join(directory, ".prettierrc.json"));
  writeFileSync(join(directory, "README.md"), readme);
  for (const [file, text] of Object.entries(files)) {
    writeFileSync(join(directory, "apps", "bench", "results", file), text);
  }
  return directory;
}

const EMPTY = "# x\n\n<!-- bench:s -->\n<!-- /bench:s -->\n\nThe rest.\n";

// Aim: this repository claims nothing that was not measured. Method: the script's own check.
test("every README's figures are those of the newest results", () => {
  expect(run("--check")).toEqual({ code: 0, output: "" });
});

// Aim: the newest results are pasted, once. Method: two results files; paste, check, paste again, change a figure.
test("tables come from the newest file and stay as they are", () => {
  const directory = repository("newest", EMPTY, {
    "b.json": results("2030-01-01T00:00:00Z", 1234.5),
    "a.json": results("2030-01-02T00:00:00Z", 1700),
  });
  const file = join(directory, "README.md");
  expect(run("--check", "--root", directory)).toMatchObject({ code: 1 });
  expect(run("--root", directory)).toEqual({ code: 0, output: "README.md: written\n" });
  const pasted = readFileSync(file, "utf8");
  expect(pasted).toMatch(/\| new: 1,700 1\/s, p99 2\.50 ms\s+\| old: 1,000 1\/s, p99 2\.50 ms\s+\|/);
  expect(pasted).toMatch(/\*\*1\.70x\*\* \(0\.50x to 12\.3x\)\s+\| 1\.00x; 2\.00x and 5\.00 1\/s \| pass/);
  expect(pasted).toContain("[2030-01-02](apps/bench/results/a.json)");
  expect(pasted).toMatch(/<!-- \/bench:s -->\n\nThe rest\.\n$/);
  expect(run("--check", "--root", directory)).toEqual({ code: 0, output: "" });
  writeFileSync(file, pasted.replace("1.70x", "2.70x"));
  expect(run("--check", "--root", directory)).toMatchObject({ code: 1 });
  expect(run("--root", directory)).toMatchObject({ code: 0 });
  expect(readFileSync(file, "utf8")).toBe(pasted);
});

// Aim: no table without a file, none from a smoke run. Method: an unknown suite, and results without a verdict.
test("unknown suites and smoke runs are refused", () => {
  const unknown = repository("unknown", EMPTY, {});
  expect(run("--root", unknown)).toMatchObject({ code: 1, output: expect.stringContaining("suite s") });
  const smoke = repository("smoke", EMPTY, { "a.json": results("2030-01-01T00:00:00Z", 1, "smoke") });
  expect(run("--root", smoke)).toMatchObject({ code: 1, output: expect.stringContaining("smoke run") });
});

import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { temporaryDirectory } from "@millrace/postgres-process";
import { expect, test } from "vitest";
import { parseFio } from "../src/fio.js";
import { reserveHugePages } from "../src/huge-pages.js";
import type { Results } from "../src/results.js";
import { benchProgram } from "../src/repository.js";

const run = promisify(execFile);

function fioOutput(job: object): string {
  const side = { total_ios: 0, iops: 0 };
  const base = { error: 0, usr_cpu: 20, sys_cpu: 30, read: side, write: side };
  return JSON.stringify({ "fio version": "fio-3.33", jobs: [{ ...base, ...job }] });
}

// Aim: fio's figures get into the right places. Method: its JSON with known numbers, behind a note as fio prints them.
test("rate, processor time and latencies come out of fio's JSON", () => {
  const read = {
    total_ios: 120,
    iops: 60_000,
    clat_ns: { percentile: { "50.000000": 90_000, "99.000000": 250_000 } },
  };
  const [rate, perCore] = parseFio(`note: both iodepth >= 1\n${fioOutput({ read })}`);
  expect(rate).toEqual({
    rate: 60_000,
    checksum: "120 I/Os",
    details: { p50Us: 90, p99Us: 250, perCoreSecond: 120_000 },
  });
  expect(perCore).toMatchObject({ rate: 120_000, details: { coresUsed: 0.5 } });
});

// Aim: jobs that write, and those without clocks. Method: figures on the other side, and no percentiles.
test("the side that did something is the job's, with or without latencies", () => {
  const [rate] = parseFio(fioOutput({ write: { total_ios: 7, iops: 3.5 } }));
  expect(rate).toMatchObject({ rate: 3.5, checksum: "7 I/Os" });
  expect(Object.keys(rate?.details ?? {})).toEqual(["perCoreSecond"]);
});

// Aim: nothing is measured that failed. Method: a job with an errno, no job, and no JSON.
test("a job that failed is an error", () => {
  for (const output of [fioOutput({ error: 22 }), "{}", "fio: bad option", ""]) {
    expect(() => parseFio(output)).toThrow(expect.objectContaining({ code: "ERR_BENCH_PROGRAM" }));
  }
});

// Aim: the machine's setting is changed by nobody who may not. Method: the setting before and after.
test("huge pages are only reserved where that is allowed", () => {
  const setting = (): string => {
    try {
      return readFileSync("/proc/sys/vm/nr_hugepages", "utf8");
    } catch {
      return "none";
    }
  };
  const before = setting();
  using reservation = reserveHugePages(false);
  expect(setting()).toBe(before);
  expect(reservation.refused === undefined || reservation.refused.length > 0).toBe(true);
});

// Aim: both suites say something without fio and without the native part. Method: the program with an empty PATH.
test(
  "block I/O is measured as far as it goes, and what is missing is said",
  { timeout: 60_000 },
  async () => {
    await using directory = await temporaryDirectory("bench-");
    const file = join(directory.path, "results.json");
    const args = [benchProgram(), "aio", "memory", "--quick", "--json", file, "--directory", directory.path];
    const { stdout } = await run(process.execPath, args, { env: { PATH: "", MILLRACE_NATIVE: "0" } });
    expect(stdout).toContain("fio is not installed");
    expect(stdout).toContain("no io_uring here");
    const { suites } = JSON.parse(readFileSync(file, "utf8")) as Results;
    const [memory, aio] = suites;
    expect(aio?.rows.map(({ name }) => name)).toEqual(["the life of a handle around a system call"]);
    expect(aio?.skipped).toContain("G10 random 8 KiB reads by 4 worker threads");
    expect(new Set(memory?.rows.map(({ id }) => id))).toEqual(new Set(["M2", "M3", "M4"]));
  },
);

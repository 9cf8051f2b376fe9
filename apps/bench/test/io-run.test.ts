import { openSync, closeSync, writeSync } from "node:fs";
import { join } from "node:path";
import { temporaryDirectory } from "@millrace/postgres-process";
import { expect, test } from "vitest";
import { runGroups } from "../src/available.js";
import type { MaybeContestant } from "../src/available.js";
import type { RowSpec } from "../src/contest.js";
import { doIoRun } from "../src/io-run-child.js";
import { IO_RUN_DEFAULTS, ioRunCommand, runIoProcess, samplesOfRun } from "../src/io-run.js";
import type { IoDriver, IoRunSpec } from "../src/io-run.js";
import { NUMBERED_PAGE_BYTES, warmPageCache, writeNumberedFile } from "../src/numbered-file.js";

const FILE_BYTES = 4 * 1024 * 1024;

/** A run that needs no ring and no direct I/O. */
function specOf(driver: IoDriver, path: string): IoRunSpec {
  return {
    ...IO_RUN_DEFAULTS,
    driver,
    path,
    fileBytes: FILE_BYTES,
    queueDepth: 2,
    direct: false,
    method: "worker",
    warmUpMs: 1,
    timedMs: 1,
  };
}

// Aim: every driver counts I/Os and takes their time. Method: each once, in this process.
test.each(["raw", "promise", "fs-promises", "log", "fs-promises-log"] as const)(
  "a run of %s",
  async (driver) => {
    await using directory = await temporaryDirectory("bench-");
    const path = join(directory.path, "blocks");
    writeNumberedFile(path, FILE_BYTES);
    warmPageCache(path);
    const outcome = await doIoRun(specOf(driver, path));
    expect(outcome.operations).toBeGreaterThan(0);
    expect(outcome.p99Us).toBeGreaterThanOrEqual(outcome.p50Us ?? Number.POSITIVE_INFINITY);
    expect(outcome.checksum).toMatch(/^[0-9a-f]{8}$/);
    const [rate, perCore] = samplesOfRun(outcome);
    expect(rate?.rate).toBeCloseTo(outcome.operations / outcome.seconds, 6);
    expect(perCore?.rate).toBeCloseTo(
      (rate?.rate ?? 0) / Math.max(0.001, outcome.cpuSeconds / outcome.seconds),
      6,
    );
  },
);

// Aim: a read of the wrong page is noticed. Method: one page number of each block is spoilt before the run.
test("a page that is not the one asked for ends the run", async () => {
  await using directory = await temporaryDirectory("bench-");
  const path = join(directory.path, "blocks");
  writeNumberedFile(path, FILE_BYTES);
  const fd = openSync(path, "r+");
  for (let at = 0; at < FILE_BYTES; at += NUMBERED_PAGE_BYTES) writeSync(fd, Buffer.alloc(4, 0xee), 0, 4, at);
  closeSync(fd);
  await expect(doIoRun(specOf("fs-promises", path))).rejects.toMatchObject({ code: "ERR_BENCH_WORK" });
});

// Aim: a run that cannot be done says what it was. Method: a file that is not there, in a process of its own.
test("a run that fails in its process is an error with its command", async () => {
  const spec = specOf("fs-promises", "/nowhere/blocks");
  const failure = runIoProcess(spec);
  await expect(failure).rejects.toMatchObject({ code: "ERR_BENCH_PROGRAM" });
  await expect(failure).rejects.toThrow(ioRunCommand(spec));
});

// Aim: what is missing leaves out its rows, not the others. Method: three contestants, one of which is not there.
test("rows of a missing contestant are skipped with its reason", async () => {
  const ran: string[] = [];
  const side = (name: string, missing?: string): MaybeContestant => ({
    name,
    command: name,
    missing,
    run() {
      ran.push(name);
      return [{ rate: 1, checksum: "c" }];
    },
  });
  const spec = (name: string, reference: string): RowSpec => ({
    id: "G0",
    name,
    question: "which?",
    unit: "1/s",
    reference,
    candidate: "new",
    judge: "median",
    cache: "none",
  });
  const context = { quick: true, rounds: 1, directory: "", log: () => undefined };
  const { rows, skipped } = await runGroups(context, [
    {
      contestants: [side("old", "old is not installed"), side("other"), side("idle"), side("new")],
      rows: [spec("against old", "old"), spec("against other", "other")],
    },
  ]);
  expect(rows.map(({ name }) => name)).toEqual(["against other"]);
  expect(skipped).toEqual(["old is not installed: G0 against old"]);
  expect(ran).toEqual(["other", "new"]);
});

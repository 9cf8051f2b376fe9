/**
 * The demo's bookkeeping: pauses between commits, lost rows, and the verdict.
 */
import { expect, test } from "vitest";

import { CommitLog } from "../src/demo/commit-log.js";
import { runLoad } from "../src/demo/load.js";
import { allHold, formatReport } from "../src/demo/report.js";

// Aim: the longest pause includes the time before the first and after the last commit.
// Method: three logs whose longest pause is at the start, in the middle and at the end.
test("a pause at the start, in the middle or at the end of the load counts", () => {
  const pause = (times: number[], end: number): number => {
    const log = new CommitLog(1000);
    times.forEach((time, id) => {
      log.acknowledge(id, time);
    });
    log.finish(end);
    return log.longestPauseMs;
  };
  expect(pause([4000, 4100], 4200)).toBe(3000);
  expect(pause([1100, 3600], 3700)).toBe(2500);
  expect(pause([1100, 1200], 3400)).toBe(2200);
  expect(pause([], 6000)).toBe(5000);
});

// Aim: acknowledged rows that are not there are named, rows that nobody acknowledged are not asked for.
// Method: compare with a table that lacks one and has one more.
test("missing rows are the acknowledged ones that the table lacks", () => {
  const log = new CommitLog(0);
  for (const id of [1, 2, 3]) log.acknowledge(id, id);
  expect(log.missingFrom(new Set([1, 3, 4]))).toEqual([2]);
  expect(log.count).toBe(3);
});

// Aim: the verdict follows from the rows alone, and names what failed. Method: all good, one bad, none.
test("the report fails when a row fails or there is none, and names it", () => {
  const good = { name: "commits", figure: "10", ok: true };
  const bad = { name: "WAL of acceptor 2 equals pg_wal", figure: "differs", ok: false };
  expect(allHold([good])).toBe(true);
  expect(allHold([good, bad])).toBe(false);
  expect(allHold([])).toBe(false);
  expect(formatReport([good, bad])).toContain('FAILED: "WAL of acceptor 2 equals pg_wal"');
  expect(formatReport([good])).toContain("All of it holds.");
  expect(formatReport([])).toContain("nothing was proven");
});

// Aim: a load whose connections fail ends the demo instead of proving nothing quietly. Method: a port without listener.
test("a load without a server is an error", async () => {
  const load = runLoad({
    url: "postgresql://u@127.0.0.1:1/db",
    connections: 2,
    log: new CommitLog(0),
    nowMs: () => 0,
    signal: new AbortController().signal,
  });
  await expect(load).rejects.toMatchObject({ code: "ERR_SERVER_DEMO" });
});

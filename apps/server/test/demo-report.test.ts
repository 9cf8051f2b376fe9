/**
 * The demo's bookkeeping: pauses between commits, deaths and returns, lost rows, and the verdict.
 */
import { expect, test } from "vitest";

import { CommitLog } from "../src/demo/commit-log.js";
import { BRIDGE_PAUSE_MAX_MS, loadRows, PAUSE_MAX_MS, POSTGRES_PAUSE_MAX_MS } from "../src/demo/kill-rows.js";
import { runKills, VICTIMS } from "../src/demo/kills.js";
import type { KillOutcome, KillTarget, Victim } from "../src/demo/kills.js";
import { runLoad } from "../src/demo/load.js";
import { allHold, formatReport } from "../src/demo/report.js";

// Aim: the longest pause includes the time before the first and after the last commit.
// Method: four logs whose longest pause is at the start, in the middle, at the end, and all of it.
test("a pause at the start, in the middle or at the end of the load counts", () => {
  const pause = (times: number[], end: number): number => {
    const log = new CommitLog(1000);
    times.forEach((time, id) => {
      log.acknowledge(id, time, time);
    });
    log.finish(end);
    return log.undisturbed.longestPauseMs;
  };
  expect(pause([4000, 4100], 4200)).toBe(3000);
  expect(pause([1100, 3600], 3700)).toBe(2500);
  expect(pause([1100, 1200], 3400)).toBe(2200);
  expect(pause([], 6000)).toBe(5000);
});

// Aim: no pause gets lost between two phases. Method: one that lies across the cut: the earlier phase has its part,
// the later one the whole.
test("a pause across a kill counts whole for the death, and up to it for what was before", () => {
  const log = new CommitLog(0);
  log.acknowledge(1, 0, 100);
  const phase = log.beginPhase(1500);
  log.acknowledge(2, 0, 1800);
  log.finish(1900);
  expect(log.undisturbed.longestPauseMs).toBe(1400);
  expect(phase.longestPauseMs).toBe(1700);
});

// Aim: an answer that was under way at the death, or before the return, proves nothing about what comes after.
// Method: transactions that begin before the death, after it, and after the return.
test("only transactions begun after a death or a return count as coming after it", () => {
  const log = new CommitLog(0);
  const phase = log.beginPhase(1000);
  phase.wentDown(1010);
  log.acknowledge(1, 990, 1020);
  expect(phase.firstCommitAfterMs).toBe(undefined);
  log.acknowledge(2, 1010, 1500);
  phase.cameBack(1600);
  log.acknowledge(3, 1590, 1700);
  expect([phase.firstCommitAfterMs, phase.commits, phase.commitsAfterReturn]).toEqual([500, 3, 0]);
  log.acknowledge(4, 1600, 1800);
  expect([phase.firstCommitAfterMs, phase.commits, phase.commitsAfterReturn]).toEqual([500, 4, 1]);
});

// Aim: acknowledged rows that are not there are named, rows that nobody acknowledged are not asked for.
// Method: compare with a table that lacks one and has one more.
test("missing rows are the acknowledged ones that the table lacks", () => {
  const log = new CommitLog(0);
  for (const id of [1, 2, 3]) log.acknowledge(id, id, id);
  expect(log.missingFrom(new Set([1, 3, 4]))).toEqual([2]);
  expect(log.count).toBe(3);
});

/** A load in which everything goes well, with one thing changed. */
function outcomes(changed: Partial<Record<Victim, Partial<KillOutcome>>> = {}): {
  log: CommitLog;
  kills: KillOutcome[];
} {
  const log = new CommitLog(0);
  log.acknowledge(0, 0, 10);
  const kills: KillOutcome[] = [];
  for (const [index, victim] of VICTIMS.entries()) {
    const killedMs = 1000 * (index + 1);
    log.acknowledge(index * 10 + 1, killedMs - 10, killedMs);
    const phase = log.beginPhase(killedMs);
    phase.wentDown(killedMs + 1);
    phase.cameBack(killedMs + 500);
    log.acknowledge(index * 10 + 2, killedMs + 500, killedMs + 900);
    const outcome = { victim, name: victim, commitsBefore: 2, pid: 10, newPid: 11, awayMs: 500, phase };
    kills.push({ ...outcome, ...changed[victim] });
  }
  log.finish(4000);
  return { log, kills };
}

function failing({ log, kills }: { log: CommitLog; kills: readonly KillOutcome[] }): string[] {
  return loadRows(log, kills).flatMap((row) => (row.ok ? [] : [row.name]));
}

// Aim: a row about a death holds only if the death, the return and commits behind it have happened.
// Method: a load in which all went well, then one thing missing at a time.
test("a death that was not under load, not a death, or had no return fails its row", () => {
  expect(failing(outcomes())).toEqual([]);
  const named = ["bridge killed under load and back"];
  expect(failing(outcomes({ bridge: { commitsBefore: 0 } }))).toEqual(named);
  expect(failing(outcomes({ bridge: { newPid: 10 } }))).toEqual(named);
  expect(failing(outcomes({ bridge: { newPid: undefined, awayMs: undefined } }))).toEqual(named);
  expect(failing(outcomes({ bridge: { pid: undefined } }))).toEqual(named);
  const silent = new CommitLog(0).beginPhase(0);
  expect(failing(outcomes({ bridge: { phase: silent } }))).toEqual(named);
  silent.wentDown(1);
  silent.acknowledge(2, 3);
  silent.cameBack(4);
  expect(failing(outcomes({ bridge: { phase: silent } }))).toEqual(named);
});

// Aim: a death that is missing fails both of its rows, and nothing at all fails every row. Method: leave them out.
test("a death that did not happen fails its rows", () => {
  const { log, kills } = outcomes();
  expect(failing({ log, kills: kills.slice(0, 2) })).toEqual([
    "PostgreSQL killed under load and back",
    "longest time without a commit, PostgreSQL's death",
  ]);
  const nothing = loadRows(new CommitLog(0), []);
  expect(nothing.map(({ ok }) => ok)).toEqual(nothing.map(() => false));
});

// Aim: each death has the bound that belongs to it, and the promise for an acceptor's also holds before the first kill.
// Method: a pause one millisecond above, and one at the bound.
test.each([
  ["acceptor", PAUSE_MAX_MS],
  ["bridge", BRIDGE_PAUSE_MAX_MS],
  ["postgres", POSTGRES_PAUSE_MAX_MS],
] as const)("a pause at the death of the %s is held against its own bound", (victim, boundMs) => {
  const { log, kills } = outcomes();
  const phase = kills.find((outcome) => outcome.victim === victim)?.phase;
  phase?.pause(boundMs);
  expect(failing({ log, kills })).toEqual([]);
  phase?.pause(boundMs + 1);
  expect(failing({ log, kills })).toHaveLength(1);
  const quiet = outcomes();
  quiet.log.undisturbed.pause(boundMs + 1);
  expect(failing(quiet)).toEqual(["longest time without a commit, acceptor's death"]);
});

/** Three parts without processes; each commit is made by hand or by the death before it. */
function series(changed: Partial<Record<Victim, Partial<KillTarget>>> = {}): {
  readonly log: CommitLog;
  readonly killed: string[];
  readonly result: Promise<KillOutcome[]>;
} {
  const log = new CommitLog(0);
  const killed: string[] = [];
  let now = 0;
  let nextId = 0;
  const nowMs = (): number => (now += 1);
  const commit = (): void => {
    nextId += 1;
    log.acknowledge(nextId, nowMs(), nowMs());
  };
  const target = (victim: Victim): KillTarget => {
    let pid = 100;
    return {
      name: victim,
      pid: () => pid,
      kill: () => {
        killed.push(victim);
        pid += 1;
        return Promise.resolve();
      },
      back: () => {
        setImmediate(commit);
        return Promise.resolve();
      },
      ...changed[victim],
    };
  };
  const result = runKills({
    targets: { acceptor: target("acceptor"), bridge: target("bridge"), postgres: target("postgres") },
    log,
    seconds: 10,
    nowMs,
    say: () => undefined,
    delay: () => {
      setImmediate(commit);
      return Promise.resolve();
    },
    onPostgresKill: () => killed.push("told of PostgreSQL"),
  });
  return { log, killed, result };
}

// Aim: one after the other, each behind a commit, with clients told before they lose PostgreSQL.
// Method: parts that come back at once.
test("the three die in order, each after the one before it has recovered", async () => {
  const { log, killed, result } = series();
  const kills = await result;
  log.finish(1000);
  expect(killed).toEqual(["acceptor", "bridge", "told of PostgreSQL", "postgres"]);
  expect(failing({ log, kills })).toEqual([]);
});

// Aim: a part that cannot be killed or does not come back as another process ends the series.
// Method: a bridge whose process stays the same, without a process id.
test("the series ends with the first part that does not recover", async () => {
  const { log, killed, result } = series({ bridge: { pid: () => undefined } });
  const kills = await result;
  log.finish(1000);
  expect(killed).toEqual(["acceptor", "bridge"]);
  expect(failing({ log, kills })).toEqual([
    "bridge killed under load and back",
    "PostgreSQL killed under load and back",
    "longest time without a commit, PostgreSQL's death",
  ]);
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
    killedAtMs: () => undefined,
  });
  await expect(load).rejects.toMatchObject({ code: "ERR_SERVER_DEMO" });
});

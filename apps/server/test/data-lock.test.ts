/**
 * The lock on a data directory: one owner, stale locks taken over, no race that leaves two owners.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { afterEach, beforeEach, expect, test } from "vitest";
import fc from "fast-check";

import { DataLock, systemProcesses } from "../src/data-lock.js";
import type { ProcessTable } from "../src/data-lock.js";
import { ServerError } from "../src/errors.js";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "millrace-lock-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** A machine whose processes are what the test says. */
function machine(): { running: Map<number, string>; as: (pid: number) => ProcessTable } {
  const running = new Map<number, string>();
  return { running, as: (pid) => ({ pid, startTime: (asked) => running.get(asked) }) };
}

function isLocked(run: () => unknown): boolean {
  try {
    run();
    return false;
  } catch (error) {
    expect((error as ServerError).code).toBe("ERR_SERVER_LOCKED");
    return true;
  }
}

// Aim: a running owner keeps others out, and the message says which process. Method: two processes, one directory.
test("a second process is refused while the first runs", () => {
  const { running, as } = machine();
  running.set(10, "a").set(11, "b");
  using first = DataLock.acquire(directory, as(10));
  expect(first).toBeDefined();
  expect(() => DataLock.acquire(directory, as(11))).toThrow(/process 10/);
});

// Aim: neither kill -9 nor a reused process id blocks the directory. Method: the owner ends without release.
test("a lock whose owner has ended is taken over, even if its process id is used again", () => {
  const { running, as } = machine();
  running.set(10, "a").set(11, "b");
  DataLock.acquire(directory, as(10));
  running.set(10, "started later");
  using second = DataLock.acquire(directory, as(11));
  expect(second).toBeDefined();
  expect(isLocked(() => DataLock.acquire(directory, as(10)))).toBe(true);
});

// Aim: release lets the next one in, in the same process too. Method: acquire, release twice, acquire.
test("a released lock can be taken again at once", () => {
  const { running, as } = machine();
  running.set(10, "a");
  const lock = DataLock.acquire(directory, as(10));
  lock.release();
  lock.release();
  using again = DataLock.acquire(directory, as(10));
  expect(again).toBeDefined();
});

// Aim: a lock file that a crash left empty or torn is stale, not fatal. Method: damage it.
test("a damaged lock file is taken over", () => {
  const { running, as } = machine();
  running.set(10, "a").set(11, "b");
  DataLock.acquire(directory, as(10));
  const name = readdirSync(directory).find((file) => file.startsWith("millrace.lock."));
  writeFileSync(join(directory, name ?? ""), "{");
  using taken = DataLock.acquire(directory, as(11));
  expect(taken).toBeDefined();
});

// Aim: whatever the order of starts, crashes and releases, at most one running process holds the lock, and none is
// refused without reason. Method: random histories against a model that is one variable.
test("the lock agrees with one variable over random histories", () => {
  const step = fc.record({
    pid: fc.integer({ min: 1, max: 4 }),
    what: fc.constantFrom("acquire", "crash", "release"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
      const { running, as } = machine();
      const place = mkdtempSync(join(directory, "run-"));
      const held = new Map<number, DataLock>();
      let starts = 0;
      for (const { pid, what } of steps) {
        if (what === "crash") {
          running.delete(pid);
          held.delete(pid);
        } else if (what === "release") {
          held.get(pid)?.release();
          held.delete(pid);
        } else {
          if (!running.has(pid)) running.set(pid, `start ${(starts += 1)}`);
          const busy = held.size > 0;
          const refused = isLocked(() => held.set(pid, DataLock.acquire(place, as(pid))));
          expect(refused).toBe(busy);
        }
      }
      expect(readdirSync(place).length).toBeLessThanOrEqual(1);
    }),
    { numRuns: 200 },
  );
});

// Aim: the slow one of two processes that both saw a stale lock does not end up with a lock of its own.
// Method: while it looks at the stale owner, the fast one takes the lock over and is gone again.
test("a contender that was overtaken between looking and taking is refused", () => {
  const { running, as } = machine();
  running.set(10, "a");
  DataLock.acquire(directory, as(10));
  running.delete(10);
  running.set(11, "b").set(12, "c");
  let overtaken = false;
  const slow: ProcessTable = {
    pid: 12,
    startTime(pid) {
      const answer = running.get(pid);
      if (pid === 10 && !overtaken) {
        overtaken = true;
        DataLock.acquire(directory, as(11));
      }
      return answer;
    },
  };
  expect(isLocked(() => DataLock.acquire(directory, slow))).toBe(true);
  expect(readFileSync(join(directory, readdirSync(directory)[0] ?? ""), "utf8")).toContain('"pid":11');
});

// Aim: real processes are told apart. Method: this process, and one that has just ended.
test("the machine's own processes are seen", () => {
  const ended = spawnSync(process.execPath, ["-e", ""]);
  expect(systemProcesses.startTime(process.pid)).toBeDefined();
  expect(systemProcesses.startTime(ended.pid)).toBeUndefined();
});

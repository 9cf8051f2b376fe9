/**
 * The supervisor: restarts with back-off, ends within its bounds. Driven without processes and without waiting.
 */
import { expect, test } from "vitest";

import { silentLogger } from "../src/logging.js";
import {
  RESTART_DELAY_MAX_MS,
  RESTART_DELAY_MIN_MS,
  STABLE_AFTER_MS,
  SupervisedProcess,
} from "../src/parts/supervisor.js";
import type { ChildEvents, Timers } from "../src/parts/supervisor.js";

/** Timers that fire when the test says so. */
class FakeTimers implements Timers {
  #now = 0;
  #due: { at: number; callback: () => void }[] = [];

  nowMs(): number {
    return this.#now;
  }

  after(delayMs: number, callback: () => void): () => void {
    const entry = { at: this.#now + delayMs, callback };
    this.#due.push(entry);
    return () => {
      this.#due = this.#due.filter((other) => other !== entry);
    };
  }

  /** Delays that are waited for now. */
  get delays(): number[] {
    return this.#due.map(({ at }) => at - this.#now);
  }

  advance(ms: number): void {
    this.#now += ms;
    const due = this.#due.filter(({ at }) => at <= this.#now);
    this.#due = this.#due.filter(({ at }) => at > this.#now);
    for (const { callback } of due) callback();
  }
}

interface World {
  readonly timers: FakeTimers;
  readonly supervised: SupervisedProcess;
  readonly children: ChildEvents[];
  readonly asked: string[];
  readonly states: string[];
}

function world(mayRestart?: () => boolean, isFinal?: (exitCode: number | undefined) => boolean): World {
  const timers = new FakeTimers();
  const children: ChildEvents[] = [];
  const asked: string[] = [];
  const states: string[] = [];
  const supervised = new SupervisedProcess({
    name: "part",
    logger: silentLogger(),
    timers,
    ...(mayRestart === undefined ? {} : { mayRestart }),
    ...(isFinal === undefined ? {} : { isFinal }),
    onChange: () => states.push(supervised.state),
    start: (events) => {
      children.push(events);
      return {
        pid: 100 + children.length,
        requestStop: () => asked.push("stop"),
        kill: () => {
          asked.push("kill");
          events.ended("signal SIGKILL", undefined);
        },
      };
    },
  });
  return { timers, supervised, children, asked, states };
}

// Aim: an unexpected end is followed by a restart whose delay doubles up to its bound. Method: end ten times in a row.
test("restarts back off from one second to a minute", () => {
  const { timers, supervised, children } = world();
  supervised.start();
  const delays: number[] = [];
  for (let round = 0; round < 10; round += 1) {
    children.at(-1)?.ended("exit code 1", 1);
    expect(supervised.state).toBe("waiting");
    delays.push(...timers.delays);
    timers.advance(timers.delays[0] ?? 0);
  }
  expect(delays.slice(0, 4)).toEqual(
    [1000, 2000, 4000, 8000].map((ms) => (ms * RESTART_DELAY_MIN_MS) / 1000),
  );
  expect(delays.at(-1)).toBe(RESTART_DELAY_MAX_MS);
  expect(supervised.restarts).toBe(10);
  expect(supervised.lastEnd).toBe("exit code 1");
});

// Aim: a child that ran well for a minute starts over with the short delay. Method: ready, a minute, end.
test("a stable run resets the delay", () => {
  const { timers, supervised, children } = world();
  supervised.start();
  for (let round = 0; round < 3; round += 1) {
    children.at(-1)?.ended("exit code 1", 1);
    timers.advance(timers.delays[0] ?? 0);
  }
  children.at(-1)?.ready();
  timers.advance(STABLE_AFTER_MS);
  children.at(-1)?.ended("signal SIGKILL", undefined);
  expect(timers.delays).toEqual([RESTART_DELAY_MIN_MS]);
});

// Aim: an end that a restart cannot help is the last one. Method: a code that is final, then every way to start again; and
// one that is not.
test("a child that ended for good stays down", async () => {
  const { timers, supervised, children } = world(undefined, (code) => code === 76);
  supervised.start();
  children[0]?.ended("exit code 1", 1);
  timers.advance(RESTART_DELAY_MIN_MS);
  children[1]?.ready();
  children[1]?.ended("exit code 76: another proposer", 76);
  expect([supervised.state, supervised.lastEnd]).toEqual(["halted", "exit code 76: another proposer"]);
  supervised.retry();
  supervised.start();
  timers.advance(RESTART_DELAY_MAX_MS);
  expect(children.length).toBe(2);
  expect(await supervised.stop(1000)).toBe(true);
  expect(supervised.state).toBe("stopped");
});

// Aim: nothing is started again after stop. Method: stop while running, and stop while waiting for a restart.
test("stop ends the child and cancels a restart that is due", async () => {
  const running = world();
  running.supervised.start();
  running.children[0]?.ready();
  const stopped = running.supervised.stop(5000);
  expect(running.asked).toEqual(["stop"]);
  running.children[0]?.ended("exit code 0", 0);
  expect(await stopped).toBe(true);
  running.timers.advance(RESTART_DELAY_MAX_MS);
  expect(running.children.length).toBe(1);
  expect(running.states).toEqual(["starting", "ready", "stopping", "stopped"]);

  const waiting = world();
  waiting.supervised.start();
  waiting.children[0]?.ended("exit code 1", 1);
  await waiting.supervised.stop(5000);
  waiting.timers.advance(RESTART_DELAY_MAX_MS);
  expect(waiting.children.length).toBe(1);
});

// Aim: a child that does not end is killed after the grace. Method: stop, let the time pass.
test("a child that ignores stop is killed", async () => {
  const { timers, supervised, asked } = world();
  supervised.start();
  const stopped = supervised.stop(5000);
  timers.advance(4999);
  expect(asked).toEqual(["stop"]);
  timers.advance(1);
  expect(asked).toEqual(["stop", "kill"]);
  expect(await stopped).toBe(false);
});

// Aim: waiting for readiness ends at readiness, across restarts; waiting for an outcome ends at either.
// Method: a first child that dies and a second one that becomes ready.
test("ready waits across a restart, readyOrEnded does not", async () => {
  const { timers, supervised, children } = world();
  supervised.start();
  const ready = supervised.ready();
  const outcome = supervised.readyOrEnded();
  children[0]?.ended("exit code 1", 1);
  await outcome;
  expect(supervised.lastEnd).toBe("exit code 1");
  timers.advance(RESTART_DELAY_MIN_MS);
  children[1]?.ready();
  await ready;
  expect(supervised.state).toBe("ready");
});

// Aim: late news of a child that is gone change nothing. Method: events of the first child after the second started.
test("events of an earlier child are ignored", () => {
  const { timers, supervised, children } = world();
  supervised.start();
  children[0]?.ended("exit code 1", 1);
  timers.advance(RESTART_DELAY_MIN_MS);
  children[0]?.ready();
  children[0]?.ended("again", undefined);
  expect(supervised.state).toBe("starting");
  expect(supervised.pid).toBe(102);
});

// Aim: a child that needs something else first is not restarted into certain failure, and is restarted at once when
// that is there. Method: its delay is over while it may not start; then retry, twice.
test("a restart waits for what the child needs, and comes at once then", () => {
  let mayStart = false;
  const { timers, supervised, children } = world(() => mayStart);
  supervised.start();
  children[0]?.ended("exit code 69", 69);
  timers.advance(RESTART_DELAY_MIN_MS);
  expect(supervised.state).toBe("waiting");
  mayStart = true;
  supervised.retry();
  supervised.retry();
  expect([supervised.state, children.length]).toEqual(["starting", 2]);
  children[1]?.ended("exit code 69", 69);
  supervised.retry();
  timers.advance(RESTART_DELAY_MAX_MS);
  expect([supervised.state, children.length]).toEqual(["starting", 3]);
});

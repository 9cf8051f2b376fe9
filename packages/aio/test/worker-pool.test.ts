/**
 * The I/O workers: who is woken, who executes what, who is replaced, and how many there are.
 *
 * Workers are stopped at named points, so that what the queue holds and who sleeps is certain; nothing depends on time
 * but the idle timeout, of which only the end is waited for.
 */
import { describe, expect, test } from "vitest";

import { AioIoError } from "../src/errors.js";
import type { ArmedFault } from "../src/faults.js";
import { HANDLE_STATE } from "../src/handle-state.js";
import { QUEUE, WORKER } from "../src/layout.js";
import { createIoReturn } from "../src/result.js";
import type { PoolClock, WorkerPool } from "../src/worker-pool.js";
import { World } from "./fixture.js";

const pool = (world: World): WorkerPool => world.system.workers as WorkerPool;

function queueWord(world: World, word: number): number {
  const { words, layout } = world.backend.table;
  return Atomics.load(words, layout.queueAt + word);
}

function workerWord(world: World, slot: number, word: number): number {
  const { words, layout } = world.backend.table;
  return Atomics.load(words, layout.workersAt + slot * WORKER.words + word);
}

/** Waits until the workers in `mask` sleep; armed before they can have got there, or read after. */
async function allIdle(world: World, idle: ArmedFault, mask: number): Promise<void> {
  for (let hits = idle.hits; queueWord(world, QUEUE.idleMask) !== mask; hits = idle.hits) {
    await idle.arrived(hits + 1);
  }
}

/** Waits until the pool's slots are these. */
async function slotsAre(world: World, slots: readonly number[]): Promise<void> {
  while (JSON.stringify(pool(world).slots) !== JSON.stringify(slots)) await pool(world).changed();
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, slot) => slot);

// Aim: a worker that cannot reopen a file fails the I/O and is replaced. Method: the fault throws there, once.
test("an I/O whose file cannot be reopened fails with ENOENT, and its worker is replaced", async () => {
  await using world = new World("worker", { ioWorkers: 2 });
  const { backend, system } = world;
  const before = [0, 1].map((slot) => pool(world).workerAt(slot));
  using fault = system.faults.arm({ point: "reopen", times: 1 });
  using scope = backend.openScope();
  const slot = createIoReturn();
  const handle = backend.acquire(scope, slot);
  const ref = handle.ref();
  world.read(handle, 3, 0);
  await backend.waitAsync(ref);
  expect(fault.hits).toBe(1);
  expect(slot.result).toMatchObject({ status: "error", error: 2 });
  expect(() => backend.report(slot, "error")).toThrow(AioIoError);
  while ([0, 1].every((at) => pool(world).workerAt(at) === before[at])) await pool(world).changed();
  await pool(world).settled();
  expect(pool(world).slots).toEqual([0, 1]);
  const again = backend.acquire(scope, slot);
  const next = again.ref();
  world.read(again, 3, 0);
  await backend.waitAsync(next);
  expect(slot.result.status).toBe("ok");
  expect(world.words(0)[0]).toBe(3);
});

// Aim: the queue takes 63, the rest is the issuer's. Method: the only worker is held with one I/O in its hands; batches
// of 32, 32 and 6 are submitted.
test("a full queue makes the issuer execute what does not fit", async () => {
  await using world = new World("worker", { ioWorkers: 1, concurrency: 128 });
  const { backend, system } = world;
  const hold = system.faults.arm({ point: "hold" });
  using scope = backend.openScope();
  world.read(backend.acquire(scope), 0, 0);
  await hold.arrived(1);
  const inline: number[] = [];
  for (const count of [32, 32, 6]) {
    backend.enterBatch();
    const idle = backend.idleCount;
    for (let at = 0; at < count; at++) world.read(backend.acquire(scope), at, at);
    expect(backend.stagedCount).toBe(count);
    backend.exitBatch();
    inline.push(count - (idle - backend.idleCount));
  }
  expect(inline).toEqual([0, 1, 6]);
  expect((queueWord(world, QUEUE.head) - queueWord(world, QUEUE.tail)) & 63).toBe(63);
  hold[Symbol.dispose]();
});

// Aim: wake-ups fan out, and never go to a worker that does not sleep. Method: four sleepers, one batch of eight, every
// worker held with its first I/O; the wake words say who was woken how often.
test("a submission wakes the lowest worker, and each worker at most two more", async () => {
  await using world = new World("worker", { ioWorkers: 1, concurrency: 32 });
  const { backend, system } = world;
  using idle = system.faults.arm({ point: "idle" });
  system.setIoWorkers(4);
  await allIdle(world, idle, 0b1111);
  const before = upTo(4).map((slot) => workerWord(world, slot, WORKER.wake));
  // The one that is woken first stops before it wakes others.
  const taken = system.faults.arm({ point: "taken", times: 1 });
  const hold = system.faults.arm({ point: "hold" });
  const woken = (): number[] =>
    upTo(4).map((slot, at) => workerWord(world, slot, WORKER.wake) - (before[at] ?? 0));
  using scope = backend.openScope();
  backend.enterBatch();
  for (let at = 0; at < 8; at++) world.read(backend.acquire(scope), at, at);
  backend.exitBatch();
  await taken.arrived(1);
  expect(woken()).toEqual([1, 0, 0, 0]);
  expect(queueWord(world, QUEUE.idleMask)).toBe(0b1110);
  taken[Symbol.dispose]();
  await hold.arrived(4);
  expect(woken()).toEqual([1, 1, 1, 1]);
  // Nobody sleeps: a further submission wakes nobody.
  world.read(backend.acquire(scope), 9, 9);
  expect(woken()).toEqual([1, 1, 1, 1]);
  expect(queueWord(world, QUEUE.idleMask)).toBe(0);
  hold[Symbol.dispose]();
});

describe("the number of workers", () => {
  // Aim: the setting is checked, and reached from anywhere. Method: every jump of a fixed sequence.
  test("is refused outside 1 to 32 and converges inside", async () => {
    await using world = new World("worker", { ioWorkers: 1 });
    for (const count of [0, 33, 1.5, -1]) expect(() => world.system.setIoWorkers(count)).toThrow(RangeError);
    for (const count of [1, 5, 2, 8, 1]) {
      world.system.setIoWorkers(count);
      await slotsAre(world, upTo(count));
    }
  });

  // Aim: one that dies is replaced in its slot, which is the lowest that is free. Method: each in turn is ended.
  test("is restored when one dies", async () => {
    await using world = new World("worker", { ioWorkers: 3 });
    for (const slot of [1, 0, 2]) {
      const victim = pool(world).workerAt(slot);
      await victim?.terminate();
      while (pool(world).workerAt(slot) === victim) await pool(world).changed();
      await slotsAre(world, [0, 1, 2]);
    }
    expect(pool(world).startError).toBeUndefined();
  });

  // Aim: the highest slots leave first. Method: the order in which slots vanish.
  test("shrinks from the highest slot down", async () => {
    await using world = new World("worker", { ioWorkers: 4 });
    const seen: string[] = [];
    world.system.setIoWorkers(1);
    while (pool(world).slots.length > 1) {
      await pool(world).changed();
      seen.push(pool(world).slots.join());
    }
    expect(seen).toEqual(["0,1,2", "0,1", "0"]);
  });

  // Aim: workers that are ended before they get going are no reason to give up. Method: each new one is ended at once.
  test("is not given up because workers are killed", async () => {
    await using world = new World("worker", { ioWorkers: 1 });
    for (let round = 0; round < 4; round++) {
      const victim = pool(world).workerAt(0);
      await victim?.terminate();
      while (pool(world).workerAt(0) === victim) await pool(world).changed();
    }
    expect(pool(world).startError).toBeUndefined();
    expect(pool(world).slots).toEqual([0]);
  });

  // Aim: a module that cannot be loaded is noticed, and I/O goes on without workers. Method: a module that throws.
  test("is given up when they cannot start, and issuers do their I/O themselves", async () => {
    const registryModule = "data:text/javascript,throw new Error('this module cannot be loaded')";
    await using world = new World("worker", { ioWorkers: 1, registryModule });
    const { backend } = world;
    using scope = backend.openScope();
    const handle = backend.acquire(scope);
    const ref = handle.ref();
    world.read(handle, 8, 0);
    await backend.waitAsync(ref);
    expect(world.words(0)[0]).toBe(8);
    while (pool(world).startError === undefined) await pool(world).changed();
    expect(pool(world).startError).toMatchObject({ message: "this module cannot be loaded" });
    const next = backend.acquire(scope);
    const nextRef = next.ref();
    world.read(next, 9, 0);
    expect(backend.done(nextRef)).toBe(true);
    expect(world.words(0)[0]).toBe(9);
  });
});

/** A clock that stands still until it is moved. */
class FakeClock implements PoolClock {
  #now = 0;
  readonly timers: { at: number; callback: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  setTimer(callback: () => void, delayMs: number): { cancel(): void } {
    const timer = { at: this.#now + delayMs, callback };
    this.timers.push(timer);
    return { cancel: () => void this.timers.splice(this.timers.indexOf(timer), 1) };
  }

  advance(ms: number): void {
    this.#now += ms;
    for (const timer of this.timers.filter(({ at }) => at <= this.#now)) {
      this.timers.splice(this.timers.indexOf(timer), 1);
      timer.callback();
    }
  }
}

describe("workers between limits", () => {
  // Aim: a backlog brings one worker more in each interval, up to the maximum. Method: every worker is held with one I/O;
  // the clock stands still until the test moves it.
  test("grow with the backlog, one in an interval, and never above the maximum", async () => {
    const clock = new FakeClock();
    const ioWorkers = { min: 1, max: 3, idleTimeoutMs: -1, launchIntervalMs: 100 };
    await using world = new World("worker", { ioWorkers, clock, concurrency: 64 });
    const { backend, system } = world;
    const hold = system.faults.arm({ point: "hold" });
    using scope = backend.openScope();
    backend.enterBatch();
    for (let at = 0; at < 20; at++) world.read(backend.acquire(scope), at, at);
    backend.exitBatch();
    await hold.arrived(1);
    // The first one found 19 more and nobody to wake: one worker is launched at once, as none was before.
    await slotsAre(world, [0, 1]);
    await hold.arrived(2);
    // The second wants a third, but the interval has not passed.
    while (clock.timers.length === 0) await new Promise<void>((resolve) => void setImmediate(resolve));
    expect(pool(world).slots).toEqual([0, 1]);
    clock.advance(99);
    expect(pool(world).slots).toEqual([0, 1]);
    clock.advance(1);
    expect(pool(world).slots).toEqual([0, 1, 2]);
    await hold.arrived(3);
    clock.advance(1000);
    expect(pool(world).slots).toEqual([0, 1, 2]);
    hold[Symbol.dispose]();
  });

  // Aim: those above the minimum leave when they have nothing to do, the highest first, all of them. Method: a tiny
  // timeout; only the order and the end are looked at.
  test("shrink to the minimum when they are idle, from the highest slot down", async () => {
    const ioWorkers = { min: 1, max: 4, idleTimeoutMs: 1, launchIntervalMs: 0 };
    await using world = new World("worker", { ioWorkers });
    pool(world).setAutoSizing({ min: 4, max: 4, idleTimeoutMs: 1 });
    await slotsAre(world, [0, 1, 2, 3]);
    const seen: string[] = [];
    pool(world).setAutoSizing({ min: 1, max: 4, idleTimeoutMs: 1 });
    while (pool(world).slots.length > 1) {
      await pool(world).changed();
      seen.push(pool(world).slots.join());
    }
    expect(seen).toEqual(["0,1,2", "0,1", "0"]);
    const { backend } = world;
    using scope = backend.openScope();
    const handle = backend.acquire(scope);
    const ref = handle.ref();
    world.read(handle, 5, 0);
    await backend.waitAsync(ref);
    expect(backend.table.state(ref.handle)).toBe(HANDLE_STATE.idle);
    expect(world.words(0)[0]).toBe(5);
  });

  // Aim: lowering the maximum makes those above it leave; bad limits are refused.
  test("leave when the maximum is lowered", async () => {
    await using world = new World("worker", { ioWorkers: { min: 4, max: 8, idleTimeoutMs: -1 } });
    await slotsAre(world, [0, 1, 2, 3]);
    for (const [min, max] of [
      [0, 8],
      [1, 33],
      [5, 4],
    ] as const) {
      expect(() => pool(world).setAutoSizing({ min, max })).toThrow(RangeError);
    }
    pool(world).setAutoSizing({ min: 1, max: 2, idleTimeoutMs: -1 });
    await slotsAre(world, [0, 1]);
  });
});

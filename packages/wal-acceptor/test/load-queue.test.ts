import { expect, test } from "vitest";

import { DEMAND_CONCURRENCY, LOAD_CONCURRENCY, LoadQueue } from "../src/load-queue.js";

/** Loads that end when the test says so; `running` is in the order in which they began. */
class Loads {
  readonly running: number[] = [];
  readonly queue: LoadQueue<number>;
  readonly #finish = new Map<number, () => void>();

  constructor(count: number) {
    this.queue = new LoadQueue((item) => {
      this.running.push(item);
      return new Promise((resolve) => this.#finish.set(item, resolve));
    });
    for (let item = 0; item < count; item += 1) this.queue.add(String(item), item);
  }

  async finish(item: number): Promise<void> {
    this.#finish.get(item)?.();
    this.running.splice(this.running.indexOf(item), 1);
    await Promise.resolve();
    await Promise.resolve();
  }
}

const upTo = (count: number, from = 0): number[] => Array.from({ length: count }, (_, index) => from + index);

// Aim: the disk is neither idle nor flooded. Method: loads that do not end; how many have begun, and what follows one.
test("background loads are bounded and follow one another in order", async () => {
  const loads = new Loads(40);
  expect(loads.running).toEqual([]);
  loads.queue.start();
  expect(loads.running).toEqual(upTo(LOAD_CONCURRENCY));
  await loads.finish(3);
  expect(loads.running.at(-1)).toBe(LOAD_CONCURRENCY);
  expect(loads.running).toHaveLength(LOAD_CONCURRENCY);
  expect(loads.queue.size).toBe(39);
});

// Aim: a demand overtakes, and is bounded too. Method: more demands than places, while every background place hangs.
test("demanded loads have places of their own and go before the background", async () => {
  const loads = new Loads(60);
  loads.queue.start();
  const demanded = upTo(DEMAND_CONCURRENCY + 2, 40);
  const done: number[] = [];
  for (const item of demanded) void loads.queue.demand(String(item)).then(() => done.push(item));
  expect(loads.running.slice(LOAD_CONCURRENCY)).toEqual(demanded.slice(0, DEMAND_CONCURRENCY));
  await loads.finish(0); // a place of the background goes to those who wait, too
  expect(loads.running.at(-1)).toBe(demanded[DEMAND_CONCURRENCY]);
  await loads.finish(41);
  expect(loads.running.at(-1)).toBe(demanded[DEMAND_CONCURRENCY + 1]);
  await loads.finish(1);
  expect(loads.running.at(-1)).toBe(LOAD_CONCURRENCY); // nobody waits any more
  expect(done).toEqual([41]);
});

// Aim: one is waited for, not the rest. Method: demands of what is running, was loaded, and was never there.
test("a demand ends with its own load", async () => {
  const loads = new Loads(3);
  loads.queue.start();
  const second = loads.queue.demand("1");
  await loads.finish(1);
  await second;
  await loads.queue.demand("1");
  await loads.queue.demand("no such thing");
  expect(loads.running).toEqual([0, 2]);
});

// Aim: a stop is prompt and leaves nothing running. Method: demands before and after; an idle promise on either side.
test("stopping lets everybody go and ends with the loads under way", async () => {
  const loads = new Loads(20);
  loads.queue.start();
  const waiting = [loads.queue.demand("0"), loads.queue.demand("19")];
  let stopped = false;
  const stopping = loads.queue.stop().then(() => {
    stopped = true;
  });
  await Promise.all(waiting);
  await loads.queue.demand("18");
  expect(stopped).toBe(false);
  const underWay = loads.running.slice();
  for (const item of underWay) await loads.finish(item);
  await stopping;
  await loads.queue.whenIdle();
  expect(loads.running).toEqual([]);
  expect(loads.queue.size).toBe(0);
});

test("an empty queue is idle at once", async () => {
  const loads = new Loads(0);
  loads.queue.start();
  await loads.queue.whenIdle();
  await loads.queue.stop();
});

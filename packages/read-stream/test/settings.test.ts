/**
 * What a stream takes from its pool when it begins: concurrency, shares of pins, and that it takes them once.
 */
import { expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import { ReadStream } from "../src/read-stream.js";
import { blocksFrom, calls, FULL_SCAN, listed, observe, reads, SCAN } from "./calls.js";
import { LOCAL_RELATION, ModelPool, RELATION } from "./model-pool.js";
import type { ModelOptions } from "./model-pool.js";

test("maintenance has a concurrency of its own, a tablespace's beats both, the catalog has the plain one", () => {
  const settings: ModelOptions = { effectiveConcurrency: 1, maintenanceConcurrency: 8 };
  const maxIos = (flags: number, model: ModelOptions, isCatalog = false): number =>
    observe([], { flags, isCatalog }, { ...settings, ...model }).stream.info.maxIos;
  expect(maxIos(SCAN, {})).toBe(1);
  expect(maxIos(STREAM_FLAG.maintenance, {})).toBe(8);
  expect(maxIos(SCAN, { tablespaceConcurrency: 3 })).toBe(3);
  expect(maxIos(STREAM_FLAG.maintenance, { tablespaceConcurrency: 3 })).toBe(3);
  expect(maxIos(STREAM_FLAG.maintenance, { tablespaceConcurrency: 3 }, true)).toBe(1);
});

test("a temporary relation is limited by the backend's own buffers, never exhausts them, and gives way to others", () => {
  const pool = new ModelPool({ localCount: 100, effectiveConcurrency: 1000, pinLimit: 10_000 });
  const observed = observe(blocksFrom(0, 200), { relation: LOCAL_RELATION }, pool);
  expect(observed.stream.info.maxPinned).toBe(25);
  let heldMax = 0;
  pool.onStart = () => {
    heldMax = Math.max(heldMax, pool.pins.size);
  };
  const made = calls(observed, 100);
  expect(made.map(({ block }) => block)).toEqual(blocksFrom(0, 100));
  expect(pool.starts.length).toBeGreaterThan(5);
  expect(heldMax).toBeLessThanOrEqual(25);
  expect([...pool.pins.keys()].every((buffer) => buffer < 0)).toBe(true);
  observed.stream.reset();
  observed.takeEvents();
  for (let buffer = -1001; buffer > -1021; buffer -= 1) pool.pin(buffer);
  const sizes = reads(calls(observed))
    .split(" ")
    .map((read) => Number(read.split("+")[1]));
  expect(Math.max(...sizes)).toBeGreaterThan(1);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(5);
});

test("settings that change later do not matter to a stream that has begun", () => {
  const settings = { effectiveConcurrency: 16, pinLimit: 94, combineLimit: 16 };
  const pool = new ModelPool();
  const changing = Object.create(pool, {
    concurrencyOf: { value: () => settings.effectiveConcurrency },
    combineLimit: { get: () => settings.combineLimit },
    pinLimit: { value: () => settings.pinLimit },
  }) as ModelPool;
  // Methods of the model need the model itself.
  for (const name of [
    "startRead",
    "waitRead",
    "enterBatch",
    "exitBatch",
    "additionalPins",
    "createReadOperation",
  ])
    Object.defineProperty(changing, name, {
      value: (pool[name as keyof ModelPool] as () => unknown).bind(pool),
    });
  const stream = ReadStream.begin(changing, {
    relation: RELATION,
    flags: FULL_SCAN,
    next: listed(blocksFrom(0, 100)),
  });
  const before = stream.info;
  Object.assign(settings, { effectiveConcurrency: 1, pinLimit: 1, combineLimit: 1 });
  for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) pool.release(buffer);
  expect(stream.info).toMatchObject({ maxIos: before.maxIos, maxPinned: before.maxPinned });
  expect(pool.log.slice(0, 3)).toEqual(["R0+16", "R16+16", "R32+16"]);
});

test("two streams of one backend share its pins, and both get on", () => {
  const pool = new ModelPool({ pinLimit: 23 });
  const streams = [observe(blocksFrom(0, 200), {}, pool), observe(blocksFrom(1000, 1200), {}, pool)];
  const seen: number[][] = [[], []];
  let running = 2;
  while (running > 0) {
    running = 0;
    for (const [index, { stream }] of streams.entries()) {
      const buffer = stream.next();
      if (buffer === 0) continue;
      running += 1;
      seen[index]?.push(ModelPool.blockOf(buffer));
      pool.release(buffer);
      const held = streams.reduce(
        (sum, each) => sum + each.stream.info.pinned + each.stream.info.forwarded,
        0,
      );
      expect(pool.pinsHeld).toBe(held);
    }
  }
  expect(seen).toEqual([blocksFrom(0, 200), blocksFrom(1000, 1200)]);
  expect(pool.pinsHeld).toBe(0);
});

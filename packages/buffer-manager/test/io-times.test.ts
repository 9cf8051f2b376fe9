/**
 * Time spent on I/O: in the call that starts it, and while its end is waited for; each operation and context by itself.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { checkpoint } from "../src/checkpoint.js";
import { extendLocal } from "../src/local-extend.js";
import { ReadOperation } from "../src/read-operation.js";
import { CONTEXT, COUNTED } from "../src/statistics.js";
import type { Counters } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import { METHODS } from "./data-directory.js";
import { LocalWorld, RELATION } from "./local-world.js";
import { TABLE, WriteWorld } from "./write-world.js";

/** What the clock shows: it stands still unless a test moves it. */
let clock = 0;

beforeEach(() => {
  clock = 1000;
  vi.spyOn(performance, "now").mockImplementation(() => clock);
});

afterEach(() => {
  vi.restoreAllMocks();
});

/** Has a call of the files take so long. */
function slow<K extends string>(files: Record<K, (...parts: never[]) => unknown>, call: K, ms: number): void {
  const known = files[call].bind(files);
  files[call] = (...parts: never[]) => {
    clock += ms;
    return known(...parts);
  };
}

const timeOf = (
  counters: Counters,
  operation: keyof typeof COUNTED,
  context = 0,
  isTemporary = false,
): number => counters.get(COUNTED[operation], context, isTemporary).ms;

// Aim: reads take time with every method. Method: the call that starts a read is slow; it executes the read with method sync, and
// where the reader sleeps anyway.
test.each(METHODS)(
  "a page's read takes the time of its start, where that executes it (method %s)",
  async (method) => {
    await using world = new WriteWorld({ aio: { method, required: true } });
    world.create(TABLE, 4);
    const { files, counters, waiter, pins } = world.context;
    const { pages, reader } = world.backend;
    slow(files, "startRead", 3);
    pins.unpin(waiter.run(pages.read(TABLE, FORK.main, 1, null, "normal", true)) - 1);
    expect(timeOf(counters, "read")).toBe(3);
    const operation = new ReadOperation(TABLE, FORK.main, null);
    const buffers = new Int32Array(1);
    waiter.run(reader.start(operation.begin(buffers, 0, 2, 1, 0)));
    waiter.run(reader.wait(operation));
    pins.unpin((buffers[0] ?? 0) - 1);
    expect(timeOf(counters, "read"), "others execute it while it is waited for").toBe(
      method === "sync" ? 6 : 3,
    );
  },
);

describe("a page's write", () => {
  test("takes the time of its start, where that executes it", async () => {
    await using world = new WriteWorld({ aio: { method: "sync" } });
    world.create(TABLE, 2);
    const { files, counters, waiter, pins } = world.context;
    const { locks, writer } = world.backend;
    slow(files, "startWrite", 3);
    const buffer = world.load(TABLE, 1);
    world.change(buffer, 1);
    waiter.run(locks.lock(buffer, "shared"));
    waiter.run(writer.flush(buffer, CONTEXT.vacuum));
    locks.unlock(buffer);
    pins.unpin(buffer);
    expect([timeOf(counters, "write", CONTEXT.vacuum), timeOf(counters, "write")]).toEqual([3, 0]);
  });

  test("takes the time that it is waited for as well, where others execute it", async () => {
    await using world = new WriteWorld({ aio: { method: "worker", required: true } });
    world.create(TABLE, 2);
    const { files, counters, waiter, pins, aio } = world.context;
    const { locks, writer } = world.backend;
    slow(files, "startWrite", 3);
    const buffer = world.load(TABLE, 1);
    world.change(buffer, 1);
    waiter.run(locks.lock(buffer, "shared"));
    using hold = world.pool.aio.faults.arm({ point: "hold", operation: "writev", times: 1 });
    const flow = writer.flush(buffer, CONTEXT.normal);
    let step = flow.next();
    while (step.done !== true && step.value.kind !== "io") {
      if (step.value.kind === "wal") world.log.flush(step.value.lsn);
      step = flow.next();
    }
    expect(step.value).toMatchObject({ kind: "io" });
    clock += 5;
    hold[Symbol.dispose]();
    if (step.done !== true && step.value.kind === "io") aio.wait(step.value.ref);
    expect(flow.next().done).toBe(true);
    locks.unlock(buffer);
    pins.unpin(buffer);
    expect(timeOf(counters, "write")).toBe(8);
    expect(counters.get(COUNTED.write, CONTEXT.normal, false).count).toBe(1);
  });
});

test("extensions, syncs and hints to write back take the time of their calls", async () => {
  await using world = new WriteWorld({ aio: { method: "sync" } });
  world.create(TABLE, 2);
  const { files, counters, waiter, pins } = world.context;
  slow(files, "zeroExtend", 4);
  slow(files, "sync", 7);
  slow(files, "writeBack", 2);
  const buffer = waiter.run(world.backend.extender.extendTo(TABLE, 3));
  world.change(buffer - 1, 1);
  pins.unpin(buffer - 1);
  waiter.run(checkpoint(world.parts, { isImmediate: true }));
  expect((["extend", "fsync", "writeback", "write"] as const).map((each) => timeOf(counters, each))).toEqual([
    4, 7, 2, 0,
  ]);
});

test("pages of temporary relations are timed by themselves", async () => {
  await using world = new LocalWorld();
  const { locals, context } = world;
  slow(world.files, "zeroExtend", 4);
  slow(world.files, "startWrite", 3);
  const { buffers } = context.waiter.run(extendLocal(context, locals, RELATION, { count: 1 }));
  const [buffer = -1] = buffers;
  world.fill(buffer, 1);
  context.waiter.run(locals.flush(buffer));
  locals.unpin(buffer);
  const { counters } = context;
  expect([timeOf(counters, "extend", 0, true), timeOf(counters, "write", 0, true)]).toEqual([4, 3]);
  expect([timeOf(counters, "extend"), timeOf(counters, "write")]).toEqual([0, 0]);
});

/**
 * The background writer at work: what the hand is about to take is clean, what is in use is left alone, errors end nothing.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { constants } from "node:os";
import { describe, expect, test, vi } from "vitest";

import { BackgroundWriter } from "../src/background-writer.js";
import { STATE } from "../src/buffer-state.js";
import { BUFFER_CHANNEL } from "../src/diagnostics.js";
import type { BufferEvent } from "../src/diagnostics.js";
import { BACKEND, DESCRIPTOR, HEADER, STRATEGY } from "../src/layout.js";
import { waitEventName } from "../src/wait-events.js";
import { METHODS } from "./data-directory.js";
import { TABLE, WriteWorld } from "./write-world.js";

/** Makes a page look as if nobody had used it for a while. */
function age(world: WriteWorld, buffer: number): void {
  const { words, headers } = world.context;
  const at = headers.at(buffer) + DESCRIPTOR.state;
  words[at] = (words[at] as number) & ~0x003c_0000;
}

describe.each(METHODS)("with method %s", (method) => {
  const options = { aio: { method, required: true }, buffers: 600 } as const;

  test("a round writes the unused dirty pages ahead of the hand, their WAL first", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 600);
    // The first round looks at one buffer of each 600, then at what allocations ask for.
    const buffers = Array.from({ length: 600 }, (_, block) => world.dirty(TABLE, block, block % 100));
    for (const buffer of buffers) if (buffer % 3 !== 0) age(world, buffer);
    const pinned = world.load(TABLE, 1);
    age(world, pinned);
    world.take();
    const writer = new BackgroundWriter(world.parts, { pagesMax: 10 });
    expect(writer.cycle()).toMatchObject({ written: 10, canHibernate: false });
    expect(writer.hitMax).toBe(1);
    const written = buffers.filter((buffer) => !world.has(buffer, STATE.dirty));
    expect(written).toEqual([2, 4, 5, 7, 8, 10, 11, 13, 14, 16]);
    for (const block of written) expect(world.storedValue(TABLE, block)).toBe(block % 100);
    const events = world.take();
    expect(events.filter((event) => event.startsWith("write"))).toHaveLength(10);
    expect(events[0]).toMatch(/^wal /u);
    world.context.pins.unpin(pinned);
    expect(await writer.cycleAsync()).toMatchObject({ written: 10 });
    writer.pagesMax = 0;
    expect(writer.cycle()).toEqual({ scanned: 0, written: 0, canHibernate: true });
  });

  test("a page that cannot be written fails the round and stays dirty", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 600);
    const buffers = Array.from({ length: 600 }, (_, block) => world.dirty(TABLE, block, 7));
    for (const buffer of buffers) age(world, buffer);
    const writer = new BackgroundWriter(world.parts);
    const result = -constants.errno.EIO;
    const fault = world.pool.aio.faults.arm({ point: "instead", operation: "writev", times: 1, result });
    expect(() => writer.cycle()).toThrow(expect.objectContaining({ code: "ERR_BUFFER_WRITE" }));
    fault[Symbol.dispose]();
    const failed = buffers.filter((buffer) => world.has(buffer, STATE.dirty | STATE.ioError));
    expect(failed).toHaveLength(1);
    expect(writer.cycle().written).toBeGreaterThan(0);
    expect(world.has(failed[0] ?? 0, STATE.dirty), "the next round begins at the hand again").toBe(false);
  });
});

// Aim: rounds go on after an error, more than a second later; with nothing to do it sleeps until the next allocation wakes
// it. Method: the flow's sleeps are seen in its words; every wake-up is a test's.
test("the loop sleeps longer after an error and hibernates when nothing happens", async () => {
  await using world = new WriteWorld({ aio: { method: "sync" }, buffers: 16 });
  world.create(TABLE, 16);
  const { words, at, headers, id } = world.context;
  const buffers = Array.from({ length: 16 }, (_, block) => world.dirty(TABLE, block, 7));
  for (const buffer of buffers) age(world, buffer);
  const failures: BufferEvent[] = [];
  const listener = (event: unknown): void => void failures.push(event as BufferEvent);
  subscribe(BUFFER_CHANNEL, listener);
  const sleeps: [event: string, ms: number | undefined][] = [];
  const writer = new BackgroundWriter(world.parts, { delayMs: 20 });
  const result = -constants.errno.EIO;
  const fault = world.pool.aio.faults.arm({ point: "instead", operation: "writev", result });
  const { waiter } = world.context;
  let rounds = 0;
  const notifyAt = world.context.layout.strategyAt + STRATEGY.bgwriter;
  const run = vi.spyOn(waiter, "run").mockImplementation((flow) => {
    for (let step = flow.next(); ; step = flow.next()) {
      if (step.done === true) return step.value;
      const wait = step.value;
      if (wait.kind === "wal") world.log.flush(wait.lsn);
      if (wait.kind !== "word") continue;
      sleeps.push([wait.event, wait.timeoutMs]);
      rounds += 1;
      if (rounds === 1) fault[Symbol.dispose]();
      if (rounds === 7) writer.stop();
      if (wait.event === "BgWriterHibernate") {
        expect(words[notifyAt]).toBe(id + 1);
        headers.wakeBackend(id);
      }
    }
  });
  writer.run();
  run.mockRestore();
  unsubscribe(BUFFER_CHANNEL, listener);
  expect(failures.map(({ type }) => type)).toEqual(["background-writer-failed"]);
  expect(sleeps).toEqual([
    ["BgWriterMain", 1000],
    ["BgWriterMain", 20],
    ["BgWriterMain", 20],
    ["BgWriterMain", 20],
    ["BgWriterHibernate", 1000],
    ["BgWriterMain", 20],
    ["BgWriterHibernate", 1000],
  ]);
  expect(buffers.filter((buffer) => world.has(buffer, STATE.dirty))).toEqual([]);
  expect(words[notifyAt]).toBe(0);
  expect(waitEventName(words[at + BACKEND.waitEvent] as number)).toBe("");
});

test("the loop on an event loop is ended by stop, and by the end of the pool", async () => {
  await using world = new WriteWorld({ aio: { method: "sync" }, mayBlock: false });
  const writer = new BackgroundWriter(world.parts, { delayMs: 10_000 });
  const running = writer.runAsync();
  writer.stop();
  await running;
  expect(() => new BackgroundWriter({ ...world.parts, context: world.attach().context })).toThrow(
    expect.objectContaining({ code: "ERR_BUFFER_LIMIT" }),
  );
  const again = writer.runAsync();
  world.context.words[HEADER.closing] = 1;
  world.context.headers.wakeBackend(world.context.id);
  await again;
});

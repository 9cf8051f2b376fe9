/**
 * Writing a page: WAL first, from a copy, and dirty as long as it is not surely written.
 */
import type { IoView } from "@millrace/aio";
import { describe, expect, test } from "vitest";

import { refcountOf, STATE } from "../src/buffer-state.js";
import { setDirty } from "../src/dirty.js";
import { handOverToIo, IO_LOCK, terminateIo } from "../src/io-lock.js";
import { SCRATCH_FRAMES } from "../src/layout.js";
import { CONTEXT, COUNTED } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import { createWriteCallbacks } from "../src/write-callbacks.js";
import { METHODS } from "./data-directory.js";
import { TABLE, UNLOGGED, WriteWorld } from "./write-world.js";

describe.each(METHODS)("flushing a page with method %s", (method) => {
  const options = { aio: { method, required: true } } as const;

  test("makes its WAL durable first, and leaves it clean in the file", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 4);
    const buffer = world.dirty(TABLE, 2, 77);
    const lsn = world.lsn(buffer);
    world.flush(buffer);
    expect(world.take()).toEqual([`wal ${lsn}`, `write ${TABLE.relation}:2`]);
    expect(world.storedValue(TABLE, 2)).toBe(77);
    expect(world.state(buffer) & (STATE.dirty | STATE.justDirtied)).toBe(0);
    expect(world.context.counters.get(COUNTED.write, CONTEXT.normal, false)).toMatchObject({
      count: 1,
      bytes: 8192,
    });
    world.flush(buffer);
    expect(world.take(), "a clean page is not written").toEqual([]);
  });

  test("does not ask for WAL that is durable, nor for that of what is not logged", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    world.create(UNLOGGED, 1);
    world.create(UNLOGGED, 1, FORK.init);
    const logged = world.dirty(TABLE, 0, 1);
    world.log.flush(world.log.end);
    const unlogged = world.dirty(UNLOGGED, 0, 2);
    const init = world.dirty(UNLOGGED, 0, 3, FORK.init);
    world.take();
    for (const buffer of [logged, unlogged, init]) world.flush(buffer);
    expect(world.take()).toEqual([
      `write ${TABLE.relation}:0`,
      `write ${UNLOGGED.relation}:0`,
      `wal ${world.lsn(init)}`,
      `write ${UNLOGGED.relation}/3:0`,
    ]);
  });

  test("keeps a page dirty that is dirtied while it is written", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 2);
    const { context, locks, ioLocks, writer } = world.backend;
    const buffer = world.load(TABLE, 1);
    world.change(buffer, 5);
    const state = context.headers.lock(buffer);
    context.headers.unlock(buffer, state | STATE.checkpointNeeded);
    const { waiter } = context;
    waiter.run(locks.lock(buffer, "shared"));
    expect(waiter.run(ioLocks.start(buffer, false, true))).toBe(true);
    const run = waiter.run(writer.begin(buffer, 1));
    writer.add(run, buffer);
    locks.unlock(buffer);
    world.change(buffer, 6);
    waiter.run(writer.start(run, CONTEXT.normal));
    waiter.run(writer.finish(run));
    expect(world.has(buffer, STATE.dirty | STATE.justDirtied | STATE.checkpointNeeded)).toBe(true);
    expect(world.storedValue(TABLE, 1)).toBe(5);
    context.pins.unpin(buffer);
    world.flush(buffer);
    expect(world.storedValue(TABLE, 1)).toBe(6);
    expect(world.state(buffer) & (STATE.dirty | STATE.checkpointNeeded)).toBe(0);
  });

  test("writes a copy, so that a hint set meanwhile does not spoil the checksum", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    const buffer = world.dirty(TABLE, 0, 9);
    world.hook = (point) => {
      if (point !== "flush:before-write") return;
      world.context.frames.view(buffer)[200] = 0xff;
      setDirty(world.context.headers, buffer);
    };
    world.flush(buffer);
    expect(world.storedValue(TABLE, 0)).toBe(9);
    expect(world.stored(TABLE, 0)[200]).toBe(0);
    expect(world.has(buffer, STATE.dirty)).toBe(true);
  });

  test("fails, and writes nothing, if the WAL cannot be made durable", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    const buffer = world.dirty(TABLE, 0, 9);
    world.log.failure = new Error("the log's disk is gone");
    expect(() => world.flush(buffer)).toThrow(
      expect.objectContaining({ code: "ERR_BUFFER_WRITE", cause: world.log.failure }),
    );
    expect(world.has(buffer, STATE.dirty | STATE.ioError)).toBe(true);
    world.log.failure = undefined;
    world.log.isStuck = true;
    expect(() => world.flush(buffer)).toThrow(/not durable up to/u);
    expect(world.take().filter((event) => event.startsWith("write"))).toEqual([]);
    world.log.isStuck = false;
    world.flush(buffer);
    expect(world.storedValue(TABLE, 0)).toBe(9);
    expect(world.state(buffer) & STATE.ioError).toBe(0);
  });

  test("reports a file that is missing, and tries again later", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    const buffer = world.dirty(TABLE, 0, 9);
    // A block of a segment that is not there, as after somebody has removed files behind our back.
    world.hook = (point) => {
      if (point === "flush:before-write") throw new Error("stopped here");
    };
    expect(() => world.flush(buffer)).toThrow(expect.objectContaining({ code: "ERR_BUFFER_WRITE" }));
    world.hook = () => undefined;
    expect(world.has(buffer, STATE.dirty | STATE.ioError)).toBe(true);
    world.flush(buffer);
    expect(world.storedValue(TABLE, 0)).toBe(9);
  });

  test("of more pages at a time than there are scratch frames writes them all", async () => {
    await using world = new WriteWorld({ ...options, buffers: 256 });
    const blocks = SCRATCH_FRAMES + 20;
    world.create(TABLE, blocks);
    const { context, locks, writer } = world.backend;
    const buffers = Array.from({ length: blocks }, (_, block) => {
      const buffer = world.load(TABLE, block);
      world.change(buffer, block & 0x7f);
      return buffer;
    });
    // A backend notes a limited number of locks; two flows of one thread may hold the same page's.
    const flush = async (buffer: number): Promise<void> => {
      await context.waiter.runAsync(writer.flush(buffer, CONTEXT.normal));
    };
    await Promise.all([...buffers, ...buffers.slice(0, 10)].map(flush));
    expect(locks.heldCount).toBe(0);
    for (const [block, buffer] of buffers.entries()) {
      expect(world.storedValue(TABLE, block)).toBe(block & 0x7f);
      expect(world.state(buffer) & STATE.dirty).toBe(0);
      context.pins.unpin(buffer);
    }
    expect(world.take().filter((event) => event.startsWith("write"))).toHaveLength(blocks);
  });
});

// Aim: when a thread dies while it completes a write, another completes it again, and what is done already stays as it is.
// Method: the callbacks are called twice for one write, whose second buffer is under another I/O by then.
test("completing a write twice ends each buffer's part once", async () => {
  await using world = new WriteWorld({ aio: { method: "sync" } });
  world.create(TABLE, 2);
  const { context, ioLocks } = world.backend;
  const { headers } = context;
  const buffers = [0, 1].map((block) => world.dirty(TABLE, block, 1));
  const callbacks = createWriteCallbacks(headers);
  const io = { handle: 3, generation: 7, dataLength: 2, dataAt: (index: number) => buffers[index] } as IoView;
  for (const buffer of buffers) expect(ioLocks.tryStart(buffer, false, true)).toBe(IO_LOCK.started);
  callbacks.stage?.(io, 0);
  for (const buffer of buffers) {
    const state = headers.lock(buffer);
    headers.unlock(buffer, state & ~STATE.justDirtied);
  }
  const complete = (): unknown =>
    callbacks.completeShared?.(io, { callback: 0, status: "ok", error: 0, result: 2 }, 0);
  complete();
  const [first = -1, second = -1] = buffers;
  setDirty(headers, second);
  expect(ioLocks.tryStart(second, false, true)).toBe(IO_LOCK.started);
  handOverToIo(headers, second, { handle: 4, generation: 7 });
  complete();
  expect(refcountOf(world.state(first))).toBe(0);
  expect(world.has(second, STATE.ioInProgress | STATE.dirty)).toBe(true);
  terminateIo(headers, second, false, 0, true);
  expect(refcountOf(world.state(second))).toBe(0);
});

test("frames that a write does not use are free while it waits", async () => {
  await using world = new WriteWorld({ aio: { method: "sync" } });
  world.create(TABLE, 1);
  const { context, ioLocks, writer, locks } = world.backend;
  const buffer = world.load(TABLE, 0);
  world.change(buffer, 1);
  context.waiter.run(ioLocks.start(buffer, false, true));
  const run = context.waiter.run(writer.begin(buffer, 8));
  expect(writer.scratchCount).toBe(8);
  context.waiter.run(locks.lock(buffer, "shared"));
  writer.add(run, buffer);
  locks.unlock(buffer);
  let count = 0;
  world.hook = (point) => {
    if (point === "flush:after-wal") count = writer.scratchCount;
  };
  context.waiter.run(writer.start(run, CONTEXT.normal));
  expect(count).toBe(1);
  context.waiter.run(writer.finish(run));
  context.pins.unpin(buffer);
});

test("victims that a backend writes itself are hinted to the kernel if that is wanted", async () => {
  await using world = new WriteWorld({ aio: { method: "sync" }, buffers: 16 });
  world.create(TABLE, 40);
  const wanting = world.attach(true, { writeBackAfter: 4 });
  for (const backend of [world.backend, wanting]) {
    for (let block = 0; block < 40; block++) {
      const buffer = world.load(TABLE, block, FORK.main, backend);
      world.change(buffer, 1, backend);
      backend.context.pins.unpin(buffer);
    }
  }
  expect(world.hints.length).toBeGreaterThan(4);
  expect(world.context.counters.get(COUNTED.writeback, CONTEXT.normal, false).count).toBe(0);
  const hinted = wanting.context.counters.get(COUNTED.writeback, CONTEXT.normal, false).count;
  const written = wanting.context.counters.get(COUNTED.write, CONTEXT.normal, false).count;
  expect(hinted).toBe(written - (written % 4));
});

test("a thread that must not sleep is refused, without a trace, where it would wait for the WAL", async () => {
  await using world = new WriteWorld({ mayBlock: false, aio: { method: "sync" } });
  world.create(TABLE, 1);
  const { context, writer } = world.backend;
  const buffer = world.load(TABLE, 0);
  world.change(buffer, 3);
  const refused = expect.objectContaining({ code: "ERR_BUFFER_WOULD_BLOCK" });
  expect(() => context.waiter.run(writer.flush(buffer, CONTEXT.normal))).toThrow(refused);
  expect(world.state(buffer) & (STATE.ioError | STATE.ioInProgress)).toBe(0);
  await context.waiter.runAsync(writer.flush(buffer, CONTEXT.normal));
  expect(world.storedValue(TABLE, 0)).toBe(3);
  context.pins.unpin(buffer);
});

test("pages are marked dirty by who has them locked, and by nobody else", async () => {
  await using world = new WriteWorld({ aio: { method: "sync" } });
  world.create(TABLE, 1);
  const { context, locks, marks } = world.backend;
  const refused = expect.objectContaining({ code: "ERR_BUFFER_BAD_ID" });
  const buffer = world.load(TABLE, 0);
  expect(() => marks.mark(buffer)).toThrow(refused);
  expect(() => marks.markHint(buffer)).toThrow(refused);
  context.waiter.run(locks.lock(buffer, "shared"));
  expect(() => marks.mark(buffer)).toThrow(refused);
  marks.markHint(buffer);
  expect(world.has(buffer, STATE.dirty | STATE.justDirtied)).toBe(true);
  locks.unlock(buffer);
  context.pins.unpin(buffer);
  expect(() => marks.mark(buffer)).toThrow(refused);
});

test("a hint is logged before its page is dirty, once, and the page gets the image's LSN", async () => {
  await using world = new WriteWorld({ aio: { method: "sync" } });
  world.create(TABLE, 1);
  world.create(UNLOGGED, 1);
  const { context, locks, marks } = world.backend;
  const seen: [block: number, isDirty: boolean][] = [];
  const buffer = world.load(TABLE, 0);
  world.log.logHint = ({ block }) => {
    seen.push([block, world.has(buffer, STATE.dirty)]);
    return world.log.append();
  };
  context.waiter.run(locks.lock(buffer, "shared"));
  marks.markHint(buffer);
  marks.markHint(buffer);
  expect(seen).toEqual([[0, false]]);
  expect(world.lsn(buffer)).toBe(world.log.end);
  locks.unlock(buffer);
  const other = world.load(UNLOGGED, 0);
  context.waiter.run(locks.lock(other, "shared"));
  marks.markHint(other);
  expect(seen).toHaveLength(1);
  locks.unlock(other);
  for (const each of [buffer, other]) context.pins.unpin(each);
  world.flush(buffer);
  expect(world.take()).toEqual([`wal ${world.log.end}`, `write ${TABLE.relation}:0`]);
});

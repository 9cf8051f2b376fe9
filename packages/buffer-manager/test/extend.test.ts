/**
 * Extending relations: blocks of zeros, each with a buffer, and what happens when a file and the pool disagree.
 */
import { describe, expect, test } from "vitest";

import { STATE, usageOf } from "../src/buffer-state.js";
import { Extender } from "../src/extend.js";
import { IO_LOCK } from "../src/io-lock.js";
import { CONTEXT, COUNTED } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import { METHODS, PAGE } from "./data-directory.js";
import { TABLE, WriteWorld } from "./write-world.js";
import type { Backend } from "./write-world.js";

const options = { aio: { method: "sync" } } as const;

function extenderOf(backend: Backend, additionalPins = 16): Extender {
  const { context, allocator, locks, ioLocks, writer } = backend;
  return new Extender({ context, allocator, locks, ioLocks, writer, additionalPins: () => additionalPins });
}

function unpin(world: WriteWorld, buffers: readonly number[]): void {
  for (const buffer of buffers) world.context.pins.unpin(buffer);
}

describe.each(METHODS)("extending with method %s", (method) => {
  test("adds blocks of zeros, valid, clean and pinned, and the file has them", async () => {
    await using world = new WriteWorld({ aio: { method, required: true } });
    world.create(TABLE, 3);
    const extender = extenderOf(world.backend);
    const { waiter, headers, frames, counters } = world.context;
    const { first, buffers } = waiter.run(extender.extend(TABLE, { count: 5 }));
    expect([first, buffers.length]).toEqual([3, 5]);
    expect(world.directory.sizeOf(TABLE, 0)).toBe(8 * PAGE);
    for (const [index, buffer] of buffers.entries()) {
      expect(headers.hasTag(buffer, TABLE, FORK.main, 3 + index)).toBe(true);
      expect(world.state(buffer) & (STATE.dirty | STATE.ioInProgress | STATE.ioError)).toBe(0);
      expect(world.has(buffer, STATE.valid | STATE.tagValid | STATE.permanent)).toBe(true);
      expect(usageOf(world.state(buffer))).toBe(1);
      expect(frames.view(buffer).every((byte) => byte === 0)).toBe(true);
      expect(world.stored(TABLE, 3 + index).every((byte) => byte === 0)).toBe(true);
    }
    expect(counters.get(COUNTED.extend, CONTEXT.normal, false)).toMatchObject({ count: 1, bytes: 5 * PAGE });
    world.change(buffers[2] ?? -1, 9);
    unpin(world, buffers);
    world.flush(buffers[2] ?? -1);
    expect(world.stored(TABLE, 5)[100]).toBe(9);
  });
});

test("no more blocks are added than the backend should pin, and always one", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 0);
  const { waiter } = world.context;
  const two = waiter.run(extenderOf(world.backend, 2).extend(TABLE, { count: 5 }));
  expect([two.first, two.buffers.length]).toEqual([0, 2]);
  const one = waiter.run(extenderOf(world.backend, 0).extend(TABLE, { count: 5 }));
  expect([one.first, one.buffers.length]).toEqual([2, 1]);
  unpin(world, [...two.buffers, ...one.buffers]);
  expect(() => waiter.run(world.backend.extender.extend(TABLE, 0))).toThrow(RangeError);
  expect(() => waiter.run(world.backend.extender.extendTo(TABLE, 0.5))).toThrow(RangeError);
});

test("a fork that is not there is made if that is wanted, and its first page may be locked", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 1);
  const { waiter } = world.context;
  const extender = extenderOf(world.backend);
  const missing = expect.objectContaining({ code: "ERR_BUFFER_FILE" });
  expect(() => waiter.run(extender.extend(TABLE, { count: 1, fork: FORK.fsm }))).toThrow(missing);
  expect(world.freeBuffers()).toHaveLength(64);
  const wish = { fork: FORK.fsm, createFork: true, lockFirst: true, skipLock: true };
  const { first, buffers } = waiter.run(extender.extend(TABLE, { ...wish, count: 2 }));
  expect([first, buffers.length]).toEqual([0, 2]);
  expect(buffers.map((buffer) => world.backend.locks.modeOf(buffer))).toEqual(["exclusive", undefined]);
  world.backend.locks.unlock(buffers[0] ?? -1);
  unpin(world, buffers);
});

test("a fork cannot have more blocks than there are numbers", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 0);
  world.context.files.blocks = () => 0xffff_fffe - 2;
  const { waiter } = world.context;
  const refused = expect.objectContaining({ code: "ERR_BUFFER_MAX_BLOCKS" });
  expect(() => waiter.run(extenderOf(world.backend).extend(TABLE, { count: 2 }))).toThrow(refused);
  expect(world.freeBuffers()).toHaveLength(64);
});

// Aim: an extension that failed leaves nothing that anybody trips over. Method: the file refuses; then it does not.
test("after a failure the blocks stay, not valid, and the next extension uses their buffers", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 1);
  const { waiter, files, headers } = world.context;
  const extender = extenderOf(world.backend);
  const zeroExtend = files.zeroExtend.bind(files);
  files.zeroExtend = () => {
    throw new Error("the disk is full");
  };
  expect(() => waiter.run(extender.extend(TABLE, { count: 3 }))).toThrow("the disk is full");
  const left = [1, 2, 3].map((block) => world.backend.allocator.mapping.lookup(TABLE, FORK.main, block));
  for (const buffer of left) {
    expect(world.has(buffer, STATE.tagValid | STATE.ioError)).toBe(true);
    expect(world.state(buffer) & (STATE.valid | STATE.ioInProgress)).toBe(0);
    world.context.frames.view(buffer).fill(7);
  }
  files.zeroExtend = zeroExtend;
  const { first, buffers } = waiter.run(extender.extend(TABLE, { count: 2 }));
  expect([first, buffers]).toEqual([1, left.slice(0, 2)]);
  for (const buffer of buffers) {
    expect(world.has(buffer, STATE.valid)).toBe(true);
    expect(world.state(buffer) & STATE.ioError).toBe(0);
    expect(headers.block(buffer)).toBeLessThan(3);
    expect(world.context.frames.view(buffer).every((byte) => byte === 0)).toBe(true);
  }
  unpin(world, buffers);
});

test("a zero page behind the end is used, and one with data is an error that loses nothing", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 4);
  const { waiter, frames } = world.context;
  const [zero, data] = [world.touch(TABLE, 1), world.touch(TABLE, 3)];
  frames.zero(zero);
  world.truncate(TABLE, 1);
  const extender = extenderOf(world.backend);
  const refused = expect.objectContaining({ code: "ERR_BUFFER_BEYOND_EOF_DATA" });
  expect(() => waiter.run(extender.extend(TABLE, { count: 3 }))).toThrow(refused);
  expect(world.has(data, STATE.valid)).toBe(true);
  expect(world.context.files.blocks(TABLE, FORK.main)).toBe(1);
  const { first, buffers } = waiter.run(extender.extend(TABLE, { count: 2 }));
  expect([first, buffers[0]]).toEqual([1, zero]);
  expect(world.has(zero, STATE.valid)).toBe(true);
  unpin(world, buffers);
});

test("a buffer that is being read behind the end is waited for", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 1);
  const reader = world.attach();
  const { allocator, context, ioLocks } = reader;
  const buffer = context.waiter.run(allocator.allocate(TABLE, FORK.main, 1, null, CONTEXT.normal));
  expect(ioLocks.tryStart(buffer, true)).toBe(IO_LOCK.started);
  const flow = extenderOf(world.backend).extend(TABLE, { count: 1 });
  expect(flow.next().value).toMatchObject({ kind: "word", event: "BufferIo" });
  ioLocks.abort(buffer);
  context.pins.unpin(buffer);
  const { buffers } = world.context.waiter.run(flow);
  expect(buffers).toEqual([buffer]);
  expect(world.has(buffer, STATE.valid)).toBe(true);
  unpin(world, buffers);
});

/**
 * Temporary relations as a whole: extended, written, dropped.
 */
import { createIoReturn } from "@millrace/aio";
import { describe, expect, test } from "vitest";

import { STATE } from "../src/buffer-state.js";
import { BLOCKS_MAX } from "../src/extension.js";
import type { ExtensionWish } from "../src/extension.js";
import { extendLocal } from "../src/local-extend.js";
import { dropLocal, flushLocal } from "../src/local-relations.js";
import { PAGE_BYTES } from "../src/settings.js";
import { CONTEXT, COUNTED } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import { turns } from "./busy-threads.js";
import { LocalWorld, OTHER, RELATION } from "./local-world.js";
import type { PlainFiles } from "./plain-files.js";

const code = (code: string): unknown => expect.objectContaining({ code });

describe("extending a temporary relation", () => {
  test("makes valid pages of zeros, as many as the pins allow", async () => {
    await using world = new LocalWorld(100);
    const { locals, context } = world;
    for (let buffer = 0; buffer < 30; buffer++) world.page(buffer).set([1, 2, 3], 4000);
    const extend = (count: number): ReturnType<typeof extendLocal> =>
      extendLocal(context, locals, RELATION, { count });
    const first = context.waiter.run(extend(10));
    expect([first.first, first.buffers.length]).toEqual([0, 10]);
    const second = context.waiter.run(extend(64));
    expect([second.first, second.buffers.length], "25 pins").toEqual([10, 15]);
    const third = context.waiter.run(extend(64));
    expect([third.first, third.buffers.length], "one in any case").toEqual([25, 1]);
    for (const buffer of [...first.buffers, ...second.buffers, ...third.buffers]) {
      expect(locals.isValid(buffer)).toBe(true);
      expect(world.page(buffer).every((byte) => byte === 0)).toBe(true);
      locals.unpin(buffer);
    }
    expect(world.files.extensions).toEqual([10, 15, 1]);
    expect(context.counters.get(COUNTED.extend, CONTEXT.normal, true)).toMatchObject({
      count: 3,
      bytes: 26 * PAGE_BYTES,
    });
    expect(locals.lookup(RELATION, FORK.main, 25)).toBe(third.buffers[0]);
  });

  test("takes over pages that a failed extension has left, and refuses those with data", async () => {
    await using world = new LocalWorld(100);
    const { locals, context } = world;
    const left = world.touch(0);
    const { buffers } = context.waiter.run(extendLocal(context, locals, RELATION, { count: 1 }));
    expect(buffers).toEqual([left]);
    expect(locals.pinCount(left)).toBe(1);
    locals.unpin(left);
    const full = world.read(2);
    world.fill(full, 3);
    locals.unpin(full);
    expect(() => context.waiter.run(extendLocal(context, locals, RELATION, { count: 2 }))).toThrow(
      code("ERR_BUFFER_BEYOND_EOF_DATA"),
    );
    expect([world.value(full), locals.pinnedCount, world.files.extensions]).toEqual([3, 0, [1]]);
  });

  test("goes no further than is wanted, and makes a fork if it is to", async () => {
    await using world = new LocalWorld(100);
    const { locals, context } = world;
    const extend = (wish: ExtensionWish): ReturnType<typeof extendLocal> =>
      extendLocal(context, locals, RELATION, wish);
    const { first, buffers } = context.waiter.run(extend({ count: 5, upTo: 3 }));
    expect([first, buffers.length, locals.pinnedCount]).toEqual([0, 3, 3]);
    const none = context.waiter.run(extend({ count: 5, upTo: 2 }));
    expect([none.first, none.buffers, locals.pinnedCount]).toEqual([3, [], 3]);
    expect(world.files.extensions, "nothing to add is not added").toEqual([3]);
    world.files.exists = () => false;
    world.files.blocks = () => expect.unreachable("a fork that is not there has no size");
    const made = context.waiter.run(extend({ count: 1, fork: FORK.fsm, createFork: true }));
    expect(made.first).toBe(0);
    for (const buffer of [...buffers, ...made.buffers]) locals.unpin(buffer);
  });

  // Aim: a page that is being read behind the end is not spoilt by that read. Method: the read is held in its worker while
  // another flow of the thread extends by that block.
  test("waits for a read that is under way behind the end", async () => {
    await using world = new LocalWorld(100, "worker", false);
    const { locals, context } = world;
    const buffer = await context.waiter.runAsync(locals.allocate(RELATION, FORK.main, 0));
    using hold = world.pool.aio.faults.arm({ point: "hold", operation: "readv", times: 1 });
    const { aio, ioScope, frames, waiter } = context;
    const slot = createIoReturn(() => {
      locals.terminateIo(buffer, false, STATE.ioError, true);
    });
    const handle = aio.acquire(ioScope, slot);
    const frame = locals.frame(buffer);
    const vector = {
      segment: frames.segmentIndexOf(frame),
      offsetBytes: frames.byteOffsetOf(frame),
      lengthBytes: PAGE_BYTES,
    };
    locals.stageIo(buffer, handle.ref());
    world.files.startRead(handle, RELATION, FORK.main, 0, [vector]);
    locals.unpin(buffer);
    await hold.arrived(1);
    let isDone = false;
    const extending = waiter.runAsync(extendLocal(context, locals, RELATION, { count: 1 })).finally(() => {
      isDone = true;
    });
    await turns();
    expect([isDone, world.files.extensions]).toEqual([false, []]);
    hold[Symbol.dispose]();
    expect(await extending).toEqual({ first: 0, buffers: [buffer] });
    expect(locals.state(buffer) & (STATE.valid | STATE.ioError)).toBe(STATE.valid);
    locals.unpin(buffer);
  });

  test("ends where block numbers end", async () => {
    await using world = new LocalWorld(100);
    const files = Object.create(world.files, { blocks: { value: () => BLOCKS_MAX - 2 } }) as PlainFiles;
    const context = { ...world.context, files };
    const extend = (count: number): unknown =>
      context.waiter.run(extendLocal(context, world.locals, RELATION, { count }));
    expect(() => extend(2)).toThrow(code("ERR_BUFFER_MAX_BLOCKS"));
    expect(world.locals.pinnedCount).toBe(0);
  });
});

describe("dropping a temporary relation", () => {
  test("forgets pages from a block on, unwritten, and refuses pinned ones", async () => {
    await using world = new LocalWorld(100);
    const { locals, context } = world;
    for (let block = 0; block < 6; block++) world.fill(world.touch(block), block + 1);
    world.touch(3, OTHER);
    const pinned = world.read(5);
    const drop = (from: number): number =>
      context.waiter.run(
        dropLocal(locals, RELATION, [
          { fork: FORK.vm, from: 0 },
          { fork: FORK.main, from },
        ]),
      );
    expect(() => drop(3)).toThrow(code("ERR_BUFFER_PINNED_IN_DROP"));
    locals.unpin(pinned);
    expect(drop(3), "the first two have gone").toBe(1);
    const left = [0, 1, 2, 3, 4, 5].map((block) => locals.lookup(RELATION, FORK.main, block) >= 0);
    expect(left).toEqual([true, true, true, false, false, false]);
    expect(locals.lookup(OTHER, FORK.main, 3)).toBeGreaterThanOrEqual(0);
    expect(context.waiter.run(flushLocal(locals, RELATION))).toBe(3);
    expect(context.waiter.run(flushLocal(locals, RELATION)), "all are clean").toBe(0);
    expect([0, 1, 2, 3, 4, 5].map((block) => world.stored(block))).toEqual([1, 2, 3, 0, 0, 0]);
  });
});

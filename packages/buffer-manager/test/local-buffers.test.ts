/**
 * Local buffers: the clock, the flags without locks, writes in place, and the bounds.
 */
import { verifyPage } from "@millrace/checksums";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { attachContext, detachContext } from "../src/backend-context.js";
import { REFCOUNT_MASK, refcountOf, STATE, usageOf } from "../src/buffer-state.js";
import { LocalBuffers } from "../src/local-buffers.js";
import { dropLocal, flushLocal } from "../src/local-relations.js";
import { SCRATCH_FRAMES } from "../src/layout.js";
import { PAGE_BYTES } from "../src/settings.js";
import { COUNTED } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import { LocalWorld, OTHER, RELATION } from "./local-world.js";
import { PlainFiles } from "./plain-files.js";

const code = (code: string): unknown => expect.objectContaining({ code });

describe("the bounds", () => {
  test("leave those who read ahead a quarter of the buffers", async () => {
    await using world = new LocalWorld(100);
    const { locals } = world;
    expect([locals.size, locals.pinLimit, locals.additionalPins]).toEqual([100, 25, 25]);
    for (let block = 0; block < 20; block++) world.read(block);
    expect([locals.pinnedCount, locals.additionalPins]).toEqual([20, 5]);
    for (let block = 20; block < 40; block++) world.read(block);
    expect(locals.additionalPins).toBe(0);
    expect(locals.pinnedBuffers()).toEqual(Array.from({ length: 40 }, (_, buffer) => buffer));
  });

  test("can be changed until the first use, within what the pool has reserved", async () => {
    await using world = new LocalWorld(200);
    expect(() => world.locals.setSize(99)).toThrow(RangeError);
    expect(() => world.locals.setSize(201)).toThrow(RangeError);
    world.locals.setSize(100);
    expect([world.locals.size, world.locals.isInUse]).toEqual([100, false]);
    world.touch(0);
    expect(() => world.locals.setSize(200)).toThrow(code("ERR_BUFFER_LOCAL_IN_USE"));
    world.locals.setSize(100);
    expect(world.locals.size).toBe(100);
  });

  test("make frames of different backends different, behind those of the pool", async () => {
    await using world = new LocalWorld(100);
    const other = attachContext(world.pool.shared, { files: () => world.files, mayBlock: true });
    const locals = new LocalBuffers(other);
    expect([world.locals.frame(0), world.locals.frame(99), locals.frame(0), locals.frame(99)]).toEqual([
      16 + 2 * SCRATCH_FRAMES,
      16 + 2 * SCRATCH_FRAMES + 99,
      16 + 2 * SCRATCH_FRAMES + 100,
      16 + 2 * SCRATCH_FRAMES + 199,
    ]);
    expect(world.context.frames.frameCount).toBe(16 + 2 * SCRATCH_FRAMES + 200);
    other.aio.detach();
    detachContext(other);
  });

  test("are met by an error when everything is pinned, which changes nothing", async () => {
    await using world = new LocalWorld(100);
    for (let block = 0; block < 100; block++) world.read(block);
    expect(() => world.read(100)).toThrow(code("ERR_BUFFER_NO_LOCAL"));
    expect(world.locals.lookup(RELATION, FORK.main, 100)).toBe(-1);
    world.locals.unpin(42);
    expect(world.read(100)).toBe(42);
    expect(() => world.locals.unpin(43 - 100)).toThrow(code("ERR_BUFFER_BAD_ID"));
  });
});

describe("the clock", () => {
  test("fills the buffers in order, then lowers usage counts until it finds one that is nought", async () => {
    await using world = new LocalWorld(100);
    for (let block = 0; block < 100; block++) expect(world.touch(block)).toBe(block);
    for (let time = 0; time < 6; time++) world.touch(0);
    world.touch(1);
    const usage = (buffer: number): number => usageOf(world.locals.state(buffer));
    expect([usage(0), usage(1), usage(2)]).toEqual([5, 2, 1]);
    expect(world.touch(100), "0 and 1 are used more often").toBe(2);
    expect([usage(0), usage(1), usage(2), usage(3)]).toEqual([3, 0, 1, 0]);
    expect(world.touch(101)).toBe(3);
    const pinned = world.read(4);
    expect(world.touch(102), "a pinned buffer is passed over").toBe(5);
    expect(usage(pinned)).toBe(1);
    world.locals.unpin(pinned);
    expect(world.count(COUNTED.evict)).toBe(3);
    expect(world.locals.lookup(RELATION, FORK.main, 2)).toBe(-1);
  });

  test("counts a pin that is doubled once", async () => {
    await using world = new LocalWorld();
    const buffer = world.read(3);
    world.locals.pin(buffer);
    expect([usageOf(world.locals.state(buffer)), refcountOf(world.locals.state(buffer))]).toEqual([1, 1]);
    expect([world.locals.pinCount(buffer), world.locals.pinnedCount]).toEqual([2, 1]);
    world.locals.unpin(buffer);
    expect(world.locals.pinnedCount).toBe(1);
    world.locals.unpin(buffer);
    expect(() => world.locals.unpin(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
  });
});

describe("I/O", () => {
  test("has no lock that a second flow would see: only a page that is there, or an I/O, stops it", async () => {
    await using world = new LocalWorld();
    const { locals, context } = world;
    const buffer = context.waiter.run(locals.allocate(RELATION, FORK.main, 0));
    expect(context.waiter.run(locals.startIo(buffer, true))).toBe(true);
    expect(context.waiter.run(locals.startIo(buffer, true))).toBe(true);
    locals.stageIo(buffer, { handle: 0, generation: 1 });
    expect(locals.tryStartIo(buffer, true)).toBe(false);
    expect(refcountOf(locals.state(buffer)), "the I/O has a pin").toBe(2);
    expect(locals.startIo(buffer, true).next().value).toEqual({
      kind: "io",
      ref: { handle: 0, generation: 1 },
    });
    locals.terminateIo(buffer, false, STATE.valid, true);
    expect([locals.io(buffer), refcountOf(locals.state(buffer))]).toEqual([undefined, 1]);
    expect(context.waiter.run(locals.startIo(buffer, true))).toBe(false);
    expect(context.waiter.run(locals.startIo(buffer, false)), "it is clean").toBe(false);
  });

  test("writes a dirty victim, with its checksum, before the buffer is used again", async () => {
    await using world = new LocalWorld(100);
    const buffer = world.read(9);
    world.fill(buffer, 4711);
    world.locals.unpin(buffer);
    expect(world.stored(9)).toBe(0);
    for (let block = 100; block < 300; block++) world.touch(block);
    expect([world.stored(9), world.count(COUNTED.write)]).toEqual([4711, 1]);
    const bytes = new Uint8Array(PAGE_BYTES);
    world.files.readBlock(RELATION, FORK.main, 9, bytes);
    expect(verifyPage(bytes, 9)).toBe("valid");
    expect(world.value(world.read(9))).toBe(4711);
  });

  test("that fails leaves the page dirty and says why; it can be tried again", async () => {
    await using world = new LocalWorld(100);
    const buffer = world.read(9);
    world.fill(buffer, 1);
    {
      using _ = world.pool.aio.faults.arm({ point: "instead", operation: "writev", result: -5, times: 1 });
      expect(() => world.context.waiter.run(world.locals.flush(buffer))).toThrow(/EIO/);
    }
    const { dirty, ioError, valid } = STATE;
    expect(world.locals.state(buffer) & (dirty | ioError | valid)).toBe(dirty | ioError | valid);
    expect(world.locals.io(buffer)).toBeUndefined();
    expect(world.count(COUNTED.write)).toBe(0);
    world.locals.unpin(buffer);
    {
      using _ = world.pool.aio.faults.arm({ point: "instead", operation: "writev", result: -28 });
      expect(() => {
        for (let block = 100; block < 300; block++) world.touch(block);
      }).toThrow(/ENOSPC/);
      expect(world.locals.pinnedCount, "the victim is let go of").toBe(0);
    }
    expect(world.read(9)).toBe(buffer);
    world.context.waiter.run(world.locals.flush(buffer));
    expect(world.locals.state(buffer) & (dirty | ioError)).toBe(0);
    expect(world.stored(9)).toBe(1);
    world.locals.unpin(buffer);
    expect(world.context.aio.idleCount).toBe(world.context.aio.concurrency);
  });

  test("that the file layer refuses gives the handle and the I/O's pin back", async () => {
    await using world = new LocalWorld(100);
    const buffer = world.read(9);
    world.fill(buffer, 1);
    const { context, locals } = world;
    const files = Object.create(world.files, {
      startWrite: {
        value: () => {
          throw new Error("no such file");
        },
      },
    }) as PlainFiles;
    const other = new LocalBuffers({ ...context, files });
    const victim = context.waiter.run(other.allocate(RELATION, FORK.main, 1));
    other.markDirty(victim);
    expect(() => context.waiter.run(other.flush(victim))).toThrow("no such file");
    expect([other.io(victim), refcountOf(other.state(victim))]).toEqual([undefined, 1]);
    expect(context.aio.idleCount).toBe(context.aio.concurrency);
    context.waiter.run(locals.flush(buffer));
  });

  // Aim: what is dirtied under a write is written again. Method: an I/O worker is held before it writes.
  test("keeps a page dirty that changes while it is written, and makes others wait for the write", async () => {
    await using world = new LocalWorld(100, "worker", false);
    const { locals, context } = world;
    const buffer = await context.waiter.runAsync(locals.allocate(RELATION, FORK.main, 2));
    locals.terminateIo(buffer, false, STATE.valid, false);
    world.fill(buffer, 1);
    const hold = world.files.lease(RELATION, FORK.main);
    const fault = world.pool.aio.faults.arm({ point: "hold", operation: "writev", fd: hold.fd });
    const first = context.waiter.runAsync(locals.flush(buffer));
    await fault.arrived(1);
    world.fill(buffer, 2);
    const second = context.waiter.runAsync(locals.flush(buffer));
    expect(() => context.waiter.run(locals.flush(buffer))).toThrow(code("ERR_BUFFER_WOULD_BLOCK"));
    fault[Symbol.dispose]();
    await first;
    await second;
    expect([world.stored(2), world.count(COUNTED.write)]).toEqual([2, 2]);
    expect(locals.state(buffer) & (STATE.dirty | REFCOUNT_MASK)).toBe(1);
    locals.unpin(buffer);
  });

  // Aim: an I/O whose flow is gone ends all the same. Method: the flow is ended where it waits for its write.
  test("is ended by its completion when nobody waits for it any more", async () => {
    await using world = new LocalWorld(100, "worker");
    const { locals, context } = world;
    const buffer = world.read(2);
    world.fill(buffer, 8);
    const flow = locals.flush(buffer);
    const { value } = flow.next();
    expect(value).toMatchObject({ kind: "io" });
    expect(refcountOf(locals.state(buffer))).toBe(2);
    expect(() => flow.throw(new Error("cancelled"))).toThrow("cancelled");
    expect(locals.tryStartIo(buffer, false), "it is still written").toBe(false);
    context.waiter.run(locals.startIo(buffer, false));
    expect(locals.io(buffer)).toBeUndefined();
    expect(locals.state(buffer) & (STATE.dirty | REFCOUNT_MASK)).toBe(1);
    locals.unpin(buffer);
    expect(world.stored(2)).toBe(8);
  });
});

// Aim: no page is ever lost or mixed up. Method: random reads, changes, flushes, drops and pins of two relations with twice
// as many blocks as buffers; the model is a map from block to number.
test("local buffers agree with a map of blocks", async () => {
  const step = fc.record({
    what: fc.constantFrom("read", "read", "write", "write", "write", "pin", "unpin", "flush", "drop"),
    other: fc.boolean(),
    block: fc.nat(99),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 300, maxLength: 700, size: "max" }), async (steps) => {
      await using world = new LocalWorld(100);
      const model = new Map<string, number>();
      const pinned: number[] = [];
      let next = 1;
      for (const { what, other, block } of steps) {
        const relation = other ? OTHER : RELATION;
        const key = `${other} ${block}`;
        if (what === "read") expect(world.value(world.touch(block, relation))).toBe(model.get(key) ?? 0);
        else if (what === "write") {
          const buffer = world.read(block, relation);
          world.fill(buffer, (next += 1));
          model.set(key, next);
          world.locals.unpin(buffer);
        } else if (what === "pin" && pinned.length < 50) pinned.push(world.read(block, relation));
        else if (what === "unpin" && pinned.length > 0) world.locals.unpin(pinned.pop() as number);
        else if (what === "flush") world.context.waiter.run(flushLocal(world.locals, relation));
        else if (what === "drop" && pinned.length === 0) {
          // As a truncation does, the file first: what was in it is gone too.
          for (let gone = block; gone < 100; gone++) model.delete(`${other} ${gone}`);
          world.context.waiter.run(dropLocal(world.locals, relation, [{ fork: FORK.main, from: block }]));
          world.files.truncate(relation, FORK.main, block);
        }
      }
      for (let block = 0; block < 100; block++) {
        expect(world.value(world.touch(block))).toBe(model.get(`false ${block}`) ?? 0);
      }
      for (const buffer of pinned) world.locals.unpin(buffer);
      expect(world.locals.pinnedCount).toBe(0);
    }),
    { numRuns: 15 },
  );
});

/**
 * Dropping, flushing and evicting: many pages at once, by relation, by database, or all.
 */
import { describe, expect, test } from "vitest";

import { STATE } from "../src/buffer-state.js";
import { setDirty } from "../src/dirty.js";
import { allForks, Dropper } from "../src/drop.js";
import { evict, evictAll, evictRelation } from "../src/evict.js";
import { flushDatabase, flushRelation } from "../src/flush-pages.js";
import { IO_LOCK, terminateIo } from "../src/io-lock.js";
import { STRATEGY } from "../src/layout.js";
import { CONTEXT } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import type { Relation } from "../src/tag.js";
import { METHODS } from "./data-directory.js";
import { OTHER, TABLE, UNLOGGED, WriteWorld } from "./write-world.js";
import type { Backend } from "./write-world.js";

const options = { aio: { method: "sync" } } as const;
const ELSEWHERE: Relation = { ...TABLE, database: 6 };

function dropperOf({ context, allocator, ioLocks }: Backend): Dropper {
  return new Dropper({ context, allocator, ioLocks });
}

function writes(world: WriteWorld): string[] {
  return world.take().filter((event) => event.startsWith("write"));
}

describe("dropping", () => {
  // Aim: by a scan and by lookups the same pages go, unwritten, and their buffers come first. Method: the sizes are known to
  // be right and few, or not known.
  test.each([
    ["looks through the pool", undefined],
    ["looks blocks up", 13],
  ])("a fork from a block on %s", async (_, blocks) => {
    await using world = new WriteWorld({ ...options, buffers: 256 });
    world.create(TABLE, 20);
    world.create(TABLE, 20, FORK.vm);
    world.create(OTHER, 20);
    const [nine = -1, ...gone] = [9, 10, 11, 12].map((block) => world.touch(TABLE, block));
    const vm = world.touch(TABLE, 11, FORK.vm);
    const other = world.touch(OTHER, 11);
    world.dirty(TABLE, 11, 5);
    const forks = [{ fork: FORK.main, from: 10, ...(blocks === undefined ? {} : { blocks }) }];
    const { waiter, words, layout } = world.context;
    expect(waiter.run(dropperOf(world.backend).dropForks(TABLE, forks))).toBe(3);
    expect(writes(world)).toEqual([]);
    for (const buffer of gone) expect(world.state(buffer)).toBe(0);
    for (const buffer of [nine, vm, other])
      expect(world.has(buffer, STATE.valid | STATE.tagValid)).toBe(true);
    expect(world.freeBuffers().slice(0, 3)).toEqual(gone.toReversed());
    expect(words[layout.strategyAt + STRATEGY.firstFree]).toBe((gone.at(-1) ?? -1) + 1);
    expect(world.backend.allocator.mapping.lookup(TABLE, FORK.main, 11)).toBe(-1);
    expect(waiter.run(dropperOf(world.backend).dropForks(TABLE, allForks()))).toBe(2);
  });

  test("relations, few or many, and a database takes their pages and no others'", async () => {
    await using world = new WriteWorld({ ...options, buffers: 256 });
    const relations = Array.from({ length: 30 }, (_, at): Relation => ({ ...TABLE, relation: 20_000 + at }));
    const buffers = relations.map((relation) => {
      world.create(relation, 1);
      return world.touch(relation, 0);
    });
    world.create(ELSEWHERE, 1);
    const elsewhere = world.touch(ELSEWHERE, 0);
    const { waiter } = world.context;
    const dropper = dropperOf(world.backend);
    expect(waiter.run(dropper.dropRelations([]))).toBe(0);
    expect(waiter.run(dropper.dropRelations(relations.slice(0, 2)))).toBe(2);
    expect(waiter.run(dropper.dropRelations(relations.slice(4).toReversed()))).toBe(26);
    const left = buffers.filter((buffer) => world.has(buffer, STATE.valid));
    expect(left).toEqual(buffers.slice(2, 4));
    expect(waiter.run(dropper.dropDatabase(TABLE.database))).toBe(2);
    expect(world.has(elsewhere, STATE.valid)).toBe(true);
    expect(world.freeBuffers()).toHaveLength(255);
  });

  test("a page that the caller has pinned is refused, one that others have is waited for", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 2);
    const { waiter, pins } = world.context;
    const dropper = dropperOf(world.backend);
    const buffer = world.load(TABLE, 1);
    const refused = expect.objectContaining({ code: "ERR_BUFFER_PINNED_IN_DROP" });
    expect(() => waiter.run(dropper.dropForks(TABLE, allForks()))).toThrow(refused);
    expect(world.has(buffer, STATE.valid)).toBe(true);
    pins.unpin(buffer);
    const other = world.attach();
    other.context.pins.pin(buffer);
    const flow = dropper.dropForks(TABLE, allForks());
    expect(flow.next().value).toMatchObject({ kind: "word", event: "BufferPin", timeoutMs: 1 });
    other.context.pins.unpin(buffer);
    expect(waiter.run(flow)).toBe(1);
  });

  test("on an event loop a pin of another flow is waited for, and refused where that is not possible", async () => {
    await using world = new WriteWorld({ ...options, mayBlock: false });
    world.create(TABLE, 1);
    const { waiter, pins } = world.context;
    const dropper = dropperOf(world.backend);
    const buffer = world.load(TABLE, 0);
    const refused = expect.objectContaining({ code: "ERR_BUFFER_PINNED_IN_DROP" });
    expect(() => waiter.run(dropper.dropForks(TABLE, allForks()))).toThrow(refused);
    const dropped = waiter.runAsync(dropper.dropForks(TABLE, allForks()));
    pins.unpin(buffer);
    expect(await dropped).toBe(1);
  });

  test("a read in flight is waited for, and its page goes", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    const { allocator, context, ioLocks } = world.attach();
    const buffer = context.waiter.run(allocator.allocate(TABLE, FORK.main, 0, null, CONTEXT.normal));
    expect(ioLocks.tryStart(buffer, true)).toBe(IO_LOCK.started);
    const flow = dropperOf(world.backend).dropForks(TABLE, allForks());
    expect(flow.next().value).toMatchObject({ kind: "word", event: "BufferIo" });
    terminateIo(context.headers, buffer, false, STATE.valid, false);
    context.pins.unpin(buffer);
    expect(world.context.waiter.run(flow)).toBe(1);
    expect(world.state(buffer)).toBe(0);
  });
});

describe.each(METHODS)("with method %s", (method) => {
  const options = { aio: { method, required: true } } as const;

  test("flushing a relation or a database writes its dirty pages, also unlogged ones", async () => {
    await using world = new WriteWorld(options);
    for (const relation of [TABLE, OTHER, UNLOGGED, ELSEWHERE]) world.create(relation, 8);
    for (const block of [3, 1, 2, 6]) world.dirty(TABLE, block, block + 1);
    const rest = [world.dirty(OTHER, 1, 1), world.dirty(UNLOGGED, 1, 1), world.dirty(ELSEWHERE, 1, 1)];
    world.take();
    const { waiter } = world.context;
    expect(waiter.run(flushRelation(world.parts, TABLE))).toBe(4);
    expect(writes(world)).toEqual([`write ${TABLE.relation}:1+3`, `write ${TABLE.relation}:6`]);
    for (const block of [1, 2, 3, 6]) expect(world.storedValue(TABLE, block)).toBe(block + 1);
    expect(waiter.run(flushDatabase(world.parts, TABLE.database))).toBe(2);
    expect(rest.map((buffer) => world.has(buffer, STATE.dirty))).toEqual([false, false, true]);
  });

  test("evicting leaves what is in use, writes what is dirty, and frees nothing", async () => {
    await using world = new WriteWorld({ ...options, buffers: 16 });
    world.create(TABLE, 20);
    world.create(OTHER, 4);
    const { allocator } = world.backend;
    const parts = { ...world.parts, allocator };
    const { waiter, pins, headers } = world.context;
    const run = (buffer: number): unknown => waiter.run(evict(parts, buffer));
    const pinned = world.load(TABLE, 0);
    const dirty = world.dirty(TABLE, 1, 9);
    const clean = world.touch(TABLE, 2);
    world.change(pinned, 1);
    expect(run(pinned), "it is not even written").toEqual({ evicted: false, flushed: false });
    world.flush(pinned);
    expect(run(15), "it holds nothing").toEqual({ evicted: false, flushed: false });
    expect(run(dirty)).toEqual({ evicted: true, flushed: true });
    expect(world.storedValue(TABLE, 1)).toBe(9);
    expect(run(clean)).toEqual({ evicted: true, flushed: false });
    world.hook = (point, _, buffer) => {
      if (point === "flush:before-write") setDirty(headers, buffer);
    };
    const again = world.dirty(TABLE, 3, 4);
    expect(run(again), "dirty again while it was written").toEqual({ evicted: false, flushed: true });
    world.hook = () => undefined;
    world.dirty(OTHER, 0, 1);
    world.touch(OTHER, 1);
    expect(waiter.run(evictRelation(parts, OTHER))).toEqual({ evicted: 2, flushed: 1, skipped: 0 });
    for (let block = 4; block < 20; block++) world.touch(TABLE, block);
    expect(world.freeBuffers()).toEqual([]);
    expect(waiter.run(evictAll(parts))).toEqual({ evicted: 15, flushed: 0, skipped: 1 });
    expect(world.freeBuffers()).toEqual([]);
    const { hand } = allocator.sweep.syncStart();
    const expected = hand === pinned ? hand + 1 : hand;
    expect(world.touch(TABLE, 7), "the next one is where the hand is").toBe(expected);
    pins.unpin(pinned);
  });
});

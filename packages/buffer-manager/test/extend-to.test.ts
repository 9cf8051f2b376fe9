/**
 * Extending to a size: the last page is the caller's in any case, whoever has made it, and as the mode wants it.
 */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { refcountOf, STATE } from "../src/buffer-state.js";
import { Extender } from "../src/extend.js";
import { BufferPool } from "../src/pool.js";
import { RelationExtender } from "../src/relation-extender.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { CONTEXT, COUNTED } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import type { Relation } from "../src/tag.js";
import { blockOf, DataDirectory, makePage, METHODS, PAGE, TABLE } from "./data-directory.js";
import { WriteWorld } from "./write-world.js";
import type { Backend } from "./write-world.js";

const options = { aio: { method: "sync" } } as const;
const code = (code: string): unknown => expect.objectContaining({ code });

function extenderOf(backend: Backend, additionalPins = 16): RelationExtender {
  const { context, allocator, locks, ioLocks, writer } = backend;
  const parts = { context, allocator, locks, ioLocks, writer, additionalPins: () => additionalPins };
  return new RelationExtender(backend, new Extender(parts));
}

describe("a relation that is shorter", () => {
  test("is extended in chunks, and only the last block stays pinned", async () => {
    await using world = new WriteWorld({ ...options, buffers: 512, segmentBlocks: 150 });
    world.create(TABLE, 0);
    const { waiter, pins, headers, counters, files } = world.context;
    const buffer = waiter.run(extenderOf(world.backend, 1000).extendTo(TABLE, 200, { mode: "zeroAndLock" }));
    expect(headers.hasTag(buffer - 1, TABLE, FORK.main, 199)).toBe(true);
    expect(pins.buffers()).toEqual([buffer - 1]);
    expect(world.backend.locks.modeOf(buffer - 1)).toBe("exclusive");
    expect(files.blocks(TABLE, FORK.main)).toBe(200);
    expect(counters.get(COUNTED.extend, CONTEXT.normal, false)).toMatchObject({
      count: 4,
      bytes: 200 * PAGE,
    });
    world.backend.locks.unlock(buffer - 1);
    pins.unpin(buffer - 1);
  });

  test.each(["normal", "zeroOnError"] as const)("has its last page unlocked in mode %s", async (mode) => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 1);
    const { waiter, pins } = world.context;
    const buffer = waiter.run(extenderOf(world.backend).extendTo(TABLE, 3, { mode }));
    expect(world.backend.locks.heldCount).toBe(0);
    expect(world.has(buffer - 1, STATE.valid)).toBe(true);
    pins.unpin(buffer - 1);
  });

  // Aim: two who extend do not get the same block, and who comes second frees what it does not need. Method: the second takes
  // its victims, and then waits for the extension lock while the first extends.
  test("by somebody else at the same time is waited for, and buffers that are too many are freed", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 0);
    const second = world.attach();
    const targets = [4, 2].map((blocks) => extenderOf(second).extendTo(TABLE, blocks));
    const { waiter } = world.context;
    world.hook = (point, backend) => {
      if (point !== "extend:locked" || backend !== world.context.id) return;
      for (const target of targets) {
        expect(target.next().value).toMatchObject({ kind: "word", event: "RelationExtension" });
      }
    };
    const { buffers: early } = waiter.run(extenderOf(world.backend).extend(TABLE, 3));
    world.hook = () => undefined;
    const [fourth = 0, known = 0] = targets.map((target) => second.context.waiter.run(target));
    expect(world.context.headers.hasTag(fourth - 1, TABLE, FORK.main, 3)).toBe(true);
    expect(known, "the second block is there by now").toBe(early[1]);
    expect(refcountOf(world.state(known - 1))).toBe(2);
    expect(world.context.files.blocks(TABLE, FORK.main)).toBe(4);
    for (const buffer of [fourth, known]) second.context.pins.unpin(buffer - 1);
    for (const buffer of early) world.context.pins.unpin(buffer - 1);
    expect(world.freeBuffers(), "of six victims two were used for nothing").toHaveLength(64 - 4);
  });
});

describe.each(METHODS)("a relation that has so many blocks, with method %s,", (method) => {
  test("has the block read", async () => {
    await using world = new WriteWorld({ aio: { method, required: true } });
    world.create(TABLE, 5);
    const { waiter, frames, pins, counters, files } = world.context;
    const extender = extenderOf(world.backend);
    for (let round = 1; round <= 2; round++) {
      const buffer = waiter.run(extender.extendTo(TABLE, 4));
      expect(blockOf(frames.view(buffer - 1))).toBe(3);
      expect(pins.count(buffer - 1)).toBe(1);
      pins.unpin(buffer - 1);
    }
    expect(counters.get(COUNTED.read, CONTEXT.normal, false).count, "once").toBe(1);
    expect(counters.get(COUNTED.extend, CONTEXT.normal, false).count).toBe(0);
    expect(files.blocks(TABLE, FORK.main)).toBe(5);
  });

  test("has it zeroed and locked unless it is cached, where the mode says so", async () => {
    await using world = new WriteWorld({ aio: { method, required: true } });
    world.create(TABLE, 5);
    const { waiter, frames, pins } = world.context;
    const { locks } = world.backend;
    const extender = extenderOf(world.backend);
    const cached = world.touch(TABLE, 2);
    for (const mode of ["zeroAndLock", "zeroAndCleanupLock"] as const) {
      const buffer = waiter.run(extender.extendTo(TABLE, 3, { mode })) - 1;
      expect([buffer, locks.modeOf(buffer), blockOf(frames.view(buffer))]).toEqual([cached, "exclusive", 2]);
      locks.unlock(buffer);
      pins.unpin(buffer);
    }
    const zeroed = waiter.run(extender.extendTo(TABLE, 4, { mode: "zeroAndLock" })) - 1;
    expect(locks.modeOf(zeroed)).toBe("exclusive");
    expect(frames.view(zeroed).every((byte) => byte === 0)).toBe(true);
    locks.unlock(zeroed);
    pins.unpin(zeroed);
  });

  test("fails as the read of the block does, and pins nothing", async () => {
    await using world = new WriteWorld({ aio: { method, required: true } });
    world.create(TABLE, 2);
    world.directory.writeBlock(TABLE, 1, makePage(1, { header: true }));
    const { waiter, frames, pins } = world.context;
    const extender = extenderOf(world.backend);
    expect(() => waiter.run(extender.extendTo(TABLE, 2))).toThrow(code("ERR_BUFFER_INVALID_PAGE"));
    expect(pins.pinnedCount).toBe(0);
    const buffer = waiter.run(extender.extendTo(TABLE, 2, { mode: "zeroOnError" })) - 1;
    expect(frames.view(buffer).every((byte) => byte === 0)).toBe(true);
    pins.unpin(buffer);
  });
});

/** A temporary relation of the pool's second backend. */
const TEMPORARY: Relation = { ...TABLE, relation: 16_700, persistence: "temporary", owner: 1 };

describe.each(METHODS)("a temporary relation with method %s", (method) => {
  async function withManager(
    mayBlock: boolean,
    body: (manager: BufferManager, directory: DataDirectory) => Promise<void>,
  ): Promise<void> {
    using directory = new DataDirectory();
    directory.writeBlocks(TABLE, 1);
    const aio = { method, required: true };
    await using pool = BufferPool.create({ buffers: 64, backends: 2, localBuffers: 100, aio });
    const files = segmentedFiles({ directory: directory.path });
    await using _ = BufferManager.attach(pool.shared, { files, mayBlock });
    await using manager = BufferManager.attach(pool.shared, { files, mayBlock });
    await body(manager, directory);
  }

  const value = (directory: DataDirectory, block: number): number =>
    readFileSync(directory.segment(TEMPORARY, 0))[block * PAGE + 100] as number;

  test("is extended, changed, written, read again and dropped by its numbers", async () => {
    await withManager(true, async (manager, directory) => {
      const { first, buffers } = manager.extend(TEMPORARY, 3, { createFork: true });
      expect([first, buffers]).toEqual([0, [-1, -2, -3]]);
      const last = manager.extendTo(TEMPORARY, 40);
      expect(manager.tag(last)).toMatchObject({ relation: TEMPORARY.relation, block: 39 });
      for (const [index, buffer] of [...buffers, last].entries()) {
        manager.lock(buffer, "exclusive");
        expect([manager.tryLock(buffer, "exclusive"), manager.tryLockForCleanup(buffer)]).toEqual([
          true,
          true,
        ]);
        manager.page(buffer).set(makePage(manager.tag(buffer).block));
        manager.page(buffer)[100] = index + 1;
        if (index === 0) manager.markDirtyHint(buffer);
        else manager.markDirty(buffer);
        manager.unlock(buffer);
        if (index > 0) manager.release(buffer);
      }
      const [firstBuffer = 0] = buffers;
      manager.flush(firstBuffer);
      expect([0, 1, 39].map((block) => value(directory, block))).toEqual([1, 0, 0]);
      expect(manager.flushRelation(TEMPORARY)).toBe(3);
      expect([0, 1, 2, 39].map((block) => value(directory, block))).toEqual([1, 2, 3, 4]);
      expect(manager.extendTo(TEMPORARY, 3), "it is there already").toBe(-3);
      expect(manager.page(-3)[100]).toBe(3);
      manager.release(-3);
      manager.pinAgain(firstBuffer);
      expect([manager.isCleanupOk(firstBuffer), manager.tryLockForCleanup(firstBuffer)]).toEqual([
        false,
        false,
      ]);
      expect(() => manager.lockForCleanup(firstBuffer)).toThrow(code("ERR_BUFFER_PIN_COUNT"));
      manager.release(firstBuffer);
      manager.lockForCleanup(firstBuffer);
      expect(() => manager.dropRelations([TEMPORARY, TABLE])).toThrow(code("ERR_BUFFER_PINNED_IN_DROP"));
      manager.release(firstBuffer);
      const bad = code("ERR_BUFFER_BAD_ID");
      expect(() => manager.lock(firstBuffer, "shared")).toThrow(bad);
      expect(() => manager.tryLock(firstBuffer, "shared")).toThrow(bad);
      expect(() => manager.unlock(firstBuffer)).toThrow(bad);
      expect(() => manager.flush(firstBuffer)).toThrow(bad);
      expect(() => manager.markDirty(firstBuffer)).toThrow(bad);
      expect(manager.dropForks(TEMPORARY, [{ fork: FORK.main, from: 39 }])).toBe(1);
      expect(manager.dropRelations([TEMPORARY, TABLE])).toBe(39);
      expect(manager.tryRead(TEMPORARY, 0)).toBe(0);
      await Promise.resolve();
    });
  });

  test("is extended and written without sleeping, in scopes", async () => {
    await withManager(false, async (manager, directory) => {
      const scope = manager.openScope();
      const { buffers } = await manager.extendAsync(TEMPORARY, 2, { createFork: true });
      const last = await manager.extendToAsync(TEMPORARY, 70, { mode: "zeroAndCleanupLock" });
      expect(scope.pinCount).toBe(3);
      await manager.lockAsync(last, "shared");
      await manager.lockForCleanupAsync(last);
      manager.page(last).set(makePage(69));
      manager.page(last)[100] = 9;
      manager.markDirty(last);
      await manager.flushAsync(last);
      expect(value(directory, 69)).toBe(9);
      manager.markDirty(last);
      expect(await manager.flushRelationAsync(TEMPORARY)).toBe(1);
      expect(await manager.extendToAsync(TEMPORARY, 2)).toBe(buffers[1]);
      scope.end(true);
      expect(await manager.dropForksAsync(TEMPORARY, [{ fork: FORK.main, from: 0 }])).toBe(70);
      expect(await manager.dropRelationsAsync([TEMPORARY])).toBe(0);
    });
  });
});

/**
 * Single pages: read, or made zeros and locked before anybody sees them; prefetched; found again where they were.
 */
import { nativeStatus } from "@millrace/io-uring";
import { describe, expect, test } from "vitest";

import { refcountOf, STATE, usageOf } from "../src/buffer-state.js";
import { FORK } from "../src/tag.js";
import type { Relation } from "../src/tag.js";
import { blockOf, makePage, METHODS, TABLE } from "./data-directory.js";
import { ReadWorld } from "./read-world.js";

const code = (code: string): unknown => expect.objectContaining({ code });

describe.each(METHODS)("method %s", (method) => {
  test("a page is read, blocking or not, and pinned", async () => {
    await using world = new ReadWorld(method);
    world.directory.writeBlocks(TABLE, 8);
    const backend = world.backend({ mayBlock: true });
    const [one, two] = [backend.readPage(3), await backend.readPageAsync(5)];
    expect([blockOf(backend.page(one)), blockOf(backend.page(two))]).toEqual([3, 5]);
    expect(backend.readPage(3)).toBe(one);
    expect(backend.context.pins.count(one - 1)).toBe(2);
    const [many] = [await Promise.all([0, 1, 2, 4].map(async (block) => backend.readPageAsync(block)))];
    expect(many.map((buffer) => blockOf(backend.page(buffer)))).toEqual([0, 1, 2, 4]);
  });

  test("a page that fails leaves no pin", async () => {
    await using world = new ReadWorld(method);
    world.directory.writeBlocks(TABLE, 8);
    world.directory.writeBlock(TABLE, 3, makePage(3, { header: true }));
    const backend = world.backend({ mayBlock: true });
    expect(() => backend.readPage(3)).toThrow(code("ERR_BUFFER_INVALID_PAGE"));
    expect(() => backend.readPage(9)).toThrow(code("ERR_BUFFER_SHORT_READ"));
    await expect(backend.readPageAsync(3)).rejects.toThrow(code("ERR_BUFFER_INVALID_PAGE"));
    expect(backend.context.pins.pinnedCount).toBe(0);
    const zeroed = backend.readPage(3, "zeroOnError");
    expect(backend.page(zeroed).every((byte) => byte === 0)).toBe(true);
  });
});

describe("a page that is to be written anew", () => {
  test("is made zeros without being read, and locked before it is valid", async () => {
    await using world = new ReadWorld("sync");
    world.directory.writeBlocks(TABLE, 2);
    const [one, two] = [world.backend({ mayBlock: true }), world.backend()];
    for (const [block, mode] of [
      [1, "zeroAndLock"],
      [100, "zeroAndCleanupLock"],
    ] as const) {
      const buffer = one.readPage(block, mode);
      expect(one.page(buffer).every((byte) => byte === 0)).toBe(true);
      expect([one.isValid(buffer), one.contentLocks.modeOf(buffer - 1)]).toEqual([true, "exclusive"]);
      expect(two.contentLocks.tryLock(buffer - 1, "shared")).toBe(false);
      one.contentLocks.unlock(buffer - 1);
    }
    expect(one.counted("read").count).toBe(0);
  });

  test("that is in the pool keeps its contents, and is locked", async () => {
    await using world = new ReadWorld("sync");
    world.directory.writeBlocks(TABLE, 2);
    const [one, two] = [world.backend({ mayBlock: true }), world.backend({ mayBlock: true })];
    const buffer = one.readPage(1);
    for (const mode of ["zeroAndLock", "zeroAndCleanupLock"] as const) {
      one.release(buffer);
      expect(one.readPage(1, mode)).toBe(buffer);
      expect([blockOf(one.page(buffer)), one.contentLocks.modeOf(buffer - 1)]).toEqual([1, "exclusive"]);
      one.contentLocks.unlock(buffer - 1);
    }
    // With a second pin a cleanup lock has to wait, an ordinary one has not.
    two.readPage(1);
    one.release(buffer);
    expect(one.readPage(1, "zeroAndLock")).toBe(buffer);
    one.contentLocks.unlock(buffer - 1);
    one.release(buffer);
    const waiting = one.readPageAsync(1, "zeroAndCleanupLock");
    expect(one.state(buffer) & STATE.pinCountWaiter).not.toBe(0);
    two.release(buffer);
    expect(await waiting).toBe(buffer);
    one.contentLocks.unlock(buffer - 1);
  });

  // Aim: who waits for the read of another finds the page made anew. Method: the zeroing backend is kept from the lock.
  test("is waited for like one that is read", async () => {
    await using world = new ReadWorld("manual");
    world.directory.writeBlocks(TABLE, 4);
    const [one, two] = [world.backend(), world.backend()];
    const read = one.operation();
    await one.reader.startReadAsync(read.begin(new Int32Array(1), 0, 2, 1, 0));
    const zeroing = two.readPageAsync(2, "zeroAndLock");
    world.controller.completeAll();
    const buffer = await zeroing;
    expect(blockOf(two.page(buffer)), "the read came first: nothing is zeroed").toBe(2);
    expect(two.contentLocks.modeOf(buffer - 1)).toBe("exclusive");
    two.contentLocks.unlock(buffer - 1);
    await one.reader.waitReadAsync(read);
  });

  test("of a temporary relation needs no lock", async () => {
    await using world = new ReadWorld("sync");
    const backend = world.backend({ mayBlock: true });
    const temporary: Relation = { ...TABLE, persistence: "temporary", owner: backend.context.id };
    const buffer = backend.readPage(7, "zeroAndLock", temporary);
    expect([buffer, backend.isValid(buffer)]).toEqual([-1, true]);
    expect(backend.page(buffer).every((byte) => byte === 0)).toBe(true);
    backend.page(buffer).set(makePage(7));
    expect(backend.readPage(7, "zeroAndLock", temporary)).toBe(buffer);
    expect(blockOf(backend.page(buffer))).toBe(7);
    backend.release(buffer, buffer);
  });
});

describe("prefetching", () => {
  test("finds a page without using it, and tells the kernel of others", async () => {
    await using world = new ReadWorld("sync");
    world.directory.writeBlocks(TABLE, 8);
    const backend = world.backend({ mayBlock: true });
    const buffer = backend.readPage(3);
    backend.release(buffer);
    const before = backend.state(buffer);
    expect(backend.pages.prefetch(TABLE, FORK.main, 3)).toEqual({ buffer });
    expect([backend.state(buffer), usageOf(before)]).toEqual([before, 1]);
    expect(backend.pages.prefetch(TABLE, FORK.main, 4)).toEqual({ isInitiated: nativeStatus().available });
    await using direct = new ReadWorld("sync", { direct: true });
    direct.directory.writeBlocks(TABLE, 8);
    expect(direct.backend().pages.prefetch(TABLE, FORK.main, 4)).toEqual({ isInitiated: false });
  });
});

describe("a buffer that held a page", () => {
  test("is pinned if it still does, pinned before or not", async () => {
    await using world = new ReadWorld("sync", { buffers: 16 });
    world.directory.writeBlocks(TABLE, 40);
    const backend = world.backend({ mayBlock: true });
    const buffer = backend.readPage(3);
    expect(backend.pages.readRecent(TABLE, FORK.main, 3, buffer)).toBe(true);
    expect(backend.context.pins.count(buffer - 1)).toBe(2);
    backend.release(buffer, buffer);
    expect(backend.pages.readRecent(TABLE, FORK.main, 3, buffer)).toBe(true);
    expect([refcountOf(backend.state(buffer)), backend.counted("hit").count]).toEqual([1, 2]);
    expect(backend.pages.holds(buffer, TABLE, FORK.main, 3)).toBe(true);
    expect(backend.pages.holds(buffer, TABLE, FORK.main, 4)).toBe(false);
    backend.release(buffer);
    for (const wrong of [0, -1, 17, 99])
      expect(backend.pages.readRecent(TABLE, FORK.main, 3, wrong)).toBe(false);
    expect(backend.pages.readRecent(TABLE, FORK.fsm, 3, buffer)).toBe(false);
    for (let block = 4; block < 40; block++) backend.release(backend.readPage(block));
    expect(backend.pages.readRecent(TABLE, FORK.main, 3, buffer)).toBe(false);
    expect(backend.context.pins.pinnedCount).toBe(0);
  });
});

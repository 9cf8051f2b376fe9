/**
 * Reading while a log is redone: what is missing is noted or not, as the mode says, and made where it wants zeros.
 */
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { InvalidPages } from "../src/invalid-pages.js";
import { RedoReader } from "../src/redo-reader.js";
import type { RedoReadOptions } from "../src/redo-reader.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { FORK } from "../src/tag.js";
import { blockOf, PAGE, TABLE } from "./data-directory.js";
import { OTHER, WriteWorld } from "./write-world.js";

const code = (code: string): unknown => expect.objectContaining({ code });

/** A table of four blocks, of which block 2 has nothing but zeros. */
class World extends WriteWorld {
  readonly redo: RedoReader = new RedoReader(this.backend, new InvalidPages());

  constructor(mayBlock = true) {
    super({ mayBlock, aio: { method: "sync" } });
    this.create(TABLE, 4);
    this.directory.writeBlock(TABLE, 2, Buffer.alloc(PAGE));
  }

  async read(block: number, options: RedoReadOptions = {}, relation = TABLE): Promise<number> {
    if (this.context.mayBlock) return this.redo.read(relation, block, options);
    return this.redo.readAsync(relation, block, options);
  }

  release(buffer: number): void {
    this.context.pins.unpin(buffer - 1);
  }

  get noted(): string[] {
    return this.redo.invalidPages
      .list()
      .map(
        ({ relation, fork, block, isPresent }) =>
          `${relation}/${fork}/${block} ${isPresent ? "empty" : "missing"}`,
      );
  }
}

describe.each([true, false])("while a log is redone (may block: %s)", (mayBlock) => {
  test("a page that is there is read in every mode", async () => {
    await using world = new World(mayBlock);
    for (const mode of ["normal", "normalNoLog", "zeroOnError"] as const) {
      const buffer = await world.read(1, { mode });
      expect(blockOf(world.context.frames.view(buffer - 1))).toBe(1);
      world.release(buffer);
    }
    expect(world.noted).toEqual([]);
  });

  test("a page that is missing or empty is noted once in the mode normal, and is no buffer", async () => {
    await using world = new World(mayBlock);
    for (const block of [7, 2, 7]) expect(await world.read(block)).toBe(0);
    expect(await world.read(0, { fork: FORK.vm })).toBe(0);
    expect(await world.read(3, {}, OTHER), "no file at all").toBe(0);
    const { relation } = TABLE;
    expect(world.noted).toEqual([
      `${relation}/0/7 missing`,
      `${relation}/0/2 empty`,
      `${relation}/2/0 missing`,
      `${OTHER.relation}/0/3 missing`,
    ]);
    expect(world.context.pins.pinnedCount).toBe(0);
    expect(world.context.files.blocks(TABLE, FORK.main), "nothing was extended").toBe(4);
  });

  test("neither is noted in the mode normalNoLog: an empty page is returned, a missing one is none", async () => {
    await using world = new World(mayBlock);
    const mode = "normalNoLog";
    const buffer = await world.read(2, { mode });
    expect(world.context.frames.view(buffer - 1).every((byte) => byte === 0)).toBe(true);
    world.release(buffer);
    expect(await world.read(4, { mode })).toBe(0);
    expect(await world.read(0, { mode, fork: FORK.fsm })).toBe(0);
    expect(await world.read(0, { mode }, OTHER)).toBe(0);
    expect(world.noted).toEqual([]);
    expect(world.context.files.blocks(TABLE, FORK.main)).toBe(4);
    expect(world.context.files.exists(TABLE, FORK.fsm)).toBe(false);
  });

  test("a page beyond the end is made in the other modes, and its fork", async () => {
    await using world = new World(mayBlock);
    const { locks } = world.backend;
    for (const [mode, block] of [
      ["zeroAndLock", 6],
      ["zeroAndCleanupLock", 7],
      ["zeroOnError", 8],
    ] as const) {
      const buffer = await world.read(block, { mode });
      expect(world.context.headers.block(buffer - 1)).toBe(block);
      expect(locks.modeOf(buffer - 1)).toBe(mode === "zeroOnError" ? undefined : "exclusive");
      if (mode !== "zeroOnError") locks.unlock(buffer - 1);
      world.release(buffer);
      expect(world.context.files.blocks(TABLE, FORK.main)).toBe(block + 1);
    }
    world.release(await world.read(1, { mode: "zeroOnError", fork: FORK.vm }));
    expect(world.context.files.blocks(TABLE, FORK.vm)).toBe(2);
    expect(world.noted).toEqual([]);
  });
});

describe("missing pages", () => {
  const filled = (): InvalidPages => {
    const pages = new InvalidPages();
    for (let block = 0; block < 8; block++) pages.note(TABLE, FORK.main, block, block % 2 === 0);
    pages.note(TABLE, FORK.vm, 3, false);
    pages.note(OTHER, FORK.main, 3, false);
    pages.note({ ...TABLE, database: 6 }, FORK.main, 3, false);
    return pages;
  };

  test("are forgotten when the log drops them", () => {
    const pages = filled();
    expect(pages.size).toBe(11);
    expect(pages.forget(TABLE, FORK.main, 5)).toBe(3);
    expect(pages.forget(OTHER, FORK.main, 4)).toBe(0);
    expect(pages.forget(OTHER, FORK.main, 3)).toBe(1);
    expect(pages.forgetDatabase(TABLE.database)).toBe(6);
    expect(pages.list()).toEqual([{ ...TABLE, database: 6, fork: FORK.main, block: 3, isPresent: false }]);
  });

  test("that are left when the data is consistent are an error that names them", () => {
    const pages = filled();
    expect(() => {
      pages.reachConsistency();
    }).toThrow(code("ERR_BUFFER_MISSING_PAGE"));
    expect(() => {
      pages.reachConsistency();
    }).toThrow(/block 0 of fork 0 of relation 1663\/5\/16384 is empty, block 1 .* is missing.*and 6 more/);
    pages.forgetDatabase(5);
    pages.forgetDatabase(6);
    pages.reachConsistency();
    expect(() => {
      pages.note(TABLE, FORK.main, 1, false);
    }).toThrow(code("ERR_BUFFER_MISSING_PAGE"));
  });
});

test("a manager's redo reader pins in scopes, keeps to logged relations, and a plain read knows no difference", async () => {
  await using world = new World();
  const files = segmentedFiles({ directory: world.directory.path });
  await using manager = BufferManager.attach(world.pool.shared, { files, mayBlock: true });
  const redo = manager.createRedoReader();
  const scope = manager.openScope();
  expect([redo.read(TABLE, 9), scope.pinCount]).toEqual([0, 0]);
  redo.invalidPages.forget(TABLE, FORK.main, 0);
  redo.invalidPages.reachConsistency();
  expect(() => redo.read(TABLE, 2)).toThrow(code("ERR_BUFFER_MISSING_PAGE"));
  redo.read(TABLE, 1);
  await redo.readAsync(TABLE, 3, { mode: "normalNoLog" });
  expect(scope.pinCount).toBe(2);
  manager.read(TABLE, 2, { mode: "normalNoLog" });
  expect(() => manager.read(TABLE, 9, { mode: "normalNoLog" })).toThrow(code("ERR_BUFFER_SHORT_READ"));
  scope.end(true);
  expect(() => redo.read({ ...TABLE, persistence: "temporary" }, 1)).toThrow(TypeError);
});

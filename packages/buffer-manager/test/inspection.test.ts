/**
 * Views of what a pool holds: rows, sums, and buffers by usage count.
 */
import { describe, expect, test } from "vitest";

import { packState, STATE } from "../src/buffer-state.js";
import { readPages, readSummary, readUsageCounts } from "../src/inspection.js";
import { HEADER } from "../src/layout.js";
import { FORK } from "../src/tag.js";
import { createWords } from "./words.js";
import type { Words } from "./words.js";

const GOOD = STATE.valid | STATE.tagValid;

function fill(world: Words, buffer: number, state: number, block = buffer): void {
  const headers = world.headersOf(0);
  headers.lock(buffer);
  headers.setTag(buffer, { tablespace: 1663, database: 5, relation: 0xffff_fff0 }, FORK.main, block);
  headers.unlock(buffer, state);
}

/** Three pages: dirty, pinned, and neither; usage counts 1, 5 and 0. */
function createWorld(): Words {
  const world = createWords(16);
  fill(world, 0, packState(0, 1, GOOD | STATE.dirty), 0xffff_fffe);
  fill(world, 4, packState(2, 5, GOOD));
  fill(world, 9, packState(0, 0, GOOD | STATE.permanent));
  return world;
}

describe("the view of pages", () => {
  test("has a row for each buffer, and nulls for those without a valid page", () => {
    const world = createWorld();
    fill(world, 11, packState(1, 1, STATE.tagValid | STATE.ioInProgress));
    const rows = [...readPages(world.headersOf(0))];
    expect(rows.map(({ buffer }) => buffer)).toEqual(Array.from({ length: 16 }, (_, index) => index + 1));
    const relation = { tablespace: 1663, database: 5, relation: 0xffff_fff0, fork: FORK.main };
    expect(rows[0]).toEqual({
      buffer: 1,
      ...relation,
      block: 0xffff_fffe,
      isDirty: true,
      usageCount: 1,
      pinningBackends: 0,
    });
    expect(rows[4]).toEqual({
      buffer: 5,
      ...relation,
      block: 4,
      isDirty: false,
      usageCount: 5,
      pinningBackends: 2,
    });
    for (const index of [1, 11]) {
      const { buffer, ...rest } = rows[index] ?? { buffer: 0 };
      expect(buffer).toBe(index + 1);
      expect(Object.values(rest)).toEqual(Array.from({ length: 8 }, () => null));
    }
  });

  test("leaves every header as it was, and ends with the buffers that there are", () => {
    const world = createWorld();
    const before = world.words.slice();
    Atomics.store(world.words, HEADER.high, 10);
    expect([...readPages(world.headersOf(0))]).toHaveLength(10);
    Atomics.store(world.words, HEADER.high, 16);
    expect(world.words).toEqual(before);
  });
});

describe("the sums", () => {
  test("are of valid pages; pins count wherever they are", () => {
    const world = createWorld();
    expect(readSummary(world.headersOf(0))).toEqual({
      used: 3,
      unused: 13,
      dirty: 1,
      pinned: 1,
      usageCountAverage: 2,
    });
    fill(world, 11, packState(1, 3, STATE.tagValid | STATE.ioInProgress));
    const { used, pinned, usageCountAverage } = readSummary(world.headersOf(0));
    expect([used, pinned, usageCountAverage]).toEqual([3, 2, 2]);
  });

  test("of an empty pool have no average", () => {
    const summary = readSummary(createWords(16).headersOf(0));
    expect(summary).toEqual({ used: 0, unused: 16, dirty: 0, pinned: 0, usageCountAverage: null });
  });

  test("by usage count add up to all buffers", () => {
    const rows = readUsageCounts(createWorld().headersOf(0));
    expect(rows).toEqual([
      { usageCount: 0, buffers: 14, dirty: 0, pinned: 0 },
      { usageCount: 1, buffers: 1, dirty: 1, pinned: 0 },
      { usageCount: 2, buffers: 0, dirty: 0, pinned: 0 },
      { usageCount: 3, buffers: 0, dirty: 0, pinned: 0 },
      { usageCount: 4, buffers: 0, dirty: 0, pinned: 0 },
      { usageCount: 5, buffers: 1, dirty: 0, pinned: 1 },
    ]);
    expect(rows.reduce((sum, { buffers }) => sum + buffers, 0)).toBe(16);
  });
});

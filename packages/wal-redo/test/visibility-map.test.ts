/**
 * The visibility map: where a block's bits are, and the two ways in which records clear them.
 */
import { expect, test } from "vitest";
import { applyBlock, applyMapEffect, implicitEffects, Page, RMGR } from "../src/index.js";
import { clearVisibility, mapBlockOf, mapByteOf, mapShiftOf } from "../src/visibility-map.js";
import { recordOf } from "./record-builder.js";

// Aim: every block has bits of its own. Method: PostgreSQL's arithmetic at the borders of bytes and pages.
test.each([
  [0, 0, 24, 0],
  [3, 0, 24, 6],
  [4, 0, 25, 0],
  [32_671, 0, 8191, 6],
  [32_672, 1, 24, 0],
])("the bits of heap block %i are in block %i, byte %i, from bit %i on", (heap, block, byte, shift) => {
  expect([mapBlockOf(heap), mapByteOf(heap), mapShiftOf(heap)]).toEqual([block, byte, shift]);
  // No two of some thousand neighbours share bits.
  const seen = new Set<string>();
  for (let each = heap; each > heap - 2000 && each >= 0; each -= 1) {
    seen.add(`${String(mapBlockOf(each))} ${String(mapByteOf(each))} ${String(mapShiftOf(each))}`);
  }
  expect(seen.size).toBe(Math.min(2000, heap + 1));
});

function fullMap(): Page {
  const page = new Page(new Uint8Array(8192));
  page.init(0);
  page.bytes.fill(0xff, 24);
  page.setLsn(0, 1000);
  return page;
}

const INSERT = Uint8Array.of(1, 0, 1);

// Aim: a record that names the map's page decides about its LSN, one that does not leaves it alone. Method: the same insert in
// both forms.
test("bits are cleared by name with the LSN, and implicitly without", () => {
  const heap = { id: 0, rel: 9, block: 5, data: Uint8Array.of(1, 0, 2, 8, 24, 0, 7) };
  const map = { id: 1, rel: 9, fork: 2, block: 0 };
  const named = recordOf({ rmid: RMGR.heap, info: 0, blocks: [heap, map], main: INSERT });
  expect(implicitEffects(named)).toEqual([]);
  const [, mapRef] = named.refs;
  if (mapRef === undefined) throw new Error("unreachable");
  const after = new Page(applyBlock(named, mapRef, fullMap().bytes, { hintLsn: false }));
  expect(after.bytes[25]).toBe(0b1111_0011);
  expect(after.isAtLeast(named.endHigh, named.endLow)).toBe(true);
  // Nothing to clear: the page and its LSN stay.
  const clear = fullMap();
  clear.bytes[25] = 0;
  expect(Buffer.compare(applyBlock(named, mapRef, clear.bytes, { hintLsn: false }), clear.bytes)).toBe(0);

  const implicit = recordOf({ rmid: RMGR.heap, info: 0, blocks: [heap], main: INSERT });
  const [effect, ...others] = implicitEffects(implicit);
  expect(others).toEqual([]);
  if (effect === undefined) throw new Error("no effect");
  expect(effect).toEqual({ kind: "clear", spc: 1663, db: 5, rel: 9, mapBlock: 0, heapBlock: 5, bits: 3 });
  const page = fullMap();
  expect(applyMapEffect(effect, page)).toBe(true);
  expect(page.bytes[25]).toBe(0b1111_0011);
  expect([page.isAtLeast(0, 1000), page.isAtLeast(0, 1001)]).toEqual([true, false]);
  expect(applyMapEffect(effect, page)).toBe(false);
});

// Aim: which bits, of which block. Method: a lock clears frozen only; an update its old and its new block by their flags.
test("locks clear the frozen bit, updates their two blocks", () => {
  const lockMain = Uint8Array.of(9, 0, 0, 0, 1, 0, 2, 1);
  const lock = recordOf({ rmid: RMGR.heap, info: 0x60, blocks: [{ id: 0, block: 2 }], main: lockMain });
  expect(implicitEffects(lock).map(({ heapBlock, bits }) => [heapBlock, bits])).toEqual([[2, 2]]);
  const main = (flags: number): Uint8Array => Uint8Array.of(9, 0, 0, 0, 1, 0, 0, flags, 0, 0, 0, 0, 2, 0);
  const blocks = [
    { id: 0, block: 40_000, data: Uint8Array.of(1, 0, 0, 0, 24, 0) },
    { id: 1, block: 7 },
  ];
  for (const [flags, wanted] of [
    [0, []],
    [1, [[7, 0]]],
    [2, [[40_000, 1]]],
    [
      3,
      [
        [7, 0],
        [40_000, 1],
      ],
    ],
  ] as const) {
    const update = recordOf({ rmid: RMGR.heap, info: 0x20, blocks, main: main(flags) });
    expect(implicitEffects(update).map(({ heapBlock, mapBlock }) => [heapBlock, mapBlock])).toEqual(wanted);
  }
  const hot = recordOf({ rmid: RMGR.heap, info: 0x40, blocks: blocks.slice(0, 1), main: main(1) });
  expect(implicitEffects(hot).map(({ heapBlock }) => heapBlock)).toEqual([40_000]);
});

// Aim: a truncation clears the bits behind the relation's new end and no others. Method: ends within a byte, at a byte's and at
// a page's border.
test.each([
  [5, 0, 25, 0b0000_0011],
  [8, 0, 26, 0],
  [32_673, 1, 24, 0b0000_0011],
])("a truncation to %i blocks clears block %i of the map from byte %i on", (blocks, mapBlock, byte, kept) => {
  const main = Buffer.alloc(20);
  for (const [index, value] of [blocks, 1663, 5, 9, 7].entries()) main.writeUInt32LE(value, 4 * index);
  const record = recordOf({ rmid: RMGR.storage, info: 0x20, blocks: [], main });
  const [effect] = implicitEffects(record);
  if (effect === undefined) throw new Error("no effect");
  expect([effect.kind, effect.rel, effect.mapBlock]).toEqual(["truncate", 9, mapBlock]);
  const page = fullMap();
  expect(applyMapEffect(effect, page)).toBe(true);
  expect(page.bytes.subarray(24, byte).every((each) => each === 0xff)).toBe(true);
  expect(page.bytes[byte]).toBe(kept);
  expect(page.bytes.subarray(byte + 1).every((each) => each === 0)).toBe(true);
  expect(applyMapEffect(effect, page)).toBe(false);
});

test("a truncation at a page's border, or not of the map, clears nothing", () => {
  for (const [blocks, flags] of [
    [32_672, 7],
    [0, 7],
    [5, 1],
  ] as const) {
    const main = Buffer.alloc(20);
    for (const [index, value] of [blocks, 1663, 5, 9, flags].entries()) main.writeUInt32LE(value, 4 * index);
    expect(implicitEffects(recordOf({ rmid: RMGR.storage, info: 0x20, blocks: [], main }))).toEqual([]);
  }
});

test("the bits of a block on another page of the map stay", () => {
  const page = fullMap();
  expect(clearVisibility(page, 1, 5, 3)).toBe(false);
  expect(page.bytes.subarray(24).every((each) => each === 0xff)).toBe(true);
});

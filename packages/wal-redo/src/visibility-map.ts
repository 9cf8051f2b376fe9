/**
 * The visibility map: two bits for each heap block, all visible and all frozen.
 *
 * Facts of visibilitymap.c. A record that ends a block's visibility either names the map's page, as recent minor
 * versions of PostgreSQL 17 and 18 do, or leaves it to redo to find the page from a flag; the record tells which by
 * having the reference or not, whatever its version. Here are the records that name it; the others' effects are in
 * implicit-effects.ts.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { invariant } from "./errors.js";
import { PAGE_HEADER_BYTES } from "./page.js";
import type { Page } from "./page.js";
import { main } from "./replay.js";

export const VISIBILITY = { allVisible: 1, allFrozen: 2, both: 3 } as const;

/** Heap blocks of one page of the map: four a byte, on what the page header leaves. */
export const HEAP_BLOCKS_PER_MAP_PAGE: number = (8192 - PAGE_HEADER_BYTES) * 4;

/** Block of the map with a heap block's bits. */
export function mapBlockOf(heapBlock: number): number {
  return Math.floor(heapBlock / HEAP_BLOCKS_PER_MAP_PAGE);
}

/** Byte on the map's page with a heap block's bits. */
export function mapByteOf(heapBlock: number): number {
  return PAGE_HEADER_BYTES + ((heapBlock % HEAP_BLOCKS_PER_MAP_PAGE) >> 2);
}

/** How far a heap block's two bits are shifted in their byte. */
export function mapShiftOf(heapBlock: number): number {
  return ((heapBlock % HEAP_BLOCKS_PER_MAP_PAGE) & 3) << 1;
}

/**
 * Clears bits of a heap block, if the map's page is the one that has them.
 *
 * @returns whether one of them was set
 */
export function clearVisibility(page: Page, mapBlock: number, heapBlock: number, bits: number): boolean {
  if (mapBlockOf(heapBlock) !== mapBlock) return false;
  const at = mapByteOf(heapBlock);
  const mask = bits << mapShiftOf(heapBlock);
  const value = page.bytes[at] ?? 0;
  if ((value & mask) === 0) return false;
  page.bytes[at] = value & ~mask;
  return true;
}

/** Heap2 VISIBLE on the map. */
export function replaySetVisible(record: WalRecord, ref: BlockRef, page: Page): boolean {
  const heap = record.ref(1);
  invariant(heap !== undefined, "no heap block is named");
  invariant(mapBlockOf(heap.block) === ref.block, "the heap block's bits are on another page");
  main.readMain(record).skip(4);
  const bits = main.u8() & VISIBILITY.both;
  if (page.isNew) page.init(0);
  const at = mapByteOf(heap.block);
  const shift = mapShiftOf(heap.block);
  const value = page.bytes[at] ?? 0;
  if (((value >> shift) & VISIBILITY.both) === bits) return false;
  page.bytes[at] = value | (bits << shift);
  return true;
}

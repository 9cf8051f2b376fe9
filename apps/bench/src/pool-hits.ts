/**
 * Loops over pages that are in a pool, as threads run them, and the same work on what one would use instead.
 *
 * Work is a checksum of what was found, so that none of it can be left out; pages are visited in a pseudo-random order that
 * is made before the clock starts, the same for every side.
 */
import type { BufferManager, Relation } from "@millrace/buffer-manager";
import type { LRUCache } from "lru-cache";

/** Visits of a slice. */
export const VISITS: number = 2 ** 18;

/** Blocks to visit, one after the other. */
export function visits(pages: number, seed: number, count: number = VISITS): Int32Array {
  const order = new Int32Array(count);
  let state = seed;
  for (let index = 0; index < count; index += 1) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    order[index] = (state >>> 8) % pages;
  }
  return order;
}

/** Reads every page of a relation once, so that it is in the pool. @throws {RangeError} the pool is too small for that */
export function load(manager: BufferManager, relation: Relation, pages: number): void {
  for (let block = 0; block < pages; block += 1) manager.release(manager.read(relation, block));
  for (let block = 0; block < pages; block += 1) {
    const buffer = manager.tryRead(relation, block);
    if (buffer === 0) throw new RangeError("the pool does not hold the pages of the benchmark");
    manager.release(buffer);
  }
}

/** Finds, pins and unpins pages. @returns the sum of their blocks' first words, with the number of the visit mixed in */
export function hit(manager: BufferManager, relation: Relation, order: Int32Array): number {
  let sum = 0;
  for (const block of order) {
    const buffer = manager.tryRead(relation, block);
    sum = (sum + block + (buffer > 0 ? 1 : 0)) | 0;
    manager.release(buffer);
  }
  return sum;
}

/** Pins pages again that are pinned, and unpins them. */
export function pinAgain(manager: BufferManager, buffers: Int32Array, order: Int32Array): number {
  let sum = 0;
  for (const block of order) {
    const buffer = buffers[block] as number;
    manager.pinAgain(buffer);
    sum = (sum + block + (buffer > 0 ? 1 : 0)) | 0;
    manager.release(buffer);
  }
  return sum;
}

/** Pins all pages of a relation. @returns their buffers */
export function pinAll(manager: BufferManager, relation: Relation, pages: number): Int32Array {
  return Int32Array.from({ length: pages }, (_, block) => manager.tryRead(relation, block));
}

/** What one would use for pages of one thread: objects with a count. */
interface Entry {
  readonly block: number;
  pins: number;
}

/** Finds values in a cache of one thread. */
export function hitLru(cache: LRUCache<number, { readonly block: number }>, order: Int32Array): number {
  let sum = 0;
  for (const block of order) sum = (sum + block + ((cache.get(block)?.block ?? -1) >= 0 ? 1 : 0)) | 0;
  return sum;
}

/** Counts up and down in the objects of a map. */
export function hitMap(map: ReadonlyMap<number, Entry>, order: Int32Array): number {
  let sum = 0;
  for (const block of order) {
    const entry = map.get(block) as Entry;
    entry.pins += 1;
    sum = (sum + block + (entry.pins > 0 ? 1 : 0)) | 0;
    entry.pins -= 1;
  }
  return sum;
}

/** A map of pages. */
export function createMap(pages: number): Map<number, Entry> {
  return new Map(Array.from({ length: pages }, (_, block) => [block, { block, pins: 0 }]));
}

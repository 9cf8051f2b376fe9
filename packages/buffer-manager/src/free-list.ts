/**
 * The free list: buffers that hold nothing, linked through their descriptors.
 *
 * All of it happens under the strategy lock, which the caller has. A buffer that is linked already stays where it is. A buffer
 * on the list may be pinned or used again all the same, by whoever finds it through the mapping of its old tag; whoever takes
 * it from the list looks. After freelist.c of PostgreSQL 18.
 */
import { DESCRIPTOR, FREE_NOT_LINKED, STRATEGY } from "./layout.js";
import type { PoolLayout } from "./layout.js";

/** Links all buffers in their order, as a new pool has them. For the creator, before anybody else sees the words. */
export function fillFreeList(words: Int32Array, layout: PoolLayout, buffers: number): void {
  for (let buffer = 0; buffer < layout.buffersMax; buffer++) {
    const at = layout.descriptorsAt + buffer * DESCRIPTOR.words;
    words[at + DESCRIPTOR.index] = buffer;
    words[at + DESCRIPTOR.block] = -1;
    words[at + DESCRIPTOR.freeNext] =
      buffer < buffers - 1 ? buffer + 2 : buffer === buffers - 1 ? 0 : FREE_NOT_LINKED;
  }
  words[layout.strategyAt + STRATEGY.firstFree] = 1;
}

/** Takes the head. @returns -1 if the list is empty */
export function popFree(words: Int32Array, layout: PoolLayout): number {
  const headAt = layout.strategyAt + STRATEGY.firstFree;
  const buffer = (words[headAt] as number) - 1;
  if (buffer < 0) return -1;
  const nextAt = layout.descriptorsAt + buffer * DESCRIPTOR.words + DESCRIPTOR.freeNext;
  words[headAt] = words[nextAt] as number;
  words[nextAt] = FREE_NOT_LINKED;
  return buffer;
}

/** Puts a buffer at the head, unless it is on the list. */
export function pushFree(words: Int32Array, layout: PoolLayout, buffer: number): void {
  const headAt = layout.strategyAt + STRATEGY.firstFree;
  const nextAt = layout.descriptorsAt + buffer * DESCRIPTOR.words + DESCRIPTOR.freeNext;
  if (words[nextAt] !== FREE_NOT_LINKED) return;
  words[nextAt] = words[headAt] as number;
  words[headAt] = buffer + 1;
}

/** Whether the list has a buffer. Without the lock a guess, as PostgreSQL's have_free_buffer is. */
export function hasFree(words: Int32Array, layout: PoolLayout): boolean {
  return words[layout.strategyAt + STRATEGY.firstFree] !== 0;
}

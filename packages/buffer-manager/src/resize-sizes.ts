/**
 * The sizes of a pool while they change: two marks in the header, and the free list in agreement with them.
 *
 * `low` bounds what is allocated, `high` what can hold pages; between changes they are equal. A buffer in between is doomed: it
 * is used by whoever finds its page in it, and by nobody anew. Only the backend that the header names as resizer changes
 * the marks, and whoever recovers it.
 */
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import { pushFree } from "./free-list.js";
import { lockMutex, unlatchExclusive } from "./latch.js";
import { DESCRIPTOR, FREE_NOT_LINKED, HEADER, STRATEGY } from "./layout.js";
import type { PoolLayout } from "./layout.js";

/** Phases of a resize, in the header and at the control point. */
export const RESIZE_PHASE = { none: 0, marked: 1, acknowledged: 2, evicted: 3, growing: 4 } as const;

/** Runs `body` under the strategy mutex. */
export function underStrategy(
  words: Int32Array,
  layout: PoolLayout,
  holder: number,
  mayBlock: boolean,
  body: () => void,
): void {
  const at = layout.strategyAt;
  while (!lockMutex(words, at, at + 1, holder, mayBlock));
  try {
    body();
  } finally {
    unlatchExclusive(words, at, at + 1);
  }
}

/** Takes buffers from `from` on off the free list. Under the strategy mutex. */
export function purgeFreeList(words: Int32Array, layout: PoolLayout, from: number): void {
  const linkOf = (buffer: number): number =>
    layout.descriptorsAt + buffer * DESCRIPTOR.words + DESCRIPTOR.freeNext;
  let at = layout.strategyAt + STRATEGY.firstFree;
  for (let entry = words[at] as number; entry !== 0; entry = words[at] as number) {
    const linkAt = linkOf(entry - 1);
    if (entry - 1 < from) {
      at = linkAt;
      continue;
    }
    words[at] = words[linkAt] as number;
    words[linkAt] = FREE_NOT_LINKED;
  }
}

/** Puts buffers from `from` to `to` that hold nothing on the free list, the first on top. Under the strategy mutex. */
export function pushEmpty(words: Int32Array, layout: PoolLayout, from: number, to: number): void {
  for (let buffer = to - 1; buffer >= from; buffer--) {
    const state = Atomics.load(words, layout.descriptorsAt + buffer * DESCRIPTOR.words + DESCRIPTOR.state);
    if ((state & (STATE.tagValid | REFCOUNT_MASK)) === 0) pushFree(words, layout, buffer);
  }
}

/** Brings the clock's hand below a size, whole passes counted by another. Under the strategy mutex. */
export function foldHand(words: Int32Array, layout: PoolLayout, before: number, after: number): void {
  const handAt = layout.strategyAt + STRATEGY.hand;
  const passesAt = layout.strategyAt + STRATEGY.completePasses;
  let seen = Atomics.load(words, handAt);
  for (;;) {
    const ticks = seen >>> 0;
    const found = Atomics.compareExchange(words, handAt, seen, (ticks % before) % after);
    if (found === seen) {
      words[passesAt] = (words[passesAt] as number) + Math.floor(ticks / before);
      return;
    }
    seen = found;
  }
}

/** Counts a change of the sizes. */
export function nextGeneration(words: Int32Array): number {
  return (Atomics.add(words, HEADER.resizeGeneration, 1) + 1) | 0;
}

/**
 * Ends a resize where it stands: what has been initialised can be allocated again. For a resizer that gives up, and for whoever
 * recovers a dead one.
 */
export function restoreSizes(words: Int32Array, layout: PoolLayout, holder: number, mayBlock = false): void {
  const [low, high] = [Atomics.load(words, HEADER.low), Atomics.load(words, HEADER.high)];
  underStrategy(words, layout, holder, mayBlock, () => {
    if (low !== high) foldHand(words, layout, low, high);
    Atomics.store(words, HEADER.low, high);
    pushEmpty(words, layout, Math.min(low, high), high);
  });
  nextGeneration(words);
  Atomics.notify(words, HEADER.resizeGeneration);
  Atomics.store(words, HEADER.resizePhase, RESIZE_PHASE.none);
  Atomics.store(words, HEADER.resizer, 0);
}

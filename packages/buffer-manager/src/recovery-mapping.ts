/**
 * A dead backend's header lock and mutexes: what each protected is brought to its end or to its beginning before it is freed.
 *
 * Under a header lock alone a holder changes nothing but the state word, by the store that unlocks. Under a partition's mutex
 * a tag comes or goes in a few steps: the tag is written, published by the state word, entered into its chain; or the entry
 * is taken out, then the tag. The buffers concerned are pinned by the dead backend, so nobody else can have changed their tags.
 */
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import { breakLatch, latchHolder } from "./latch.js";
import { BACKEND, DESCRIPTOR, FREE_NOT_LINKED, LINE_WORDS, PARTITIONS, STRATEGY } from "./layout.js";
import type { PoolLayout } from "./layout.js";
import type { RecoveryContext } from "./recovery-context.js";
import { pinnedByDead } from "./recovery-context.js";
import { hashTagWords } from "./tag.js";
import { mutexesOf } from "./wake-all.js";

/** Looks at a locked header before it is plain that the dead backend has it: any other holder is done in microseconds. */
const PATIENCE = 200;

/** Finds out whether the backend died with a header locked. @returns the buffer; -1 if it did not */
export async function findLockedHeader({ words, headers, at, pause }: RecoveryContext): Promise<number> {
  const buffer = (words[at + BACKEND.headerIntent] as number) - 1;
  if (buffer < 0) return -1;
  for (let look = 0; look < PATIENCE; look++) {
    if ((headers.state(buffer) & STATE.locked) === 0) return -1;
    await pause();
  }
  return buffer;
}

/** Frees the header and every mutex that the backend held. @param header that it had locked; -1 for none */
export function releaseMutexes(context: RecoveryContext, header: number): void {
  const { words, layout, headers, id } = context;
  for (let partition = 0; partition < PARTITIONS; partition++) {
    if (latchHolder(words, layout.partitionsAt + partition * LINE_WORDS) === id) {
      repairPartition(context, partition, header);
    }
  }
  if (latchHolder(words, layout.strategyAt) === id) repairFreeList(words, layout);
  for (const mutex of mutexesOf(layout)) breakLatch(words, mutex, mutex + 1, id);
  if (header >= 0) Atomics.and(words, headers.at(header) + DESCRIPTOR.state, ~STATE.locked);
}

function repairPartition(context: RecoveryContext, partition: number, header: number): void {
  const { words, layout, headers } = context;
  if (header >= 0) {
    const state = headers.state(header);
    const isTagged = (state & STATE.tagValid) !== 0;
    if (!isTagged || !isLinked(context, header)) {
      // A tag that was being written, or one that is out of its chain and was being taken away.
      headers.clearTag(header);
      Atomics.store(words, headers.at(header) + DESCRIPTOR.state, (state & REFCOUNT_MASK) | STATE.locked);
    }
  }
  for (const buffer of pinnedByDead(context)) {
    if (buffer === header || (headers.state(buffer) & STATE.tagValid) === 0) continue;
    const bucket = bucketOf(context, buffer);
    if ((bucket & (PARTITIONS - 1)) !== partition || isLinked(context, buffer)) continue;
    words[layout.chainAt + buffer] = words[layout.bucketsAt + bucket] as number;
    Atomics.store(words, layout.bucketsAt + bucket, buffer + 1);
  }
}

function bucketOf({ words, layout, headers }: RecoveryContext, buffer: number): number {
  return hashTagWords(words, headers.at(buffer)) & layout.bucketMask;
}

/** Whether a buffer is in the chain that its tag belongs to. */
function isLinked(context: RecoveryContext, buffer: number): boolean {
  const { words, layout } = context;
  let entry = words[layout.bucketsAt + bucketOf(context, buffer)] as number;
  for (let step = 0; entry !== 0 && step < layout.buffersMax; step++) {
    if (entry === buffer + 1) return true;
    entry = words[layout.chainAt + entry - 1] as number;
  }
  return false;
}

/** Makes what is reachable the list: a buffer that was being taken off it or put on it is off. */
function repairFreeList(words: Int32Array, layout: PoolLayout): void {
  const linkOf = (buffer: number): number =>
    layout.descriptorsAt + buffer * DESCRIPTOR.words + DESCRIPTOR.freeNext;
  const listed = new Set<number>();
  let at = layout.strategyAt + STRATEGY.firstFree;
  for (let entry = words[at] as number; entry > 0; entry = words[at] as number) {
    listed.add(entry - 1);
    at = linkOf(entry - 1);
  }
  // A buffer at the head may be off the list already by its own word: those behind it are left to the clock.
  words[at] = 0;
  for (let buffer = 0; buffer < layout.buffersMax; buffer++) {
    if (!listed.has(buffer)) words[linkOf(buffer)] = FREE_NOT_LINKED;
  }
}

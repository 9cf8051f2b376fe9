/**
 * Waking everybody who sleeps on a word of the pool: after a panic, and after a death that may have eaten a wake-up.
 *
 * Each word counts on, so that who is about to sleep on its old value does not; whoever wakes looks again.
 */
import { BACKEND, DESCRIPTOR, EXTENSION_LOCKS, HEADER, LINE_WORDS, PARTITIONS } from "./layout.js";
import type { PoolLayout } from "./layout.js";

/** The pool's mutexes: each is a latch whose wake sequence is the next word. */
export function mutexesOf(layout: PoolLayout): number[] {
  const partitions = Array.from(
    { length: PARTITIONS },
    (_, index) => layout.partitionsAt + index * LINE_WORDS,
  );
  const extensions = Array.from(
    { length: EXTENSION_LOCKS },
    (_, index) => layout.extensionsAt + index * LINE_WORDS,
  );
  return [...partitions, ...extensions, layout.syncsAt, layout.strategyAt, HEADER.statisticsLock];
}

/** Wakes all who sleep on a word of the pool. */
export function wakeAll(words: Int32Array, layout: PoolLayout): void {
  for (const at of mutexesOf(layout)) wake(words, at + 1, 1);
  for (let buffer = 0; buffer < layout.buffersMax; buffer++) {
    const lockAt = layout.descriptorsAt + buffer * DESCRIPTOR.words + DESCRIPTOR.contentLock;
    // What has never been slept on, and is free, has nobody to wake.
    if (words[lockAt] !== 0 || words[lockAt + 1] !== 0) wake(words, lockAt + 1, 1);
    // The lowest bit says that somebody sleeps; it stays.
    const ioAt = layout.ioSequenceAt + buffer;
    if (words[ioAt] !== 0) wake(words, ioAt, 2);
  }
  for (let backend = 0; backend < layout.backends; backend++) {
    wake(words, layout.backendsAt + backend * layout.backendWords + BACKEND.wake, 1);
  }
}

function wake(words: Int32Array, at: number, by: number): void {
  Atomics.add(words, at, by);
  Atomics.notify(words, at);
}

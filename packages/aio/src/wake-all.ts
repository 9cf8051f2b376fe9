/**
 * Waking everybody who sleeps on a handle, a bell or a ring, so that each looks again at what it waits for.
 *
 * For the two events after which no wake-up can be relied on: a panic, and the death of a thread that may have changed a
 * word and not have lived to tell those who sleep on it. Who is woken for nothing sleeps on.
 */
import type { HandleTable } from "./handle-table.js";
import { BACKEND, HANDLE } from "./layout.js";

/** Wakes all sleepers of a system, in all threads. */
export function wakeAll(table: HandleTable): void {
  const { words, layout } = table;
  for (let handle = 0; handle < table.count; handle++) {
    const at = table.at(handle);
    if (Atomics.load(words, at + HANDLE.waiters) !== 0) Atomics.notify(words, at);
  }
  for (let backend = 0; backend < layout.backends; backend++) {
    const at = layout.backendsAt + backend * BACKEND.words;
    Atomics.add(words, at + BACKEND.bell, 1);
    Atomics.notify(words, at + BACKEND.bell);
    Atomics.notify(words, at + BACKEND.entered);
  }
}

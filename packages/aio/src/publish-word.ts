/**
 * Storing a word that tells other threads that what was stored before it is there.
 *
 * On x86 every processor sees another one's stores in their order, and V8 keeps the order of stores to elements, so a plain
 * store does it, at a tenth of the time of `Atomics.store`, which is a call and a fence. Everywhere else it is that call.
 * A store of this kind says nothing about what its thread loads afterwards: who must not miss a sleeper needs a fence.
 */
const IS_STORE_ORDERED = process.arch === "x64";

/** Stores `value` after everything that this thread has stored so far. */
export function publishWord(words: Int32Array, at: number, value: number): void {
  if (IS_STORE_ORDERED) words[at] = value;
  else Atomics.store(words, at, value);
}

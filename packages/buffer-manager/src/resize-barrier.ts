/**
 * How a backend says that it has seen a change of the pool's sizes: by the word of its own that the resizer looks at.
 *
 * A backend is heard of at its next call, before it sleeps in one, and, if it makes none, when its event loop turns. In none of these
 * places is it between looking at the old size and pinning what it selected by it.
 */
import type { BufferHeaders } from "./headers.js";
import { BACKEND, HEADER } from "./layout.js";

type AsyncAtomics = typeof Atomics & {
  waitAsync(
    words: Int32Array,
    at: number,
    value: number,
  ): { readonly async: boolean; readonly value: string | Promise<string> };
};

/** Says so, unless that has been said. @param at first word of the backend */
export function acknowledgeResize(headers: BufferHeaders, at: number): void {
  const { words } = headers;
  const generation = words[HEADER.resizeGeneration] as number;
  if (words[at + BACKEND.resizeSeen] === generation) return;
  Atomics.store(words, at + BACKEND.resizeSeen, generation);
  wakeResizer(headers);
}

/** Has the resizer look again: a backend was heard of, or has left. */
export function wakeResizer(headers: BufferHeaders): void {
  const resizer = Atomics.load(headers.words, HEADER.resizer) - 1;
  if (resizer >= 0) headers.wakeBackend(resizer);
}

/** Acknowledges whenever the event loop turns, until the backend has left; does not keep the process alive. */
export async function watchResizes(
  headers: BufferHeaders,
  at: number,
  life: { readonly isOver: boolean },
): Promise<void> {
  const { words } = headers;
  while (!life.isOver) {
    acknowledgeResize(headers, at);
    const seen = words[at + BACKEND.resizeSeen] as number;
    const change = (Atomics as AsyncAtomics).waitAsync(words, HEADER.resizeGeneration, seen);
    if (change.async) await change.value;
  }
}

/**
 * `Atomics.waitAsync`, which Node 20 has and the type library of ES2023 has not.
 *
 * A pending wait does not keep Node alive: whoever waits holds something open that does.
 */

/** The outcome of a wait without sleeping. */
export type AsyncWait =
  | { readonly async: false; readonly value: "not-equal" | "timed-out" }
  | { readonly async: true; readonly value: Promise<"ok" | "timed-out"> };

interface AtomicsWithWaitAsync {
  waitAsync(words: Int32Array, index: number, value: number): AsyncWait;
}

/** Resolves when somebody notifies the word; at once if it is not `value`. */
export async function waitAsync(words: Int32Array, index: number, value: number): Promise<void> {
  const waiting = (Atomics as unknown as AtomicsWithWaitAsync).waitAsync(words, index, value);
  if (waiting.async) await waiting.value;
}

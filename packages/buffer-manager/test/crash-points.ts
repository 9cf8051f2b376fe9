/**
 * What a thread can leave in a pool's words when it dies: the words before and after each of its atomic operations.
 *
 * The operation runs to its end; its death at each point is a copy. So nothing cleans up that a dead thread would not. Plain
 * stores lie between two atomic operations and cannot be caught one by one; what they changed is put together word by word,
 * from the front and from the back.
 */

const NAMES = ["load", "store", "add", "sub", "or", "and", "exchange", "compareExchange"] as const;
type Operation = (words: Int32Array, ...rest: number[]) => number;

/** Every different state of the words while `run` runs, the first and the last included. */
export function crashStates(words: Int32Array, run: () => void): Int32Array[] {
  const states: Int32Array[] = [];
  const keep = (): void => {
    const copy = new Int32Array(words);
    const last = states.at(-1);
    if (last === undefined || Buffer.compare(bytesOf(last), bytesOf(copy)) !== 0) states.push(copy);
  };
  const atomics = Atomics as unknown as Record<string, Operation>;
  const originals = NAMES.map((name) => [name, atomics[name] as Operation] as const);
  for (const [name, original] of originals) {
    atomics[name] = (target, ...rest) => {
      if (target.buffer === words.buffer) keep();
      const result = original(target, ...rest);
      if (target.buffer === words.buffer) keep();
      return result;
    };
  }
  try {
    keep();
    run();
    keep();
  } finally {
    for (const [name, original] of originals) atomics[name] = original;
  }
  return states;
}

/**
 * The states, and between two of them those with a part of the words that changed.
 *
 * @param until words before this are put together; behind are what backends note of themselves, whose order counts
 */
export function withTornStates(states: readonly Int32Array[], until: number): Int32Array[] {
  return states.flatMap((state, index) => {
    const next = states[index + 1] ?? state;
    const changed = Array.from(next.keys()).filter((at) => at < until && next[at] !== state[at]);
    const parts = changed
      .slice(1)
      .flatMap((_, count) => [
        torn(state, next, changed.slice(0, count + 1)),
        torn(state, next, changed.slice(count + 1)),
      ]);
    return [state, ...parts];
  });
}

function torn(state: Int32Array, next: Int32Array, changed: readonly number[]): Int32Array {
  const copy = new Int32Array(state);
  for (const at of changed) copy[at] = next[at] as number;
  return copy;
}

function bytesOf(words: Int32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

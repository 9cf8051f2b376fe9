/**
 * A bell in shared memory: one thread sleeps until another one rings, and a ring between looking and sleeping is not lost.
 *
 * Two words: a counter of rings, on which the sleeper waits, and a flag that says that it is about to. The sleeper sets the
 * flag, reads the counter, looks whether there is something to do, and only then sleeps, if the counter is still the
 * same. Whoever has something for it stores that first and looks at the flag second. Both orders are sequentially
 * consistent, so that at least one of the two sees the other. Taking the flag back is an exchange: a burst rings once.
 *
 * A `waitAsync` cannot be cancelled. After an abort it stays outstanding and serves the next wait.
 */

const EVENT = 0;
const ASLEEP = 1;

/**
 * Looks before a blocking wait goes to sleep. Waking a thread takes some 20 to 50 microseconds, these looks about two: a
 * peer in the middle of a burst is waited for awake.
 */
const SPINS = 1000;

type AsyncWait = { readonly async: false } | { readonly async: true; readonly value: Promise<unknown> };

/** Node 20 has it, the type library of ES2023 has not. */
const atomics = Atomics as unknown as {
  waitAsync(words: Int32Array, index: number, value: number): AsyncWait;
};

/** Rings if the thread sleeps or is about to. Call it after what it shall see was stored. */
export function ringIfAsleep(words: Int32Array, bell: number): void {
  if (Atomics.load(words, bell + ASLEEP) !== 0 && Atomics.exchange(words, bell + ASLEEP, 0) !== 0)
    ring(words, bell);
}

/** Rings in any case. */
export function ring(words: Int32Array, bell: number): void {
  Atomics.add(words, bell + EVENT, 1);
  Atomics.notify(words, bell + EVENT);
}

/** The thread that a bell is for. */
export class Sleeper {
  readonly #words: Int32Array;
  readonly #bell: number;
  /** Looks at what was waited for; true if there is still something to wait for. */
  readonly #look: () => boolean;
  /** Somebody waits on the event loop. */
  #isWatching = false;
  /** A `waitAsync` is outstanding, wanted or not. */
  #isListening = false;

  constructor(words: Int32Array, bell: number, look: () => boolean) {
    this.#words = words;
    this.#bell = bell;
    this.#look = look;
  }

  /**
   * Blocks the thread until `isReady`.
   *
   * @param timeoutMs 0 only looks; Infinity waits for ever
   * @returns false if the time is over
   */
  block(isReady: () => boolean, timeoutMs: number): boolean {
    if (isReady()) return true;
    if (!(timeoutMs > 0)) return false;
    for (let spin = 0; spin < SPINS; spin++) if (isReady()) return true;
    const end = performance.now() + timeoutMs;
    try {
      for (let left = timeoutMs; left > 0; left = end - performance.now()) {
        const seen = this.#lieDown();
        if (isReady()) return true;
        Atomics.wait(this.#words, this.#bell + EVENT, seen, left);
      }
      return isReady();
    } finally {
      if (!this.#isWatching) Atomics.store(this.#words, this.#bell + ASLEEP, 0);
    }
  }

  /** Calls `look` now and after each ring, on the event loop, until it says that there is nothing to wait for. */
  watch(): void {
    this.#isWatching = true;
    for (;;) {
      const seen = this.#lieDown();
      if (!this.#look()) {
        this.rest();
        return;
      }
      if (this.#isListening) return;
      const waiting = atomics.waitAsync(this.#words, this.#bell + EVENT, seen);
      if (waiting.async) {
        this.#isListening = true;
        void waiting.value.then(this.#onRing);
        return;
      }
    }
  }

  /** Nobody waits on the event loop any more; whoever has something need not ring. */
  rest(): void {
    this.#isWatching = false;
    Atomics.store(this.#words, this.#bell + ASLEEP, 0);
  }

  readonly #onRing = (): void => {
    this.#isListening = false;
    if (this.#isWatching) this.watch();
  };

  /** Says that a sleep is about to begin. Whatever is stored from here on rings. */
  #lieDown(): number {
    Atomics.store(this.#words, this.#bell + ASLEEP, 1);
    return Atomics.load(this.#words, this.#bell + EVENT);
  }
}

/**
 * A mutex for code that awaits: holders run one after another, in the order in which they asked.
 *
 * Why it exists: the handler of one protocol message reads state, writes disk and updates state, with an
 * interleaving point at each `await`. A timeline runs every handler, checkpoint and truncation inside one of
 * these, so that each is atomic with respect to the others, as the safekeeper's per-timeline lock makes it.
 *
 * Invariants: at most one holder; waiters are served first come, first served; a holder that throws releases.
 * A free mutex is taken without a turn of the event loop. Not reentrant: asking again from inside deadlocks.
 */

/** First-come-first-served mutual exclusion between asynchronous functions of one thread. */
export class AsyncMutex {
  #held = false;
  // Waiters in order. A consumed prefix is skipped by index and cut off now and then, so taking is O(1).
  #waiters: (() => void)[] = [];
  #next = 0;

  /** Whether somebody holds the mutex at this moment. */
  get held(): boolean {
    return this.#held;
  }

  /** How many callers wait for their turn. */
  get waiting(): number {
    return this.#waiters.length - this.#next;
  }

  /**
   * Runs `body` while holding the mutex and gives its result.
   *
   * @throws whatever `body` throws, after the mutex has been released
   */
  async run<T>(body: () => Promise<T> | T): Promise<T> {
    if (this.#held) await new Promise<void>((resolve) => this.#waiters.push(resolve));
    else this.#held = true;
    try {
      return await body();
    } finally {
      this.#release();
    }
  }

  // Ownership passes straight to the next waiter: `#held` stays true, so that a newcomer cannot overtake it
  // between this call and the waiter's continuation.
  #release(): void {
    const waiter = this.#waiters[this.#next];
    if (waiter === undefined) {
      this.#held = false;
      this.#waiters = [];
      this.#next = 0;
      return;
    }
    this.#next += 1;
    if (this.#next >= 64 && this.#next * 2 >= this.#waiters.length) {
      this.#waiters = this.#waiters.slice(this.#next);
      this.#next = 0;
    }
    waiter();
  }
}

/**
 * A cell that holds the latest value and wakes those who wait for a change.
 *
 * Lossy on purpose: a reader that was away sees the newest value, never the ones between. That is all a WAL
 * reader needs ("how far may I go now"), costs no queue, and a slow reader delays nobody. Whoever is woken
 * re-checks what it was waiting for, under the timeline's lock where that matters.
 *
 * Invariants: `version` grows by one with every accepted `set`; a value equal to the current one (by the given
 * equality) is not accepted. After `close` the last value stays readable and every wait ends.
 * The idea is Tokio's `watch` channel; here waiting can be bounded by an AbortSignal.
 */

/** Latest-value cell with change notification; one writer by convention, any number of readers. */
export class Watch<T> {
  #value: T;
  #version = 0;
  #closed = false;
  readonly #equal: (a: T, b: T) => boolean;
  readonly #waiters = new Set<() => void>();
  readonly #subscribers = new Set<() => void>();

  constructor(initial: T, equal: (a: T, b: T) => boolean = Object.is) {
    this.#value = initial;
    this.#equal = equal;
  }

  /** The newest value. */
  get value(): T {
    return this.#value;
  }

  /** How many times the value changed; what `changed` takes. */
  get version(): number {
    return this.#version;
  }

  /** Whether `close` was called; waits no longer block then. */
  get closed(): boolean {
    return this.#closed;
  }

  /** How many callers wait in `changed`. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** Stores `value` and wakes every waiter, unless it equals the current one or the cell is closed. */
  set(value: T): void {
    if (this.#closed || this.#equal(this.#value, value)) return;
    this.#value = value;
    this.#version += 1;
    this.#wake();
  }

  /**
   * Waits until the version differs from `seenVersion`, the cell is closed, or `signal` aborts.
   *
   * @returns the version at that moment: equal to `seenVersion` only when closed or aborted
   */
  async changed(seenVersion: number, signal?: AbortSignal): Promise<number> {
    if (this.#version !== seenVersion || this.#closed || signal?.aborted === true) return this.#version;
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        this.#waiters.delete(wake);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      this.#waiters.add(wake);
      signal?.addEventListener("abort", wake, { once: true });
    });
    return this.#version;
  }

  /**
   * Calls `callback`, synchronously, after every change and at the closing, until the result is disposed. For those
   * who wait for several things at once. It must not throw.
   */
  subscribe(callback: () => void): Disposable {
    this.#subscribers.add(callback);
    return { [Symbol.dispose]: () => void this.#subscribers.delete(callback) };
  }

  /** Ends every wait, now and later. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake(); // each takes itself out, which a Set's iteration allows
    for (const callback of this.#subscribers) callback();
  }
}

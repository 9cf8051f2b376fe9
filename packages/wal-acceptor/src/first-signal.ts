/**
 * The first of several stop signals, as one promise.
 *
 * `Promise.race` against a long-lived promise leaves a reaction behind on it for every race. Here each wait has its
 * own promise that is resolved by listeners, and disposing takes the listeners away, so that a signal that lives as
 * long as the node does not collect those of every connection it ever saw.
 */
import type { Clock } from "./clock.js";

/** Resolves to the value of the signal or timer that came first; stays pending for ever if none does. */
export class FirstSignal<T> implements Disposable {
  readonly promise: Promise<T>;
  readonly #cleanUps: (() => void)[] = [];
  #resolve: (value: T) => void = () => undefined;

  constructor() {
    this.promise = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Resolves with `value` now. */
  resolve(value: T): void {
    this.#resolve(value);
  }

  /** Resolves with `value` when `signal` aborts, at once if it has. */
  onAbort(signal: AbortSignal, value: T): void {
    if (signal.aborted) {
      this.#resolve(value);
      return;
    }
    const listener = (): void => this.#resolve(value);
    signal.addEventListener("abort", listener, { once: true });
    this.#cleanUps.push(() => signal.removeEventListener("abort", listener));
  }

  /** Resolves with `value` after `delayMs`. */
  after(clock: Clock, delayMs: number, value: T): void {
    const timer = clock.setTimer(delayMs, () => this.#resolve(value));
    this.#cleanUps.push(() => timer.cancel());
  }

  /** Stops listening. The promise keeps what it has, or stays pending. */
  [Symbol.dispose](): void {
    for (const cleanUp of this.#cleanUps.splice(0)) cleanUp();
  }
}

/**
 * Calls take turns: each runs when the ones before it have ended, however they ended.
 *
 * A call whose signal is aborted while it waits for its turn is gone, as if it had never been made; once its turn has come it
 * runs to its end, because half a write cannot be taken back.
 */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();
  #count = 0;
  readonly #onChange: () => void;

  /** @param onChange called whenever somebody is in line again, or nobody any more */
  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** Nobody has the turn or waits for it. */
  get isIdle(): boolean {
    return this.#count === 0;
  }

  /** Settles when everybody who is in line now has ended. */
  get ended(): Promise<unknown> {
    return this.#last;
  }

  /** Runs a call in its turn. */
  take<T>(call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    this.#count += 1;
    if (this.#count === 1) this.#onChange();
    return new Promise<T>((resolve, reject) => {
      const onAbort = (): void => reject(signal?.reason);
      signal?.addEventListener("abort", onAbort, { once: true });
      const run = async (): Promise<void> => {
        signal?.removeEventListener("abort", onAbort);
        try {
          signal?.throwIfAborted();
          const result = await call();
          // First the turn ends, then the caller hears of it: whatever he does next need not wait for himself.
          this.#leave();
          resolve(result);
        } catch (error) {
          this.#leave();
          reject(error);
        }
      };
      this.#last = this.#last.then(run);
    });
  }

  #leave(): void {
    this.#count -= 1;
    if (this.#count === 0) this.#onChange();
  }
}

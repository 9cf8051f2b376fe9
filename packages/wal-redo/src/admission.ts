/**
 * The door to a bounded queue: whoever comes when it is full waits in line, and nobody overtakes.
 *
 * A place is given before it is used, as the one who gets it goes on a moment later; until then it counts as taken.
 */
import { deferred } from "./deferred.js";

export class Admission {
  readonly #max: number;
  readonly #queued: () => number;
  readonly #line: (() => void)[] = [];
  #given = 0;

  /** @param queued how many places are in use */
  constructor(max: number, queued: () => number) {
    this.#max = max;
    this.#queued = queued;
  }

  /** Places that are in use or given away. */
  get taken(): number {
    return this.#queued() + this.#given;
  }

  /** Those who wait. */
  get waiting(): number {
    return this.#line.length;
  }

  /**
   * Waits for a place, which is the caller's then; it calls `use` when it uses it or gives it back.
   *
   * @throws the signal's reason, as long as it waits
   */
  async enter(signal: AbortSignal | undefined): Promise<void> {
    if (this.#line.length === 0 && this.taken < this.#max) {
      this.#given += 1;
      return;
    }
    const turn = deferred<undefined>();
    const admit = (): void => turn.resolve(undefined);
    const abort = (): void => {
      const at = this.#line.indexOf(admit);
      // One that has its place by now gives it back when it looks at the signal.
      if (at < 0) return;
      this.#line.splice(at, 1);
      turn.reject(signal?.reason);
    };
    this.#line.push(admit);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      await turn.promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** The place that `enter` gave is in use from here on, or free. */
  use(): void {
    this.#given -= 1;
  }

  /** Gives places that have become free to those who wait longest. */
  admit(): void {
    while (this.#line.length > 0 && this.taken < this.#max) this.#admitFirst();
  }

  /** Lets everybody in: there is nothing to wait for any more. */
  open(): void {
    while (this.#line.length > 0) this.#admitFirst();
  }

  #admitFirst(): void {
    this.#given += 1;
    this.#line.shift()?.();
  }
}

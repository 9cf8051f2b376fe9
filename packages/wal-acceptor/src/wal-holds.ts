/**
 * Short holds on WAL: whoever copies or digests a range keeps it from being removed meanwhile.
 *
 * In memory only, as its holders are. A hold counts until it is disposed.
 */
import type { Lsn } from "@millrace/lsn";

/** The holds of one timeline. */
export class WalHolds {
  readonly #holds = new Set<{ readonly lsn: Lsn }>();

  get size(): number {
    return this.#holds.size;
  }

  /** Keeps WAL from `lsn` on until the result is disposed; disposing twice is allowed. */
  hold(lsn: Lsn): Disposable {
    const hold = { lsn };
    this.#holds.add(hold);
    return { [Symbol.dispose]: () => void this.#holds.delete(hold) };
  }

  /** Positions from which on WAL must be kept. */
  horizons(): readonly Lsn[] {
    return [...this.#holds].map(({ lsn }) => lsn);
  }
}

/**
 * Counts how the comparisons of PostgreSQL's log with the acceptors' have ended, one for each life of a bridge.
 *
 * A bridge tells its result with every report from then on, and once more at its end, which may come before the next
 * report; only the first counts. Every result is there from the beginning with 0, as in bridge-ends.ts.
 */
import type { DivergenceResult } from "@millrace/wal-proposer";

const RESULTS: Readonly<Record<DivergenceResult, true>> = {
  equal: true,
  nothing: true,
  unchecked: true,
  diverged: true,
  lost: true,
  failed: true,
};

/** The counts of one all-in-one, or of one bridge by itself. */
export class DivergenceChecks {
  readonly #counts = new Map<string, number>(Object.keys(RESULTS).map((result) => [result, 0]));
  #isCounted = false;

  /** The running bridge says how its comparison ended; undefined as long as it has not. */
  told(result: DivergenceResult | undefined): void {
    if (result === undefined || this.#isCounted) return;
    this.#isCounted = true;
    this.#counts.set(result, (this.#counts.get(result) ?? 0) + 1);
  }

  /** The bridge has ended; what is told next is told by another one. */
  ended(): void {
    this.#isCounted = false;
  }

  /** Count by result. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }
}

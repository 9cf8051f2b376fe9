/**
 * What the clients of the demo were told: which rows are committed, and when each commit was acknowledged.
 *
 * The pause between two acknowledgements, over all connections together, is the time in which no commit returned. Start
 * and end of the load count as acknowledgements, so that a load that never got going, or stopped before its end, shows
 * as a pause and cannot hide.
 */

/** Acknowledged commits of one load. Times are those of one monotonic clock, in milliseconds, and never decrease. */
export class CommitLog {
  readonly #startMs: number;
  readonly #ids = new Set<number>();
  #lastMs: number;
  #longestPauseMs = 0;

  constructor(startMs: number) {
    this.#startMs = startMs;
    this.#lastMs = startMs;
  }

  /** Notes that the client of row `id` was told at `nowMs` that it is committed. */
  acknowledge(id: number, nowMs: number): void {
    this.#ids.add(id);
    this.#pause(nowMs);
  }

  /** Notes that the load ended at `nowMs`. */
  finish(nowMs: number): void {
    this.#pause(nowMs);
  }

  #pause(nowMs: number): void {
    this.#longestPauseMs = Math.max(this.#longestPauseMs, nowMs - this.#lastMs);
    this.#lastMs = nowMs;
  }

  get count(): number {
    return this.#ids.size;
  }

  get longestPauseMs(): number {
    return this.#longestPauseMs;
  }

  /** From the start of the load to its last acknowledgement or end. */
  get durationMs(): number {
    return this.#lastMs - this.#startMs;
  }

  /** Acknowledged ids that `present` lacks, in the order of their acknowledgement. */
  missingFrom(present: ReadonlySet<number>): number[] {
    return [...this.#ids].filter((id) => !present.has(id));
  }
}

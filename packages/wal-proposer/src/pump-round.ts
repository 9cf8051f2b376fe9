/**
 * Gathers acceptors that have something to be told which is not urgent, and calls for them in rounds.
 *
 * A commit that advances is worth a request of its own only if no WAL follows that it can ride on, and one request
 * says as much as ten. So a round comes at the end of the turn of the event loop in which the first acceptor was
 * added, and at least COMMIT_GAP_MS after the round before.
 */
import type { Clock, Timer } from "./timers.js";

/** Least time between two rounds. */
export const COMMIT_GAP_MS = 1;

/** One for each proposer. */
export class PumpRound {
  readonly #clock: Clock;
  readonly #run: (acceptors: readonly number[]) => void;
  readonly #waiting = new Set<number>();
  #scheduled = false;
  #closed = false;
  #timer: Timer | undefined;
  #lastMs = Number.NEGATIVE_INFINITY;

  /** @param run called with each acceptor that was added since the round before, once */
  constructor(clock: Clock, run: (acceptors: readonly number[]) => void) {
    this.#clock = clock;
    this.#run = run;
  }

  /** Puts the acceptor into the next round. */
  add(acceptor: number): void {
    if (this.#closed) return;
    this.#waiting.add(acceptor);
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#clock.nextTurn(() => {
      if (this.#closed) return;
      const waitMs = this.#lastMs + COMMIT_GAP_MS - this.#clock.monotonicMs();
      if (waitMs <= 0) this.#round();
      else this.#timer = this.#clock.setTimer(waitMs, () => this.#round());
    });
  }

  /** Takes the acceptor out again: its connection is gone. */
  delete(acceptor: number): void {
    this.#waiting.delete(acceptor);
  }

  /** No more rounds. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  #round(): void {
    this.#scheduled = false;
    this.#lastMs = this.#clock.monotonicMs();
    const acceptors = [...this.#waiting];
    this.#waiting.clear();
    this.#run(acceptors);
  }
}

/**
 * Gathers acceptors that have something to be told which is not urgent, and calls for them in rounds.
 *
 * A commit that advances is worth a request of its own only if no WAL follows that it can ride on, and one request
 * says as much as ten. While clients commit, the next WAL is there within milliseconds and carries the position of the
 * commit before; an empty request would cost a read, an answer and their wake-ups on both sides, just when the next
 * transaction wants the processor. So a round comes once nobody was added for COMMIT_DELAY_MS, or COMMIT_DELAY_MAX_MS
 * after the first was, and who was sent WAL meanwhile has nothing left to be told. Nobody's commit waits for this: it is
 * what readers of acceptors wait for.
 */
import type { Clock, Timer } from "./timers.js";

/** How much later than the last of several commits those learn of it who read from an acceptor, if no WAL follows. */
export const COMMIT_DELAY_MS = 5;
/** The same for the first of them. */
export const COMMIT_DELAY_MAX_MS = 20;

/** One for each proposer. */
export class PumpRound {
  readonly #clock: Clock;
  readonly #run: (acceptors: readonly number[]) => void;
  readonly #waiting = new Set<number>();
  #closed = false;
  #timer: Timer | undefined;
  #firstMs = 0;
  #lastMs = 0;

  /** @param run called with each acceptor that was added since the round before, once */
  constructor(clock: Clock, run: (acceptors: readonly number[]) => void) {
    this.#clock = clock;
    this.#run = run;
  }

  /** Puts the acceptor into the next round. */
  add(acceptor: number): void {
    if (this.#closed) return;
    this.#waiting.add(acceptor);
    this.#lastMs = this.#clock.monotonicMs();
    if (this.#timer !== undefined) return; // which looks at the time of the last one when it fires
    this.#firstMs = this.#lastMs;
    this.#arm();
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

  #arm(): void {
    const nowMs = this.#clock.monotonicMs();
    const dueMs = Math.min(this.#lastMs + COMMIT_DELAY_MS, this.#firstMs + COMMIT_DELAY_MAX_MS);
    if (dueMs <= nowMs) this.#round();
    else this.#timer = this.#clock.setTimer(dueMs - nowMs, () => this.#arm());
  }

  #round(): void {
    this.#timer = undefined;
    const acceptors = [...this.#waiting];
    this.#waiting.clear();
    this.#run(acceptors);
  }
}

/**
 * How late this process comes to what is due: a timer that measures its own lateness.
 *
 * Everything an acceptor does waits for one event loop, and a commit waits with it. A garbage collection or a long decode
 * shows here and in no time of a disk. What Node itself keeps is a maximum between two scrapes; a distribution tells how often.
 */
import { Histogram, systemClock } from "@millrace/wal-acceptor";
import type { Clock, HistogramMetric } from "@millrace/wal-acceptor";

/** Time between two looks: ten a second cost nothing and meet any pause that lasts as long as they are apart. */
export const LAG_INTERVAL_MS = 100;
/** A timer of Node has a resolution of a millisecond: below one nothing can be told apart. */
const LAG_SECONDS: readonly number[] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];

/** Watches the event loop until it is disposed. */
export class EventLoopLag implements Disposable {
  readonly #clock: Clock;
  readonly #lag: Histogram = new Histogram(LAG_SECONDS);
  #timer: { cancel(): void };

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
    this.#timer = this.#arm();
  }

  /** The lateness of every look since the start. */
  metric(): HistogramMetric {
    return {
      name: "safekeeper_event_loop_lag_seconds",
      help: "How late a timer of this process fires",
      samples: [{ labels: {}, ...this.#lag.snapshot() }],
    };
  }

  [Symbol.dispose](): void {
    this.#timer.cancel();
  }

  #arm(): { cancel(): void } {
    const dueMs = this.#clock.monotonicMs() + LAG_INTERVAL_MS;
    return this.#clock.setTimer(LAG_INTERVAL_MS, () => {
      this.#lag.observe(Math.max(0, this.#clock.monotonicMs() - dueMs) / 1000);
      this.#timer = this.#arm();
    });
  }
}

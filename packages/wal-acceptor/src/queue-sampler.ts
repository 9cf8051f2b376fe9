/**
 * Looks now and then at how many messages wait in the queues of push streams.
 *
 * A depth counted at each message would say how bursty proposers are; sampled in time it says how long a disk keeps them
 * waiting. The timer runs only while there is a queue, so an idle node sets none.
 */
import type { Clock, Timer } from "./clock.js";
import type { Histogram } from "./histogram.js";

/** Time between two looks; that of Neon's safekeeper. */
export const QUEUE_SAMPLE_INTERVAL_MS = 5000;

/** Samples the queues that are registered. */
export class QueueSampler {
  readonly #clock: Clock;
  readonly #depths: Histogram;
  readonly #queues = new Set<{ readonly size: number }>();
  #timer: Timer | undefined;

  constructor(clock: Clock, depths: Histogram) {
    this.#clock = clock;
    this.#depths = depths;
  }

  /** Looks at `queue` until the guard is disposed; twice is allowed. */
  watch(queue: { readonly size: number }): Disposable {
    this.#queues.add(queue);
    this.#timer ??= this.#arm();
    return {
      [Symbol.dispose]: () => {
        this.#queues.delete(queue);
        if (this.#queues.size > 0) return;
        this.#timer?.cancel();
        this.#timer = undefined;
      },
    };
  }

  #arm(): Timer {
    return this.#clock.setTimer(QUEUE_SAMPLE_INTERVAL_MS, () => {
      for (const queue of this.#queues) this.#depths.observe(queue.size);
      this.#timer = this.#arm();
    });
  }
}

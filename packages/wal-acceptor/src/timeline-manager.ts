/**
 * The background duties of one timeline, run rarely: at most once per 300 ms however often something changes.
 *
 * It holds no duties itself: it decides when `run` is called. A wake-up while a run is under way leads to one more
 * run afterwards, so no change is missed. At most one run at a time. `run` says when it wants to be called again
 * even if nothing changes. After `stop` has resolved nothing runs any more.
 *
 * After the timeline manager task of Neon's safekeeper.
 */
import type { Clock, Timer } from "./clock.js";

/** Least time between two runs. */
export const MANAGER_INTERVAL_MS = 300;

/** What a manager works with. */
export interface TimelineManagerOptions {
  readonly clock: Clock;
  /**
   * Does what is due. Must not reject: what goes wrong is its own to report.
   *
   * @returns milliseconds after which to run again at the latest, or `undefined` for "when woken"
   */
  readonly run: () => Promise<number | undefined>;
}

/** Coalesces wake-ups into runs. */
export class TimelineManager {
  readonly #clock: Clock;
  readonly #run: () => Promise<number | undefined>;
  /** Set by a wake-up: nothing else can make the next run come earlier. */
  #soon: Timer | undefined;
  /** Set by a run that asked to be repeated. */
  #later: Timer | undefined;
  #running: Promise<void> | undefined;
  #wokenWhileRunning = false;
  #stopped = false;

  constructor(options: TimelineManagerOptions) {
    this.#clock = options.clock;
    this.#run = options.run;
  }

  /** Something changed: run within the next 300 ms. Cheap enough to be called for every message. */
  wake(): void {
    if (this.#stopped || this.#soon !== undefined) return;
    if (this.#running !== undefined) this.#wokenWhileRunning = true;
    else this.#soon = this.#clock.setTimer(MANAGER_INTERVAL_MS, () => this.#start());
  }

  /** Runs no more and waits for the run under way. A second call does nothing. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#clearTimers();
    await this.#running;
  }

  #start(): void {
    this.#clearTimers();
    this.#running = this.#runOnce();
  }

  async #runOnce(): Promise<void> {
    const againMs = await this.#run();
    this.#running = undefined;
    if (this.#stopped) return;
    if (againMs !== undefined) {
      this.#later = this.#clock.setTimer(Math.max(againMs, MANAGER_INTERVAL_MS), () => this.#start());
    }
    if (this.#wokenWhileRunning) {
      this.#wokenWhileRunning = false;
      this.wake();
    }
  }

  #clearTimers(): void {
    this.#soon?.cancel();
    this.#later?.cancel();
    this.#soon = undefined;
    this.#later = undefined;
  }
}

/**
 * Time as the acceptor sees it: two readings and one timer, so that a test or a simulator can own all three.
 *
 * Nothing in this package reads `Date`, `performance` or `setTimeout` except `systemClock` below. Intervals
 * (flush gaps, idle limits, save intervals) use `monotonicMs`, because the wall clock may be set back;
 * `wallMs` is only for values that leave the process, such as creation times in a control file.
 * No decision about safety depends on either reading.
 */
import { performance } from "node:perf_hooks";

/** A timer that has been set. Cancelling one that has fired or was cancelled does nothing. */
export interface Timer {
  cancel(): void;
}

/** The source of time of a node, its timelines and its connections. */
export interface Clock {
  /** Milliseconds since 1970-01-01 UTC; may jump either way. */
  wallMs(): number;
  /** Milliseconds since an arbitrary moment, with a fraction; never goes back. */
  monotonicMs(): number;
  /**
   * Runs `callback` once, `delayMs` milliseconds from now or later. The timer does not keep the process alive:
   * what a node waits for (sockets, files) does.
   */
  setTimer(delayMs: number, callback: () => void): Timer;
}

/** The clock of the machine: `Date.now`, `performance.now` and unreferenced timeouts. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer(delayMs, callback) {
    const timeout = setTimeout(callback, delayMs);
    timeout.unref();
    return { cancel: () => clearTimeout(timeout) };
  },
};

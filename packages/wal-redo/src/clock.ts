/**
 * Time as the redo manager sees it, so that tests own it. Intervals only: no decision depends on the date.
 */
import { performance } from "node:perf_hooks";

/** A timer that has been set. Cancelling one that has fired does nothing. */
export interface Timer {
  cancel(): void;
}

export interface RedoClock {
  /** Milliseconds since an arbitrary moment; never goes back. */
  monotonicMs(): number;
  /** Runs `callback` once, `delayMs` from now or later. Does not keep the process alive. */
  setTimer(delayMs: number, callback: () => void): Timer;
}

export const systemClock: RedoClock = {
  monotonicMs: () => performance.now(),
  setTimer(delayMs, callback) {
    const timeout = setTimeout(callback, delayMs);
    timeout.unref();
    return { cancel: () => clearTimeout(timeout) };
  },
};

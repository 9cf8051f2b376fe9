/**
 * Time as the proposer's shells see it: two readings, one timer and "the next turn of the event loop", so that a
 * test or a simulator can own all of them.
 *
 * Nothing in this package reads `Date`, `performance`, `setTimeout` or `setImmediate` except `systemClock` below.
 * Intervals (reconnects, silence, heartbeats, reports) use `monotonicMs`, because the wall clock may be set back;
 * `wallMs` is only for the timestamp that PostgreSQL shows as reply time and that nobody decides anything by.
 */
import { performance } from "node:perf_hooks";

/** A timer that has been set. Cancelling one that has fired or was cancelled does nothing. */
export interface Timer {
  cancel(): void;
}

/** The source of time of a proposer, its connections and its bridge. */
export interface Clock {
  /** Milliseconds since 1970-01-01 UTC; may jump either way. */
  wallMs(): number;
  /** Milliseconds since an arbitrary moment, with a fraction; never goes back. */
  monotonicMs(): number;
  /**
   * Runs `callback` once, `delayMs` milliseconds from now or later. The timer does not keep the process alive:
   * the sockets of a bridge do.
   */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Runs `callback` once, after the I/O events that are already waiting in this turn of the event loop. */
  nextTurn(callback: () => void): void;
}

/** The clock of the machine: `Date.now`, `performance.now`, unreferenced timeouts and `setImmediate`. */
export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer(delayMs, callback) {
    const timeout = setTimeout(callback, delayMs);
    timeout.unref();
    return { cancel: () => clearTimeout(timeout) };
  },
  nextTurn(callback) {
    setImmediate(callback);
  },
};

/**
 * Waits on the clock.
 *
 * @param signal ends the wait early; the promise resolves all the same, so that the caller looks at its own state
 */
export function delay(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted === true) {
      resolve();
      return;
    }
    const finish = (): void => {
      timer.cancel();
      signal?.removeEventListener("abort", finish);
      resolve();
    };
    const timer = clock.setTimer(delayMs, finish);
    signal?.addEventListener("abort", finish);
  });
}

/**
 * Runs `work` and gives up on it after `limitMs`: the signal that it gets is aborted then, and when `signal` is.
 *
 * @throws what `work` throws, or an Error that names the limit
 */
export async function withinTime<T>(
  clock: Clock,
  limitMs: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const cancel = new AbortController();
  const stop = (): void => cancel.abort();
  signal.addEventListener("abort", stop);
  if (signal.aborted) stop();
  const timer = clock.setTimer(limitMs, stop);
  try {
    const ended = new Promise<never>((_, reject) => {
      const refuse = (): void => reject(new Error(`no answer within ${limitMs} ms`));
      if (cancel.signal.aborted) refuse();
      else cancel.signal.addEventListener("abort", refuse);
    });
    return await Promise.race([work(cancel.signal), ended]);
  } finally {
    timer.cancel();
    signal.removeEventListener("abort", stop);
  }
}

/** Spread of a jittered delay to either side: a fifth, so that acceptors that came back together spread out. */
const JITTER = 0.2;

/** `delayMs` ± 20 %. `random` returns a number in [0, 1). */
export function withJitter(delayMs: number, random: () => number): number {
  return delayMs * (1 - JITTER + 2 * JITTER * random());
}

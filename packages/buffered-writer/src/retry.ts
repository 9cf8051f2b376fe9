/**
 * Which failures are worth repeating, how long to wait, and when to stop.
 *
 * A full disk is waited for, at 2, 4, 8 and then 10 seconds: positional writes may be repeated, and somebody may make room.
 * There is no last attempt, because giving up loses data that was accepted; whoever wants one says "fatal" in `classify`.
 * A failed sync never comes here. Stopping is looked at before every attempt and ends every wait; it never touches an
 * attempt that is under way, because the kernel has the bytes then.
 */
import { setTimeout as sleepFor } from "node:timers/promises";

/** Time, as the writer sees it. */
export interface WriterClock {
  /** Settles after so many milliseconds, or when the signal is aborted, however it likes. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Says whether a failed attempt is repeated. Attempts count from 1. */
export type Classify = (error: unknown, attempt: number) => "retry" | "fatal";

/** The clock on the wall. */
export const systemClock: WriterClock = {
  sleep: async (ms, signal) => await sleepFor(ms, undefined, { signal }),
};

const DELAY_MAX_MS = 10_000;

/** What may pass: no room, no memory, an interrupt, a device that is busy. */
const PASSING: ReadonlySet<string> = new Set([
  "ENOSPC",
  "EDQUOT",
  "EINTR",
  "EAGAIN",
  "ENOMEM",
  "ECANCELED",
  "ETIMEDOUT",
  "EBUSY",
  "ERR_FILE_WRITE_ZERO",
]);

/** The default: what may pass is repeated. Looks at `errnoCode`, which @millrace/virtual-file has, and at `code`. */
export function classifyError(error: unknown): "retry" | "fatal" {
  const { errnoCode, code } = (error ?? {}) as { readonly errnoCode?: unknown; readonly code?: unknown };
  return PASSING.has(String(errnoCode ?? code)) ? "retry" : "fatal";
}

/** Milliseconds after the attempt of that number. */
export function delayAfter(attempt: number): number {
  return Math.min(2 ** attempt * 1000, DELAY_MAX_MS);
}

/** What repeating needs. */
export interface RetryOptions {
  readonly clock: WriterClock;
  readonly classify: Classify;
  /** Aborted when nothing new may be started; its reason is what `untilDone` then throws. */
  readonly stop: AbortSignal;
  readonly onRetry: () => void;
}

/**
 * Does a step until it succeeds.
 *
 * @throws the step's error once that is fatal; the reason of `stop`
 */
export async function untilDone(options: RetryOptions, step: () => Promise<void>): Promise<void> {
  const { clock, classify, stop, onRetry } = options;
  for (let attempt = 1; ; attempt++) {
    stop.throwIfAborted();
    try {
      await step();
      return;
    } catch (error) {
      if (classify(error, attempt) === "fatal") throw error;
    }
    if (stop.aborted) continue;
    onRetry();
    try {
      await clock.sleep(delayAfter(attempt), stop);
    } catch (error) {
      // A clock may reject when it is woken; anything else is its failure.
      if (!stop.aborted) throw error;
    }
  }
}

/**
 * How a thread takes part in a system: what whoever attaches a backend can choose, and what a test may watch.
 */
import type { AioWarningCode } from "./errors.js";

/** What a test may watch; in production nothing is set. */
export interface BackendProbe {
  /** Handles of one submission, before it is made. */
  onSubmit?: (count: number) => void;
  /** A wait that is about to sleep. */
  onSleep?: (handle: number) => void;
}

/** How a thread takes part. */
export interface BackendOptions {
  /** Whether this thread may sleep in a wait. Without it: worker threads may, the main thread may not. */
  readonly mayBlock?: boolean;
  /** Hears of bookkeeping errors that harm nobody. */
  readonly onWarning?: (code: AioWarningCode, message: string) => void;
  readonly probe?: BackendProbe;
  /** Look for completions in every turn of the event loop while some are waited for: less latency for a whole core. */
  readonly busyPoll?: boolean;
}

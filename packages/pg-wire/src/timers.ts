/**
 * Time as the connections of this package see it: one-shot timers that can be replaced, so that tests decide when a
 * login times out. The pure sessions see no time at all.
 */

/** One-shot timers; the default is Node's. */
export interface Timers {
  /** Calls `callback` once, `delayMs` from now, and returns the function that prevents it. */
  start(callback: () => void, delayMs: number): () => void;
}

/** Node's own timers. They keep the process alive while they run, as each guards a wait of somebody. */
export const nodeTimers: Timers = {
  start: (callback: () => void, delayMs: number): (() => void) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

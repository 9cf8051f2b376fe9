/**
 * A clock that stands still until it is advanced, with timers that fire in order of their time.
 */
import type { Clock, Timer } from "../src/clock.js";

interface PendingTimer {
  readonly dueMs: number;
  readonly callback: () => void;
}

export class FakeClock implements Clock {
  #nowMs = 0;
  readonly #timers = new Set<PendingTimer>();
  #free = false;
  readonly #watchers: { readonly delayMs: number; readonly resolve: () => void }[] = [];

  wallMs(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const timer: PendingTimer = { dueMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    for (const watcher of this.#watchers.splice(0)) {
      if (watcher.delayMs === delayMs) watcher.resolve();
      else this.#watchers.push(watcher);
    }
    if (this.#free) setImmediate(() => this.advance(Math.max(0, timer.dueMs - this.#nowMs)));
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** Timers that are set. */
  get pending(): number {
    return this.#timers.size;
  }

  /** From now on time passes by itself, as fast as it can: for the end of a test, where nothing is measured. */
  runFree(): void {
    this.#free = true;
    const pending = [...this.#timers];
    for (const { dueMs } of pending) setImmediate(() => this.advance(Math.max(0, dueMs - this.#nowMs)));
  }

  /** Waits until somebody sets a timer of exactly that delay. */
  timerSet(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.#watchers.push({ delayMs, resolve });
    });
  }

  /** Delays of the timers that are set, from now, ascending. */
  delays(): number[] {
    return [...this.#timers].map(({ dueMs }) => dueMs - this.#nowMs).toSorted((a, b) => a - b);
  }

  /** Moves time on and fires what becomes due, each at its own time. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const [next] = [...this.#timers]
        .filter(({ dueMs }) => dueMs <= endMs)
        .toSorted((a, b) => a.dueMs - b.dueMs);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.callback();
    }
    this.#nowMs = endMs;
  }
}

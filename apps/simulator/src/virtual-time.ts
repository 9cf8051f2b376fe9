/**
 * Virtual time: a clock that jumps from event to event, and the queue of what happens when.
 *
 * Events run one at a time, in the order of their time and, at equal times, of their making. The cores' disk
 * handlers are promises; whatever an event resolves runs to its next wait before the next event is looked at, since
 * the loop goes through the host's event loop after each event that may have resolved something. No real time and
 * no real I/O is involved, so nothing else can come in between and a run depends on its seed alone.
 *
 * Also the `Clock` that the packages take.
 */
import type { Timer } from "@millrace/wal-acceptor";
import type { Clock } from "@millrace/wal-proposer";

/** As setTimeout: what remains of a wait after a rounded sum would otherwise be no time at all, for ever. */
const TIMER_MIN_MS = 1;

interface Entry {
  readonly atMs: number;
  readonly order: number;
  action: (() => void) | undefined;
}

/** Milliseconds, starting at 0. */
export class VirtualTime implements Clock {
  readonly #heap: Entry[] = [];
  #nowMs = 0;
  #order = 0;
  #promisesMoved = false;
  #events = 0;

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Events that have run. */
  get events(): number {
    return this.#events;
  }

  wallMs(): number {
    return 1_700_000_000_000 + Math.floor(this.#nowMs);
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    return this.#later(Math.max(TIMER_MIN_MS, delayMs), callback);
  }

  nextTurn(callback: () => void): void {
    this.#later(0, callback);
  }

  #later(delayMs: number, callback: () => void): Timer {
    return this.after(delayMs, () => {
      this.#promisesMoved = true;
      callback();
    });
  }

  /** Runs `action` once, `delayMs` from now. */
  after(delayMs: number, action: () => void): Timer {
    const entry: Entry = { atMs: this.#nowMs + Math.max(0, delayMs), order: this.#order, action };
    this.#order += 1;
    this.#push(entry);
    return {
      cancel: () => {
        entry.action = undefined;
      },
    };
  }

  /** Resolves `delayMs` from now. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, () => {
        this.#promisesMoved = true;
        resolve();
      });
    });
  }

  /** To be called by whoever resolves a promise or starts an asynchronous call from within an event. */
  promisesMoved(): void {
    this.#promisesMoved = true;
  }

  /** Runs events until `untilMs`, or until `stop` says so after one of them. */
  async run(untilMs: number, stop: () => boolean): Promise<void> {
    // What was started before the loop has its first steps still to make.
    await settle();
    while (!stop()) {
      const next = this.#heap[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#pop();
      if (next.action === undefined) continue;
      this.#nowMs = next.atMs;
      this.#events += 1;
      this.#promisesMoved = false;
      next.action();
      if (this.#promisesMoved) await settle();
    }
    if (!stop()) this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || !isBefore(entry, above)) break;
      heap[at] = above;
      at = parent;
    }
    heap[at] = entry;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      let below = heap[child];
      if (below === undefined) break;
      const right = heap[child + 1];
      if (right !== undefined && isBefore(right, below)) {
        child += 1;
        below = right;
      }
      if (!isBefore(below, last)) break;
      heap[at] = below;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.atMs !== b.atMs ? a.atMs < b.atMs : a.order < b.order;
}

/** Every promise that can move without an event has moved when this resolves: microtasks come before immediates. */
function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

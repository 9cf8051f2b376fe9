// A clock that stands until a test advances it. The next turn of the event loop is a real one: it is no time.
import type { Clock, Timer } from "../../src/index.js";
import { traffic } from "./socket-pair.js";

interface Entry {
  readonly atMs: number;
  readonly callback: () => void;
}

export class FakeClock implements Clock {
  #nowMs = 1000;
  readonly #entries = new Set<Entry>();

  get pendingTimers(): number {
    return this.#entries.size;
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const entry = { atMs: this.#nowMs + delayMs, callback };
    this.#entries.add(entry);
    return { cancel: () => this.#entries.delete(entry) };
  }

  nextTurn(callback: () => void): void {
    setImmediate(callback);
  }

  /** Moves time on, running what becomes due in order and letting I/O happen after each. */
  async advance(byMs: number): Promise<void> {
    const untilMs = this.#nowMs + byMs;
    for (;;) {
      let next: Entry | undefined;
      for (const entry of this.#entries) {
        if (entry.atMs <= untilMs && (next === undefined || entry.atMs < next.atMs)) next = entry;
      }
      if (next === undefined) break;
      this.#entries.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
      await settle();
    }
    this.#nowMs = untilMs;
    await settle();
  }
}

/** Turns without a new chunk after which in-memory sockets count as quiet: more than any reaction here takes. */
const QUIET_TURNS = 8;
const TURNS_MAX = 20_000;

/** Lets in-memory sockets deliver what is on its way, and what that causes, until nothing moves any more. */
export async function settle(): Promise<void> {
  let quiet = 0;
  let seen = traffic().everSent;
  for (let turn = 0; quiet < QUIET_TURNS; turn += 1) {
    if (turn > TURNS_MAX) throw new Error("in-memory sockets do not come to rest");
    await new Promise((resolve) => setImmediate(resolve));
    const now = traffic();
    quiet = now.inFlight === 0 && now.everSent === seen ? quiet + 1 : 0;
    seen = now.everSent;
  }
}

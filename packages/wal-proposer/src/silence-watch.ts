/**
 * Notices that whoever should be at the other end of a replication connection is not: a host that has vanished takes no
 * leave, and TCP may need a quarter of an hour to find out, in which commits wait and the slot's WAL grows.
 *
 * A walsender that has nothing to send says nothing as long as it hears from us, so silence alone proves nothing. After
 * half of the limit without a message a reply is asked for, which a living walsender sends at once; after the whole
 * limit the connection is given up. While its owner does not read (`hold`), nothing is measured: what has arrived waits
 * in the socket. `heard` is called for every message and only stores a time.
 */
import { ProposerError } from "./errors.js";
import type { Clock, Timer } from "./timers.js";

/** How long PostgreSQL may be silent: its own default for a silent standby, wal_sender_timeout. */
export const POSTGRES_SILENCE_MS_DEFAULT = 60_000;

/** See the members. */
export interface SilenceWatchOptions {
  readonly limitMs: number;
  readonly clock: Clock;
  /** Asks the other side for a message. */
  readonly ask: () => void;
  /** Nothing came; called at most once, and the watch is closed then. */
  readonly silent: (error: ProposerError) => void;
}

/** One for each connection. Begins to measure at once. */
export class SilenceWatch {
  readonly #options: SilenceWatchOptions;
  #heardMs: number;
  #hasAsked = false;
  #isHeld = false;
  #isClosed = false;
  #timer: Timer | undefined;

  constructor(options: SilenceWatchOptions) {
    this.#options = options;
    this.#heardMs = options.clock.monotonicMs();
    this.#arm();
  }

  /** A message has come. */
  heard(): void {
    this.#heardMs = this.#options.clock.monotonicMs();
    this.#hasAsked = false;
  }

  /** From now on nobody reads. */
  hold(): void {
    this.#isHeld = true;
    this.#cancel();
  }

  /** Reading goes on, and the time begins anew. */
  resume(): void {
    if (!this.#isHeld || this.#isClosed) return;
    this.#isHeld = false;
    this.heard();
    this.#arm();
  }

  /** Measures no more. */
  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }

  #cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(): void {
    const { clock, limitMs } = this.#options;
    const dueMs = this.#heardMs + (this.#hasAsked ? limitMs : limitMs / 2);
    this.#timer = clock.setTimer(Math.max(0, dueMs - clock.monotonicMs()), () => this.#look());
  }

  #look(): void {
    const { clock, limitMs, ask, silent } = this.#options;
    this.#timer = undefined;
    const silentMs = clock.monotonicMs() - this.#heardMs;
    if (this.#hasAsked && silentMs >= limitMs) {
      const message = `nothing was heard from PostgreSQL for ${limitMs} ms`;
      silent(new ProposerError("ERR_BRIDGE_POSTGRES", message));
      return;
    }
    if (!this.#hasAsked && silentMs >= limitMs / 2) {
      this.#hasAsked = true;
      ask();
    }
    if (!this.#isClosed) this.#arm();
  }
}

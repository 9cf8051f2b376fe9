/**
 * A backend on an event loop: notices completions without sleeping, and keeps the process alive while somebody waits.
 *
 * Three sources of news. The method's own (a ring's descriptor becomes readable); the backend's bell, a shared word that
 * other threads count up when they have completed one of its I/Os; and other backends' handles, by `Atomics.waitAsync`
 * on their state. A pending `waitAsync` does not keep Node alive, so a port is held open as long as anybody waits.
 * No wake-up can be lost: the bell is read before it is armed, and everything completed before is looked for after.
 */
import { MessageChannel } from "node:worker_threads";
import type { MessagePort } from "node:worker_threads";

import type { HandleTable } from "./handle-table.js";
import { BACKEND } from "./layout.js";
import type { EventSource, IoMethod } from "./method.js";
import { hasStopped } from "./panic.js";
import { waitAsync } from "./wait-async.js";

/** Between two looks at another thread's I/O; device time is of this order. */
const HELP_INTERVAL_MS = 1;

/** Looks that `lookSoon` takes in one turn of the event loop: a batch of reads each, so that timers and sockets wait below a millisecond. */
const LOOKS_PER_TURN = 8;

/** The event-loop side of one backend. */
export class Listener {
  readonly #table: HandleTable;
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #method: IoMethod;
  readonly #poll: () => number;
  readonly #busyPoll: boolean;
  #source: EventSource | undefined;
  #port: MessagePort | undefined;
  /** Outcomes and promises that are waited for. */
  #wanted = 0;
  #isListening = false;
  #isBellArmed = false;
  #isSpinning = false;
  #isLookPlanned = false;
  /** The event loop stays alive for this; and it is to be looked whether it still has to. */
  #isKeptAlive = false;
  #isRestPlanned = false;
  #looksLeft = LOOKS_PER_TURN;
  #waiters: (() => void)[] = [];

  /** @param at first word of the backend */
  constructor(table: HandleTable, at: number, method: IoMethod, busyPoll: boolean, poll: () => number) {
    this.#table = table;
    this.#words = table.words;
    this.#at = at;
    this.#method = method;
    this.#busyPoll = busyPoll;
    this.#poll = poll;
  }

  /** Somebody waits on the event loop, once more. */
  want(): void {
    this.#wanted += 1;
    if (this.#wanted > 1) return;
    this.#listen();
    this.#keepAlive(true);
    if (this.#busyPoll) this.#spin();
  }

  /**
   * One that waited does not any more. If nobody does, that is told after the current microtasks: whoever reads one block
   * after the other waits again by then, and the event loop need not hear of it.
   */
  unwant(): void {
    this.#wanted -= 1;
    if (this.#wanted > 0 || this.#isRestPlanned) return;
    this.#isRestPlanned = true;
    queueMicrotask(this.#restIfUnwanted);
  }

  readonly #restIfUnwanted = (): void => {
    this.#isRestPlanned = false;
    if (this.#wanted === 0) this.#keepAlive(false);
  };

  /**
   * I/O was submitted that may well be over, as what the page cache has: looks after the current microtasks, which saves a
   * turn of the event loop, or two system calls.
   */
  lookSoon(): void {
    if (this.#isLookPlanned || this.#looksLeft === 0) return;
    this.#isLookPlanned = true;
    this.#looksLeft -= 1;
    queueMicrotask(this.#lookNow);
  }

  readonly #lookNow = (): void => {
    this.#isLookPlanned = false;
    this.#look();
  };

  /** In a new turn of the event loop. */
  #lookInTurn(): void {
    this.#looksLeft = LOOKS_PER_TURN;
    this.#look();
  }

  /** Own I/O was taken back: everybody who waits for that looks again. */
  publish(): void {
    if (this.#waiters.length > 0) this.#wakeAll();
  }

  /** Resolves after the next time that an own I/O was taken back; what was ready is taken back first. */
  async nextReclaim(): Promise<void> {
    this.want();
    try {
      await new Promise<void>((resolve) => {
        this.#waiters.push(resolve);
        this.#look();
      });
    } finally {
      this.unwant();
    }
  }

  /**
   * Resolves once the state word of somebody else's handle is not `word` any more.
   *
   * @param help completes the I/O if it is ready and its owner does not look: called again and again, as an event loop
   *   cannot wait for another thread's ring; undefined where I/O is completed without its owner
   */
  async nextChange(handle: number, word: number, help: (() => void) | undefined): Promise<void> {
    this.want();
    this.#table.addSleeper(handle);
    const timer = help === undefined ? undefined : setInterval(help, HELP_INTERVAL_MS);
    try {
      await waitAsync(this.#words, this.#table.at(handle), word);
    } finally {
      clearInterval(timer);
      this.#table.removeSleeper(handle);
      this.unwant();
    }
  }

  /** Stops listening for good. If anybody still waits, because the system has stopped, they look again. */
  stop(): void {
    if (!this.#isListening) return;
    this.#keepAlive(false);
    this.#isListening = false;
    this.#wakeAll();
    this.#source?.stop();
    this.#port?.close();
    Atomics.add(this.#words, this.#at + BACKEND.bell, 1);
    Atomics.notify(this.#words, this.#at + BACKEND.bell);
  }

  #listen(): void {
    if (this.#isListening) return;
    this.#isListening = true;
    // Who looks in every turn need not be called, nor be kept alive by anything else.
    if (this.#busyPoll) return;
    this.#source = this.#method.listen?.(() => this.#lookInTurn());
    if (this.#source === undefined) {
      const { port1 } = new MessageChannel();
      port1.on("message", () => undefined);
      port1.unref();
      this.#port = port1;
    }
    this.#armBell();
  }

  #wakeAll(): void {
    for (const wake of this.#waiters.splice(0)) wake();
  }

  /**
   * Takes back what is ready. What a callback throws has stopped the system, and is the cause of the error that everybody
   * gets who waits: thrown into the event loop it would end the process before they could react.
   */
  #look(): void {
    try {
      this.#poll();
    } catch (error) {
      if (!hasStopped(this.#words)) throw error;
    }
    if (hasStopped(this.#words)) this.#wakeAll();
  }

  #keepAlive(isWanted: boolean): void {
    if (!this.#isListening || this.#isKeptAlive === isWanted) return;
    this.#isKeptAlive = isWanted;
    if (this.#source !== undefined) this.#source.keepAlive(isWanted);
    else if (isWanted) this.#port?.ref();
    else this.#port?.unref();
  }

  #armBell(): void {
    if (this.#isBellArmed || !this.#isListening) return;
    const bell = this.#at + BACKEND.bell;
    const observed = Atomics.load(this.#words, bell);
    Atomics.store(this.#words, this.#at + BACKEND.sleeping, 1);
    this.#isBellArmed = true;
    void waitAsync(this.#words, bell, observed).then(() => {
      this.#isBellArmed = false;
      Atomics.store(this.#words, this.#at + BACKEND.sleeping, 0);
      if (!this.#isListening) return;
      this.#armBell();
      this.#lookInTurn();
    });
  }

  /** Looks again in every turn of the loop while somebody waits: a lower latency for a whole core. */
  #spin(): void {
    if (this.#isSpinning) return;
    this.#isSpinning = true;
    const turn = (): void => {
      if (this.#wanted === 0 || !this.#isListening) {
        this.#isSpinning = false;
        return;
      }
      this.#lookInTurn();
      setImmediate(turn);
    };
    setImmediate(turn);
  }
}

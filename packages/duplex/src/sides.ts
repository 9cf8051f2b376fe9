/**
 * Sender and receiver of a channel: the part that does not depend on how values are stored.
 *
 * What is decided here: an aborted signal comes before everything else, what needs no wait does not wait, and calls
 * that do not wait share their promise. Where values are kept, who waits and in which order is the core's business.
 */
import { CLOSED } from "./ends.js";
import type { CallOptions, Receiver, Sender } from "./ends.js";
import { ChannelClosedError } from "./errors.js";

/** The state that both sides share. All methods are synchronous steps. */
export interface ChannelCore<T> {
  /** Stores the value, or hands it to a waiting receiver. */
  trySend(value: T): "sent" | "full" | "closed";
  /** Puts the value in line. Only after `trySend` said "full". */
  waitToSend(value: T, signal: AbortSignal | undefined): Promise<void>;
  /** A value is there that no waiting receive has a claim to. */
  readonly canTake: boolean;
  /** Takes the oldest value. Only while `canTake`. */
  take(): T;
  /** Waits for a value. Only if there is none to take and receiving is not over. */
  waitToReceive(signal: AbortSignal | undefined): Promise<T | typeof CLOSED>;
  readonly size: number;
  readonly sendingOver: boolean;
  readonly receivingOver: boolean;
  /** Idempotent. */
  endSending(): void;
  /** Idempotent. */
  endReceiving(): void;
}

/** What every send without a wait returns: one promise for all of them. */
const SENT: Promise<void> = Promise.resolve();

/** What every receive after the end returns. */
const ENDED: Promise<typeof CLOSED> = Promise.resolve(CLOSED);

/** The two sides of a channel that nobody else has sides of. */
export function sidesOf<T>(core: ChannelCore<T>): [Sender<T>, Receiver<T>] {
  return [new SendingSide(core), new ReceivingSide(core)];
}

class SendingSide<T> implements Sender<T> {
  readonly #core: ChannelCore<T>;

  constructor(core: ChannelCore<T>) {
    this.#core = core;
  }

  send(value: T, options?: CallOptions): Promise<void> {
    const signal = options?.signal;
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    try {
      const outcome = this.#core.trySend(value);
      if (outcome === "sent") return SENT;
      if (outcome === "closed") return Promise.reject(new ChannelClosedError(value));
      return this.#core.waitToSend(value, signal);
    } catch (error) {
      // A fold function may throw; whoever awaits the send hears of it.
      return Promise.reject(error);
    }
  }

  trySend(value: T): "sent" | "full" | "closed" {
    return this.#core.trySend(value);
  }

  close(): void {
    this.#core.endSending();
  }

  get closed(): boolean {
    return this.#core.sendingOver;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

class ReceivingSide<T> implements Receiver<T> {
  readonly #core: ChannelCore<T>;

  constructor(core: ChannelCore<T>) {
    this.#core = core;
  }

  recv(options?: CallOptions): Promise<T | typeof CLOSED> {
    const signal = options?.signal;
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    if (this.#core.canTake) return Promise.resolve(this.#core.take());
    return this.#core.receivingOver ? ENDED : this.#core.waitToReceive(signal);
  }

  tryRecv(): T | typeof CLOSED | undefined {
    if (this.#core.canTake) return this.#core.take();
    return this.#core.receivingOver ? CLOSED : undefined;
  }

  get size(): number {
    return this.#core.size;
  }

  close(): void {
    this.#core.endReceiving();
  }

  get closed(): boolean {
    return this.#core.receivingOver;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Receives until CLOSED. Leaving the loop early runs the generator's own `return`, which closes nothing: the next
   * value stays in the channel for the next receive.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const value = await this.recv();
      if (value === CLOSED) return;
      yield value;
    }
  }
}

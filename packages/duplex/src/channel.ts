/**
 * A bounded queue between one sending and one receiving side of the same thread.
 *
 * Three facts make the order right; every method keeps them and none suspends in between:
 * a sender waits only while the queue is full; a receiver waits only while it is empty (so never both wait); a slot
 * that becomes free is filled from the line before the receive returns. Hence `trySend` cannot overtake a waiting
 * send, and values come out in the order of the calls. Settling a promise runs nobody's code until this one is done.
 *
 * Idea: tokio's bounded mpsc channel. Different: no task is woken to find out, the value is handed over at once.
 */
import { CLOSED } from "./ends.js";
import type { Receiver, Sender } from "./ends.js";
import { ChannelClosedError } from "./errors.js";
import { Ring } from "./ring.js";
import { sidesOf } from "./sides.js";
import type { ChannelCore } from "./sides.js";
import { WaitList } from "./wait-list.js";

/**
 * Largest capacity of a channel, values. A longer queue is a leak with another name, and V8 keeps arrays flat only
 * up to twice this length.
 */
export const CHANNEL_CAPACITY_MAX: number = 2 ** 24;

/**
 * Makes a channel of one direction.
 *
 * @param capacity values that can be in the channel at once, 1 to `CHANNEL_CAPACITY_MAX`; memory is taken as needed
 * @throws {RangeError} `capacity` is not such an integer
 */
export function channel<T>(capacity: number): [Sender<T>, Receiver<T>] {
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > CHANNEL_CAPACITY_MAX) {
    throw new RangeError(`capacity must be an integer from 1 to 2^24: ${String(capacity)}`);
  }
  return sidesOf(new Channel<T>(capacity));
}

/** The state that both sides share. `sendingEnded` and `receivingEnded` only ever become true. */
class Channel<T> implements ChannelCore<T> {
  readonly #capacity: number;
  readonly #queue = new Ring<T>();
  readonly #senders = new WaitList<T, void>();
  readonly #receivers = new WaitList<undefined, T | typeof CLOSED>();
  #sendingEnded = false;
  #receivingEnded = false;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#queue.size;
  }

  get sendingOver(): boolean {
    return this.#sendingEnded || this.#receivingEnded;
  }

  get receivingOver(): boolean {
    return this.sendingOver && this.#queue.size === 0;
  }

  trySend(value: T): "sent" | "full" | "closed" {
    if (this.sendingOver) return "closed";
    const receiver = this.#receivers.shift();
    if (receiver !== undefined) {
      receiver.resolve(value);
      return "sent";
    }
    if (this.#queue.size === this.#capacity) return "full";
    this.#queue.push(value);
    return "sent";
  }

  waitToSend(value: T, signal: AbortSignal | undefined): Promise<void> {
    return this.#senders.wait(value, signal);
  }

  get canTake(): boolean {
    return this.#queue.size > 0;
  }

  /** Takes the oldest value and fills its slot from the line. */
  take(): T {
    const value = this.#queue.shift();
    const sender = this.#senders.shift();
    if (sender !== undefined) {
      this.#queue.push(sender.payload);
      sender.resolve();
    }
    return value;
  }

  waitToReceive(signal: AbortSignal | undefined): Promise<T | typeof CLOSED> {
    return this.#receivers.wait(undefined, signal);
  }

  endSending(): void {
    this.#sendingEnded = true;
    this.#releaseReceivers();
  }

  endReceiving(): void {
    this.#receivingEnded = true;
    this.#queue.clear();
    this.#releaseReceivers();
    for (let sender = this.#senders.shift(); sender !== undefined; sender = this.#senders.shift()) {
      sender.reject(new ChannelClosedError(sender.payload));
    }
  }

  /** Receivers wait only for an empty queue, so that after the end there is nothing to give them. */
  #releaseReceivers(): void {
    for (let receiver = this.#receivers.shift(); receiver !== undefined; receiver = this.#receivers.shift()) {
      receiver.resolve(CLOSED);
    }
  }
}

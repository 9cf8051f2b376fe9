/**
 * A channel of one slot in which values that have not been received yet can be merged.
 *
 * A value sent to an empty slot is stored; one sent to an occupied slot is offered to `tryFold`, and only if that
 * refuses does the sender wait for the slot. Sends stay in order: nothing is folded past a waiting send, and when the
 * slot is taken the line moves up, first into the slot, then by folding. A receiver that waits is served in a
 * microtask of its own and not by the send: what is sent until then is merged too, which is the point of folding.
 *
 * Idea: spsc_fold of Neon's pageserver, which batches page requests with it. Here sends may be concurrent.
 */
import assert from "node:assert/strict";
import { CLOSED } from "./ends.js";
import type { Receiver, Sender } from "./ends.js";
import { ChannelClosedError } from "./errors.js";
import { sidesOf } from "./sides.js";
import type { ChannelCore } from "./sides.js";
import { WaitList } from "./wait-list.js";

/** Whether two values became one. A refusal must leave `acc` as it was. */
export type FoldResult<T> = { readonly folded: true; readonly acc: T } | { readonly folded: false };

/**
 * Makes a channel that holds one value and merges further ones into it.
 *
 * @param tryFold merges `next` into `acc` (both are given: it may reuse them) or refuses. Called synchronously, never
 *   for the first value of a slot, and must not use this channel. What it throws is the outcome of the send of `next`.
 * @returns sender and receiver with the rules of every channel; `size` is 0 or 1, and `trySend` is "sent" for a merge
 */
export function foldChannel<T>(tryFold: (acc: T, next: T) => FoldResult<T>): [Sender<T>, Receiver<T>] {
  return sidesOf(new FoldChannel(tryFold));
}

/** The slot's content, boxed: undefined is a legal payload. */
interface Slot<T> {
  value: T;
}

class FoldChannel<T> implements ChannelCore<T> {
  readonly #tryFold: (acc: T, next: T) => FoldResult<T>;
  readonly #senders = new WaitList<T, void>();
  readonly #receivers = new WaitList<undefined, T | typeof CLOSED>();
  #slot: Slot<T> | undefined;
  #sendingEnded = false;
  #receivingEnded = false;
  #serving = false; // a microtask that serves the receivers has been queued

  constructor(tryFold: (acc: T, next: T) => FoldResult<T>) {
    this.#tryFold = tryFold;
  }

  get size(): number {
    return this.#slot === undefined ? 0 : 1;
  }

  get sendingOver(): boolean {
    return this.#sendingEnded || this.#receivingEnded;
  }

  get receivingOver(): boolean {
    return this.sendingOver && this.#slot === undefined;
  }

  trySend(value: T): "sent" | "full" | "closed" {
    if (this.sendingOver) return "closed";
    if (!this.#senders.isEmpty || !this.#place(value)) return "full";
    this.#serveSoon();
    return "sent";
  }

  waitToSend(value: T, signal: AbortSignal | undefined): Promise<void> {
    return this.#senders.wait(value, signal);
  }

  /** Whether a value is there that no earlier receive has a claim to. */
  get canTake(): boolean {
    return this.#slot !== undefined && this.#receivers.isEmpty;
  }

  /** Empties the slot and moves the line up. */
  take(): T {
    const slot = this.#slot;
    assert(slot !== undefined);
    this.#slot = undefined;
    this.#moveUp();
    return slot.value;
  }

  waitToReceive(signal: AbortSignal | undefined): Promise<T | typeof CLOSED> {
    return this.#receivers.wait(undefined, signal);
  }

  endSending(): void {
    this.#sendingEnded = true;
    if (this.#slot === undefined) this.#releaseReceivers();
  }

  endReceiving(): void {
    this.#receivingEnded = true;
    this.#slot = undefined;
    this.#releaseReceivers();
    for (let sender = this.#senders.shift(); sender !== undefined; sender = this.#senders.shift()) {
      sender.reject(new ChannelClosedError(sender.payload));
    }
  }

  /** Stores or merges; false if the slot is occupied and its value refuses. */
  #place(value: T): boolean {
    if (this.#slot === undefined) {
      this.#slot = { value };
      return true;
    }
    const result = this.#tryFold(this.#slot.value, value);
    if (result.folded) this.#slot.value = result.acc;
    return result.folded;
  }

  #moveUp(): void {
    while (!this.#senders.isEmpty) {
      const next = this.#senders.peek() as T;
      try {
        if (!this.#place(next)) return;
        this.#senders.shift()?.resolve();
      } catch (error) {
        this.#senders.shift()?.reject(error);
      }
    }
  }

  #serveSoon(): void {
    if (this.#serving || this.#receivers.isEmpty) return;
    this.#serving = true;
    queueMicrotask(() => {
      this.#serving = false;
      this.#serve();
    });
  }

  #serve(): void {
    while (this.#slot !== undefined && !this.#receivers.isEmpty)
      this.#receivers.shift()?.resolve(this.take());
    if (this.receivingOver) this.#releaseReceivers();
  }

  #releaseReceivers(): void {
    for (let receiver = this.#receivers.shift(); receiver !== undefined; receiver = this.#receivers.shift()) {
      receiver.resolve(CLOSED);
    }
  }
}

/**
 * The sending side of a ring in shared memory, in the one thread that has it.
 *
 * A slot is written before the tail is stored, so that a thread that dies in between has sent nothing. The receiver's head
 * is looked at only when the ring seems full: in a steady stream the two threads share a line once in a while, not once
 * in a frame. Calls that wait on the event loop stand in line; nothing overtakes them, as in a channel of one thread.
 *
 * Closing while calls stand in line is put off until they are served or the receiver is gone.
 */
import { ring, ringIfAsleep, Sleeper } from "./bell.js";
import type { Codec } from "./codec.js";
import type { CallOptions, Sender } from "./ends.js";
import { ChannelClosedError, DuplexError, MessageTooLargeError } from "./errors.js";
import { holdAlive, releaseAlive } from "./keep-alive.js";
import { RING, STATE } from "./shared-layout.js";
import type { SharedRing } from "./shared-layout.js";
import { WaitList } from "./wait-list.js";

/** Frames that a batch makes visible at once: the receiver starts on them while the rest is being written. */
const PUBLISH_EVERY = 64;

/** What every send without a wait returns. */
const SENT: Promise<void> = Promise.resolve();

/** Invariant: `#tail` is what this thread has written; the stored tail is behind it only within a call. */
export class SharedSender<T> implements Sender<T> {
  readonly #ring: SharedRing;
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #mask: number;
  readonly #codec: Codec<T>;
  readonly #mayBlock: boolean;
  readonly #line: WaitList<T, void> = new WaitList(() => this.#onLineEmpty());
  readonly #sleeper: Sleeper;
  #tail: number;
  /** The head as last looked at: the real one is the same or further. */
  #headSeen: number;
  #isEnding = false;

  constructor(sharedRing: SharedRing, codec: Codec<T>, mayBlock: boolean) {
    const { words, at, slots } = sharedRing;
    this.#ring = sharedRing;
    this.#words = words;
    this.#at = at;
    this.#mask = slots - 1;
    this.#codec = codec;
    this.#mayBlock = mayBlock;
    this.#sleeper = new Sleeper(words, at + RING.txBell, () => this.#serve());
    this.#tail = Atomics.load(words, at + RING.tail);
    this.#headSeen = Atomics.load(words, at + RING.head);
  }

  get closed(): boolean {
    return this.#isEnding || this.#isOver();
  }

  /** Whether the receiver has gone: 0 if not, else its state. */
  get receiverState(): number {
    return Atomics.load(this.#words, this.#at + RING.rxState);
  }

  /** Whether calls stand in line. */
  get hasWaiting(): boolean {
    return !this.#line.isEmpty;
  }

  send(value: T, options?: CallOptions): Promise<void> {
    const signal = options?.signal;
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    try {
      const outcome = this.trySend(value);
      if (outcome === "sent") return SENT;
      if (outcome === "closed") return Promise.reject(new ChannelClosedError(value));
    } catch (error) {
      return Promise.reject(error);
    }
    if (this.#line.isEmpty) holdAlive();
    const sending = this.#line.wait(value, signal);
    this.#sleeper.watch();
    return sending;
  }

  trySend(value: T): "sent" | "full" | "closed" {
    if (this.closed) return "closed";
    if (!this.#canWrite()) return "full";
    this.#write(value);
    this.#publish();
    return "sent";
  }

  /** See `SharedDuplexEnd.trySendMany`. */
  trySendMany(values: readonly T[], start: number): number {
    if (this.closed) return 0;
    let index = start;
    while (index < values.length && this.#canWrite()) {
      const room = this.#mask + 1 - ((this.#tail - this.#headSeen) | 0);
      const end = Math.min(values.length, index + Math.min(room, PUBLISH_EVERY));
      const written = this.#writeSome(values, index, end, index === start);
      if (written > 0) this.#publish();
      index += written;
      if (index < end) break;
    }
    return index - start;
  }

  /** See `SharedDuplexEnd.sendSync`. */
  sendSync(value: T, timeoutMs: number): "sent" | "timeout" | "closed" {
    const outcome = this.trySend(value);
    if (outcome !== "full") return outcome;
    if (!this.#mayBlock && timeoutMs > 0) throw wouldBlock();
    if (!this.#sleeper.block(this.#isReady, timeoutMs)) return "timeout";
    return this.trySend(value) === "sent" ? "sent" : "closed";
  }

  close(): void {
    this.#isEnding = true;
    if (this.#line.isEmpty) this.#storeEnd();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The receiver has gone, or somebody has found this very thread's side dead. */
  #isOver(): boolean {
    const { open } = STATE;
    const words = this.#words;
    return (
      Atomics.load(words, this.#at + RING.rxState) !== open ||
      Atomics.load(words, this.#at + RING.txState) !== open
    );
  }

  /** Room that nobody in line has a claim to. */
  #canWrite(): boolean {
    return (this.#line.isEmpty || !this.#serve()) && this.#hasRoom();
  }

  #hasRoom(): boolean {
    if (((this.#tail - this.#headSeen) | 0) <= this.#mask) return true;
    this.#headSeen = Atomics.load(this.#words, this.#at + RING.head);
    return ((this.#tail - this.#headSeen) | 0) <= this.#mask;
  }

  readonly #isReady = (): boolean => this.closed || this.#canWrite();

  /** Into the next slot, for which there is room. Not visible before `#publish`. */
  #write(value: T): void {
    const { frames, slotBytes, lengthsAt, lengthStride } = this.#ring;
    const slot = this.#tail & this.#mask;
    const length = this.#codec.encode(value, frames[slot] as DataView);
    // Also refuses what is no length at all.
    if (!(length >= 0 && length <= slotBytes)) throw new MessageTooLargeError(length, slotBytes);
    this.#words[lengthsAt + slot * lengthStride] = length;
    this.#tail = (this.#tail + 1) | 0;
  }

  /** As `#write`, for values that all have room. Stops before one that cannot be encoded, unless it is the very first. */
  #writeSome(values: readonly T[], begin: number, end: number, mayThrow: boolean): number {
    // The loop of a stream: what it needs is in variables, not in fields.
    const { frames, slotBytes, lengthsAt, lengthStride } = this.#ring;
    const words = this.#words;
    const mask = this.#mask;
    const codec = this.#codec;
    const tail = this.#tail;
    let index = begin;
    try {
      for (; index < end; index++) {
        const slot = (tail + index - begin) & mask;
        const length = codec.encode(values[index] as T, frames[slot] as DataView);
        if (!(length >= 0 && length <= slotBytes)) throw new MessageTooLargeError(length, slotBytes);
        words[lengthsAt + slot * lengthStride] = length;
      }
    } catch (error) {
      if (index === begin && mayThrow) throw error;
    }
    this.#tail = (tail + index - begin) | 0;
    return index - begin;
  }

  #publish(): void {
    Atomics.store(this.#words, this.#at + RING.tail, this.#tail);
    ringIfAsleep(this.#words, this.#at + RING.rxBell);
  }

  /** Serves the line as far as there is room, or fails it if the receiver has gone; true if somebody still waits. */
  #serve(): boolean {
    while (!this.#line.isEmpty) {
      const value = this.#line.peek() as T;
      if (this.#isOver()) this.#line.shift()?.reject(new ChannelClosedError(value));
      else if (this.#hasRoom()) this.#serveWith(value);
      else return true;
    }
    return false;
  }

  /** Serves the first in line, for whose value there is room. */
  #serveWith(value: T): void {
    try {
      this.#write(value);
    } catch (error) {
      this.#line.shift()?.reject(error);
      return;
    }
    // Before the waiter leaves: its leaving may close the ring, and its frame comes first.
    this.#publish();
    this.#line.shift()?.resolve();
  }

  #onLineEmpty(): void {
    releaseAlive();
    this.#sleeper.rest();
    if (this.#isEnding) this.#storeEnd();
  }

  #storeEnd(): void {
    Atomics.compareExchange(this.#words, this.#at + RING.txState, STATE.open, STATE.closed);
    ring(this.#words, this.#at + RING.rxBell);
  }
}

/** Of a thread that must not sleep. */
export function wouldBlock(): DuplexError {
  return new DuplexError("ERR_CHANNEL_WOULD_BLOCK", "this thread must not sleep: use the asynchronous form");
}

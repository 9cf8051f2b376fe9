/**
 * The receiving side of a ring in shared memory, in the one thread that has it.
 *
 * A frame is decoded before the head is stored, so that the sender cannot overwrite what is being read. That the sender has
 * closed is looked at before the tail: what was sent before closing is then always seen. Calls that wait on the
 * event loop stand in line, and what arrives is theirs first.
 *
 * A frame that the codec refuses is gone; the call that took it gets the error, and the next call the next frame.
 */
import { ring, ringIfAsleep, Sleeper } from "./bell.js";
import type { Codec } from "./codec.js";
import { CLOSED } from "./ends.js";
import type { CallOptions, Receiver } from "./ends.js";
import { holdAlive, releaseAlive } from "./keep-alive.js";
import { RING, STATE } from "./shared-layout.js";
import type { SharedRing } from "./shared-layout.js";
import { wouldBlock } from "./shared-sender.js";
import { WaitList } from "./wait-list.js";

/** Slots that a batch gives back at once: the sender fills them while the rest is being read. */
const RETURN_EVERY = 64;

/** What every receive after the end returns. */
const ENDED: Promise<typeof CLOSED> = Promise.resolve(CLOSED);

/** Invariant: `#head` is what this thread has read; the stored head is behind it only within a call. */
export class SharedReceiver<T> implements Receiver<T> {
  readonly #ring: SharedRing;
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #mask: number;
  readonly #codec: Codec<T>;
  readonly #mayBlock: boolean;
  readonly #line: WaitList<undefined, T | typeof CLOSED> = new WaitList(() => this.#onLineEmpty());
  readonly #sleeper: Sleeper;
  #head: number;
  /** The tail as last looked at: the real one is the same or further. */
  #tailSeen: number;

  constructor(sharedRing: SharedRing, codec: Codec<T>, mayBlock: boolean) {
    const { words, at, slots } = sharedRing;
    this.#ring = sharedRing;
    this.#words = words;
    this.#at = at;
    this.#mask = slots - 1;
    this.#codec = codec;
    this.#mayBlock = mayBlock;
    this.#sleeper = new Sleeper(words, at + RING.rxBell, () => this.#serve());
    this.#head = Atomics.load(words, at + RING.head);
    this.#tailSeen = this.#head;
  }

  get size(): number {
    if (this.#isClosed()) return 0;
    return (Atomics.load(this.#words, this.#at + RING.tail) - this.#head) | 0;
  }

  get closed(): boolean {
    return this.#isClosed() || (this.senderState !== STATE.open && !this.#hasFrame());
  }

  /** Whether the sender has gone: 0 if not, else its state. */
  get senderState(): number {
    return Atomics.load(this.#words, this.#at + RING.txState);
  }

  recv(options?: CallOptions): Promise<T | typeof CLOSED> {
    const signal = options?.signal;
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    try {
      if (this.#canTake()) return Promise.resolve(this.#take());
    } catch (error) {
      return Promise.reject(error);
    }
    if (this.closed) return ENDED;
    if (this.#line.isEmpty) holdAlive();
    const receiving = this.#line.wait(undefined, signal);
    this.#sleeper.watch();
    return receiving;
  }

  tryRecv(): T | typeof CLOSED | undefined {
    if (this.#canTake()) return this.#take();
    return this.closed ? CLOSED : undefined;
  }

  /** See `SharedDuplexEnd.tryRecvMany`. */
  tryRecvMany(max: number, visit: (value: T) => void): number {
    let count = 0;
    while (count < max && this.#canTake()) {
      const there = (this.#tailSeen - this.#head) | 0;
      count += this.#readSome(Math.min(there, max - count, RETURN_EVERY), visit);
    }
    return count;
  }

  /** See `SharedDuplexEnd.recvSync`. */
  recvSync(timeoutMs: number): T | typeof CLOSED | "timeout" {
    if (!this.#isReady()) {
      if (!this.#mayBlock && timeoutMs > 0) throw wouldBlock();
      if (!this.#sleeper.block(this.#isReady, timeoutMs)) return "timeout";
    }
    return this.#canTake() ? this.#take() : CLOSED;
  }

  close(): void {
    Atomics.compareExchange(this.#words, this.#at + RING.rxState, STATE.open, STATE.closed);
    ring(this.#words, this.#at + RING.txBell);
    // What is inside is dropped; a batch that is being read ends here, too.
    this.#head = Atomics.load(this.#words, this.#at + RING.tail);
    this.#tailSeen = this.#head;
    this.#serve();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Receives until CLOSED. Leaving the loop closes nothing. */
  async *[Symbol.asyncIterator](): AsyncGenerator<T, void, undefined> {
    for (;;) {
      const value = await this.recv();
      if (value === CLOSED) return;
      yield value;
    }
  }

  /** This side has closed: what is inside is dropped. */
  #isClosed(): boolean {
    return Atomics.load(this.#words, this.#at + RING.rxState) !== STATE.open;
  }

  /** A frame that nobody in line has a claim to. */
  #canTake(): boolean {
    return !this.#isClosed() && (this.#line.isEmpty || !this.#serve()) && this.#hasFrame();
  }

  #hasFrame(): boolean {
    if (this.#tailSeen !== this.#head) return true;
    this.#tailSeen = Atomics.load(this.#words, this.#at + RING.tail);
    return this.#tailSeen !== this.#head;
  }

  readonly #isReady = (): boolean => this.#canTake() || this.closed;

  #take(): T {
    try {
      return this.#read();
    } finally {
      this.#giveBack();
    }
  }

  /** The oldest frame, of which there is one. Its slot is not free before `#giveBack`. */
  #read(): T {
    const { frames, lengthsAt, lengthStride } = this.#ring;
    const slot = this.#head & this.#mask;
    const length = this.#words[lengthsAt + slot * lengthStride] as number;
    this.#head = (this.#head + 1) | 0;
    return this.#codec.decode(frames[slot] as DataView, length);
  }

  /** As `#read` and `#giveBack`, for frames that are all there. */
  #readSome(count: number, visit: (value: T) => void): number {
    // The loop of a stream: what it needs is in variables, not in fields.
    const { frames, lengthsAt, lengthStride } = this.#ring;
    const words = this.#words;
    const mask = this.#mask;
    const codec = this.#codec;
    const head = this.#head;
    let index = 0;
    try {
      while (index < count && this.#head === ((head + index) | 0)) {
        const slot = this.#head & mask;
        index += 1;
        this.#head = (head + index) | 0;
        visit(codec.decode(frames[slot] as DataView, words[lengthsAt + slot * lengthStride] as number));
      }
    } finally {
      this.#giveBack();
    }
    return index;
  }

  #giveBack(): void {
    Atomics.store(this.#words, this.#at + RING.head, this.#head);
    ringIfAsleep(this.#words, this.#at + RING.txBell);
  }

  /** Serves the line as far as there are frames, or the end; true if somebody still waits. */
  #serve(): boolean {
    while (!this.#line.isEmpty) {
      const isClosed = this.#isClosed();
      // Before the tail: what was sent before closing is there then.
      const hasEnded = isClosed || this.senderState !== STATE.open;
      if (!isClosed && this.#hasFrame()) {
        const waiter = this.#line.shift();
        try {
          waiter?.resolve(this.#take());
        } catch (error) {
          waiter?.reject(error);
        }
      } else if (hasEnded) this.#line.shift()?.resolve(CLOSED);
      else return true;
    }
    return false;
  }

  #onLineEmpty(): void {
    releaseAlive();
    this.#sleeper.rest();
  }
}

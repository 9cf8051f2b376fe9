/**
 * A channel for exactly one value: a reply, a signal, the end of a job.
 *
 * Either side may go away, and the other is told: a receiver gets CLOSED if the sender closes without sending, and a
 * sender gets "closed" if nobody will receive. Unlike a bare promise there is an owner for each side, no
 * unhandled rejection when the answer is not wanted any more, and a wait that can be aborted without losing the value.
 *
 * Idea: tokio's oneshot. It is a channel of capacity 1 whose sender closes itself after the first value.
 */
import { channel } from "./channel.js";
import type { CallOptions, CLOSED, Receiver, Sender } from "./ends.js";

/** The side that has the value, sooner or later. */
export interface OneshotSender<T> extends Disposable {
  /**
   * Sends the value, without a wait. Only the first call can be "sent"; "closed" means that the value was not
   * delivered and stays with the caller: a value was sent before, this side was closed, or the receiver has gone.
   */
  send(value: T): "sent" | "closed";
  /** Goes away. A value that was sent is still received; otherwise the receiver gets CLOSED. Idempotent. */
  close(): void;
  /** `send` would answer "closed". */
  readonly closed: boolean;
}

/** The side that waits for the value. */
export interface OneshotReceiver<T> extends Disposable {
  /**
   * Waits for the value. It is given once; afterwards, or if the sender went away without sending, CLOSED.
   *
   * @throws the signal's reason; the value was not taken then
   */
  recv(options?: CallOptions): Promise<T | typeof CLOSED>;
  /** The value if it is there, CLOSED if it cannot come any more, undefined if it has not come yet. */
  tryRecv(): T | typeof CLOSED | undefined;
  /** 1 if a value is there to be taken, else 0. */
  readonly size: number;
  /** Goes away: a value that is there is dropped, a later one refused. Idempotent. */
  close(): void;
  /** `recv` would give CLOSED. */
  readonly closed: boolean;
}

/** Makes the two sides of a single delivery. */
export function oneshot<T>(): [OneshotSender<T>, OneshotReceiver<T>] {
  const [sender, receiver] = channel<T>(1);
  return [new SingleSender(sender), new SingleReceiver(receiver)];
}

class SingleSender<T> implements OneshotSender<T> {
  readonly #sender: Sender<T>;

  constructor(sender: Sender<T>) {
    this.#sender = sender;
  }

  send(value: T): "sent" | "closed" {
    const outcome = this.#sender.trySend(value);
    this.#sender.close();
    // Never full: the sender is closed after its first value.
    return outcome === "sent" ? "sent" : "closed";
  }

  close(): void {
    this.#sender.close();
  }

  get closed(): boolean {
    return this.#sender.closed;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

class SingleReceiver<T> implements OneshotReceiver<T> {
  readonly #receiver: Receiver<T>;

  constructor(receiver: Receiver<T>) {
    this.#receiver = receiver;
  }

  recv(options?: CallOptions): Promise<T | typeof CLOSED> {
    return this.#receiver.recv(options);
  }

  tryRecv(): T | typeof CLOSED | undefined {
    return this.#receiver.tryRecv();
  }

  get size(): number {
    return this.#receiver.size;
  }

  close(): void {
    this.#receiver.close();
  }

  get closed(): boolean {
    return this.#receiver.closed;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

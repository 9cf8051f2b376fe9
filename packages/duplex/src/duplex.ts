/**
 * Two channels wired crosswise: each end sends what the other receives.
 *
 * The directions are independent, so that a full one never blocks the other, and each can be closed alone through
 * `tx` and `rx` (half-close): a worker that is told to finish sees CLOSED after its last request and can still answer.
 *
 * Idea: the duplex of Neon's pageserver, between a buffered writer and its flush task.
 */
import { channel } from "./channel.js";
import type { CallOptions, CLOSED, Receiver, Sender } from "./ends.js";

/** One end of a duplex. Iterating receives; leaving the loop does not close. */
export interface DuplexEnd<S, R> extends AsyncIterable<R>, Disposable {
  /** Sends to the other end. Closing it is the half-close: the other end receives what is left, then CLOSED. */
  readonly tx: Sender<S>;
  /** Receives from the other end. */
  readonly rx: Receiver<R>;
  /** `tx.send` */
  send(value: S, options?: CallOptions): Promise<void>;
  /** `tx.trySend` */
  trySend(value: S): "sent" | "full" | "closed";
  /** `rx.recv` */
  recv(options?: CallOptions): Promise<R | typeof CLOSED>;
  /** Closes both halves: what this end sent can still be received there, what was sent to it is dropped. */
  close(): void;
}

/**
 * Makes a two-way channel; the first end sends A and receives B, the second the reverse.
 *
 * @param capacity of each direction, values, 1 to `CHANNEL_CAPACITY_MAX`
 * @throws {RangeError} `capacity` is not such an integer
 */
export function duplex<A, B = A>(capacity: number): [DuplexEnd<A, B>, DuplexEnd<B, A>] {
  const [sendA, receiveA] = channel<A>(capacity);
  const [sendB, receiveB] = channel<B>(capacity);
  return [new End(sendA, receiveB), new End(sendB, receiveA)];
}

class End<S, R> implements DuplexEnd<S, R> {
  readonly tx: Sender<S>;
  readonly rx: Receiver<R>;

  constructor(tx: Sender<S>, rx: Receiver<R>) {
    this.tx = tx;
    this.rx = rx;
  }

  send(value: S, options?: CallOptions): Promise<void> {
    return this.tx.send(value, options);
  }

  trySend(value: S): "sent" | "full" | "closed" {
    return this.tx.trySend(value);
  }

  recv(options?: CallOptions): Promise<R | typeof CLOSED> {
    return this.rx.recv(options);
  }

  close(): void {
    this.tx.close();
    this.rx.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  [Symbol.asyncIterator](): AsyncIterator<R> {
    return this.rx[Symbol.asyncIterator]();
  }
}

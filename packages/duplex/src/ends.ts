/**
 * The two sides of a channel as their users see them: what every kind of channel in this package promises.
 *
 * Within a thread, values are passed by reference: whoever sends a buffer lends or gives it, as the two sides agree; the
 * channel only keeps a reference until the value is received. A wait is not work there: a promise does not keep the
 * process alive, as only code of the same thread can settle it. Between threads (shared-duplex.ts) values are copied, and a
 * wait does.
 *
 * Idea: the halves of tokio's mpsc channel as Neon's pageserver uses them, with abort signals for dropped futures.
 */

/**
 * What a receiver gets when nothing more can come. Distinct from every payload, `undefined` included, and sticky:
 * after the first CLOSED every receive gives CLOSED. Registered globally, so that two copies of the package agree.
 */
export const CLOSED: unique symbol = Symbol.for("@millrace/duplex.CLOSED");

/** How a single wait can be given up. */
export interface CallOptions {
  /** Abort ends the wait with the signal's reason. No listener stays on the signal once the call has settled. */
  readonly signal?: AbortSignal | undefined;
}

/** The sending side. May be shared: concurrent sends are served in the order of the calls. */
export interface Sender<T> extends Disposable {
  /**
   * Sends when there is room, waiting for it if necessary.
   *
   * Fulfilment means that the value is in the channel, not that anybody has received it. Without a wait the result is
   * one promise shared by all such calls, so that nothing is allocated.
   *
   * @throws {ChannelClosedError} ERR_CHANNEL_CLOSED with the value: this side was closed before the call, or the
   *   receiver closed before the value was in the channel
   * @throws the signal's reason; the value is then not in the channel and never will be, and its place in line is lost
   */
  send(value: T, options?: CallOptions): Promise<void>;
  /**
   * Sends if that needs no wait. Never overtakes a waiting `send`: while one waits the answer is "full".
   * Does not allocate, except when the queue grows towards its capacity for the first time.
   */
  trySend(value: T): "sent" | "full" | "closed";
  /**
   * Ends the stream of values. Those in the channel can still be received, and sends that already wait are still
   * served, in order; CLOSED follows them. Later sends fail. A second call does nothing. Same as disposing.
   */
  close(): void;
  /** Sending is over: this side or the receiver has closed. */
  readonly closed: boolean;
}

/** The receiving side. Concurrent receives are served in the order of the calls. */
export interface Receiver<T> extends AsyncIterable<T>, Disposable {
  /**
   * Takes the next value, waiting for one if necessary; CLOSED if none can come any more.
   *
   * A value with a `then` method is adopted by the returned promise, as by every promise; use `tryRecv` for those.
   *
   * @throws the signal's reason; nothing was taken then
   */
  recv(options?: CallOptions): Promise<T | typeof CLOSED>;
  /**
   * Takes the next value if one is there; CLOSED if none can come; undefined if none is there now, and then only.
   * If undefined is a payload, ask `size` first. Does not allocate.
   */
  tryRecv(): T | typeof CLOSED | undefined;
  /** Values in the channel: 0 to its capacity. Waiting senders are not counted. */
  readonly size: number;
  /**
   * Stops receiving: values in the channel are dropped, waiting sends fail with their values, waiting receives get
   * CLOSED. A second call does nothing. Same as disposing. Leaving a `for await` loop does not close.
   */
  close(): void;
  /** Receiving is over: `recv` would give CLOSED. */
  readonly closed: boolean;
}

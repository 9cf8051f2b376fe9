/**
 * What can be expected to go wrong between two sides of a channel or at a gate: the other side has gone.
 *
 * Everything else is either a bad argument (RangeError) or the reason of the caller's own AbortSignal, which is passed
 * on untouched. Compare `code`, not the class: two copies of this package may be installed.
 */
export type DuplexErrorCode =
  | "ERR_CHANNEL_CLOSED" // the value was not sent and never will be; it is in `value`
  | "ERR_CHANNEL_ATTACHED" // the side of a shared duplex belongs to somebody, or did
  | "ERR_CHANNEL_WOULD_BLOCK" // a blocking call had to wait in a thread that must not; use the async form
  | "ERR_MESSAGE_TOO_LARGE" // the value makes a longer frame than a slot has room for; nothing was sent
  | "ERR_GATE_CLOSED" // the gate is closing or closed and admits nobody
  | "ERR_GATE_RELEASED"; // a guard was cloned after its own release

/** Any expected failure of this package. */
export class DuplexError extends Error {
  override readonly name: string = "DuplexError";
  readonly code: DuplexErrorCode;

  constructor(code: DuplexErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A send that did not happen because one of the two sides had closed. */
export class ChannelClosedError<T> extends DuplexError {
  override readonly name: string = "ChannelClosedError";
  declare readonly code: "ERR_CHANNEL_CLOSED";
  /** The very value given to `send`: ownership is back with the caller. */
  readonly value: T;

  constructor(value: T) {
    super("ERR_CHANNEL_CLOSED", "channel is closed");
    this.value = value;
  }
}

/** A value whose frame is longer than a slot of the shared duplex. It was not sent; the channel is as before. */
export class MessageTooLargeError extends DuplexError {
  override readonly name: string = "MessageTooLargeError";
  declare readonly code: "ERR_MESSAGE_TOO_LARGE";
  /** Of the frame. */
  readonly lengthBytes: number;
  /** Of a slot. */
  readonly slotBytes: number;

  constructor(lengthBytes: number, slotBytes: number) {
    super(
      "ERR_MESSAGE_TOO_LARGE",
      `a frame of ${String(lengthBytes)} bytes in slots of ${String(slotBytes)}`,
    );
    this.lengthBytes = lengthBytes;
    this.slotBytes = slotBytes;
  }
}

/** `enter` or `clone` after `close` has begun. */
export class GateClosedError extends DuplexError {
  override readonly name: string = "GateClosedError";
  declare readonly code: "ERR_GATE_CLOSED";

  constructor() {
    super("ERR_GATE_CLOSED", "gate is closed");
  }
}

/**
 * What can be expected to go wrong between two sides of a channel or at a gate: the other side has gone.
 *
 * Everything else is either a bad argument (RangeError) or the reason of the caller's own AbortSignal, which is passed
 * on untouched. Compare `code`, not the class: two copies of this package may be installed.
 */
export type DuplexErrorCode =
  | "ERR_CHANNEL_CLOSED" // the value was not sent and never will be; it is in `value`
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

/** `enter` or `clone` after `close` has begun. */
export class GateClosedError extends DuplexError {
  override readonly name: string = "GateClosedError";
  declare readonly code: "ERR_GATE_CLOSED";

  constructor() {
    super("ERR_GATE_CLOSED", "gate is closed");
  }
}

/**
 * The one error class of this package and the list of its codes.
 *
 * Everything a peer can do wrong ends here: a decoder given any bytes at all either returns a message or throws a
 * ProtocolError, never a RangeError out of a DataView and never an assertion. Mistakes of our own caller (a term
 * above 2^64-1, an id that is not 32 hex digits) are RangeErrors raised before a byte is produced.
 */

export type ProtocolErrorCode =
  | "ERR_PROTOCOL_VERSION" // neither version 2 nor version 3
  | "ERR_PROTOCOL_TAG" // first byte names no message of this direction
  | "ERR_PROTOCOL_TRUNCATED" // the message ends before its fields do, or a count promises more than is there
  | "ERR_PROTOCOL_TRAILING" // a reply is longer than its fields
  | "ERR_PROTOCOL_FIELD" // a field's value is outside its range, or a string is not UTF-8
  | "ERR_PROTOCOL_CONFIGURATION" // a membership configuration contradicts itself
  | "ERR_PROTOCOL_HISTORY"; // term histories contradict each other or are not ordered

/** The peer's bytes, or data derived from them, break the protocol; the connection cannot go on. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
  readonly code: ProtocolErrorCode;
  constructor(code: ProtocolErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

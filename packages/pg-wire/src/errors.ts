/**
 * The failures of this package. One class for what can go wrong on a connection, and one more for an
 * ErrorResponse that a server sent, because that one carries fields.
 *
 * Whatever arrives from a peer may only ever lead to one of these two: bytes never reach an assertion, and a
 * caller can tell by `code` whether the peer broke the protocol, the socket failed, or the server said no.
 * `sqlstate` is what a server would report to its peer for this failure; details stay in `message`, which is
 * for the log of this side and is not sent unless the caller does so.
 */
import { SQLSTATE } from "./sqlstate.js";

export type WireErrorCode =
  | "ERR_WIRE_PROTOCOL" // the peer sent bytes that the protocol, or a bound of this package, does not allow
  | "ERR_WIRE_IO" // the socket failed, or ended inside a message; `cause` is Node's error where there is one
  | "ERR_WIRE_CLOSED" // used after close(), destroy(), or after the connection was lost earlier
  | "ERR_WIRE_AUTH" // a token was refused, or the server failed to prove that it knows the password
  | "ERR_WIRE_TLS" // TLS was required and is not spoken, or the handshake failed
  | "ERR_WIRE_TIMEOUT" // connecting or logging in took longer than allowed
  | "ERR_WIRE_BUSY" // a second query or copy was started while one is running
  | "ERR_WIRE_STATE" // the call does not fit the state: CopyData outside COPY, a second startCopyBoth
  | "ERR_WIRE_URL" // a connection URL that cannot be understood
  | "ERR_WIRE_SERVER"; // the server answered with an ErrorResponse; the error is a ServerError

/** The fields of an ErrorResponse or NoticeResponse that PostgreSQL's clients look at. */
export interface ErrorFields {
  /** ERROR, FATAL or PANIC; for notices WARNING, NOTICE, DEBUG, INFO or LOG. Never localised when written here. */
  readonly severity: string;
  /** SQLSTATE, five characters. */
  readonly code: string;
  readonly message: string;
  readonly detail?: string;
  readonly hint?: string;
  /** A one-based character position in the query text. */
  readonly position?: string;
  readonly where?: string;
  readonly schema?: string;
  readonly table?: string;
  readonly column?: string;
  readonly constraint?: string;
  readonly file?: string;
  readonly line?: string;
  readonly routine?: string;
}

/** Any expected failure of this package. Compare `code`: two copies of the package have two classes. */
export class WireError extends Error {
  override readonly name: string = "WireError";
  readonly code: WireErrorCode;
  /** The SQLSTATE to report to the peer for this failure; 08P01 where nothing better is known. */
  readonly sqlstate: string;

  constructor(code: WireErrorCode, message: string, options?: ErrorOptions & { sqlstate?: string }) {
    super(message, options);
    this.code = code;
    this.sqlstate = options?.sqlstate ?? SQLSTATE.protocolViolation;
  }
}

/** The server's ErrorResponse. `sqlstate` repeats `fields.code`; `message` is the server's text. */
export class ServerError extends WireError {
  override readonly name: string = "ServerError";
  readonly fields: ErrorFields;

  constructor(fields: ErrorFields) {
    super("ERR_WIRE_SERVER", `${fields.severity} ${fields.code}: ${fields.message}`, {
      sqlstate: fields.code,
    });
    this.fields = fields;
  }
}

/** A protocol violation by the peer; the message is for the log and names what was wrong. */
export function protocolError(message: string, sqlstate?: string): WireError {
  return new WireError("ERR_WIRE_PROTOCOL", message, sqlstate === undefined ? {} : { sqlstate });
}

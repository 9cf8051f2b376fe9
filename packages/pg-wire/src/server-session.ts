/**
 * The server's side of one connection as a pure state machine: bytes in, events and bytes out, no socket, no clock.
 *
 * Bytes go in through `receive`; `nextEvent` then yields what they mean, one event at a time, and `takeOutput` what
 * the session itself has to answer (encryption requests, login). What a command answers is built by the other
 * methods, which check that the protocol allows it now and return the bytes. A failure of the login leaves the
 * ErrorResponse for the peer in the output and is thrown; a failure after login is only thrown, because a stream may
 * be running whose owner decides what to tell the peer.
 *
 * The moves follow PostgreSQL's ProcessStartupPacket and PostgresMain, without the extended query protocol, which a
 * replication connection may not use there either.
 */
import type { Authenticator, Identity } from "./authenticator.js";
import { decodeUtf8 } from "./byte-views.js";
import type { Column } from "./columns.js";
import type { CopyEvent } from "./copy-stream.js";
import { protocolError, WireError } from "./errors.js";
import type { ErrorFields } from "./errors.js";
import { FrameReader } from "./framing.js";
import * as messages from "./messages.js";
import { AUTHENTICATION, TAG } from "./messages.js";
import { parseOptions } from "./options.js";
import { SQLSTATE } from "./sqlstate.js";
import { parseStartupPacket, PROTOCOL_3_0 } from "./startup.js";
import type { StartupPacket } from "./startup.js";

/** Largest CopyData payload that is read: a term history of a million entries, far above any WAL message. */
export const COPY_DATA_BYTES_MAX: number = 16 * 1024 * 1024;
/** Longest query text that is read; replication commands have a few hundred bytes. */
export const QUERY_BYTES_MAX: number = 64 * 1024;
/** Longest password message that is read; a JWT has below 1 KiB. */
export const PASSWORD_BYTES_MAX: number = 8 * 1024;
/** Longest reason in a CopyFail. */
const COPY_FAIL_BYTES_MAX = 8 * 1024;

/** First byte of a TLS record that carries a ClientHello. */
const TLS_HANDSHAKE_BYTE = 0x16;

/** What a startup packet asked for. */
export interface StartupRequest {
  /** Startup parameters by name. */
  readonly parameters: ReadonlyMap<string, string>;
  /** The key=value tokens of the `options` parameter. */
  readonly options: ReadonlyMap<string, string>;
}

/** What a session needs to know; everything random or configured comes from outside. */
export interface ServerSessionOptions {
  /** Whether TLS can be offered. If it can, a startup in clear is refused. */
  readonly tls: boolean;
  /** Absent: everybody is trusted. */
  readonly authenticate?: Authenticator | undefined;
  /**
   * Looks at a startup request before authentication.
   *
   * @throws {WireError} to refuse it: its message and sqlstate are sent as a FATAL ErrorResponse
   */
  readonly checkStartup?: ((request: StartupRequest) => void) | undefined;
  /** The server_version to report, such as "15.0". */
  readonly serverVersion: (request: StartupRequest) => string;
  /** Backend process id and secret of the BackendKeyData message; signed 32-bit. */
  readonly processId: number;
  readonly secretKey: number;
}

/** What the bytes of a client mean. */
export type ServerEvent =
  /** Start TLS now: flush the output, then call `secured()`. `direct`: the ClientHello is in `takeRest()`. */
  | { readonly type: "tls"; readonly direct: boolean }
  /** The whole connection was for this; close it without an answer. */
  | { readonly type: "cancel-request"; readonly processId: number; readonly secretKey: number }
  /** The login is through; its messages are in the output. */
  | { readonly type: "ready" }
  /** One simple query, without its terminator. The session now is in a command until `readyForQuery()`. */
  | { readonly type: "query"; readonly text: string }
  /** CopyData and the ends of a copy; `end` for Terminate in any state. */
  | CopyEvent;

type ServerState = "startup" | "tls" | "password" | "idle" | "command" | "copy" | "closed";

/** Every legal move. `closed` can be reached from anywhere and left to nowhere. */
const MOVES: Readonly<Record<ServerState, readonly ServerState[]>> = {
  startup: ["tls", "password", "idle"],
  tls: ["startup"],
  password: ["idle"],
  idle: ["command"],
  command: ["idle", "copy"],
  copy: ["command"],
  closed: [],
};

const TERMINATED: CopyEvent = { type: "end", reason: "terminate" };
const DONE: CopyEvent = { type: "done" };

/** One connection's protocol state, server side. */
export class ServerSession {
  readonly #options: ServerSessionOptions;
  readonly #frames: FrameReader;
  #state: ServerState = "startup";
  #secured = false;
  #sslAsked = false;
  #gssAsked = false;
  #request: StartupRequest = { parameters: new Map(), options: new Map() };
  #identity: Identity | undefined;
  #copyInOpen = false; // the client has not ended its half
  #copyOutOpen = false; // we have not ended ours
  #copyAborted = false; // we ended a copy with an error: what the client still sends of it is skipped
  #output: Buffer[] = [];
  #failure: WireError | undefined;

  constructor(options: ServerSessionOptions) {
    this.#options = options;
    this.#frames = new FrameReader((type) => this.#limit(type));
  }

  /** What the startup packet asked for; empty before `ready`. */
  get request(): StartupRequest {
    return this.#request;
  }

  /** Whom the token names; undefined before `ready` and without authentication. */
  get identity(): Identity | undefined {
    return this.#identity;
  }

  /** Bytes received and not yet turned into an event. */
  get bufferedBytes(): number {
    return this.#frames.bufferedBytes;
  }

  /** Whether `nextEvent` would give something, or throw, without more bytes. May be true too often, never too seldom. */
  get hasFrame(): boolean {
    return this.#state === "startup" || this.#state === "tls" ? true : this.#frames.hasFrame;
  }

  /** Whether the connection may end here without cutting a message. */
  get atBoundary(): boolean {
    return this.#frames.atBoundary;
  }

  /** Whether CopyData may be sent. */
  get copySendOpen(): boolean {
    return this.#state === "copy" && this.#copyOutOpen;
  }

  /**
   * Takes bytes from the peer.
   *
   * @param chunk given: payloads of events are views of it
   */
  receive(chunk: Uint8Array): void {
    this.#frames.push(chunk);
  }

  /**
   * The next event, or undefined if more bytes are needed.
   *
   * @throws {WireError} ERR_WIRE_PROTOCOL, ERR_WIRE_AUTH, ERR_WIRE_TLS, or what `checkStartup` threw. Final: the
   *   session is closed and throws the same error again.
   */
  nextEvent(): ServerEvent | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      if (this.#state === "copy") return this.#nextInCopy();
      if (this.#state === "startup") return this.#nextInStartup();
      return this.#nextTyped();
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /** The next event of a copy; after the copy was over for the reader, `done` forever. Throws like `nextEvent`. */
  nextCopyEvent(): CopyEvent | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#state === "closed") return TERMINATED;
    if (this.#state !== "copy" || !this.#copyInOpen) return DONE;
    try {
      return this.#nextInCopy();
    } catch (error) {
      throw this.#fail(error);
    }
  }

  /** What must be sent to the peer now; given, in order. Empty if nothing. */
  takeOutput(): readonly Buffer[] {
    const output = this.#output;
    this.#output = [];
    return output;
  }

  /** Bytes that belong to the TLS handshake of a direct TLS connection. */
  takeRest(): Buffer {
    return this.#frames.takeRest();
  }

  /** Tells that TLS is up after a `tls` event. */
  secured(): void {
    this.#move("startup");
    this.#secured = true;
  }

  /** RowDescription, the rows, and CommandComplete. @throws {WireError} ERR_WIRE_STATE outside a command */
  rows(
    columns: readonly Column[],
    rows: readonly (readonly (string | null)[])[],
    tag: string,
  ): readonly Buffer[] {
    this.#require("command");
    for (const row of rows) {
      if (row.length !== columns.length)
        throw new RangeError(`${row.length} values for ${columns.length} columns`);
    }
    return [messages.rowDescription(columns), ...rows.map(messages.dataRow), this.commandComplete(tag)];
  }

  /** CommandComplete. @throws {WireError} ERR_WIRE_STATE outside a command */
  commandComplete(tag: string): Buffer {
    this.#require("command");
    return messages.textMessage(TAG.commandComplete, tag);
  }

  /** The answer to an empty query text. @throws {WireError} ERR_WIRE_STATE outside a command */
  emptyQueryResponse(): Buffer {
    this.#require("command");
    return messages.frame(TAG.emptyQueryResponse);
  }

  /** Ends a command; the next query may be read. @throws {WireError} ERR_WIRE_STATE outside a command */
  readyForQuery(): Buffer {
    this.#require("command");
    this.#move("idle");
    return messages.readyForQuery();
  }

  /** An ErrorResponse, which ends a running copy in both directions. Legal at any time after the login. */
  errorResponse(fields: ErrorFields): Buffer {
    if (this.#state === "copy") {
      this.#copyAborted = this.#copyInOpen;
      this.#endCopy();
    }
    return messages.errorResponse(fields);
  }

  /** A NoticeResponse. Legal at any time after the login. */
  noticeResponse(fields: ErrorFields): Buffer {
    return messages.noticeResponse(fields);
  }

  /** CopyBothResponse; both halves of the copy are open now. @throws {WireError} ERR_WIRE_STATE outside a command */
  copyBothResponse(): Buffer {
    this.#require("command");
    this.#move("copy");
    this.#copyInOpen = true;
    this.#copyOutOpen = true;
    return messages.copyBothResponse();
  }

  /** CopyDone, or undefined if our half is closed already. Once both halves are, the command goes on. */
  copyDone(): Buffer | undefined {
    if (!this.copySendOpen) return undefined;
    this.#copyOutOpen = false;
    if (!this.#copyInOpen) this.#endCopy();
    return messages.frame(TAG.copyDone);
  }

  /** Ends a copy with an ErrorResponse; undefined if our half is closed already. */
  copyFail(fields: ErrorFields): Buffer | undefined {
    return this.copySendOpen ? this.errorResponse(fields) : undefined;
  }

  #limit(type: number): number {
    if (this.#state === "password") return type === TAG.password ? PASSWORD_BYTES_MAX : -1;
    switch (type) {
      case TAG.copyData:
        return COPY_DATA_BYTES_MAX;
      case TAG.query:
        return QUERY_BYTES_MAX;
      case TAG.copyDone:
      case TAG.terminate:
        return 0;
      case TAG.copyFail:
        return COPY_FAIL_BYTES_MAX;
      default:
        return -1;
    }
  }

  #nextInCopy(): CopyEvent | undefined {
    if (!this.#copyInOpen || !this.#frames.next()) return undefined;
    const { type, body } = this.#frames;
    switch (type) {
      case TAG.copyData:
        return { type: "data", payload: body };
      case TAG.copyDone:
        this.#closeCopyIn();
        return DONE;
      case TAG.copyFail:
        this.#closeCopyIn();
        return { type: "fail", message: terminatedText(body, "CopyFail") };
      case TAG.terminate:
        this.#state = "closed";
        return TERMINATED;
      default:
        throw protocolError(`message '${String.fromCharCode(type)}' inside COPY`);
    }
  }

  #nextTyped(): ServerEvent | undefined {
    if (this.#state === "closed") return TERMINATED;
    if (this.#state === "tls") return undefined;
    if (this.#state === "command") {
      throw new WireError("ERR_WIRE_STATE", "the running command was not ended with ReadyForQuery");
    }
    while (this.#frames.next()) {
      const { type, body } = this.#frames;
      if (this.#state === "password") return this.#login(body);
      if (type === TAG.terminate) {
        this.#state = "closed";
        return TERMINATED;
      }
      if (type === TAG.query) {
        this.#copyAborted = false; // the client has seen the error: its next query comes after all of its copy
        const text = terminatedText(body, "query");
        this.#move("command");
        return { type: "query", text };
      }
      if (!this.#copyAborted || type === TAG.password) {
        throw protocolError(`message '${String.fromCharCode(type)}' outside COPY`);
      }
      if (type !== TAG.copyData) this.#copyAborted = false;
    }
    return undefined;
  }

  #nextInStartup(): ServerEvent | undefined {
    while (this.#state === "startup") {
      if (this.#isFirstByteOfTls()) return this.#directTls();
      if (!this.#frames.nextStartup()) return undefined;
      const packet = parseStartupPacket(this.#frames.body);
      const event = this.#onStartupPacket(packet);
      if (event !== undefined) return event;
    }
    return this.#nextTyped();
  }

  #isFirstByteOfTls(): boolean {
    const untouched = !this.#secured && !this.#sslAsked && !this.#gssAsked;
    return untouched && this.#frames.peekByte() === TLS_HANDSHAKE_BYTE;
  }

  #directTls(): ServerEvent {
    if (!this.#options.tls) throw new WireError("ERR_WIRE_TLS", "direct TLS, which is not configured");
    this.#move("tls");
    return { type: "tls", direct: true };
  }

  #onStartupPacket(packet: StartupPacket): ServerEvent | undefined {
    if (packet.type === "startup") return this.#onStartup(packet.major, packet.minor, packet.parameters);
    if (packet.type === "ssl-request") return this.#onSslRequest();
    if (packet.type === "cancel-request") {
      this.#state = "closed";
      return packet;
    }
    if (this.#gssAsked || this.#secured) throw protocolError("repeated or misplaced GSSENCRequest");
    this.#gssAsked = true;
    this.#output.push(Buffer.from("N"));
    return undefined;
  }

  #onSslRequest(): ServerEvent | undefined {
    if (this.#sslAsked || this.#secured) throw protocolError("repeated or misplaced SSLRequest");
    this.#sslAsked = true;
    if (!this.#options.tls) {
      this.#output.push(Buffer.from("N"));
      return undefined;
    }
    // Bytes sent before our answer were not protected, and must not be taken for protected ones (CVE-2021-23214).
    if (this.#frames.bufferedBytes > 0) throw protocolError("unencrypted bytes after SSLRequest");
    this.#output.push(Buffer.from("S"));
    this.#move("tls");
    return { type: "tls", direct: false };
  }

  #onStartup(major: number, minor: number, parameters: ReadonlyMap<string, string>): ServerEvent | undefined {
    if (major !== 3) {
      const text = `unsupported frontend protocol ${major}.${minor}: server supports 3.0 to 3.0`;
      throw protocolError(text, SQLSTATE.featureNotSupported);
    }
    if (this.#options.tls && !this.#secured) {
      throw new WireError("ERR_WIRE_TLS", "must connect with TLS", {
        sqlstate: SQLSTATE.invalidAuthorization,
      });
    }
    this.#request = { parameters, options: parseOptions(parameters.get("options")) };
    const unknown = [...parameters.keys()].filter((name) => name.startsWith("_pq_."));
    if (minor > 0 || unknown.length > 0) {
      this.#output.push(messages.negotiateProtocolVersion(PROTOCOL_3_0, unknown));
    }
    this.#options.checkStartup?.(this.#request);
    if (this.#options.authenticate === undefined) return this.#welcome();
    this.#output.push(messages.authenticationMessage(AUTHENTICATION.cleartext));
    this.#move("password");
    return undefined;
  }

  #login(body: Buffer): ServerEvent {
    this.#identity = this.#options.authenticate?.verify(terminatedText(body, "password message"));
    return this.#welcome();
  }

  #welcome(): ServerEvent {
    this.#move("idle");
    this.#output.push(
      messages.authenticationMessage(AUTHENTICATION.ok),
      messages.parameterStatus("client_encoding", "UTF8"),
      messages.parameterStatus("integer_datetimes", "on"),
      messages.parameterStatus("server_version", this.#options.serverVersion(this.#request)),
      messages.parameterStatus("standard_conforming_strings", "on"),
      messages.backendKeyData(this.#options.processId, this.#options.secretKey),
      messages.readyForQuery(),
    );
    return { type: "ready" };
  }

  #closeCopyIn(): void {
    this.#copyInOpen = false;
    if (!this.#copyOutOpen) this.#endCopy();
  }

  #endCopy(): void {
    this.#copyInOpen = false;
    this.#copyOutOpen = false;
    this.#move("command");
  }

  #require(state: ServerState): void {
    if (this.#state !== state) {
      throw new WireError("ERR_WIRE_STATE", `not possible in state "${this.#state}", only in "${state}"`);
    }
  }

  #move(next: ServerState): void {
    if (!MOVES[this.#state].includes(next)) {
      throw new WireError("ERR_WIRE_STATE", `no move from "${this.#state}" to "${next}"`);
    }
    this.#state = next;
  }

  #fail(error: unknown): unknown {
    if (!(error instanceof WireError) || error.code === "ERR_WIRE_STATE") return error;
    this.#failure = error;
    if (this.#state === "startup" || this.#state === "password") {
      this.#output.push(messages.errorResponse(loginErrorFields(error)));
      this.#state = "closed";
    } // after login only reading is over: the owner of a stream may still send what it has to say
    return error;
  }
}

/** Why a token was refused stays on this side. */
function loginErrorFields(error: WireError): ErrorFields {
  const message = error.code === "ERR_WIRE_AUTH" ? "JWT authentication error" : error.message;
  return { severity: "FATAL", code: error.sqlstate, message };
}

/** The text of a message whose whole body is one NUL-terminated string. */
function terminatedText(body: Buffer, what: string): string {
  if (body.indexOf(0) !== body.length - 1 || body.length === 0)
    throw protocolError(`${what} is not terminated`);
  return decodeUtf8(body.subarray(0, body.length - 1), what);
}

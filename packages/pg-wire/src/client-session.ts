/**
 * The client's side of one connection as a pure state machine: bytes in, events and bytes out, no socket, no clock,
 * no randomness of its own.
 *
 * Bytes go in through `receive`, `nextEvent` yields what they mean, `takeOutput` is what must be sent because of it.
 * The login pauses twice for its owner: after the answer to an SSLRequest (`secured` or `stayInClear`), and when a
 * password is needed (`providePassword`). After that a query is built by `query`, and a copy runs until both sides
 * have ended it. ParameterStatus and BackendKeyData are kept, not reported.
 *
 * The moves follow libpq's PQconnectPoll, PQexec and PQgetCopyData.
 */
import { cString, parseDataRow, parseMechanisms, parseRowDescription } from "./backend-bodies.js";
import { AUTHENTICATION, TAG } from "./messages.js";
import * as messages from "./messages.js";
import type { CopyEvent } from "./copy-stream.js";
import { parseErrorFields } from "./error-response.js";
import { protocolError, ServerError, WireError } from "./errors.js";
import type { ErrorFields } from "./errors.js";
import { FrameReader } from "./framing.js";
import { md5Password, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramClient } from "./scram.js";
import type { ChannelBinding } from "./scram.js";
import { SQLSTATE } from "./sqlstate.js";
import { serializeSslRequest, serializeStartupMessage } from "./startup.js";

const KIB = 1024;

/** Largest body by type that is read from a server. A type that is not listed is a protocol error. */
const BODY_BYTES_MAX: ReadonlyMap<number, number> = new Map([
  [TAG.copyData, 16 * KIB * KIB], // a server's WAL messages have 128 KiB
  [TAG.dataRow, 16 * KIB * KIB],
  [TAG.rowDescription, KIB * KIB],
  [TAG.errorResponse, KIB * KIB],
  [TAG.noticeResponse, KIB * KIB],
  [TAG.commandComplete, 8 * KIB],
  [TAG.copyDone, 0],
  [TAG.emptyQueryResponse, 0],
  [TAG.readyForQuery, 1],
  [TAG.authentication, 8 * KIB],
  [TAG.parameterStatus, 64 * KIB],
  [TAG.backendKeyData, 4 + 256], // protocol 3.2 made the secret longer; we ask for 3.0, which has 8 bytes
  [TAG.notificationResponse, 64 * KIB],
  [TAG.copyInResponse, 8 * KIB],
  [TAG.copyOutResponse, 8 * KIB],
  [TAG.copyBothResponse, 8 * KIB],
  [TAG.negotiateProtocolVersion, 8 * KIB],
]);
/** The same before the login is through: whatever answers on that port need not be PostgreSQL. */
const LOGIN_BODY_BYTES_MAX = 64 * KIB;

/** Most ParameterStatus names that are kept: PostgreSQL reports about fifteen. */
const PARAMETERS_MAX = 1000;

/** What a session needs to know. */
export interface ClientSessionOptions {
  /** All startup parameters, `user` among them. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Whether to begin with an SSLRequest. */
  readonly askTls: boolean;
  /** Fresh randomness for SCRAM: printable ASCII without a comma. */
  readonly nonce: string;
}

/** What the bytes of a server mean. */
export type ClientEvent =
  | { readonly type: "tls"; readonly accepted: boolean } // then secured() or stayInClear()
  | { readonly type: "password" } // then providePassword()
  | { readonly type: "ready" } // the login, or a query with all its results, is through
  | { readonly type: "notice"; readonly fields: ErrorFields }
  | { readonly type: "error"; readonly fields: ErrorFields }
  | { readonly type: "columns"; readonly names: readonly string[] }
  | { readonly type: "row"; readonly values: readonly (string | null)[]; readonly bytes: number }
  | { readonly type: "complete"; readonly tag: string }
  | { readonly type: "copy-both" }
  | CopyEvent;

type ClientState = "tls" | "securing" | "login" | "password" | "welcome" | "idle" | "query" | "copy";

/** Every legal move. */
const MOVES: Readonly<Record<ClientState, readonly ClientState[]>> = {
  tls: ["securing"],
  securing: ["login"],
  login: ["password", "welcome"],
  password: ["login"],
  welcome: ["idle"],
  idle: ["query"],
  query: ["idle", "copy"],
  copy: ["query"],
};

type PasswordRequest =
  | { readonly method: "cleartext" }
  | { readonly method: "md5"; readonly salt: Buffer }
  | { readonly method: "scram"; readonly mechanisms: readonly string[] };

const DONE: CopyEvent = { type: "done" };

/** One connection's protocol state, client side. */
export class ClientSession {
  readonly #options: ClientSessionOptions;
  readonly #frames: FrameReader;
  readonly #parameters = new Map<string, string>();
  #state: ClientState;
  #processId = 0;
  #passwordRequest: PasswordRequest | undefined;
  #channelBinding: Uint8Array | undefined;
  #secured = false;
  #scram: ScramClient | undefined;
  #copyInOpen = false; // the server has not ended its half
  #copyOutOpen = false; // we have not ended ours
  #completedCopy: string | undefined; // tag of a CommandComplete that ended a copy by itself
  #asynchronous: ClientEvent[] = []; // notices that came inside a copy, for onNotice
  #output: Buffer[] = [];
  #failure: WireError | undefined;

  constructor(options: ClientSessionOptions) {
    this.#options = options;
    this.#frames = new FrameReader((type) => this.#limit(type));
    this.#state = options.askTls ? "tls" : "securing";
    if (options.askTls) this.#output.push(serializeSslRequest());
    else this.#sendStartup();
  }

  /** The server's parameters as reported so far; changes as it reports more. */
  get parameters(): ReadonlyMap<string, string> {
    return this.#parameters;
  }

  /** Process id of the server's backend; 0 if it did not tell. */
  get processId(): number {
    return this.#processId;
  }

  /** Whether a query may be started. */
  get isIdle(): boolean {
    return this.#state === "idle";
  }

  /** Whether CopyData may be sent. */
  get copySendOpen(): boolean {
    return this.#state === "copy" && this.#copyOutOpen;
  }

  /** Bytes received and not yet turned into an event. */
  get bufferedBytes(): number {
    return this.#frames.bufferedBytes;
  }

  /** Whether `nextEvent` would give something without more bytes. May be true too often, never too seldom. */
  get hasFrame(): boolean {
    return this.#state === "tls" || this.#state === "securing" || this.#frames.hasFrame;
  }

  /** Whether the connection may end here without cutting a message. */
  get atBoundary(): boolean {
    return this.#frames.atBoundary;
  }

  /**
   * Takes bytes from the peer.
   *
   * @param chunk given: payloads of events are views of it
   */
  receive(chunk: Uint8Array): void {
    this.#frames.push(chunk);
  }

  /** What must be sent to the peer now; given, in order. Empty if nothing. */
  takeOutput(): readonly Buffer[] {
    const output = this.#output;
    this.#output = [];
    return output;
  }

  /**
   * The next event, or undefined if more bytes are needed.
   *
   * @throws {WireError} ERR_WIRE_PROTOCOL, ERR_WIRE_AUTH, ERR_WIRE_TLS. Final.
   */
  nextEvent(): ClientEvent | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    try {
      if (this.#state === "tls") return this.#nextTlsAnswer();
      if (this.#state === "securing" || this.#state === "password") return undefined;
      return this.#nextTyped();
    } catch (error) {
      if (error instanceof WireError) this.#failure = error;
      throw error;
    }
  }

  /**
   * The next event of a copy; after the copy was over, `done` forever. Notices are kept for `takeNotices`.
   *
   * @throws {WireError} as `nextEvent`; ServerError if the server ended the copy with an error, after which the rest
   *   of the answer has to be read with `nextEvent`
   */
  nextCopyEvent(): CopyEvent | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    for (;;) {
      if (this.#state !== "copy" || !this.#copyInOpen) return DONE;
      const event = this.nextEvent();
      if (event === undefined) return undefined;
      if (event.type === "data" || event.type === "done") return event;
      if (event.type === "error") throw new ServerError(event.fields);
      if (event.type === "notice") this.#asynchronous.push(event);
    }
  }

  /** Notices that arrived inside a copy since the last call. */
  takeNotices(): readonly ErrorFields[] {
    if (this.#asynchronous.length === 0) return [];
    const fields = this.#asynchronous.flatMap((event) => (event.type === "notice" ? [event.fields] : []));
    this.#asynchronous = [];
    return fields;
  }

  /**
   * Tells that TLS is up after a `tls` event that accepted it.
   *
   * @param channelBinding data of type tls-server-end-point if the certificate has one
   */
  secured(channelBinding: Uint8Array | undefined): void {
    this.#secured = true;
    this.#channelBinding = channelBinding;
    this.#sendStartup();
  }

  /** Goes on without TLS after a `tls` event that refused it. */
  stayInClear(): void {
    this.#sendStartup();
  }

  /** Answers a `password` event. The password is not kept once the login is through. */
  providePassword(password: string): void {
    const request = this.#passwordRequest;
    if (request === undefined) throw new WireError("ERR_WIRE_STATE", "no password was asked for");
    this.#passwordRequest = undefined;
    this.#move("login");
    if (request.method === "scram") this.#startScram(password, request.mechanisms);
    else {
      const user = this.#options.parameters.get("user") ?? "";
      const answer = request.method === "md5" ? md5Password(user, password, request.salt) : password;
      this.#output.push(messages.textMessage(TAG.password, answer));
    }
  }

  /** A simple query. @throws {WireError} ERR_WIRE_BUSY while another runs; {TypeError} for a NUL in the text */
  query(text: string): Buffer {
    if (text.includes("\0")) throw new TypeError("a query cannot contain NUL");
    if (this.#state !== "idle") throw new WireError("ERR_WIRE_BUSY", "a query is running on this connection");
    this.#move("query");
    return messages.textMessage(TAG.query, text);
  }

  /** Terminate: the polite last message. */
  terminate(): Buffer {
    return messages.frame(TAG.terminate);
  }

  /** CopyDone, or undefined if our half is closed already. */
  copyDone(): Buffer | undefined {
    return this.#endSending(() => messages.frame(TAG.copyDone));
  }

  /** CopyFail with the message of `fields`, or undefined if our half is closed already. */
  copyFail(fields: ErrorFields): Buffer | undefined {
    return this.#endSending(() => messages.textMessage(TAG.copyFail, fields.message));
  }

  #endSending(message: () => Buffer): Buffer | undefined {
    if (!this.copySendOpen) return undefined;
    this.#copyOutOpen = false;
    if (!this.#copyInOpen) this.#move("query");
    return message();
  }

  #limit(type: number): number {
    const limit = BODY_BYTES_MAX.get(type) ?? -1;
    const inLogin = this.#state === "login" || this.#state === "password" || this.#state === "welcome";
    return inLogin ? Math.min(limit, LOGIN_BODY_BYTES_MAX) : limit;
  }

  #sendStartup(): void {
    this.#move("login");
    this.#output.push(serializeStartupMessage(this.#options.parameters));
  }

  #nextTlsAnswer(): ClientEvent | undefined {
    const answer = this.#frames.takeByte();
    if (answer === undefined) return undefined;
    const accepted = answer === 0x53; // S
    if (!accepted && answer !== 0x4e) throw new WireError("ERR_WIRE_TLS", "unexpected answer to SSLRequest");
    // Bytes beyond the answer were not protected, and must not be taken for protected ones (CVE-2021-23222).
    if (this.#frames.bufferedBytes > 0)
      throw protocolError("unencrypted bytes after the answer to SSLRequest");
    this.#move("securing");
    return { type: "tls", accepted };
  }

  #nextTyped(): ClientEvent | undefined {
    const completed = this.#completedCopy;
    if (completed !== undefined) {
      this.#completedCopy = undefined;
      return { type: "complete", tag: completed };
    }
    while (this.#frames.next()) {
      const event = this.#onMessage(this.#frames.type, this.#frames.body);
      if (event !== undefined) return event;
    }
    return undefined;
  }

  #onMessage(type: number, body: Buffer): ClientEvent | undefined {
    switch (type) {
      case TAG.noticeResponse:
        return { type: "notice", fields: parseErrorFields(body) };
      case TAG.parameterStatus:
        this.#keepParameter(body);
        return undefined;
      case TAG.notificationResponse:
        return undefined; // nobody here listens
      case TAG.errorResponse:
        return this.#onError(parseErrorFields(body));
      default:
    }
    if (this.#state === "copy") return this.#inCopy(type, body);
    if (this.#state === "query") return this.#inQuery(type, body);
    if (this.#state === "login") return this.#inLogin(type, body);
    if (this.#state === "welcome") return this.#inWelcome(type, body);
    throw unexpected(type, this.#state);
  }

  #onError(fields: ErrorFields): ClientEvent {
    if (this.#state === "copy") {
      this.#copyInOpen = false;
      this.#copyOutOpen = false;
      this.#move("query");
    }
    return { type: "error", fields };
  }

  #inCopy(type: number, body: Buffer): ClientEvent {
    if (type === TAG.copyData && this.#copyInOpen) return { type: "data", payload: body };
    if (type === TAG.copyDone && this.#copyInOpen) {
      this.#copyInOpen = false;
      if (!this.#copyOutOpen) this.#move("query");
      return DONE;
    }
    if (type === TAG.commandComplete) {
      // A walsender that shuts down ends the copy like this, without CopyDone.
      const wasOpen = this.#copyInOpen;
      this.#copyInOpen = false;
      this.#copyOutOpen = false;
      this.#move("query");
      const tag = cString(body, 0).text;
      if (!wasOpen) return { type: "complete", tag };
      this.#completedCopy = tag;
      return DONE;
    }
    throw unexpected(type, this.#state);
  }

  #inQuery(type: number, body: Buffer): ClientEvent | undefined {
    switch (type) {
      case TAG.rowDescription:
        return { type: "columns", names: parseRowDescription(body) };
      case TAG.dataRow:
        return { type: "row", values: parseDataRow(body), bytes: body.length };
      case TAG.commandComplete:
        return { type: "complete", tag: cString(body, 0).text };
      case TAG.emptyQueryResponse:
        return { type: "complete", tag: "" };
      case TAG.copyBothResponse:
        this.#move("copy");
        this.#copyInOpen = true;
        this.#copyOutOpen = true;
        return { type: "copy-both" };
      case TAG.copyInResponse: // COPY ... FROM STDIN: there is nothing to send, let the server report that
        this.#output.push(
          messages.textMessage(TAG.copyFail, "COPY FROM STDIN is not supported by this client"),
        );
        return undefined;
      case TAG.readyForQuery:
        this.#move("idle");
        return { type: "ready" };
      default:
        throw unexpected(type, this.#state);
    }
  }

  #inWelcome(type: number, body: Buffer): ClientEvent | undefined {
    if (type === TAG.backendKeyData) {
      if (body.length < 8) throw protocolError("BackendKeyData is too short");
      this.#processId = body.readInt32BE(0);
      return undefined;
    }
    if (type === TAG.negotiateProtocolVersion) return undefined; // we asked for 3.0, nothing older is left
    if (type !== TAG.readyForQuery) throw unexpected(type, this.#state);
    this.#move("idle");
    return { type: "ready" };
  }

  #inLogin(type: number, body: Buffer): ClientEvent | undefined {
    if (type === TAG.negotiateProtocolVersion) return undefined;
    if (type !== TAG.authentication) throw unexpected(type, this.#state);
    if (body.length < 4) throw protocolError("authentication message is too short");
    const code = body.readInt32BE(0);
    const data = body.subarray(4);
    switch (code) {
      case AUTHENTICATION.ok:
        return this.#onAuthenticated();
      case AUTHENTICATION.cleartext:
        return this.#ask({ method: "cleartext" });
      case AUTHENTICATION.md5:
        if (data.length !== 4) throw protocolError("md5 salt of wrong length");
        return this.#ask({ method: "md5", salt: data });
      case AUTHENTICATION.sasl:
        return this.#ask({ method: "scram", mechanisms: parseMechanisms(data) });
      case AUTHENTICATION.saslContinue:
        if (this.#scram === undefined) throw protocolError("SASL data out of order");
        this.#output.push(messages.frame(TAG.password, Buffer.from(this.#scram.final(data.toString()))));
        return undefined;
      case AUTHENTICATION.saslFinal:
        if (this.#scram === undefined) throw protocolError("SASL data out of order");
        this.#scram.verify(data.toString());
        return undefined;
      default:
        throw authError(`authentication method ${code} is not supported`);
    }
  }

  #onAuthenticated(): undefined {
    if (this.#scram?.verified === false)
      throw authError("the server skipped the proof that it knows the password");
    this.#scram = undefined;
    this.#move("welcome");
  }

  #ask(request: PasswordRequest): ClientEvent {
    if (this.#scram !== undefined) throw protocolError("a second authentication request");
    this.#passwordRequest = request;
    this.#move("password");
    return { type: "password" };
  }

  #startScram(password: string, mechanisms: readonly string[]): void {
    const bindingData = this.#secured ? this.#channelBinding : undefined;
    const isBound = bindingData !== undefined && mechanisms.includes(SCRAM_SHA_256_PLUS);
    let binding: ChannelBinding = "none";
    if (bindingData !== undefined) binding = isBound ? { tlsServerEndPoint: bindingData } : "unoffered";
    if (!isBound && !mechanisms.includes(SCRAM_SHA_256)) {
      throw authError(`none of the SASL mechanisms "${mechanisms.join(" ")}" is supported`);
    }
    this.#scram = new ScramClient({ password, nonce: this.#options.nonce, binding });
    const first = Buffer.from(this.#scram.first());
    const length = Buffer.alloc(4);
    length.writeInt32BE(first.length);
    const mechanism = isBound ? SCRAM_SHA_256_PLUS : SCRAM_SHA_256;
    this.#output.push(messages.frame(TAG.password, Buffer.from(`${mechanism}\0`), length, first));
  }

  #keepParameter(body: Buffer): void {
    const name = cString(body, 0);
    const value = cString(body, name.next);
    if (this.#parameters.size >= PARAMETERS_MAX && !this.#parameters.has(name.text)) {
      throw protocolError("too many parameters reported");
    }
    this.#parameters.set(name.text, value.text);
  }

  #move(next: ClientState): void {
    if (!MOVES[this.#state].includes(next)) {
      throw new WireError("ERR_WIRE_STATE", `no move from "${this.#state}" to "${next}"`);
    }
    this.#state = next;
  }
}

function unexpected(type: number, state: ClientState): WireError {
  return protocolError(`message '${String.fromCharCode(type)}' in state "${state}"`);
}

function authError(message: string): WireError {
  return new WireError("ERR_WIRE_AUTH", message, { sqlstate: SQLSTATE.invalidAuthorization });
}

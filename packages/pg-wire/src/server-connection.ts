/**
 * A server connection on a socket: runs the login of a ServerSession, then reads queries and sends answers.
 *
 * `acceptConnection` owns the socket from its call on, also when it fails. A peer whose login is refused gets the
 * ErrorResponse, then FIN; a peer that is silent is cut off after the login timeout, as PostgreSQL's
 * authentication_timeout does it. Everything of the protocol is in server-session.ts and everything of the socket in
 * socket-transport.ts; here they are only put together.
 */
import { randomInt } from "node:crypto";
import type { Duplex } from "node:stream";
import { createServer } from "node:tls";
import type { SecureContextOptions, TLSSocket } from "node:tls";
import type { Authenticator, Identity } from "./authenticator.js";
import type { Column } from "./columns.js";
import { SessionCopyReader, SessionCopyWriter } from "./copy-halves.js";
import type { CopyReader, CopyWriter } from "./copy-stream.js";
import { WireError } from "./errors.js";
import type { ErrorFields } from "./errors.js";
import { ServerSession } from "./server-session.js";
import type { ServerEvent, StartupRequest } from "./server-session.js";
import { SocketTransport } from "./socket-transport.js";
import { nodeTimers } from "./timers.js";
import type { Timers } from "./timers.js";

/** How long a login may take unless said otherwise. */
export const LOGIN_TIMEOUT_MS = 30_000;

/** The name of this protocol in TLS; libpq demands it of a server it speaks direct TLS with. */
const ALPN_PROTOCOL = "postgresql";

/** The version that is reported where none is given: any replication client accepts an old one. */
const DEFAULT_SERVER_VERSION = "14.1";

const INT32_MAX = 0x7fff_ffff;

/** How a connection is accepted. */
export interface AcceptOptions {
  /** Key and certificate. Present: TLS is offered and required. */
  readonly tls?: SecureContextOptions;
  /** Absent: everybody is trusted. */
  readonly authenticate?: Authenticator;
  /**
   * Looks at the startup parameters before authentication; a WireError it throws refuses the connection, and its
   * message and sqlstate are sent as a FATAL ErrorResponse.
   */
  readonly checkStartup?: (request: StartupRequest) => void;
  /** The server_version to report; "14.1" by default. */
  readonly serverVersion?:
    string | ((parameters: ReadonlyMap<string, string>, options: ReadonlyMap<string, string>) => string);
  /** Milliseconds until a login that has not ended is cut off; LOGIN_TIMEOUT_MS by default. */
  readonly loginTimeoutMs?: number;
  /** 1..2^31-1, for BackendKeyData; by default unique among the connections of this process. */
  readonly processId?: number;
  readonly timers?: Timers;
}

/**
 * Runs the startup of one accepted socket up to the first ReadyForQuery.
 *
 * @param socket given: this function or the connection closes it. Make a net.Server with `allowHalfOpen: true` if
 *   answers are to be sent after the peer has ended its half.
 * @returns undefined if the peer went away cleanly before the login was through, or only sent a CancelRequest
 * @throws {WireError} ERR_WIRE_PROTOCOL, ERR_WIRE_AUTH, ERR_WIRE_TLS and what `checkStartup` threw, each after the
 *   peer was told; ERR_WIRE_IO; ERR_WIRE_TIMEOUT. The socket is closed then.
 */
export async function acceptConnection(
  socket: Duplex,
  options: AcceptOptions = {},
): Promise<ServerConnection | undefined> {
  const login = new Login(socket, options);
  try {
    const event = await login.run();
    if (event === "ready") return login.connection();
    await login.close();
    return undefined;
  } catch (error) {
    await login.close();
    throw error;
  } finally {
    login.stopTimer();
  }
}

/** The part of a connection's life before it is one; its transport changes when TLS starts. */
class Login {
  readonly #options: AcceptOptions;
  readonly #timers: Timers;
  readonly #session: ServerSession;
  readonly #processId: number;
  #transport: SocketTransport;
  #timeout: WireError | undefined;
  readonly stopTimer: () => void;

  constructor(socket: Duplex, options: AcceptOptions) {
    this.#options = options;
    this.#timers = options.timers ?? nodeTimers;
    this.#processId = options.processId ?? nextProcessId();
    this.#session = new ServerSession({
      tls: options.tls !== undefined,
      authenticate: options.authenticate,
      checkStartup: options.checkStartup,
      serverVersion: (request) => reportedVersion(options, request),
      processId: this.#processId,
      secretKey: randomInt(1, INT32_MAX),
    });
    disableDelay(socket);
    this.#transport = new SocketTransport(socket, this.#session, this.#timers);
    this.stopTimer = this.#timers.start(() => this.#onTimeout(), options.loginTimeoutMs ?? LOGIN_TIMEOUT_MS);
  }

  async run(): Promise<"ready" | "gone"> {
    for (;;) {
      const event = this.#next();
      if (event?.type === "ready") return "ready";
      if (event?.type === "cancel-request") return "gone";
      if (event?.type === "tls") await this.#secure();
      else if (event !== undefined || this.#transport.whyNothingMore() === "eof") return "gone";
      else await this.#transport.readable();
    }
  }

  connection(): ServerConnection {
    return new ServerConnection(this.#session, this.#transport, this.#processId);
  }

  close(): Promise<void> {
    return this.#transport.close();
  }

  #next(): ServerEvent | undefined {
    try {
      return this.#session.nextEvent();
    } finally {
      const output = this.#session.takeOutput();
      if (output.length > 0) void this.#transport.write(output);
    }
  }

  async #secure(): Promise<void> {
    await this.#transport.flush([]);
    const raw = this.#transport.release();
    const rest = this.#session.takeRest();
    if (rest.length > 0) raw.unshift(rest);
    let secure: TLSSocket;
    try {
      secure = await handshake(raw, this.#options.tls ?? {});
    } catch (error) {
      raw.destroy();
      throw (
        this.#timeout ??
        new WireError("ERR_WIRE_TLS", `TLS handshake failed: ${String(error)}`, { cause: error })
      );
    }
    this.#session.secured();
    this.#transport = new SocketTransport(secure, this.#session, this.#timers);
  }

  #onTimeout(): void {
    this.#timeout = new WireError("ERR_WIRE_TIMEOUT", "the login took too long");
    this.#transport.destroy(this.#timeout);
  }
}

/** A connection whose login is through. One command runs at a time; the caller is the command loop. */
export class ServerConnection implements AsyncDisposable {
  readonly #session: ServerSession;
  readonly #transport: SocketTransport;
  /** The startup parameters. */
  readonly parameters: ReadonlyMap<string, string>;
  /** The key=value tokens of the startup parameter `options`. */
  readonly options: ReadonlyMap<string, string>;
  /** Whom the token names; undefined where everybody is trusted. */
  readonly identity: Identity | undefined;
  /** The process id that the peer was told. */
  readonly processId: number;
  #errorSent = false;

  /** Made by acceptConnection. */
  constructor(session: ServerSession, transport: SocketTransport, processId: number) {
    this.#session = session;
    this.#transport = transport;
    this.parameters = session.request.parameters;
    this.options = session.request.options;
    this.identity = session.identity;
    this.processId = processId;
  }

  /** Bytes sent and not yet handed to the kernel. */
  get queuedBytes(): number {
    return this.#transport.queuedBytes;
  }

  /**
   * Waits for the next simple query. The command it starts must be ended with `sendReadyForQuery` before the next
   * call.
   *
   * @returns the text, "" for an empty query; undefined after Terminate or a clean end of the connection
   * @throws {WireError} ERR_WIRE_PROTOCOL, after the peer was sent a FATAL ErrorResponse; ERR_WIRE_IO;
   *   ERR_WIRE_CLOSED; ERR_WIRE_STATE while a command runs
   */
  async readQuery(): Promise<string | undefined> {
    for (;;) {
      const event = this.#nextEvent();
      this.#transport.consumed();
      if (event?.type === "query") return event.text;
      if (event?.type === "end") return undefined;
      if (event !== undefined) throw new WireError("ERR_WIRE_STATE", "a copy is running on this connection");
      if (this.#transport.whyNothingMore() === "eof") return undefined;
      await this.#transport.readable();
    }
  }

  /**
   * Sends a whole result: RowDescription, a DataRow each, CommandComplete. Like every send it resolves at once while
   * the queue is short, otherwise when the queue was handed to the kernel.
   *
   * @param rows as many values each as there are columns, null for NULL
   * @throws {WireError} ERR_WIRE_STATE outside a command, ERR_WIRE_IO, ERR_WIRE_CLOSED; {RangeError} for a row of
   *   another length
   */
  async sendRows(
    columns: readonly Column[],
    rows: readonly (readonly (string | null)[])[],
    tag: string,
  ): Promise<void> {
    await this.#transport.write(this.#session.rows(columns, rows, tag));
  }

  /** Sends CommandComplete. @throws {WireError} as sendRows */
  async sendCommandComplete(tag: string): Promise<void> {
    await this.#transport.write([this.#session.commandComplete(tag)]);
  }

  /** Sends the answer to an empty query. @throws {WireError} as sendRows */
  async sendEmptyQueryResponse(): Promise<void> {
    await this.#transport.write([this.#session.emptyQueryResponse()]);
  }

  /** Ends the running command. @throws {WireError} as sendRows */
  async sendReadyForQuery(): Promise<void> {
    await this.#transport.write([this.#session.readyForQuery()]);
  }

  /** Sends an ErrorResponse, which ends a running copy. ReadyForQuery does not follow by itself. */
  async sendError(fields: ErrorFields): Promise<void> {
    await this.#transport.write([this.#session.errorResponse(fields)]);
  }

  /** Sends a NoticeResponse. */
  async sendNotice(fields: ErrorFields): Promise<void> {
    await this.#transport.write([this.#session.noticeResponse(fields)]);
  }

  /**
   * Sends CopyBothResponse and resolves once it was handed to the kernel. After both halves have ended (the reader
   * said `done`, the writer's done() was called), or after an ErrorResponse, the command goes on.
   *
   * @throws {WireError} ERR_WIRE_STATE outside a command, ERR_WIRE_IO, ERR_WIRE_CLOSED
   */
  async startCopyBoth(): Promise<{ readonly reader: CopyReader; readonly writer: CopyWriter }> {
    await this.#transport.flush([this.#session.copyBothResponse()]);
    return {
      reader: new SessionCopyReader(this.#session, this.#transport),
      writer: new SessionCopyWriter(this.#session, this.#transport),
    };
  }

  /** Writes what is queued, sends FIN, waits a bounded time for the peer's end, then destroys. Never rejects. */
  close(): Promise<void> {
    return this.#transport.close();
  }

  /** Drops the connection and what is queued. Whoever waits gets ERR_WIRE_CLOSED. */
  destroy(): void {
    this.#transport.destroy();
  }

  /** Same as close(). */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #nextEvent(): ServerEvent | undefined {
    try {
      return this.#session.nextEvent();
    } catch (error) {
      if (error instanceof WireError && error.code === "ERR_WIRE_PROTOCOL" && !this.#errorSent) {
        this.#errorSent = true;
        const fields = { severity: "FATAL", code: error.sqlstate, message: error.message };
        void this.#transport.write([this.#session.errorResponse(fields)]);
      }
      throw error;
    }
  }
}

let lastProcessId = process.pid & 0xffff;

/** Unique until it wraps after two thousand million connections. */
function nextProcessId(): number {
  lastProcessId = lastProcessId >= INT32_MAX ? 1 : lastProcessId + 1;
  return lastProcessId;
}

function reportedVersion(options: AcceptOptions, request: StartupRequest): string {
  const version = options.serverVersion ?? DEFAULT_SERVER_VERSION;
  return typeof version === "string" ? version : version(request.parameters, request.options);
}

/** Small replies must not wait for acknowledgements. Sockets other than TCP have no such thing. */
function disableDelay(socket: Duplex): void {
  if ("setNoDelay" in socket && typeof socket.setNoDelay === "function") socket.setNoDelay(true);
}

/**
 * The TLS handshake on an accepted socket. Through a tls.Server that never listens and gets the socket as an event,
 * which is documented, because a bare server-side TLSSocket keeps errors after the handshake to itself.
 */
function handshake(raw: Duplex, options: SecureContextOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const server = createServer({ ...options, ALPNProtocols: [ALPN_PROTOCOL] });
    raw.allowHalfOpen = false; // inherited: a peer that ends within the handshake must end the handshake
    server.once("secureConnection", (secure) => {
      secure.allowHalfOpen = true;
      resolve(secure);
    });
    server.once("tlsClientError", reject);
    server.emit("connection", raw);
  });
}

/**
 * From nothing to a logged-in session: opens the socket, starts TLS, answers the password request.
 *
 * One deadline covers all of it, and an AbortSignal can end it at any point; either way the socket is gone before the
 * promise settles. Without TLS, reads go into slabs (socket-transport.ts); a connection that may turn to TLS is read
 * by plain `data` events, since TLS takes the socket over.
 */
import { randomBytes } from "node:crypto";
import { connect as connectNet, isIP } from "node:net";
import type { NetConnectOpts } from "node:net";
import type { Duplex } from "node:stream";
import { connect as connectTls } from "node:tls";
import type { ConnectionOptions, TLSSocket } from "node:tls";
import { tlsServerEndPoint } from "./channel-binding.js";
import { CONNECT_TIMEOUT_MS, DEFAULT_PORT } from "./client-options.js";
import type { ClientOptions, SslMode } from "./client-options.js";
import { ClientSession } from "./client-session.js";
import { ServerError, WireError } from "./errors.js";
import { SocketTransport } from "./socket-transport.js";
import { SQLSTATE } from "./sqlstate.js";
import { nodeTimers } from "./timers.js";

/** 144 bits: two logins never share a nonce. */
const NONCE_BYTES = 18;
/** The name of this protocol in TLS. */
const ALPN_PROTOCOL = "postgresql";
const SOCKET_FILE = /(?:^|\/)\.s\.PGSQL\.[0-9]+$/;

/** A session that is idle, and the transport under it. */
export interface LoggedIn {
  readonly session: ClientSession;
  readonly transport: SocketTransport;
}

/**
 * Connects and logs in.
 *
 * @throws {WireError} ERR_WIRE_IO, ERR_WIRE_TLS, ERR_WIRE_AUTH, ERR_WIRE_PROTOCOL, ERR_WIRE_TIMEOUT; ServerError; the
 *   signal's reason; whatever the password function threw
 */
export async function logIn(options: ClientOptions): Promise<LoggedIn> {
  options.signal?.throwIfAborted();
  const login = new ClientLogin(options);
  try {
    return await login.run();
  } catch (error) {
    login.destroy();
    throw login.interruption ?? error;
  } finally {
    login.stop();
  }
}

class ClientLogin {
  readonly #options: ClientOptions;
  readonly #ssl: SslMode;
  readonly #session: ClientSession;
  readonly #interrupted: Promise<never>;
  #transport: SocketTransport;
  #interrupt: (reason: unknown) => void = () => undefined;
  #stopTimer: () => void;
  /** Why the login was ended from outside: a timeout or the signal's reason. */
  interruption: unknown;

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#ssl = sslMode(options);
    this.#session = new ClientSession({
      parameters: startupParameters(options),
      askTls: this.#ssl !== "disable",
      nonce: randomBytes(NONCE_BYTES).toString("base64"),
    });
    this.#interrupted = new Promise<never>((_resolve, reject) => {
      this.#interrupt = reject;
    });
    this.#interrupted.catch(() => undefined); // most logins are not interrupted, and nobody is told twice
    this.#transport = this.#open();
    const timers = options.timers ?? nodeTimers;
    const timeoutMs = options.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
    this.#stopTimer = timers.start(() => {
      this.#end(new WireError("ERR_WIRE_TIMEOUT", `no login within ${timeoutMs} ms`));
    }, timeoutMs);
    options.signal?.addEventListener("abort", this.#onAbort);
  }

  async run(): Promise<LoggedIn> {
    for (;;) {
      this.#sendOutput();
      const event = this.#session.nextEvent();
      this.#sendOutput();
      if (event === undefined) {
        if (this.#transport.whyNothingMore() === "eof") {
          throw new WireError("ERR_WIRE_IO", "the server closed the connection during the login");
        }
        await Promise.race([this.#transport.readable(), this.#interrupted]);
      } else if (event.type === "ready") return { session: this.#session, transport: this.#transport };
      else if (event.type === "error") throw new ServerError(event.fields);
      else if (event.type === "notice") this.#options.onNotice?.(event.fields);
      else if (event.type === "password") this.#session.providePassword(await this.#password());
      else if (event.type === "tls") await this.#onTlsAnswer(event.accepted);
    }
  }

  /** Stops the deadline and forgets the signal. */
  stop(): void {
    this.#stopTimer();
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
  }

  destroy(): void {
    this.#transport.destroy();
  }

  #open(): SocketTransport {
    const timers = this.#options.timers ?? nodeTimers;
    if (this.#options.connectSocket !== undefined) {
      return new SocketTransport(this.#options.connectSocket(), this.#session, timers);
    }
    const address: NetConnectOpts = { ...socketAddress(this.#options), allowHalfOpen: true };
    if (this.#ssl === "disable") return SocketTransport.connecting(address, this.#session, timers);
    return new SocketTransport(connectNet(address), this.#session, timers);
  }

  readonly #onAbort = (): void => {
    this.#end(this.#options.signal?.reason);
  };

  #end(reason: unknown): void {
    this.interruption = reason;
    this.#interrupt(reason);
    this.#transport.destroy();
  }

  #sendOutput(): void {
    const output = this.#session.takeOutput();
    if (output.length > 0) void this.#transport.write(output);
  }

  async #password(): Promise<string> {
    const { password } = this.#options;
    if (password === undefined) {
      const options = { sqlstate: SQLSTATE.invalidPassword };
      throw new WireError("ERR_WIRE_AUTH", "the server wants a password and none was given", options);
    }
    return typeof password === "string" ? password : Promise.race([password(), this.#interrupted]);
  }

  async #onTlsAnswer(accepted: boolean): Promise<void> {
    if (accepted) {
      const secure = await Promise.race([this.#secure(), this.#interrupted]);
      this.#transport = new SocketTransport(secure, this.#session, this.#options.timers ?? nodeTimers);
      const certificate = secure.getPeerCertificate().raw as Buffer | undefined; // {} without a certificate
      this.#session.secured(certificate && tlsServerEndPoint(certificate));
    } else if (this.#ssl === "prefer") this.#session.stayInClear();
    else throw new WireError("ERR_WIRE_TLS", "the server does not speak TLS");
  }

  #secure(): Promise<TLSSocket> {
    const raw = this.#transport.release();
    return new Promise((resolve, reject) => {
      const secure = connectTls(tlsOptions(this.#options, this.#ssl, raw));
      const onError = (error: Error): void => {
        reject(new WireError("ERR_WIRE_TLS", `TLS handshake failed: ${error.message}`, { cause: error }));
      };
      const onClose = (): void => onError(new Error("connection closed during the handshake"));
      secure.once("secureConnect", () => {
        secure.off("error", onError);
        secure.off("close", onClose);
        resolve(secure);
      });
      secure.on("error", onError);
      secure.once("close", onClose);
    });
  }
}

/** `user`, `database`, then the given ones, then the encoding unless it was given: text here is UTF-8. */
function startupParameters(options: ClientOptions): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>([["user", options.user]]);
  if (options.database !== undefined) parameters.set("database", options.database);
  for (const [name, value] of Object.entries(options.parameters ?? {})) parameters.set(name, value);
  if (!parameters.has("client_encoding")) parameters.set("client_encoding", "UTF8");
  return parameters;
}

function socketDirectory(options: ClientOptions): string | undefined {
  return options.path ?? (options.host?.startsWith("/") === true ? options.host : undefined);
}

function socketAddress(options: ClientOptions): NetConnectOpts {
  const port = options.port ?? DEFAULT_PORT;
  const path = socketDirectory(options);
  if (path === undefined) return { host: options.host ?? "localhost", port, noDelay: true };
  return { path: SOCKET_FILE.test(path) ? path : `${path}/.s.PGSQL.${port}` };
}

function sslMode(options: ClientOptions): SslMode {
  if (options.connectSocket !== undefined) return options.ssl ?? "disable";
  return socketDirectory(options) === undefined ? (options.ssl ?? "prefer") : "disable";
}

function tlsOptions(options: ClientOptions, ssl: SslMode, raw: Duplex): ConnectionOptions {
  const host = options.host ?? "localhost";
  const given: ConnectionOptions = typeof ssl === "string" ? { rejectUnauthorized: false } : ssl;
  return {
    host,
    ...(isIP(host) === 0 ? { servername: host } : {}),
    ...given,
    ALPNProtocols: [ALPN_PROTOCOL],
    socket: raw,
  };
}

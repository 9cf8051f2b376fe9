/**
 * What a client connection is told: where the server is, who we are, and how far to trust the wire. Defaults are
 * libpq's where it has one, except that nothing is taken from the environment.
 */
import type { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import type { ErrorFields } from "./errors.js";
import type { Timers } from "./timers.js";

/** PostgreSQL's port. */
export const DEFAULT_PORT = 5432;

/**
 * `disable`: never. `prefer`: if the server has it, unverified. `require`: always, unverified (it keeps eavesdroppers
 * out and nobody else). An object: always, with these options for node:tls, which verify the server unless told not to.
 */
export type SslMode = "disable" | "prefer" | "require" | ConnectionOptions;

/** Where and how to connect. */
export interface ClientOptions {
  /** Name or address; "localhost" by default. One that starts with a slash is taken as `path`. */
  readonly host?: string;
  /** DEFAULT_PORT by default; also part of the name of a Unix socket. */
  readonly port?: number;
  /** A Unix socket: the directory it is in, or the socket file, which is named `.s.PGSQL.<port>`. */
  readonly path?: string;
  readonly user: string;
  /** The server takes the user's name if absent. */
  readonly database?: string;
  /** Asked for only if the server wants one. */
  readonly password?: string | (() => string | Promise<string>);
  /** Startup parameters, such as application_name, replication, options. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** "prefer" over TCP; never used on a Unix socket; "disable" with `connectSocket`. */
  readonly ssl?: SslMode;
  /** Milliseconds for everything up to the first ReadyForQuery; CONNECT_TIMEOUT_MS by default. */
  readonly connectTimeoutMs?: number;
  /** Gives up connecting; of no effect on a connection that is open. */
  readonly signal?: AbortSignal;
  /** Makes the socket instead of node:net; it may still be connecting. */
  readonly connectSocket?: () => Duplex;
  /** Called for each NoticeResponse; must not throw. */
  readonly onNotice?: (fields: ErrorFields) => void;
  readonly timers?: Timers;
}

/** How long connecting and logging in may take unless said otherwise. */
export const CONNECT_TIMEOUT_MS = 10_000;

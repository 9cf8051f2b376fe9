/**
 * Connection URLs: `postgres://user:password@host:port/database?parameter=value`, as libpq and most drivers take them.
 *
 * Every part is percent-decoded. A host that starts with a slash, in its place or as the query parameter `host`, is
 * the directory of a Unix socket. Startup parameters are passed on; parameters that only libpq knows are refused
 * rather than ignored, because a security setting that is not honoured must not look as if it were. What differs from
 * libpq: one host only, and nothing is read from the environment, from files or from the operating system's user.
 */
import type { ClientOptions, SslMode } from "./client-options.js";
import { WireError } from "./errors.js";

const DEFAULT_USER = "postgres";
const PORT_MAX = 65_535;

/** URL parameters that become startup parameters. */
const STARTUP_PARAMETERS: ReadonlySet<string> = new Set([
  "application_name",
  "client_encoding",
  "options",
  "replication",
]);

/**
 * Parses a URL into the options of `connect`. Without a user the user is "postgres"; without a database the server
 * takes the user's name.
 *
 * sslmode: disable; allow and prefer (TLS if the server has it); require (TLS, whoever the server is); verify-ca and
 * verify-full (certificate checked against Node's authorities, verify-full also against the host name).
 *
 * @throws {WireError} ERR_WIRE_URL; the message never contains the URL, as that may hold a password
 */
export function parseConnectionUrl(url: string): ClientOptions {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?#]*)@)?([^@/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/.exec(url);
  if (match === null)
    throw urlError("not of the form postgres://user:password@host:port/database?parameters");
  const [, userInfo = "", address = "", database = "", query = ""] = match;
  const settings = parseQuery(query);
  const colon = userInfo.indexOf(":");
  const user = colon < 0 ? userInfo : userInfo.slice(0, colon);
  const password = colon < 0 ? undefined : decode(userInfo.slice(colon + 1));
  const { host, port } = parseAddress(address);
  const chosenHost = settings.get("host") ?? host;
  const chosenPort = settings.has("port") ? parsePort(settings.get("port") ?? "") : port;
  const chosenDatabase = settings.get("dbname") ?? decode(database);
  const chosenPassword = settings.get("password") ?? password;
  const ssl = parseSslMode(settings.get("sslmode"));
  const timeout = settings.get("connect_timeout");
  const isSocket = chosenHost.startsWith("/");
  return {
    user: settings.get("user") ?? (decode(user) || DEFAULT_USER),
    parameters: Object.fromEntries([...settings].filter(([name]) => STARTUP_PARAMETERS.has(name))),
    ...(isSocket ? { path: chosenHost } : { host: chosenHost || "localhost" }),
    ...(chosenPort === undefined ? {} : { port: chosenPort }),
    ...(chosenDatabase === "" ? {} : { database: chosenDatabase }),
    ...(chosenPassword === undefined ? {} : { password: chosenPassword }),
    ...(ssl === undefined ? {} : { ssl }),
    ...(timeout === undefined ? {} : { connectTimeoutMs: parseSeconds(timeout) * 1000 }),
  };
}

const OTHER_PARAMETERS: ReadonlySet<string> = new Set([
  "host",
  "port",
  "user",
  "password",
  "dbname",
  "sslmode",
  "connect_timeout",
]);

function parseQuery(query: string): ReadonlyMap<string, string> {
  const settings = new Map<string, string>();
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    if (equals < 0) throw urlError(`parameter without a value`);
    const name = decode(pair.slice(0, equals));
    if (!STARTUP_PARAMETERS.has(name) && !OTHER_PARAMETERS.has(name)) {
      throw urlError(`parameter "${name}" is not supported`);
    }
    settings.set(name, decode(pair.slice(equals + 1)));
  }
  return settings;
}

/** `host`, `host:port`, `[v6 address]:port`, or a percent-encoded directory. */
function parseAddress(address: string): { host: string; port: number | undefined } {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::([^:]*))?$/.exec(address);
  if (match === null) throw urlError("host and port cannot be understood");
  const [, v6, name, port] = match;
  const host = v6 ?? decode(name ?? "");
  if (host.includes(",")) throw urlError("more than one host is not supported");
  return { host, port: port === undefined || port === "" ? undefined : parsePort(port) };
}

function parsePort(text: string): number {
  const port = /^[0-9]{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > PORT_MAX) throw urlError("port is not a number from 1 to 65535");
  return port;
}

function parseSeconds(text: string): number {
  if (!/^[1-9][0-9]{0,5}$/.test(text)) throw urlError("connect_timeout is not a positive number of seconds");
  return Number(text);
}

function parseSslMode(mode: string | undefined): SslMode | undefined {
  switch (mode) {
    case undefined:
      return undefined;
    case "disable":
    case "require":
      return mode;
    case "allow":
    case "prefer":
      return "prefer";
    case "verify-ca":
      return { checkServerIdentity: () => undefined };
    case "verify-full":
      return {};
    default:
      throw urlError("unknown sslmode");
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw urlError("percent-encoding is broken");
  }
}

function urlError(message: string): WireError {
  return new WireError("ERR_WIRE_URL", `connection URL: ${message}`);
}

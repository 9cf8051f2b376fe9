/**
 * Where a running all-in-one can be asked, kept in its data directory for `millrace status`.
 *
 * The file stays after the end: whoever reads it asks the address, and only an answer about the same directory counts.
 * Written at each start, because port and host may be other ones.
 */
import { join } from "node:path";

import { formatHostPort } from "../configuration/values.js";
import type { HostPort } from "../configuration/values.js";
import { readIfPresent, writeDurably } from "../durable-file.js";

const FILE = "status-url";

/** An address that one can connect to: all addresses of a machine include its loopback address. */
function reachable(address: HostPort): HostPort {
  if (address.host === "0.0.0.0") return { ...address, host: "127.0.0.1" };
  return address.host === "::" ? { ...address, host: "::1" } : address;
}

/** Remembers that the status is served at `address`. */
export function rememberStatusAddress(dataDirectory: string, address: HostPort): void {
  writeDurably(join(dataDirectory, FILE), `http://${formatHostPort(reachable(address))}\n`);
}

/** The URL, without a slash at its end, of the last all-in-one on this directory; undefined if there was none. */
export function readStatusUrl(dataDirectory: string): string | undefined {
  const text = readIfPresent(join(dataDirectory, FILE))?.trim();
  return text === undefined || !/^http:\/\/[^/\s]+$/.test(text) ? undefined : text;
}

/**
 * The shapes an option's value can have, as zod schemas that take what a flag, a variable or JSON can hold.
 *
 * Each schema accepts text, because flags and variables are text, and where JSON has a fitting type (number,
 * boolean, array) also that. None of them touches a file or the network: whether a path exists or a host answers is for
 * the command to say. 64-bit numbers become bigint and are never read through a JavaScript number.
 */
import { z } from "zod";

import { parsePostgresUrl } from "../postgres/url.js";

/** Where a socket listens or a peer is reached. Port 0, allowed only for listening, is any free port. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** "host:port", with brackets round an IPv6 address. */
export function formatHostPort(address: HostPort): string {
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `${host}:${address.port}`;
}

const HOST_PORT = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s/@]+)):(\d{1,5})$/;

function parseHostPort(text: string, portMin: number): HostPort | undefined {
  const match = HOST_PORT.exec(text.trim());
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? Number.NaN);
  if (host === undefined || !(port >= portMin && port <= 65_535)) return undefined;
  return { host, port };
}

function converted<T>(convert: (value: unknown) => T | undefined): z.ZodType<T> {
  return z.unknown().transform((value, context) => {
    const result = convert(value);
    if (result !== undefined) return result;
    context.addIssue({ code: "custom", message: "not allowed" });
    return z.NEVER;
  });
}

/** An address to listen on; port 0 asks for a free one. */
export const listenAddress: z.ZodType<HostPort> = converted((value) =>
  typeof value === "string" ? parseHostPort(value, 0) : undefined,
);

/** An address that others connect to. */
export const peerAddress: z.ZodType<HostPort> = converted((value) =>
  typeof value === "string" ? parseHostPort(value, 1) : undefined,
);

function listOf<T>(item: (text: string) => T | undefined, maximum: number): z.ZodType<readonly T[]> {
  return converted((value) => {
    const texts = typeof value === "string" ? value.split(",") : value;
    if (!Array.isArray(texts) || texts.length === 0 || texts.length > maximum) return undefined;
    const items: T[] = [];
    for (const text of texts as unknown[]) {
      const parsed = typeof text === "string" ? item(text.trim()) : undefined;
      if (parsed === undefined) return undefined;
      items.push(parsed);
    }
    return items;
  });
}

/** The walproposer protocol's own limit: its array has 32 places of which 31 are usable. */
export const ACCEPTORS_MAX = 31;

/** "host:port,host:port,…" or an array of them. */
export const peerAddresses: z.ZodType<readonly HostPort[]> = listOf(
  (text) => parseHostPort(text, 1),
  ACCEPTORS_MAX,
);

function parseHttpUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") return undefined;
  return url.href.replace(/\/$/, "");
}

/** "http://host:port,…" or an array of them; kept without a trailing slash. */
export const httpUrls: z.ZodType<readonly string[]> = listOf(parseHttpUrl, ACCEPTORS_MAX);

/** A connection string of PostgreSQL. */
export const postgresUrl: z.ZodType<string> = z
  .string()
  .refine((text) => parsePostgresUrl(text) !== undefined);

/** A path, kept as given. */
export const path: z.ZodType<string> = z.string().min(1).max(4096);

/** A name that goes into a startup packet or names a slot: PostgreSQL cuts names at 63 bytes. */
export const identifier: z.ZodType<string> = z.string().regex(/^[a-z0-9_]{1,63}$/);

/** 32 hexadecimal digits, kept in lower case. */
export const hexId: z.ZodType<string> = z
  .string()
  .regex(/^[0-9a-fA-F]{32}$/)
  .transform((text) => text.toLowerCase());

/** on/off, true/false, yes/no, 1/0. A switch on the command line gives `true`. */
export const flag: z.ZodType<boolean> = converted((value) => {
  if (typeof value === "boolean") return value;
  if (typeof value !== "string") return undefined;
  if (/^(on|true|yes|1)$/i.test(value)) return true;
  if (/^(off|false|no|0)$/i.test(value)) return false;
  return undefined;
});

/** A whole number of an unsigned 64-bit field; text, as JSON numbers lose digits above 2^53. */
export function u64(minimum: bigint): z.ZodType<bigint> {
  return converted((value) => {
    if (typeof value === "number" && Number.isSafeInteger(value)) return check(BigInt(value));
    if (typeof value === "string" && /^\d{1,20}$/.test(value)) return check(BigInt(value));
    return undefined;
  });
  function check(parsed: bigint): bigint | undefined {
    return parsed >= minimum && parsed < 1n << 64n ? parsed : undefined;
  }
}

/** A number in [minimum, maximum]; `whole` refuses fractions. */
export function numberBetween(minimum: number, maximum: number, whole = true): z.ZodType<number> {
  return converted((value) => {
    const isText = typeof value === "string" && /^-?\d+(\.\d+)?$/.test(value);
    const parsed = isText ? Number(value) : value;
    if (typeof parsed !== "number" || !(parsed >= minimum && parsed <= maximum)) return undefined;
    return whole && !Number.isInteger(parsed) ? undefined : parsed;
  });
}

const BYTE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  kb: 1024,
  mb: 1024 ** 2,
  gb: 1024 ** 3,
};

/** A number of bytes in [minimum, maximum]: plain, or with KiB, MiB, GiB (KB, MB, GB mean the same, as in PostgreSQL). */
export function byteCount(minimum: number, maximum: number): z.ZodType<number> {
  return converted((value) => {
    const text = typeof value === "number" ? String(value) : value;
    if (typeof text !== "string") return undefined;
    const match = /^(\d+)\s*([kmg]i?b)?$/i.exec(text);
    const unit = BYTE_UNITS[(match?.[2] ?? "").toLowerCase()];
    if (match === null || unit === undefined) return undefined;
    const bytes = Number(match[1]) * unit;
    return bytes >= minimum && bytes <= maximum ? bytes : undefined;
  });
}

/** One of the given words. */
export function oneOf<const W extends readonly string[]>(words: W): z.ZodType<W[number]> {
  return converted((value) => words.find((word) => word === value));
}

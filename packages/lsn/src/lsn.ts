/**
 * The log sequence number: a byte address in PostgreSQL's write-ahead log, an unsigned 64-bit integer.
 *
 * An `Lsn` is a bigint with a brand, so that byte counts, terms and segment numbers do not pass for one. Whoever
 * holds an `Lsn` may rely on 0 <= lsn < 2^64: every function here that makes one checks the range and throws
 * instead of wrapping, because a wrapped address would point at other people's WAL. Comparison is plain `<`.
 *
 * Text form and page arithmetic follow PostgreSQL's pg_lsn.c and xlog_internal.h. Unlike there, a position
 * beyond the end of the address space is an error and not a small number.
 */
import { LsnError } from "./errors.js";

declare const brand: unique symbol;

/** A position in the WAL: bytes since the beginning of the cluster's log, 0 <= lsn < 2^64. */
export type Lsn = bigint & { readonly [brand]: "Lsn" };

/** PostgreSQL's InvalidXLogRecPtr: no record can be there, so it stands for "none yet". */
export const INVALID_LSN: Lsn = toLsn(0n);

/** The last address, FFFFFFFF/FFFFFFFF. */
export const MAX_LSN: Lsn = toLsn(0xffff_ffff_ffff_ffffn);

/** Bytes of a WAL block (XLOG_BLCKSZ). A build option of PostgreSQL that nobody changes; 8 KiB in every package. */
export const BLOCK_BYTES = 8192;

/** Records start on multiples of this (MAXALIGN on every 64-bit platform). */
const ALIGNMENT_BYTES = 8n;

/** Both halves have one to eight digits, either case, as pg_lsn_in accepts them; the length is thereby bounded. */
const LSN_TEXT = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** A rejected text is quoted in an error up to this many characters: enough to recognise it, harmless in a log. */
const QUOTED_CHARACTERS_MAX = 40;

/**
 * Brands a bigint.
 *
 * @throws {RangeError} `value` is negative or does not fit 64 bits
 */
export function toLsn(value: bigint): Lsn {
  if (!isLsn(value)) throw new RangeError(`not an unsigned 64-bit LSN: ${String(value)}`);
  return value;
}

function isLsn(value: bigint): value is Lsn {
  return value >= 0n && value <= 0xffff_ffff_ffff_ffffn;
}

/**
 * Reads `X/X`: two hexadecimal halves of one to eight digits, either case, nothing around them.
 *
 * @returns undefined if `text` is anything else
 */
export function tryParseLsn(text: string): Lsn | undefined {
  const match = LSN_TEXT.exec(text);
  if (match === null) return undefined;
  const high = Number.parseInt(match[1] ?? "", 16);
  const low = Number.parseInt(match[2] ?? "", 16);
  return toLsn((BigInt(high) << 32n) | BigInt(low));
}

/**
 * Reads `X/X` as `tryParseLsn` does.
 *
 * @throws {LsnError} ERR_LSN_SYNTAX
 */
export function parseLsn(text: string): Lsn {
  const lsn = tryParseLsn(text);
  if (lsn !== undefined) return lsn;
  const shown = text.length > QUOTED_CHARACTERS_MAX ? `${text.slice(0, QUOTED_CHARACTERS_MAX)}…` : text;
  throw new LsnError("ERR_LSN_SYNTAX", `not an LSN of the form X/X: ${JSON.stringify(shown)}`);
}

/** Writes `X/X`, upper-case and unpadded, as PostgreSQL 15 to 18 print it: `16/B374D848`, `0/0`. */
export function formatLsn(lsn: Lsn): string {
  const high = Number(lsn >> 32n);
  const low = Number(lsn & 0xffff_ffffn);
  return `${high.toString(16).toUpperCase()}/${low.toString(16).toUpperCase()}`;
}

/**
 * The position `bytes` further on; negative counts go back.
 *
 * @throws {RangeError} the result leaves the 64-bit address space, or `bytes` is a number but no safe integer
 */
export function addBytes(lsn: Lsn, bytes: number | bigint): Lsn {
  if (typeof bytes === "number" && !Number.isSafeInteger(bytes)) {
    throw new RangeError(`not a whole number of bytes: ${String(bytes)}`);
  }
  return toLsn(lsn + BigInt(bytes));
}

/** Bytes from `from` up to `to`; negative if `to` comes first. Never wraps. */
export function distanceBytes(from: Lsn, to: Lsn): bigint {
  return to - from;
}

/** The earliest of the given positions. */
export function minLsn(first: Lsn, ...others: readonly Lsn[]): Lsn {
  let least = first;
  for (const lsn of others) if (lsn < least) least = lsn;
  return least;
}

/** The latest of the given positions. */
export function maxLsn(first: Lsn, ...others: readonly Lsn[]): Lsn {
  let greatest = first;
  for (const lsn of others) if (lsn > greatest) greatest = lsn;
  return greatest;
}

/**
 * The first position at or after `lsn` where a record may start (MAXALIGN): the next multiple of 8.
 *
 * @throws {RangeError} there is none below 2^64
 */
export function alignLsn(lsn: Lsn): Lsn {
  return toLsn((lsn + ALIGNMENT_BYTES - 1n) & ~(ALIGNMENT_BYTES - 1n));
}

/** Bytes between the start of the WAL block that holds `lsn` and `lsn`: 0 to 8191. */
export function blockOffset(lsn: Lsn): number {
  return Number(lsn & BigInt(BLOCK_BYTES - 1));
}

/** The first byte of the WAL block that holds `lsn`. */
export function blockStart(lsn: Lsn): Lsn {
  return toLsn(lsn & ~BigInt(BLOCK_BYTES - 1));
}

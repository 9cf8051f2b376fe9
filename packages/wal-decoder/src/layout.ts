/**
 * Numbers of PostgreSQL's WAL format that the decoder depends on: offsets, flags, limits, magic numbers.
 *
 * These are facts of xlog_internal.h, xlogrecord.h, pg_control.h and xact.h, the same in PostgreSQL 15 to 18 except
 * for the magic. They are not to be guessed for another version: a new magic means a changed format.
 */
import { BLOCK_BYTES, INVALID_LSN } from "@millrace/lsn";
import { WalDecodeError } from "./errors.js";

/** Bytes of the header of every page but a segment's first. */
export const SHORT_HEADER_BYTES = 24;
/** Bytes of the header of a segment's first page. */
export const LONG_HEADER_BYTES = 40;

/** Byte offsets in a page header; the last three exist in a segment's first page only. */
export const PAGE = {
  magic: 0,
  info: 2,
  timelineId: 4,
  address: 8,
  remainingBytes: 16,
  systemId: 24,
  segmentBytes: 32,
  blockBytes: 36,
} as const;

/** Flags of a page header (xlp_info). */
export const PAGE_INFO = {
  /** The page begins with the rest of a record of an earlier page. */
  firstIsContrecord: 0x01,
  /** The header is the long one. */
  longHeader: 0x02,
  /** Full-page images may be left out when archiving; says nothing about the structure. */
  backupBlocksRemovable: 0x04,
  /** The rest of a record was lost in a crash; what stands here replaces it. */
  firstIsOverwriteContrecord: 0x08,
} as const;

/** Every flag that exists. A page with another one is refused, as PostgreSQL does. */
export const PAGE_INFO_MASK = 0x0f;

/** Byte offsets in a record header. */
export const RECORD = { totalBytes: 0, xid: 4, prevLsn: 8, info: 16, rmid: 17, checksum: 20 } as const;

/** Bytes of a record header, and thus of the shortest record. */
export const RECORD_HEADER_BYTES = 24;

/** The checksum covers the record without the four bytes that hold it, and those are the header's last. */
export const CHECKSUMMED_HEADER_BYTES = 20;

/** The longest record, 1020 MiB: XLogRecordMaxSize, enforced since PostgreSQL 16 and impossible to exceed before. */
export const RECORD_BYTES_MAX = 1_069_547_520;

/** Upper half of a record's info byte: the operation, whose meaning the resource manager defines. */
export const OPERATION_MASK = 0xf0;

/** Resource managers whose records change the structure of the WAL, or matter to whoever waits for a commit. */
export const RMID = { xlog: 0, transaction: 1 } as const;
/** The last resource manager that PostgreSQL itself defines (logical messages). */
export const RMID_BUILTIN_MAX = 21;
/** From here on up to 255, resource managers are those of extensions. */
export const RMID_CUSTOM_MIN = 128;

/** Operations of resource manager 0. */
export const XLOG_SWITCH = 0x40;
export const XLOG_OVERWRITE_CONTRECORD = 0xd0;

/** Operation of resource manager 1, without the flag bit 0x80 (XLOG_XACT_OPMASK). */
export const TRANSACTION_OPERATION_MASK = 0x70;
/** Commit 0x00, prepare 0x10, abort 0x20, commit prepared 0x30, abort prepared 0x40; what is above ends nothing. */
export const TRANSACTION_END_MAX = 0x40;

/**
 * An OVERWRITE_CONTRECORD record: header, main data id 255, its length 16, the aborted record's LSN, a time. Nothing
 * else is ever registered with it, so that the LSN has a fixed place.
 */
export const OVERWRITE_RECORD = {
  totalBytes: 42,
  mainDataId: 24,
  mainDataBytes: 25,
  abortedLsn: 26,
} as const;

/** PostgreSQL versions with a known WAL format. */
export type WalPgMajor = 15 | 16 | 17 | 18;

const MAGIC_BY_MAJOR: ReadonlyMap<number, number> = new Map([
  [15, 0xd110],
  [16, 0xd113],
  [17, 0xd116],
  [18, 0xd118],
]);

/**
 * The number that starts every WAL page of a PostgreSQL version: 0xD110, 0xD113, 0xD116, 0xD118 for 15 to 18.
 *
 * @param pgMajor any number: it usually comes from a peer or a file
 * @throws {WalDecodeError} ERR_WAL_VERSION
 */
export function pageMagic(pgMajor: number): number {
  const magic = MAGIC_BY_MAJOR.get(pgMajor);
  if (magic !== undefined) return magic;
  throw unknownVersion(pgMajor);
}

/**
 * The version itself, if its format is known.
 *
 * @throws {WalDecodeError} ERR_WAL_VERSION
 */
export function checkedMajor(pgMajor: number): WalPgMajor {
  if (MAGIC_BY_MAJOR.has(pgMajor)) return pgMajor as WalPgMajor;
  throw unknownVersion(pgMajor);
}

function unknownVersion(pgMajor: number): WalDecodeError {
  const text = `PostgreSQL ${String(pgMajor)} is not one of 15, 16, 17, 18`;
  return new WalDecodeError("ERR_WAL_VERSION", INVALID_LSN, text);
}

/** The version whose WAL pages start with `magic`, or undefined if it is none of the known. */
export function pgMajorOfMagic(magic: number): WalPgMajor | undefined {
  for (const [major, known] of MAGIC_BY_MAJOR) if (known === magic) return major as WalPgMajor;
  return undefined;
}

/** Bytes of the header of the page that starts `offset` bytes into its segment. */
export function headerBytesAt(offset: number): number {
  return offset < BLOCK_BYTES ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES;
}

/** Bytes after `bytes` up to the next multiple of 8, where records start: 0 to 7. */
export function paddingBytes(bytes: number): number {
  return -bytes & 7;
}

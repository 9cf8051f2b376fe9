/**
 * Everything that can be wrong with WAL, or with the place where reading it is to begin.
 *
 * Every error says where: `lsn` is the start of the record or of the page that was refused, so that an operator
 * can point pg_waldump at it. A code names the rule that was broken and not the layer that noticed; the same bytes
 * give the same code and the same `lsn` however they were cut into chunks. Bad sizes and other arguments of the
 * program itself are RangeErrors instead.
 */
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

export type WalDecodeErrorCode =
  | "ERR_WAL_VERSION" // a PostgreSQL major version whose WAL format is not known here
  | "ERR_WAL_START" // no record can start at this position, or it is not a page's start where one is needed
  | "ERR_WAL_LSN_LIMIT" // the last segment of the 64-bit address space: its end has no address
  | "ERR_WAL_PAGE_MAGIC" // a page's magic number is another version's, or no page is there at all
  | "ERR_WAL_PAGE_INFO" // unknown or contradictory flags in a page header
  | "ERR_WAL_PAGE_ADDRESS" // a page claims another position: a recycled segment, or shifted data
  | "ERR_WAL_PAGE_SIZES" // a segment's first page names another segment or block size
  | "ERR_WAL_SYSTEM_ID" // a segment's first page belongs to another cluster
  | "ERR_WAL_TIMELINE" // a page's timeline is 0, lower than the page's before it, or not among the allowed
  | "ERR_WAL_CONTRECORD" // a page continues no record or another one than the page before it began
  | "ERR_WAL_OVERWRITE" // an aborted record is replaced in a way that PostgreSQL never does
  | "ERR_WAL_RECORD_LENGTH" // a record's length is impossible; 0 where nothing was written yet
  | "ERR_WAL_RECORD_RMID" // a record of a resource manager that does not exist
  | "ERR_WAL_RECORD_PREV" // a record does not follow the record before it
  | "ERR_WAL_RECORD_CRC" // a record's checksum does not match its bytes
  | "ERR_WAL_RECORD_STRUCTURE" // a verified record whose block references or lengths contradict each other
  | "ERR_WAL_IMAGE" // a page image that does not unpack to a page
  | "ERR_WAL_COMPRESSION"; // a page image compressed in a way that cannot be unpacked here

/** Any expected failure of this package. Compare `code`. */
export class WalDecodeError extends Error {
  override readonly name = "WalDecodeError";
  readonly code: WalDecodeErrorCode;
  /** Start of the record or page that was refused. */
  readonly lsn: Lsn;

  constructor(code: WalDecodeErrorCode, lsn: Lsn, message: string, options?: ErrorOptions) {
    super(`WAL at ${formatLsn(lsn)}: ${message}`, options);
    this.code = code;
    this.lsn = lsn;
  }
}

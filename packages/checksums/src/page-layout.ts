/**
 * What a checksum of PostgreSQL's needs to know about a page: sizes, and three fields of its header.
 *
 * Fields are little-endian, as the machines are that this package knows pages of: PostgreSQL writes pages in the byte
 * order of its machine. Sizes are those that PostgreSQL can be built with.
 *
 * Source: src/include/storage/bufpage.h, the same since PostgreSQL 9.3.
 */

/** Bytes of a page unless PostgreSQL was built with another block size. */
export const PAGE_BYTES_DEFAULT = 8192;
const PAGE_BYTES_MIN = 1024;
/** Largest page, bytes. */
export const PAGE_BYTES_MAX = 32_768;
/** Where pd_checksum is, two bytes: the low half of the word at 8. */
export const CHECKSUM_AT = 8;
/** Where pd_upper is, two bytes: the end of the free space, never 0 on a page that was initialised. */
const UPPER_AT = 14;

/** The checksum that a page carries: pd_checksum of the page at `at`. */
export function storedChecksum(bytes: Uint8Array, at: number): number {
  return word16(bytes, at + CHECKSUM_AT);
}

/** PageIsNew of PostgreSQL: a page that was added to a file and not initialised yet has no checksum. */
export function isNew(bytes: Uint8Array, at: number): boolean {
  return word16(bytes, at + UPPER_AT) === 0;
}

/** @throws {RangeError} PostgreSQL has no pages of this size */
export function checkPageBytes(pageBytes: number): void {
  if (!Number.isInteger(Math.log2(pageBytes)) || pageBytes < PAGE_BYTES_MIN || pageBytes > PAGE_BYTES_MAX)
    throw new RangeError(`not the size of a page: ${String(pageBytes)}`);
}

/** @throws {RangeError} not an unsigned 32-bit number */
export function checkBlockNumber(blockNumber: number): void {
  if (blockNumber >>> 0 !== blockNumber) throw new RangeError(`not a block number: ${String(blockNumber)}`);
}

/** Both bytes are inside: the caller has checked the page. */
function word16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}

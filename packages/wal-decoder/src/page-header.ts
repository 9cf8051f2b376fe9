/**
 * Page headers: what must hold of one, and how to write one.
 *
 * Reading here is stateless: everything that can be said about a header from its position and its stream's fixed
 * properties. Whether a page continues the right record is the decoder's business. The order of the checks is that
 * of XLogReaderValidatePageHeader in PostgreSQL's xlogreader.c, save that the address is looked at before a long
 * header's contents: on a recycled page "stale" is the truth and "foreign" is not.
 */
import {
  BLOCK_BYTES,
  blockOffset,
  blockStart,
  checkSegmentBytes,
  formatLsn,
  segmentOffset,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { WalDecodeError } from "./errors.js";
import { headerBytesAt, PAGE, PAGE_INFO, PAGE_INFO_MASK, pageMagic } from "./layout.js";
import { highHalf, lowHalf, lsnOf } from "./position.js";

/** What all pages of a stream have in common. */
export interface PageExpectation {
  readonly magic: number;
  readonly segmentBytes: number;
  /** Halves of the cluster's system identifier; undefined until it is known. */
  readonly systemId: { readonly high: number; readonly low: number } | undefined;
}

/**
 * Checks a complete page header against its position and its stream.
 *
 * @param at index in `view` of the header's first byte; the whole header is there
 * @param segmentHigh halves of the segment's start
 * @param offset of the page in its segment
 * @throws {WalDecodeError} ERR_WAL_PAGE_MAGIC, _INFO, _ADDRESS, _SIZES, ERR_WAL_SYSTEM_ID
 */
export function checkPageHeader(
  view: DataView,
  at: number,
  segmentHigh: number,
  segmentLow: number,
  offset: number,
  expected: PageExpectation,
): void {
  const magic = view.getUint16(at + PAGE.magic, true);
  const info = view.getUint16(at + PAGE.info, true);
  const addressHigh = view.getInt32(at + PAGE.address + 4, true);
  const addressLow = view.getInt32(at + PAGE.address, true);
  const wantLong = offset === 0 ? PAGE_INFO.longHeader : 0;
  const failure = (code: WalDecodeError["code"], message: string): WalDecodeError =>
    new WalDecodeError(code, lsnOf(segmentHigh, segmentLow, offset), message);
  if (magic !== expected.magic) {
    throw failure("ERR_WAL_PAGE_MAGIC", `page magic ${hex(magic)} instead of ${hex(expected.magic)}`);
  }
  if ((info & ~PAGE_INFO_MASK) !== 0 || (info & PAGE_INFO.longHeader) !== wantLong) {
    throw failure("ERR_WAL_PAGE_INFO", `page flags ${hex(info)}`);
  }
  if (addressHigh !== segmentHigh || addressLow !== ((segmentLow + offset) | 0)) {
    const address = formatLsn(lsnOf(addressHigh, addressLow, 0));
    throw failure("ERR_WAL_PAGE_ADDRESS", `the page says that it is at ${address}`);
  }
  if (wantLong === 0) return;
  const segmentBytes = view.getUint32(at + PAGE.segmentBytes, true);
  const blockBytes = view.getUint32(at + PAGE.blockBytes, true);
  if (segmentBytes !== expected.segmentBytes || blockBytes !== BLOCK_BYTES) {
    throw failure(
      "ERR_WAL_PAGE_SIZES",
      `segments of ${String(segmentBytes)} and blocks of ${String(blockBytes)} bytes`,
    );
  }
  if (expected.systemId === undefined) return;
  if (
    view.getInt32(at + PAGE.systemId, true) !== expected.systemId.low ||
    view.getInt32(at + PAGE.systemId + 4, true) !== expected.systemId.high
  ) {
    const found = view.getBigUint64(at + PAGE.systemId, true);
    throw failure("ERR_WAL_SYSTEM_ID", `the segment belongs to the cluster ${String(found)}`);
  }
}

/** What goes into a page header. */
export interface PageHeaderFields {
  /** The page's first byte. */
  readonly pageLsn: Lsn;
  /** 15 to 18. */
  readonly pgMajor: number;
  readonly segmentBytes: number;
  /** Written into the header of a segment's first page only. */
  readonly systemId: bigint;
  /** 1 to 2^32 - 1. */
  readonly timelineId: number;
  /** Bytes of a record of an earlier page that are still missing, this page's included; 0 if there is none. */
  readonly remainingBytes: number;
}

/**
 * Writes a page header: the long one where `pageLsn` starts a segment, else the short one.
 *
 * @returns 40 or 24 bytes, the caller's
 * @throws {RangeError} `pageLsn` is no page's start, or a number does not fit its field
 * @throws {WalDecodeError} ERR_WAL_VERSION
 */
export function encodePageHeader(fields: PageHeaderFields): Uint8Array {
  const { pageLsn, pgMajor, segmentBytes, systemId, timelineId, remainingBytes } = fields;
  const offset = segmentOffset(pageLsn, segmentBytes);
  if (blockOffset(pageLsn) !== 0) throw new RangeError(`${formatLsn(pageLsn)} is not the start of a page`);
  if (!isUint32(timelineId) || timelineId === 0) throw new RangeError(`timeline id ${String(timelineId)}`);
  if (!isUint32(remainingBytes)) throw new RangeError(`${String(remainingBytes)} remaining bytes`);
  if (BigInt.asUintN(64, systemId) !== systemId) throw new RangeError(`system id ${String(systemId)}`);
  const header = new Uint8Array(headerBytesAt(offset));
  const view = new DataView(header.buffer);
  const continues = remainingBytes > 0 ? PAGE_INFO.firstIsContrecord : 0;
  view.setUint16(PAGE.magic, pageMagic(pgMajor), true);
  view.setUint16(PAGE.info, continues | (offset === 0 ? PAGE_INFO.longHeader : 0), true);
  view.setUint32(PAGE.timelineId, timelineId, true);
  view.setBigUint64(PAGE.address, pageLsn, true);
  view.setUint32(PAGE.remainingBytes, remainingBytes, true);
  if (offset === 0) {
    view.setBigUint64(PAGE.systemId, systemId, true);
    view.setUint32(PAGE.segmentBytes, segmentBytes, true);
    view.setUint32(PAGE.blockBytes, BLOCK_BYTES, true);
  }
  return header;
}

/** A page header and where it belongs. */
export interface PlacedPageHeader {
  readonly lsn: Lsn;
  readonly header: Uint8Array;
}

/**
 * Headers that make a segment readable whose WAL begins in the middle: the segment's first page, so that tools
 * learn the sizes, and the page that holds `startLsn`, pretending that a record of earlier pages ends right there.
 * PostgreSQL's reader skips such a rest and finds the first record at `startLsn`.
 *
 * The first page's header is not written where the stream itself brings it, that is if `startLsn` is the
 * segment's first byte, and the same holds for the later page. Where `startLsn` follows the header directly
 * nothing is pretended: a reader refuses to begin at a page that continues a record of no length.
 *
 * @param startLsn where a record begins
 * @returns none, one or two headers in ascending order; the bytes between them and `startLsn` are to be zero
 * @throws {RangeError} a size is wrong, or `startLsn` is not aligned to 8 or lies inside a page header
 * @throws {WalDecodeError} ERR_WAL_VERSION
 * @see after Neon's safekeeper, which initialises a timeline's first segment in this way
 */
export function encodeFirstSegmentHeaders(
  startLsn: Lsn,
  stream: Omit<PageHeaderFields, "pageLsn" | "remainingBytes">,
): readonly PlacedPageHeader[] {
  const { segmentBytes } = stream;
  checkSegmentBytes(segmentBytes);
  const offset = segmentOffset(startLsn, segmentBytes);
  if (!isRecordPosition(offset)) throw new RangeError(`no record can start at ${formatLsn(startLsn)}`);
  const placed: PlacedPageHeader[] = [];
  const place = (pageLsn: Lsn, remainingBytes: number): void => {
    placed.push({ lsn: pageLsn, header: encodePageHeader({ ...stream, pageLsn, remainingBytes }) });
  };
  const pageLsn = blockStart(startLsn);
  const inPage = blockOffset(startLsn);
  const segmentLsn = (startLsn - BigInt(offset)) as Lsn;
  if (pageLsn !== segmentLsn) place(segmentLsn, 0);
  if (inPage !== 0) place(pageLsn, inPage - headerBytesAt(offset));
  return placed;
}

/** Where to look for a page's first record. */
export interface FirstRecordQuery {
  /** Position of the first byte of the pages given: a page's start. */
  readonly pageLsn: Lsn;
  readonly segmentBytes: number;
  /** 15 to 18. */
  readonly pgMajor: number;
  readonly systemId?: bigint;
}

/**
 * Where the first record begins at or after a page's start. A rest of an earlier record is skipped over as many
 * pages as it has, or up to where an aborted one is replaced.
 *
 * Only page headers are read. The position is where a record *begins if there is one*.
 *
 * @param pages whole pages from `query.pageLsn` on; borrowed
 * @returns undefined if the rest of the earlier record goes on behind the given pages
 * @throws {WalDecodeError} ERR_WAL_START if `pageLsn` is no page's start, ERR_WAL_VERSION, and what a bad header
 *   gives: ERR_WAL_PAGE_*, ERR_WAL_SYSTEM_ID, ERR_WAL_CONTRECORD
 * @throws {RangeError} bad `segmentBytes`
 * @see after XLogFindNextRecord of PostgreSQL's xlogreader.c
 */
export function findFirstRecordLsn(query: FirstRecordQuery, pages: Uint8Array): Lsn | undefined {
  const { pageLsn, segmentBytes, pgMajor, systemId } = query;
  checkSegmentBytes(segmentBytes);
  if (blockOffset(pageLsn) !== 0) {
    throw new WalDecodeError("ERR_WAL_START", pageLsn, "not the start of a page");
  }
  const expected = pageExpectation(pgMajor, segmentBytes, systemId);
  const view = new DataView(pages.buffer, pages.byteOffset, pages.byteLength);
  for (let at = 0; at < pages.byteLength; at += BLOCK_BYTES) {
    const lsn = (pageLsn + BigInt(at)) as Lsn;
    const offset = segmentOffset(lsn, segmentBytes);
    const headerBytes = headerBytesAt(offset);
    if (pages.byteLength - at < headerBytes) return undefined;
    const start = (lsn - BigInt(offset)) as Lsn;
    checkPageHeader(view, at, highHalf(start), lowHalf(start), offset, expected);
    const continues = (view.getUint16(at + PAGE.info, true) & PAGE_INFO.firstIsContrecord) !== 0;
    const remaining = view.getUint32(at + PAGE.remainingBytes, true);
    if (!continues && remaining !== 0) {
      throw new WalDecodeError("ERR_WAL_CONTRECORD", lsn, "bytes remain of a record that is not continued");
    }
    const first = headerBytes + alignedBytes(remaining);
    if (first < BLOCK_BYTES) return (lsn + BigInt(first)) as Lsn;
  }
  return undefined;
}

/** The expectation for a stream. @throws {WalDecodeError} ERR_WAL_VERSION */
export function pageExpectation(pgMajor: number, segmentBytes: number, systemId?: bigint): PageExpectation {
  return {
    magic: pageMagic(pgMajor),
    segmentBytes,
    systemId: systemId === undefined ? undefined : { high: highHalf(systemId), low: lowHalf(systemId) },
  };
}

/** Whether a record, or the page header before it, can start `offset` bytes into a segment. */
export function isRecordPosition(offset: number): boolean {
  const inPage = offset % BLOCK_BYTES;
  return offset % 8 === 0 && (inPage === 0 || inPage >= headerBytesAt(offset));
}

function alignedBytes(bytes: number): number {
  return Math.ceil(bytes / 8) * 8;
}

function isUint32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;
}

function hex(value: number): string {
  return `0x${value.toString(16).toUpperCase().padStart(4, "0")}`;
}

/**
 * What a segment's first page says of itself: enough to read the rest without being told anything.
 */
import { BLOCK_BYTES, isSegmentBytes, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { WalDecodeError } from "./errors.js";
import { LONG_HEADER_BYTES, PAGE, PAGE_INFO, pgMajorOfMagic } from "./layout.js";
import type { WalPgMajor } from "./layout.js";

/** The contents of a segment's first page header. */
export interface SegmentHeader {
  readonly pgMajor: WalPgMajor;
  /** Where the segment begins. */
  readonly startLsn: Lsn;
  readonly timelineId: number;
  readonly systemId: bigint;
  readonly segmentBytes: number;
}

/**
 * Reads the header of a segment's first page.
 *
 * @param bytes the segment's beginning, at least 40 bytes of it; borrowed for the call
 * @throws {WalDecodeError} ERR_WAL_PAGE_MAGIC, ERR_WAL_PAGE_INFO, ERR_WAL_PAGE_SIZES: this is no first page of a version that
 *   is known here. Their `lsn` is what the page claims.
 * @throws {RangeError} fewer than 40 bytes
 */
export function readSegmentHeader(bytes: Uint8Array): SegmentHeader {
  if (bytes.byteLength < LONG_HEADER_BYTES) {
    throw new RangeError(`${String(bytes.byteLength)} bytes are no page header`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const startLsn = toLsn(view.getBigUint64(PAGE.address, true));
  const magic = view.getUint16(PAGE.magic, true);
  const pgMajor = pgMajorOfMagic(magic);
  if (pgMajor === undefined) {
    throw new WalDecodeError("ERR_WAL_PAGE_MAGIC", startLsn, `page magic 0x${magic.toString(16)}`);
  }
  if ((view.getUint16(PAGE.info, true) & PAGE_INFO.longHeader) === 0) {
    throw new WalDecodeError("ERR_WAL_PAGE_INFO", startLsn, "not the first page of a segment");
  }
  const segmentBytes = view.getUint32(PAGE.segmentBytes, true);
  const blockBytes = view.getUint32(PAGE.blockBytes, true);
  if (!isSegmentBytes(segmentBytes) || blockBytes !== BLOCK_BYTES) {
    const sizes = `segments of ${String(segmentBytes)} and blocks of ${String(blockBytes)} bytes`;
    throw new WalDecodeError("ERR_WAL_PAGE_SIZES", startLsn, sizes);
  }
  const timelineId = view.getUint32(PAGE.timelineId, true);
  return { pgMajor, startLsn, timelineId, systemId: view.getBigUint64(PAGE.systemId, true), segmentBytes };
}

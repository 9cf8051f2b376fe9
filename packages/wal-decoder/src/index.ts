/**
 * The public face of @millrace/wal-decoder: record boundaries of PostgreSQL's WAL from a stream or from files, and
 * the page headers that make a file of WAL readable.
 */
export { WalDecoder } from "./decoder.js";
export type { WalDecoderOptions, WalStartMode } from "./decoder.js";
export { HEAD_BYTES } from "./record-visit.js";
export type { RecordVisit } from "./record-visit.js";
export { WalRecord } from "./wal-record.js";
export type { RecordPosition } from "./wal-record.js";
export { BLOCK_ID_MAX, FORK } from "./block-ref.js";
export type { BlockRef, ImageCompression } from "./block-ref.js";
export { describeParts, describeRecord } from "./describe/describe-record.js";
export type { RecordDescription } from "./describe/describe-record.js";
export { restoreImage } from "./block-image.js";
export { SCAN_BLOCK_BYTES, scanWal } from "./scan.js";
export type { WalEnd, WalEndReason, WalScanOptions } from "./scan.js";
export { readSegmentHeader } from "./segment-header.js";
export type { SegmentHeader } from "./segment-header.js";
export { encodeFirstSegmentHeaders, encodePageHeader, findFirstRecordLsn } from "./page-header.js";
export type { FirstRecordQuery, PageHeaderFields, PlacedPageHeader } from "./page-header.js";
export {
  LONG_HEADER_BYTES,
  pageMagic,
  pgMajorOfMagic,
  RECORD_BYTES_MAX,
  RECORD_HEADER_BYTES,
  SHORT_HEADER_BYTES,
} from "./layout.js";
export type { WalPgMajor } from "./layout.js";
export { WalDecodeError } from "./errors.js";
export type { WalDecodeErrorCode } from "./errors.js";

/**
 * The first segment of a timeline that begins in the middle of a segment.
 *
 * Readers of WAL start at a page header, so the bytes in front of a timeline's first record must look like pages:
 * a long header at the segment's start, and on the page where the WAL begins a header that says "a record of
 * earlier pages ends right here". The same bytes stand in the file and are served to readers when the file is gone.
 */
import { BLOCK_BYTES, blockOffset, segmentOffset } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { encodeFirstSegmentHeaders, WalDecodeError } from "@millrace/wal-decoder";
import type { PlacedPageHeader } from "@millrace/wal-decoder";
import { AcceptorError } from "./errors.js";
import type { ServerInfo } from "./persistent-state.js";

/** The only timeline id in file names and synthetic headers; PostgreSQL's own ids are inside the WAL. */
export const FILE_TIMELINE_ID = 1;

/** Bytes of a page header at a segment's start, and elsewhere. */
const LONG_HEADER_BYTES = 40;
const SHORT_HEADER_BYTES = 24;

/** Whether a record, or the header of a page, can begin at `lsn`. */
export function canStartWal(lsn: Lsn, segmentBytes: number): boolean {
  const offset = segmentOffset(lsn, segmentBytes);
  const inPage = blockOffset(lsn);
  const headerBytes = offset < BLOCK_BYTES ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES;
  return offset % 8 === 0 && (inPage === 0 || inPage >= headerBytes);
}

/**
 * The page headers that belong in front of `startLsn`; every other byte before it is zero.
 *
 * @throws {RangeError} no record can begin at `startLsn`
 * @throws {AcceptorError} ERR_ACCEPTOR_PG_VERSION
 */
export function firstSegmentHeaders(startLsn: Lsn, server: ServerInfo): readonly PlacedPageHeader[] {
  try {
    return encodeFirstSegmentHeaders(startLsn, {
      pgMajor: Math.floor(server.pgVersion / 10_000),
      segmentBytes: server.segmentBytes,
      systemId: server.systemId,
      timelineId: FILE_TIMELINE_ID,
    });
  } catch (error) {
    if (error instanceof WalDecodeError) {
      throw new AcceptorError("ERR_ACCEPTOR_PG_VERSION", error.message, { cause: error });
    }
    throw error;
  }
}

/** Copies the part of `headers` that falls into `target`, whose first byte stands at `targetLsn`; the rest is zeroed. */
export function copySyntheticBytes(
  headers: readonly PlacedPageHeader[],
  targetLsn: Lsn,
  target: Uint8Array,
): void {
  target.fill(0);
  for (const { lsn, header } of headers) {
    const at = Number(lsn - targetLsn);
    const from = Math.max(0, -at);
    const to = Math.min(header.byteLength, target.byteLength - at);
    if (from < to) target.set(header.subarray(from, to), at + from);
  }
}

/**
 * Who has the pages: what a pagestream asks of a timeline.
 *
 * Every method may take long and is given the session's signal; when that is aborted, nobody waits for the answer. An error is
 * the answer to one request, unless it is a `StreamEnd`.
 */
import type { Lsn } from "@millrace/lsn";
import type { RelTag, SlruKind } from "./messages.js";
import type { TimelinePositions } from "./positions.js";

export interface PageSource extends TimelinePositions {
  /** Waits until everything up to `lsn` has been taken in; fails when that takes too long. */
  waitFor(lsn: Lsn, signal: AbortSignal): Promise<void>;
  /** One page, 8192 bytes, borrowed until the answer has been encoded, which is before anything else is awaited. */
  page(rel: RelTag, block: number, lsn: Lsn, signal: AbortSignal): Promise<Uint8Array>;
  exists(rel: RelTag, lsn: Lsn, signal: AbortSignal): Promise<boolean>;
  /** Blocks of a relation's fork. */
  relationBlocks(rel: RelTag, lsn: Lsn, signal: AbortSignal): Promise<number>;
  /** Bytes of a database. */
  databaseBytes(db: number, lsn: Lsn, signal: AbortSignal): Promise<bigint>;
  /** At most 32 blocks of 8192 bytes. */
  slruSegment(kind: SlruKind, segment: number, lsn: Lsn, signal: AbortSignal): Promise<Uint8Array>;
}

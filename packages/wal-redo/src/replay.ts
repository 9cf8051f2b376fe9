/**
 * What a replay function gets, and the readers that all of them share.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { ByteReader } from "./byte-reader.js";
import type { Page } from "./page.js";

/** What redo must know beyond record and page. */
export interface RedoEnvironment {
  /**
   * Whether the cluster logs hint bits: data checksums or `wal_log_hints` are on. It decides whether the LSN of a heap
   * page changes when all of the page becomes visible.
   */
  readonly hintLsn: boolean;
}

/**
 * Replays one record on one page.
 *
 * The page is changed in place and is of no use after an exception. Its LSN is set by the caller.
 *
 * @returns whether the page's LSN follows the record's end; a few records change a page and not its LSN
 */
export type Replay = (record: WalRecord, ref: BlockRef, page: Page, environment: RedoEnvironment) => boolean;

/** Readers of the record at hand. No replay function calls another's, so that one of each kind will do. */
export const main: ByteReader = new ByteReader();
export const data: ByteReader = new ByteReader();

/**
 * Watches the WAL that goes to a standby for a timeline of PostgreSQL that nobody has registered yet.
 *
 * After a promotion the log goes on with another timeline id in its page headers. Until this acceptor has been told
 * where the new timeline begins, a standby on the old one must not get any of it: it would stop with "unexpected
 * timeline ID". A page header shows the change only from the next page on; within its page it is the record that names
 * the new timeline (END_OF_RECOVERY, or a checkpoint at the end of recovery), which may follow a change of
 * full_page_writes. So the headers of all pages are looked at, and the records of one page per call.
 *
 * Without state of its own about the log: it sees again what it has seen, in the bytes of each stream. WAL that does
 * not decode is let through, as it was when it was received.
 */
import { BLOCK_BYTES, blockOffset, blockStart, INVALID_LSN, maxLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { WalDecodeError, WalDecoder } from "@millrace/wal-decoder";
import type { RecordVisit } from "@millrace/wal-decoder";

import type { ServerInfo } from "./persistent-state.js";
import { decoderSettings } from "./record-tracker.js";

/** Of a page header: where the timeline id is. */
const PAGE_TIMELINE_OFFSET = 4;
const RMGR_XLOG = 0;
const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
const XLOG_FPW_CHANGE = 0x80;
const XLOG_END_OF_RECOVERY = 0x90;
const OPERATION_MASK = 0xf0;
/** Record header, a short data header, and the 8 bytes that both structs have before the timeline id. */
const RECORD_TIMELINE_OFFSET: number = 24 + 2 + 8;

/** One stream's view of the page it is in. */
export class TimelineFrontier {
  readonly #server: ServerInfo;
  readonly #page = Buffer.alloc(BLOCK_BYTES);
  /** Start of the page whose first bytes are in `#page`; 0 while the stream has not reached a page's start. */
  #pageLsn: Lsn = INVALID_LSN;

  constructor(server: ServerInfo) {
    this.#server = server;
  }

  /**
   * Looks at the next bytes of the stream.
   *
   * @param startLsn where the last call's bytes ended, or what it returned
   * @param wal borrowed for the call; ends at a page's end or at a record's
   * @returns where WAL of a timeline above `newest` begins, `undefined` if none does
   */
  find(startLsn: Lsn, wal: Buffer, newest: number): Lsn | undefined {
    const endLsn = (startLsn + BigInt(wal.byteLength)) as Lsn;
    const inPage = blockOffset(startLsn);
    const firstPage = inPage === 0 ? 0 : BLOCK_BYTES - inPage;
    let lookAt = wal.byteLength; // the last page is the one that ends, or begins to end, here
    for (let at = firstPage; at + PAGE_TIMELINE_OFFSET + 4 <= wal.byteLength; at += BLOCK_BYTES) {
      if (wal.readUInt32LE(at + PAGE_TIMELINE_OFFSET) <= newest) continue;
      lookAt = at; // the change may be within the page before
      break;
    }
    const foreignPage = lookAt < wal.byteLength ? ((startLsn + BigInt(lookAt)) as Lsn) : undefined;
    const found = this.#lookIntoPage(startLsn, wal.subarray(0, lookAt), newest) ?? foreignPage;
    if (found === undefined) this.#keep(startLsn, wal, endLsn);
    // A change of settings may have been sent before the record that makes it the new timeline's was there.
    return found === undefined ? undefined : maxLsn(found, startLsn);
  }

  // The records of the page in which `wal` ends.
  #lookIntoPage(startLsn: Lsn, wal: Buffer, newest: number): Lsn | undefined {
    if (wal.byteLength === 0) return undefined;
    const endLsn = (startLsn + BigInt(wal.byteLength)) as Lsn;
    const pageLsn = blockStart((endLsn - 1n) as Lsn);
    let page: Buffer;
    if (pageLsn >= startLsn) page = wal.subarray(Number(pageLsn - startLsn));
    else if (pageLsn === this.#pageLsn)
      page = Buffer.concat([this.#page.subarray(0, blockOffset(startLsn)), wal]);
    else return undefined; // the stream began within this page
    let changed: Lsn | undefined;
    let settings: Lsn | undefined;
    const onRecord = (record: RecordVisit): void => {
      if (changed !== undefined) return;
      if (namesTimelineAbove(record, newest)) changed = settings ?? record.startLsn;
      settings = isOperation(record, XLOG_FPW_CHANGE) ? (settings ?? record.startLsn) : undefined;
    };
    try {
      new WalDecoder({
        ...decoderSettings(this.#server),
        startLsn: pageLsn,
        start: "anywhere",
        onRecord,
      }).feed(page);
    } catch (error) {
      if (!(error instanceof WalDecodeError)) throw error;
    }
    return changed;
  }

  #keep(startLsn: Lsn, wal: Buffer, endLsn: Lsn): void {
    const pageLsn = blockStart(endLsn);
    if (pageLsn >= startLsn) {
      wal.copy(this.#page, 0, Number(pageLsn - startLsn));
      this.#pageLsn = pageLsn;
    } else wal.copy(this.#page, blockOffset(startLsn));
  }
}

function isOperation({ rmid, info }: RecordVisit, operation: number): boolean {
  return rmid === RMGR_XLOG && (info & OPERATION_MASK) === operation;
}

function namesTimelineAbove(record: RecordVisit, newest: number): boolean {
  if (!isOperation(record, XLOG_END_OF_RECOVERY) && !isOperation(record, XLOG_CHECKPOINT_SHUTDOWN))
    return false;
  const { head } = record;
  if (head.byteLength < RECORD_TIMELINE_OFFSET + 4) return false;
  return new DataView(head.buffer, head.byteOffset).getUint32(RECORD_TIMELINE_OFFSET, true) > newest;
}

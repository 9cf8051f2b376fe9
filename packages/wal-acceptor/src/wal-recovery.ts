/**
 * Where a timeline's WAL really ends, after a restart.
 *
 * The commit position is a record boundary that is known to be durable, so decoding starts there and goes on until
 * the first thing that is not the continuation: a missing file, zeros, a torn record, another life of a reused
 * file. Everything before is acknowledged WAL or longer; everything behind is cut by the next truncation.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { scanWal } from "@millrace/wal-decoder";
import type { PersistentState } from "./persistent-state.js";
import { decoderSettings, switchDataEnd, walError } from "./record-tracker.js";
import type { SegmentSwitch } from "./record-tracker.js";

/** What recovery found. */
export interface RecoveredEnd {
  readonly endLsn: Lsn;
  /** The log ends with a segment switch. */
  readonly segmentSwitch: SegmentSwitch | undefined;
}

/** Bytes of a read while scanning; a power of two that divides every segment size. */
const SCAN_BYTES = 1024 * 1024;

/** Resource manager and operation of a record that ends its segment early (XLOG_SWITCH). */
const XLOG_RMID = 0;
const XLOG_SWITCH_OPERATION = 0x40;
const OPERATION_MASK = 0xf0;

/**
 * Decodes from the persisted commit position to the end of the log.
 *
 * @param read bytes at an aligned position, fewer only where the data ends; 0 for a missing segment
 * @returns 0/0 for a timeline that never had WAL
 * @throws {AcceptorError} ERR_ACCEPTOR_PG_VERSION, _WAL_INVALID when reading cannot even begin at the commit position
 */
export async function recoverEnd(
  state: PersistentState,
  read: (lsn: Lsn, target: Uint8Array) => Promise<number>,
): Promise<RecoveredEnd> {
  if (state.commitLsn === INVALID_LSN) return { endLsn: INVALID_LSN, segmentSwitch: undefined };
  let switched = false;
  try {
    const end = await scanWal({
      ...decoderSettings(state.server),
      startLsn: state.commitLsn,
      buffer: new Uint8Array(SCAN_BYTES),
      read,
      onRecord: (record) => {
        switched = record.rmid === XLOG_RMID && (record.info & OPERATION_MASK) === XLOG_SWITCH_OPERATION;
      },
    });
    const { endLsn, lastRecordLsn } = end;
    if (!switched || lastRecordLsn === undefined) return { endLsn, segmentSwitch: undefined };
    return { endLsn, segmentSwitch: { boundaryLsn: endLsn, dataEndLsn: switchDataEnd(lastRecordLsn) } };
  } catch (error) {
    throw walError(error);
  }
}

/**
 * Finding the end of the WAL in segment files, once, when a store is opened.
 *
 * What is reported must survive a power cut, even if the process before died without syncing: so every file that may
 * hold WAL from the persisted commit position on, and the directory, are synced before the first byte is decoded.
 */
import { formatLsn, INVALID_LSN, segmentNumber, segmentOffset } from "@millrace/lsn";
import { AcceptorError } from "./errors.js";
import type { AcceptorMeasures } from "./measures.js";
import type { PersistentState } from "./persistent-state.js";
import { ScanFiles } from "./scan-files.js";
import type { SegmentFiles } from "./segment-files.js";
import { recoverEnd } from "./wal-recovery.js";
import type { RecoveredEnd } from "./wal-recovery.js";

/**
 * Reads the directory, makes what is in it durable and decodes to the end.
 *
 * @returns undefined for a timeline that never had WAL
 * @throws {AcceptorError} ERR_ACCEPTOR_WAL_MISSING when WAL below the commit position is gone; ERR_ACCEPTOR_IO,
 *   _POISONED, _PG_VERSION
 */
export async function recoverFiles(
  files: SegmentFiles,
  state: PersistentState,
  measures: AcceptorMeasures,
): Promise<RecoveredEnd | undefined> {
  const { segmentBytes } = state.server;
  await files.load();
  if (state.commitLsn === INVALID_LSN) return undefined;
  const first = segmentNumber(state.commitLsn, segmentBytes);
  for (const segno of files.from(first)) await files.settle(segno);
  await files.syncDirectory();
  const scan = new ScanFiles(files, segmentBytes);
  try {
    await checkCommitted(scan, state);
    const began = measures.now();
    const end = files.has(first)
      ? await recoverEnd(state, (lsn, target) => scan.read(lsn, target))
      : { endLsn: state.commitLsn, segmentSwitch: undefined };
    measures.recoveryDecodeSeconds.observe(measures.secondsSince(began));
    return end;
  } finally {
    await scan.close();
  }
}

// Decoding starts at the commit position and cannot notice that what lies before it is gone.
async function checkCommitted(scan: ScanFiles, state: PersistentState): Promise<void> {
  const { commitLsn, termHistory, server } = state;
  const offset = segmentOffset(commitLsn, server.segmentBytes);
  const neverElected = (termHistory.at(-1)?.term ?? 0n) === 0n;
  if (offset === 0 || neverElected) return;
  const sizeBytes = await scan.sizeBytes(segmentNumber(commitLsn, server.segmentBytes));
  if (sizeBytes >= offset) return;
  throw new AcceptorError(
    "ERR_ACCEPTOR_WAL_MISSING",
    `WAL was committed up to ${formatLsn(commitLsn)}, its segment has ${String(sizeBytes)} bytes`,
  );
}

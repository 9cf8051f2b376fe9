/**
 * Redo of one record on one page: the rules that hold for all records, and the way to the function of each.
 *
 * What PostgreSQL does page by page with locks, this does as a function: old page and record in, new page out. Redo of
 * each block of a record needs that block's old contents and the record, and nothing of the record's other blocks.
 *
 * An image that is to be applied replaces the page. Otherwise a page that has the record's end as its LSN, or a later one,
 * has the change already: that is how a base backup taken while the server ran becomes right. An image that comes for
 * verification only is never applied.
 */
import { restoreImage } from "@millrace/wal-decoder";
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { replayBtree } from "./btree.js";
import { InvariantViolation, NotSupported, RedoError } from "./errors.js";
import type { RedoErrorCode } from "./errors.js";
import { replayGin } from "./gin.js";
import { finishGistChild, isGistChild, replayGist } from "./gist.js";
import { replayHeap } from "./heap.js";
import { replayHeap2 } from "./heap2.js";
import { Page } from "./page.js";
import type { RedoEnvironment, Replay } from "./replay.js";
import { RMGR } from "./rmgr.js";
import { replayGeneric, replaySequence } from "./sequence.js";
import { replayBrin, replayHash } from "./small-indexes.js";
import { replaySpgist } from "./spgist.js";

/** XLOG's records with blocks: images that are always applied, and hints, whose images may be switched off. */
const XLOG_FPI_FOR_HINT = 0xa0;

const replayXlog: Replay = (record) => {
  if (record.operation === XLOG_FPI_FOR_HINT) return false;
  throw new InvariantViolation("a full page image without the image");
};

const REPLAY: ReadonlyMap<number, Replay> = new Map<number, Replay>([
  [RMGR.xlog, replayXlog],
  [RMGR.heap2, replayHeap2],
  [RMGR.heap, replayHeap],
  [RMGR.btree, replayBtree],
  [RMGR.hash, replayHash],
  [RMGR.gin, replayGin],
  [RMGR.gist, replayGist],
  [RMGR.sequence, replaySequence],
  [RMGR.spgist, replaySpgist],
  [RMGR.brin, replayBrin],
  [RMGR.generic, replayGeneric],
]);

/** By resource manager, so that the way to a function is an index. */
const REPLAY_BY_RMID: readonly (Replay | undefined)[] = Array.from({ length: 256 }, (_, rmid) =>
  REPLAY.get(rmid),
);

/** Whether a record was replayed on a page, or the page had it already. */
export type RedoOutcome = "applied" | "present";

/**
 * Replays a record on a page, in place.
 *
 * @param ref one of `record.refs`
 * @param page the block before the record, or zeros for one that never was; without use after an error
 * @throws {RedoError} ERR_REDO_UNSUPPORTED, ERR_REDO_INVARIANT
 * @throws {WalDecodeError} ERR_WAL_IMAGE, ERR_WAL_COMPRESSION
 */
export function redoBlock(
  record: WalRecord,
  ref: BlockRef,
  page: Page,
  environment: RedoEnvironment,
): RedoOutcome {
  if (ref.hasImage && ref.imageApplies) {
    restoreImage(record, ref, page.bytes);
    if (record.rmid === RMGR.gist && isGistChild(record, ref)) finishGistChild(record, page);
    if (!page.isNew) page.setLsn(record.endHigh, record.endLow);
    return "applied";
  }
  if (ref.willInit) page.bytes.fill(0);
  else if (page.isAtLeast(record.endHigh, record.endLow)) return "present";
  try {
    const replay = REPLAY_BY_RMID[record.rmid];
    if (replay === undefined) throw new NotSupported("the resource manager's records are not replayed");
    if (replay(record, ref, page, environment)) page.setLsn(record.endHigh, record.endLow);
  } catch (error) {
    throw redoErrorOf(error, record, ref);
  }
  return "applied";
}

/**
 * Replays a record on a page that stays as it is.
 *
 * @param ref one of `record.refs`
 * @param base the block before the record, 8192 bytes, borrowed; undefined if the block did not exist
 * @returns a new page, the caller's
 * @throws {RedoError} ERR_REDO_BASE_MISSING where a base is needed, ERR_REDO_UNSUPPORTED, ERR_REDO_INVARIANT
 * @throws {WalDecodeError} ERR_WAL_IMAGE, ERR_WAL_COMPRESSION
 */
export function applyBlock(
  record: WalRecord,
  ref: BlockRef,
  base: Uint8Array | undefined,
  environment: RedoEnvironment,
): Uint8Array {
  if (base === undefined && needsBase(ref)) {
    throw new RedoError(
      "ERR_REDO_BASE_MISSING",
      placeOf(record, ref),
      "no earlier state of the page is given",
    );
  }
  const bytes = new Uint8Array(8192);
  if (base !== undefined) bytes.set(base);
  redoBlock(record, ref, new Page(bytes), environment);
  return bytes;
}

/** Whether replaying the record on this block needs the block's contents before it. */
export function needsBase(ref: BlockRef): boolean {
  return !ref.willInit && !(ref.hasImage && ref.imageApplies);
}

function redoErrorOf(error: unknown, record: WalRecord, ref: BlockRef): unknown {
  const code = codeOf(error);
  if (code === undefined || !(error instanceof Error)) return error;
  return new RedoError(code, placeOf(record, ref), error.message, { cause: error });
}

/** A RangeError is an offset in page or record that points beyond it: a page or record that does not fit. */
function codeOf(error: unknown): RedoErrorCode | undefined {
  if (error instanceof NotSupported) return "ERR_REDO_UNSUPPORTED";
  return error instanceof InvariantViolation || error instanceof RangeError
    ? "ERR_REDO_INVARIANT"
    : undefined;
}

function placeOf(record: WalRecord, ref: BlockRef): RedoError["place"] {
  const { startLsn, rmid, operation } = record;
  const { spc, db, rel, fork, block } = ref;
  return { lsn: startLsn, rmid, operation, spc, db, rel, fork, block };
}

/**
 * What the end of a transaction says: which transaction, which of its subtransactions, which files go with it.
 *
 * The parts of a commit or abort record are there or not, as a word of flags says (xact.h, `ParseCommitRecord`).
 */
import type { WalRecord } from "@millrace/wal-decoder";
import { main } from "./replay.js";

const OPERATION = { commit: 0x00, abort: 0x20, commitPrepared: 0x30, abortPrepared: 0x40 } as const;
const OPERATION_MASK = 0x70;
const HAS_XINFO = 0x80;
const XINFO = {
  database: 1,
  subtransactions: 2,
  relations: 4,
  invalidations: 8,
  twoPhase: 0x10,
  droppedStatistics: 0x100,
} as const;
const INVALIDATION_BYTES = 16;

/** A relation whose files are removed. */
export interface DroppedRelation {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
}

export interface TransactionEnd {
  readonly isCommit: boolean;
  readonly xid: number;
  readonly subxids: readonly number[];
  readonly droppedRelations: readonly DroppedRelation[];
}

/**
 * Reads a record of resource manager Transaction.
 *
 * @returns undefined for one that ends no transaction
 * @throws {InvariantViolation} the record is shorter than its parts
 */
export function transactionEnd(record: WalRecord): TransactionEnd | undefined {
  const operation = record.operation & OPERATION_MASK;
  const isCommit = operation === OPERATION.commit || operation === OPERATION.commitPrepared;
  const isAbort = operation === OPERATION.abort || operation === OPERATION.abortPrepared;
  if (!isCommit && !isAbort) return undefined;
  main.readMain(record).skip(8);
  const xinfo = (record.operation & HAS_XINFO) === 0 ? 0 : main.u32();
  const has = (flag: number): boolean => (xinfo & flag) !== 0;
  if (has(XINFO.database)) main.skip(8);
  const subxids = has(XINFO.subtransactions) ? list(() => main.u32()) : [];
  const droppedRelations = has(XINFO.relations)
    ? list(() => ({ spc: main.u32(), db: main.u32(), rel: main.u32() }))
    : [];
  if (has(XINFO.droppedStatistics)) main.skip(main.u32() * (record.pgMajor >= 18 ? 16 : 12));
  if (has(XINFO.invalidations)) main.skip(main.u32() * INVALIDATION_BYTES);
  const xid = has(XINFO.twoPhase) ? main.u32() : record.xid;
  return { isCommit, xid, subxids, droppedRelations };
}

function list<T>(read: () => T): readonly T[] {
  const items: T[] = [];
  for (let left = main.u32(); left > 0; left -= 1) items.push(read());
  return items;
}

/**
 * Redo of resource manager Heap2: pruning, vacuum, freezing, bulk inserts (heapam_xlog.c and pruneheap.c).
 *
 * PostgreSQL 15 has a record each for pruning, vacuum and freezing; 16 freezes by plans that many tuples share; 17 has one
 * record for all three, whose parts are there or not.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { invariant } from "./errors.js";
import { addTuple, CLEARED } from "./heap.js";
import { replaceXmaxFlags, TUPLE } from "./heap-tuple.js";
import { LINE_POINTER, PAGE_FLAG } from "./page.js";
import type { Page } from "./page.js";
import type { ByteReader } from "./byte-reader.js";
import { data, main } from "./replay.js";
import type { RedoEnvironment } from "./replay.js";
import { clearVisibility, replaySetVisible, VISIBILITY } from "./visibility-map.js";

/** Operations; 0x10 to 0x30 are pruning, vacuum and freezing before 17, and three occasions of pruning since. */
export const HEAP2 = {
  rewrite: 0x00,
  prune: 0x10,
  vacuum: 0x20,
  freeze: 0x30,
  visible: 0x40,
  multiInsert: 0x50,
  lockUpdated: 0x60,
  newCid: 0x70,
} as const;

const MULTI_INSERT_FLAG_ALL_FROZEN = 0x20;

const PRUNE_FLAG = {
  cleanupLock: 0x04,
  hasConflictHorizon: 0x08,
  hasFreezePlans: 0x10,
  hasRedirections: 0x20,
  hasDead: 0x40,
  hasNowUnused: 0x80,
} as const;

const FREEZE_FLAG = { frozenXvac: 2, invalidXvac: 4 } as const;
const FROZEN_XID = 2;

/** Freezing plans of a record: what becomes of tuples, and of how many each. */
const PLAN_BYTES = 12;
const PLAN = { xmax: 0, infomask2: 4, infomask: 6, flags: 8, count: 10 } as const;

export function replayHeap2(
  record: WalRecord,
  ref: BlockRef,
  page: Page,
  environment: RedoEnvironment,
): boolean {
  const operation = record.operation & 0x70;
  if (operation === HEAP2.visible) {
    if (ref.id === 0) return replaySetVisible(record, ref, page);
    page.mark(PAGE_FLAG.allVisible, true);
    return environment.hintLsn;
  }
  if (ref.fork === 2) return clearNamedVisibility(record, ref, page, operation);
  if (operation === HEAP2.multiInsert) multiInsert(record, ref, page);
  else if (operation === HEAP2.lockUpdated) lockUpdated(record, page);
  else if (record.pgMajor >= 17) pruneOrFreeze(record, ref, page);
  else if (operation === HEAP2.prune) prune(record, ref, page);
  else if (operation === HEAP2.vacuum) vacuum(record, ref, page);
  else if (operation === HEAP2.freeze && record.pgMajor === 15) freezeTuples(record, ref, page);
  else if (operation === HEAP2.freeze) freezeByPlans(record, ref, page);
  else invariant(false, "the operation changes no block");
  return true;
}

function clearNamedVisibility(record: WalRecord, ref: BlockRef, page: Page, operation: number): boolean {
  const heap = record.ref(0);
  invariant(heap !== undefined, "no heap block is named");
  const locks = operation === HEAP2.lockUpdated;
  main.readMain(record).skip(locks ? 7 : 0);
  if ((main.u8() & CLEARED.old) === 0) return false;
  return clearVisibility(page, ref.block, heap.block, locks ? VISIBILITY.allFrozen : VISIBILITY.both);
}

function multiInsert(record: WalRecord, ref: BlockRef, page: Page): void {
  const init = (record.operation & 0x80) !== 0;
  if (init) page.init(0);
  const flags = main.readMain(record).u8();
  main.skip(1);
  const count = main.u16();
  data.readData(record, ref);
  for (let index = 0; index < count; index += 1) {
    const number = init ? index + 1 : main.u16();
    data.align(2);
    addTuple(page, number, data.u16(), record.xid, ref.block);
  }
  data.finish();
  if ((flags & CLEARED.old) !== 0) page.mark(PAGE_FLAG.allVisible, false);
  if ((flags & MULTI_INSERT_FLAG_ALL_FROZEN) !== 0) page.mark(PAGE_FLAG.allVisible, true);
}

/** A lock that reached a later version of the row it was taken on. */
function lockUpdated(record: WalRecord, page: Page): void {
  const xmax = main.readMain(record).u32();
  const number = main.u16();
  const tuple = page.normalItem(number);
  replaceXmaxFlags(page, tuple, main.u8());
  page.view.setUint32(tuple + TUPLE.xmax, xmax, true);
}

function redirect(page: Page, reader: ByteReader, count: number): void {
  for (let index = 0; index < count; index += 1) {
    const from = reader.u16();
    page.setPointer(from, reader.u16(), LINE_POINTER.redirect, 0);
  }
}

function setState(page: Page, reader: ByteReader, count: number, state: number): void {
  for (let index = 0; index < count; index += 1) page.setPointer(reader.u16(), 0, state, 0);
}

function prune(record: WalRecord, ref: BlockRef, page: Page): void {
  main.readMain(record).skip(4);
  const redirected = main.u16();
  const dead = main.u16();
  data.readData(record, ref);
  redirect(page, data, redirected);
  setState(page, data, dead, LINE_POINTER.dead);
  setState(page, data, data.left >> 1, LINE_POINTER.unused);
  data.finish();
  page.repair();
}

function vacuum(record: WalRecord, ref: BlockRef, page: Page): void {
  const count = main.readMain(record).u16();
  data.readData(record, ref);
  setState(page, data, count, LINE_POINTER.unused);
  data.finish();
  page.truncateLinePointers();
}

function freezeTuples(record: WalRecord, ref: BlockRef, page: Page): void {
  main.readMain(record).skip(4);
  const count = main.u16();
  data.readData(record, ref);
  for (let index = 0; index < count; index += 1) {
    const xmax = data.u32();
    const number = data.u16();
    const infomask2 = data.u16();
    const infomask = data.u16();
    const flags = data.u8();
    data.skip(1);
    freeze(page, number, xmax, infomask2, infomask, flags);
  }
  data.finish();
}

function freeze(
  page: Page,
  number: number,
  xmax: number,
  infomask2: number,
  infomask: number,
  flags: number,
): void {
  const tuple = page.normalItem(number);
  const { view } = page;
  view.setUint32(tuple + TUPLE.xmax, xmax, true);
  if ((flags & FREEZE_FLAG.frozenXvac) !== 0) view.setUint32(tuple + TUPLE.commandId, FROZEN_XID, true);
  if ((flags & FREEZE_FLAG.invalidXvac) !== 0) view.setUint32(tuple + TUPLE.commandId, 0, true);
  view.setUint16(tuple + TUPLE.infomask, infomask, true);
  view.setUint16(tuple + TUPLE.infomask2, infomask2, true);
}

function freezeByPlans(record: WalRecord, ref: BlockRef, page: Page): void {
  main.readMain(record).skip(4);
  const count = main.u16();
  data.readData(record, ref);
  const plans = data.take(count * PLAN_BYTES);
  applyPlans(page, plans, count);
  data.finish();
}

/** Freezes the tuples that `data` numbers next, as the plans at `plans` of the same data say. */
function applyPlans(page: Page, plans: number, count: number): void {
  const { view } = data;
  for (let index = 0; index < count; index += 1) {
    const plan = plans + index * PLAN_BYTES;
    const xmax = view.getUint32(plan + PLAN.xmax, true);
    const infomask2 = view.getUint16(plan + PLAN.infomask2, true);
    const infomask = view.getUint16(plan + PLAN.infomask, true);
    const flags = view.getUint8(plan + PLAN.flags);
    const tuples = view.getUint16(plan + PLAN.count, true);
    for (let each = 0; each < tuples; each += 1) freeze(page, data.u16(), xmax, infomask2, infomask, flags);
  }
}

function pruneOrFreeze(record: WalRecord, ref: BlockRef, page: Page): void {
  main.readMain(record).skip(1);
  const flags = main.u8();
  const has = (flag: number): boolean => (flags & flag) !== 0;
  data.readData(record, ref);
  let plans = 0;
  let planCount = 0;
  if (has(PRUNE_FLAG.hasFreezePlans)) {
    planCount = data.u16();
    data.skip(2);
    plans = data.take(planCount * PLAN_BYTES);
  }
  if (has(PRUNE_FLAG.hasRedirections)) redirect(page, data, data.u16());
  if (has(PRUNE_FLAG.hasDead)) setState(page, data, data.u16(), LINE_POINTER.dead);
  if (has(PRUNE_FLAG.hasNowUnused)) setState(page, data, data.u16(), LINE_POINTER.unused);
  if (has(PRUNE_FLAG.hasRedirections | PRUNE_FLAG.hasDead | PRUNE_FLAG.hasNowUnused)) {
    if (has(PRUNE_FLAG.cleanupLock)) page.repair();
    else page.truncateLinePointers();
  }
  applyPlans(page, plans, planCount);
  data.finish();
}

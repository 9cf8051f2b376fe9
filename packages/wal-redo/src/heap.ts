/**
 * Redo of resource manager Heap: inserts, updates, deletions and locks of single rows (heapam_xlog.c).
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { invariant } from "./errors.js";
import {
  isLockedOnly,
  markHotUpdated,
  MOVED_PARTITION,
  replaceXmaxFlags,
  resetCommandId,
  setCtid,
  setXmax,
  TUPLE,
  TUPLE_HEADER_BYTES,
  writeTupleHeader,
} from "./heap-tuple.js";
import { copyBytes, PAGE_FLAG } from "./page.js";
import type { Page } from "./page.js";
import { data, main } from "./replay.js";
import { clearVisibility, VISIBILITY } from "./visibility-map.js";

/** Operations, without the flag for a page that the record initialises. */
export const HEAP = {
  insert: 0x00,
  delete: 0x10,
  update: 0x20,
  truncate: 0x30,
  hotUpdate: 0x40,
  confirm: 0x50,
  lock: 0x60,
  inplace: 0x70,
} as const;
export const HEAP_OPERATION_MASK = 0x70;
export const HEAP_INIT_PAGE = 0x80;

/** Flags of inserts, updates, deletions and locks; the same bit means different things in each. */
export const CLEARED = {
  /** The block of an insert, deletion or lock, or the old one of an update, is no longer all visible (or frozen). */
  old: 1,
  /** The same for an update's new block. */
  new: 2,
} as const;
const DELETE_FLAG = { speculative: 8, movedPartition: 16 } as const;
const UPDATE_FLAG = { prefixFromOld: 0x20, suffixFromOld: 0x40 } as const;

export function replayHeap(record: WalRecord, ref: BlockRef, page: Page): boolean {
  const operation = record.operation & HEAP_OPERATION_MASK;
  if (ref.fork === 2) return clearNamedVisibility(record, ref, page, operation);
  switch (operation) {
    case HEAP.insert:
      insert(record, ref, page);
      break;
    case HEAP.delete:
      remove(record, ref, page);
      break;
    case HEAP.update:
    case HEAP.hotUpdate:
      update(record, ref, page, operation === HEAP.hotUpdate);
      break;
    case HEAP.confirm:
      setCtidOfSelf(page, ref, main.readMain(record).u16());
      break;
    case HEAP.lock:
      lock(record, ref, page);
      break;
    case HEAP.inplace:
      inplace(record, ref, page);
      break;
    default:
      invariant(false, "the operation changes no block");
  }
  return true;
}

function setCtidOfSelf(page: Page, ref: BlockRef, number: number): void {
  setCtid(page, page.normalItem(number), ref.block, number);
}

function insert(record: WalRecord, ref: BlockRef, page: Page): void {
  if ((record.operation & HEAP_INIT_PAGE) !== 0) page.init(0);
  const number = main.readMain(record).u16();
  const flags = main.u8();
  data.readData(record, ref);
  addTuple(page, number, data.left - TUPLE_FLAGS_BYTES, record.xid, ref.block);
  data.finish();
  if ((flags & CLEARED.old) !== 0) page.mark(PAGE_FLAG.allVisible, false);
}

/** infomask2, infomask and header length, which records have of a tuple's header. */
export const TUPLE_FLAGS_BYTES = 5;

/** Adds the tuple that `data` has next: five bytes of flags and `bodyBytes` of what follows its header. */
export function addTuple(page: Page, number: number, bodyBytes: number, xid: number, block: number): void {
  const flags = { infomask2: data.u16(), infomask: data.u16(), hoff: data.u8() };
  const body = data.take(bodyBytes);
  const tuple = page.makeRoom(TUPLE_HEADER_BYTES + bodyBytes, number, "overwrite");
  writeTupleHeader(page, tuple, flags, { xmin: xid, xmax: 0 }, { block, offset: number });
  copyBytes(data.bytes, body, page.bytes, tuple + TUPLE_HEADER_BYTES, bodyBytes);
}

function remove(record: WalRecord, ref: BlockRef, page: Page): void {
  const xmax = main.readMain(record).u32();
  const number = main.u16();
  const infobits = main.u8();
  const flags = main.u8();
  const tuple = page.normalItem(number);
  replaceXmaxFlags(page, tuple, infobits);
  markHotUpdated(page, tuple, false);
  if ((flags & DELETE_FLAG.speculative) !== 0) {
    page.view.setUint32(tuple + TUPLE.xmin, 0, true);
    resetCommandId(page, tuple);
  } else setXmax(page, tuple, xmax);
  page.setPrunable(record.xid);
  if ((flags & CLEARED.old) !== 0) page.mark(PAGE_FLAG.allVisible, false);
  if ((flags & DELETE_FLAG.movedPartition) !== 0) {
    setCtid(page, tuple, MOVED_PARTITION.block, MOVED_PARTITION.offset);
  } else setCtid(page, tuple, ref.block, number);
}

/**
 * An update has one block, or two: the first is the new version's, the second the old one's. Each is replayed without
 * the other, as nothing of the old tuple goes into a new one on another page.
 */
function update(record: WalRecord, ref: BlockRef, page: Page, hot: boolean): void {
  const oldXmax = main.readMain(record).u32();
  const oldNumber = main.u16();
  const infobits = main.u8();
  const flags = main.u8();
  const newXmax = main.u32();
  const newNumber = main.u16();
  const newRef = record.ref(0);
  const samePage = record.ref(1)?.fork !== 0;
  invariant(newRef !== undefined && (samePage || !hot), "the new tuple's block is not named");
  let oldTuple = -1;
  if (ref.id === 1 || samePage) {
    oldTuple = page.normalItem(oldNumber);
    replaceXmaxFlags(page, oldTuple, infobits);
    markHotUpdated(page, oldTuple, hot);
    setXmax(page, oldTuple, oldXmax);
    setCtid(page, oldTuple, newRef.block, newNumber);
    page.setPrunable(record.xid);
    if ((flags & CLEARED.old) !== 0) page.mark(PAGE_FLAG.allVisible, false);
    if (ref.id === 1) return;
  }
  if (!samePage && (record.operation & HEAP_INIT_PAGE) !== 0) page.init(0);
  addNewVersion(record, ref, page, { flags, newXmax, newNumber, oldTuple, oldNumber });
  if ((flags & CLEARED.new) !== 0) page.mark(PAGE_FLAG.allVisible, false);
}

interface NewVersion {
  readonly flags: number;
  readonly newXmax: number;
  readonly newNumber: number;
  /** Where the old tuple is on this page, or -1 if it is on another one. */
  readonly oldTuple: number;
  readonly oldNumber: number;
}

/** Puts the new tuple together: what the record has of it between a beginning and an end that are the old tuple's. */
function addNewVersion(record: WalRecord, ref: BlockRef, page: Page, version: NewVersion): void {
  const { flags, oldTuple } = version;
  data.readData(record, ref);
  const prefixBytes = (flags & UPDATE_FLAG.prefixFromOld) === 0 ? 0 : data.u16();
  const suffixBytes = (flags & UPDATE_FLAG.suffixFromOld) === 0 ? 0 : data.u16();
  const header = { infomask2: data.u16(), infomask: data.u16(), hoff: data.u8() };
  const givenBytes = data.left;
  const oldBytes = oldTuple < 0 ? 0 : page.itemBytes(version.oldNumber);
  const oldHoff = oldTuple < 0 ? 0 : page.view.getUint8(oldTuple + TUPLE.hoff);
  invariant(
    prefixBytes + suffixBytes === 0 ||
      (oldTuple >= 0 && oldHoff + prefixBytes <= oldBytes && suffixBytes <= oldBytes),
    "the new tuple takes more from the old one than that has",
  );
  const bytes = TUPLE_HEADER_BYTES + prefixBytes + givenBytes + suffixBytes;
  const tuple = page.makeRoom(bytes, version.newNumber, "overwrite");
  writeTupleHeader(
    page,
    tuple,
    header,
    { xmin: record.xid, xmax: version.newXmax },
    { block: ref.block, offset: version.newNumber },
  );
  let to = tuple + TUPLE_HEADER_BYTES;
  if (prefixBytes > 0) {
    // The null bitmap and the padding behind it come first, and are never the old tuple's.
    const bitmapBytes = header.hoff - TUPLE_HEADER_BYTES;
    copyBytes(data.bytes, data.take(bitmapBytes), page.bytes, to, bitmapBytes);
    to += bitmapBytes;
    copyBytes(page.bytes, oldTuple + oldHoff, page.bytes, to, prefixBytes);
    to += prefixBytes;
  }
  const rest = data.left;
  copyBytes(data.bytes, data.take(rest), page.bytes, to, rest);
  to += rest;
  if (suffixBytes > 0) copyBytes(page.bytes, oldTuple + oldBytes - suffixBytes, page.bytes, to, suffixBytes);
}

function lock(record: WalRecord, ref: BlockRef, page: Page): void {
  const xmax = main.readMain(record).u32();
  const number = main.u16();
  const infobits = main.u8();
  const tuple = page.normalItem(number);
  replaceXmaxFlags(page, tuple, infobits);
  if (isLockedOnly(page, tuple)) {
    markHotUpdated(page, tuple, false);
    setCtid(page, tuple, ref.block, number);
  }
  setXmax(page, tuple, xmax);
}

function inplace(record: WalRecord, ref: BlockRef, page: Page): void {
  const number = main.readMain(record).u16();
  const tuple = page.normalItem(number);
  const hoff = page.view.getUint8(tuple + TUPLE.hoff);
  data.readData(record, ref);
  const count = data.left;
  invariant(hoff + count === page.itemBytes(number), "the tuple has another length");
  copyBytes(data.bytes, data.take(count), page.bytes, tuple + hoff, count);
}

/** The record names the visibility map's page whose bits it clears. */
function clearNamedVisibility(record: WalRecord, ref: BlockRef, page: Page, operation: number): boolean {
  const newRef = record.ref(0);
  invariant(newRef !== undefined, "no heap block is named");
  main.readMain(record);
  if (operation === HEAP.update || operation === HEAP.hotUpdate) {
    main.skip(7);
    const flags = main.u8();
    const second = record.ref(1);
    const oldBlock = second?.fork === 0 ? second.block : newRef.block;
    let changed = false;
    if ((flags & CLEARED.new) !== 0 && ref.id === 2) {
      changed = clearVisibility(page, ref.block, newRef.block, VISIBILITY.both);
    }
    if ((flags & CLEARED.old) !== 0) {
      changed = clearVisibility(page, ref.block, oldBlock, VISIBILITY.both) || changed;
    }
    return changed;
  }
  const bits = operation === HEAP.lock ? VISIBILITY.allFrozen : VISIBILITY.both;
  const flagsAt = operation === HEAP.insert ? 2 : 7;
  main.skip(flagsAt);
  if ((main.u8() & CLEARED.old) === 0) return false;
  return clearVisibility(page, ref.block, newRef.block, bits);
}

/**
 * Redo of resource manager Btree (nbtxlog.c).
 *
 * A btree page has its links, level and flags in the special space, and the upper bound of its keys as its first item
 * unless it is the last page of its level. Splits and deduplications build the page anew, from its own items and from
 * what the record has; all others change it where it is.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { ALTERNATIVE_TID, PostingList, postingCount, swapPosting } from "./btree-posting.js";
import type { SwappedPosting } from "./btree-posting.js";
import { invariant } from "./errors.js";
import {
  blockOfTuple,
  INDEX_TUPLE,
  INDEX_TUPLE_HEADER_BYTES,
  indexTupleBytes,
  setBlockOfTuple,
} from "./index-tuple.js";
import { align8, copyBytes, Page, PAGE_HEADER_BYTES } from "./page.js";
import { data, main } from "./replay.js";

export const BTREE = {
  insertLeaf: 0x00,
  insertUpper: 0x10,
  insertMeta: 0x20,
  splitLeft: 0x30,
  splitRight: 0x40,
  insertPosting: 0x50,
  dedup: 0x60,
  delete: 0x70,
  unlinkPage: 0x80,
  unlinkPageMeta: 0x90,
  newRoot: 0xa0,
  markPageHalfDead: 0xb0,
  vacuum: 0xc0,
  reusePage: 0xd0,
  metaCleanup: 0xe0,
} as const;

/** Byte offsets in the special space, and its length. */
const OPAQUE = { prev: 0, next: 4, level: 8, flags: 12, cycleId: 14 } as const;
const OPAQUE_BYTES = 16;

export const BTREE_PAGE = {
  leaf: 0x01,
  root: 0x02,
  deleted: 0x04,
  meta: 0x08,
  halfDead: 0x10,
  splitEnd: 0x20,
  hasGarbage: 0x40,
  incompleteSplit: 0x80,
  hasFullXid: 0x100,
} as const;

const NO_BLOCK = 0;
const HIGH_KEY = 1;
const META_MAGIC = 0x0005_3162;
const META_BYTES = 28;
const META_END = PAGE_HEADER_BYTES + 48;

export function replayBtree(record: WalRecord, ref: BlockRef, page: Page): boolean {
  switch (record.operation) {
    case BTREE.insertLeaf:
    case BTREE.insertUpper:
    case BTREE.insertMeta:
    case BTREE.insertPosting:
      insert(record, ref, page);
      break;
    case BTREE.splitLeft:
    case BTREE.splitRight:
      split(record, ref, page, record.operation === BTREE.splitLeft);
      break;
    case BTREE.dedup:
      dedup(record, ref, page);
      break;
    case BTREE.delete:
    case BTREE.vacuum:
      deleteItems(record, ref, page);
      break;
    case BTREE.unlinkPage:
    case BTREE.unlinkPageMeta:
      unlinkPage(record, ref, page);
      break;
    case BTREE.newRoot:
      newRoot(record, ref, page);
      break;
    case BTREE.markPageHalfDead:
      markPageHalfDead(record, ref, page);
      break;
    case BTREE.metaCleanup:
      meta(record, ref, page);
      break;
    default:
      invariant(false, "the operation changes no block");
  }
  return true;
}

function flagsOf(page: Page): number {
  return page.view.getUint16(page.special + OPAQUE.flags, true);
}

function setFlags(page: Page, flags: number): void {
  page.view.setUint16(page.special + OPAQUE.flags, flags, true);
}

function nextOf(page: Page): number {
  return page.view.getUint32(page.special + OPAQUE.next, true);
}

/** Number of the first item that is no upper bound. */
function firstDataItem(page: Page): number {
  return nextOf(page) === NO_BLOCK ? 1 : 2;
}

function initPage(page: Page, prev: number, next: number, level: number, flags: number): void {
  page.init(OPAQUE_BYTES);
  const { special, view } = page;
  view.setUint32(special + OPAQUE.prev, prev, true);
  view.setUint32(special + OPAQUE.next, next, true);
  view.setUint32(special + OPAQUE.level, level, true);
  setFlags(page, flags);
}

/** The child's split, whose second half this record finishes. */
function clearIncompleteSplit(page: Page): void {
  const flags = flagsOf(page);
  invariant((flags & BTREE_PAGE.incompleteSplit) !== 0, "the page's split is complete");
  setFlags(page, flags & ~BTREE_PAGE.incompleteSplit);
}

/** Writes the metapage that the block's data have. */
function meta(record: WalRecord, ref: BlockRef, page: Page): void {
  data.readData(record, ref);
  invariant(data.left === META_BYTES, "a metapage of another length");
  page.init(OPAQUE_BYTES);
  const { view } = page;
  view.setUint32(PAGE_HEADER_BYTES, META_MAGIC, true);
  // Version, root, level, fast root, its level, and the number of deleted pages at the last cleanup.
  copyBytes(data.bytes, data.take(24), page.bytes, PAGE_HEADER_BYTES + 4, 24);
  view.setFloat64(PAGE_HEADER_BYTES + 32, -1, true);
  view.setUint8(PAGE_HEADER_BYTES + 40, data.u8());
  setFlags(page, BTREE_PAGE.meta);
  page.lower = META_END;
}

/** Fills a new page with items that lie back to back, the one with the highest number first. */
function restoreItems(page: Page): void {
  const { view, bytes } = data;
  let count = 0;
  for (let at = data.at; at < data.end; count += 1) at += align8(itemBytesAt(at));
  let at = data.at;
  starts.length = 0;
  for (let index = 0; index < count; index += 1) {
    starts.push(at);
    at += align8(indexTupleBytes(view, at));
  }
  for (let number = 1; number <= count; number += 1) {
    const start = starts[count - number] ?? 0;
    page.addItem(bytes, start, align8(indexTupleBytes(view, start)), number, "insert");
  }
  data.skip(data.left);
}

const starts: number[] = [];

/** Length of the item at `at` of the data, which must have all of it. */
function itemBytesAt(at: number): number {
  invariant(at + INDEX_TUPLE_HEADER_BYTES <= data.end, "an item is cut off");
  const bytes = indexTupleBytes(data.view, at);
  invariant(bytes >= INDEX_TUPLE_HEADER_BYTES && at + align8(bytes) <= data.end, "an item is cut off");
  return bytes;
}

function insert(record: WalRecord, ref: BlockRef, page: Page): void {
  if (ref.id === 1) {
    clearIncompleteSplit(page);
    return;
  }
  if (ref.id === 2) {
    meta(record, ref, page);
    return;
  }
  const number = main.readMain(record).u16();
  data.readData(record, ref);
  if (record.operation !== BTREE.insertPosting) {
    const bytes = data.left;
    page.addItem(data.bytes, data.take(bytes), bytes, number, "insert");
    return;
  }
  const place = data.u16();
  itemFits();
  const old = page.normalItem(number - 1);
  const { posting, tuple } = swapPosting(data, data.at, page, old, place);
  copyBytes(posting.bytes, 0, page.bytes, old, posting.length);
  page.addItem(tuple.bytes, 0, align8(tuple.length), number, "insert");
}

/** The tuple of an INSERT_POST need not be padded in the record. */
function itemFits(): void {
  invariant(data.left >= INDEX_TUPLE_HEADER_BYTES, "an item is cut off");
  invariant(indexTupleBytes(data.view, data.at) <= data.left, "an item is cut off");
}

const scratch = new Page(new Uint8Array(8192));

function split(record: WalRecord, ref: BlockRef, page: Page, onLeft: boolean): void {
  const level = main.readMain(record).u32();
  const left = record.ref(0);
  const right = record.ref(1);
  invariant(left !== undefined && right !== undefined, "a half of the split is not named");
  const leaf = level === 0 ? BTREE_PAGE.leaf : 0;
  if (ref.id === 3) clearIncompleteSplit(page);
  else if (ref.id === 2) page.view.setUint32(page.special + OPAQUE.prev, right.block, true);
  else if (ref.id === 1) {
    initPage(page, left.block, record.ref(2)?.block ?? NO_BLOCK, level, leaf);
    data.readData(record, ref);
    restoreItems(page);
  } else {
    rebuildLeftHalf(record, ref, page, onLeft);
    const { special, view } = page;
    setFlags(page, BTREE_PAGE.incompleteSplit | leaf);
    view.setUint32(special + OPAQUE.next, right.block, true);
    view.setUint16(special + OPAQUE.cycleId, 0, true);
  }
}

/** `main` is behind the level; what stays of the page, the new tuple if it belongs there, and a new upper bound. */
function rebuildLeftHalf(record: WalRecord, ref: BlockRef, page: Page, onLeft: boolean): void {
  const firstRight = main.u16();
  const newNumber = main.u16();
  const place = main.u16();
  scratch.bytes.set(page.bytes);
  data.readData(record, ref);
  let swapped: SwappedPosting | undefined;
  let newAt = 0;
  let newBytes = 0;
  if (onLeft || place !== 0) {
    newAt = data.at;
    newBytes = align8(itemBytesAt(newAt));
    data.skip(newBytes);
    if (place !== 0) swapped = swapPosting(data, newAt, scratch, scratch.normalItem(newNumber - 1), place);
  }
  const highKey = data.at;
  const highKeyBytes = align8(itemBytesAt(highKey));
  data.skip(highKeyBytes);
  data.finish();
  const addNew = (number: number): void => {
    if (swapped === undefined) page.addItem(data.bytes, newAt, newBytes, number, "insert");
    else page.addItem(swapped.tuple.bytes, 0, newBytes, number, "insert");
  };
  page.initKeepingSpecial();
  page.addItem(data.bytes, highKey, highKeyBytes, HIGH_KEY, "insert");
  let number = HIGH_KEY + 1;
  let old = firstDataItem(scratch);
  for (; old < firstRight; old += 1) {
    if (swapped !== undefined && old === newNumber - 1) {
      page.addItem(swapped.posting.bytes, 0, align8(swapped.posting.length), number, "insert");
      number += 1;
      continue;
    }
    if (onLeft && old === newNumber) {
      addNew(number);
      number += 1;
    }
    // A line pointer's state is not carried over: a new page has none but normal ones.
    copyItem(page, old, number);
    number += 1;
  }
  if (onLeft && old === newNumber) addNew(number);
}

const postings = new PostingList();

/** Rows with equal keys are put into posting lists, as the intervals in the record say. */
function dedup(record: WalRecord, ref: BlockRef, page: Page): void {
  const intervals = main.readMain(record).u16();
  const intervalsAt = data.readData(record, ref).take(intervals * 4);
  data.finish();
  const { view } = data;
  scratch.bytes.set(page.bytes);
  const first = firstDataItem(scratch);
  const last = scratch.maxOffset;
  page.initKeepingSpecial();
  if (first > HIGH_KEY) copyItem(page, HIGH_KEY, HIGH_KEY);
  let interval = 0;
  let base = 0;
  let items = 0;
  const finish = (): void => {
    const number = page.maxOffset + 1;
    if (items === 1) copyItem(page, base, number);
    else {
      const { bytes, length } = postings.form();
      page.addItem(bytes, 0, length, number, "insert");
      interval += 1;
    }
  };
  for (let number = first; number <= last; number += 1) {
    const tuple = scratch.item(number);
    const joins =
      number > first &&
      interval < intervals &&
      view.getUint16(intervalsAt + 4 * interval, true) === base &&
      items < view.getUint16(intervalsAt + 4 * interval + 2, true);
    if (joins) {
      postings.add(scratch.bytes, scratch.view, tuple);
      items += 1;
      continue;
    }
    if (number > first) finish();
    postings.begin(scratch.bytes, scratch.view, tuple);
    postings.add(scratch.bytes, scratch.view, tuple);
    base = number;
    items = 1;
  }
  if (items > 0) finish();
  invariant(interval === intervals, "intervals are left over");
  setFlags(page, flagsOf(page) & ~BTREE_PAGE.hasGarbage);
}

function copyItem(page: Page, from: number, number: number): void {
  page.addItem(scratch.bytes, scratch.item(from), scratch.itemBytes(from), number, "insert");
}

/** DELETE and VACUUM: single pointers go out of posting lists first, then whole items. */
function deleteItems(record: WalRecord, ref: BlockRef, page: Page): void {
  const isVacuum = record.operation === BTREE.vacuum;
  main.readMain(record).skip(isVacuum ? 0 : 4);
  const deleted = main.u16();
  const updated = main.u16();
  // A vacuum that only takes back a cycle id deletes nothing, and has no data.
  data.readData(record, ref);
  const deletedAt = data.take(2 * deleted);
  const updatedAt = data.take(2 * updated);
  const { view } = data;
  for (let index = 0; index < updated; index += 1) {
    const number = view.getUint16(updatedAt + 2 * index, true);
    const count = data.u16();
    const numbers = data.take(2 * count);
    const tuple = page.item(number);
    invariant(postingCount(page.view, tuple) > count, "a posting list would become empty");
    postings.begin(page.bytes, page.view, tuple);
    postings.addWithout(page.bytes, page.view, tuple, view, numbers, count);
    const { bytes, length } = postings.form();
    page.overwriteIndexItem(number, bytes, 0, align8(length));
  }
  data.finish();
  if (deleted > 0) page.deleteIndexItems(view, deletedAt, deleted);
  setFlags(page, flagsOf(page) & ~BTREE_PAGE.hasGarbage);
  if (isVacuum && record.pgMajor >= 18) page.view.setUint16(page.special + OPAQUE.cycleId, 0, true);
}

/** A leaf page on its way out of the tree: an upper bound that names the topmost page to go with it. */
function makeHalfDead(page: Page, left: number, right: number, topParent: number): void {
  initPage(page, left, right, 0, BTREE_PAGE.halfDead | BTREE_PAGE.leaf);
  const tuple = page.makeRoom(INDEX_TUPLE_HEADER_BYTES, HIGH_KEY, "insert");
  setBlockOfTuple(page.view, tuple, topParent);
  page.view.setUint16(tuple + INDEX_TUPLE.offset, 0, true);
  page.view.setUint16(tuple + INDEX_TUPLE.info, INDEX_TUPLE_HEADER_BYTES | ALTERNATIVE_TID, true);
}

function unlinkPage(record: WalRecord, ref: BlockRef, page: Page): void {
  const left = main.readMain(record).u32();
  const right = main.u32();
  const level = main.u32();
  main.skip(4);
  const safeXid = main.take(8);
  const leafLeft = main.u32();
  const leafRight = main.u32();
  const leafTopParent = main.u32();
  const { view } = page;
  if (ref.id === 1) view.setUint32(page.special + OPAQUE.next, right, true);
  else if (ref.id === 2) view.setUint32(page.special + OPAQUE.prev, left, true);
  else if (ref.id === 3) makeHalfDead(page, leafLeft, leafRight, leafTopParent);
  else if (ref.id === 4) meta(record, ref, page);
  else {
    const leaf = level === 0 ? BTREE_PAGE.leaf : 0;
    initPage(page, left, right, level, BTREE_PAGE.deleted | BTREE_PAGE.hasFullXid | leaf);
    copyBytes(main.bytes, safeXid, page.bytes, PAGE_HEADER_BYTES, 8);
    page.lower = PAGE_HEADER_BYTES + 8;
    page.upper = page.special;
  }
}

function newRoot(record: WalRecord, ref: BlockRef, page: Page): void {
  const level = main.readMain(record).skip(4).u32();
  if (ref.id === 1) clearIncompleteSplit(page);
  else if (ref.id === 2) meta(record, ref, page);
  else {
    initPage(page, NO_BLOCK, NO_BLOCK, level, BTREE_PAGE.root | (level === 0 ? BTREE_PAGE.leaf : 0));
    if (level === 0) return;
    data.readData(record, ref);
    restoreItems(page);
  }
}

function markPageHalfDead(record: WalRecord, ref: BlockRef, page: Page): void {
  const number = main.readMain(record).u16();
  main.skip(2);
  main.skip(4);
  const left = main.u32();
  const right = main.u32();
  const topParent = main.u32();
  if (ref.id === 0) {
    makeHalfDead(page, left, right, topParent);
    return;
  }
  // The parent: the pointer to the page takes over its right neighbour's subtree, whose own pointer goes.
  const next = page.normalItem(number + 1);
  const block = blockOfTuple(page.view, next);
  setBlockOfTuple(page.view, page.normalItem(number), block);
  page.deleteIndexItem(number + 1);
}

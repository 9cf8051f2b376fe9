/**
 * Redo of resource manager Gist: page updates and splits (gistxlog.c).
 *
 * A child page gets its sequence number from the record that inserts its pointer, and it gets it even if the page came as
 * an image: the image is from before.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { invariant, NotSupported } from "./errors.js";
import { INDEX_TUPLE_HEADER_BYTES, indexTupleBytes } from "./index-tuple.js";
import type { Page } from "./page.js";
import { data, main } from "./replay.js";

export const GIST = { pageUpdate: 0x00, pageSplit: 0x30 } as const;

const OPAQUE = { nsnHigh: 0, nsnLow: 4, rightLink: 8, flags: 12, pageId: 14 } as const;
const OPAQUE_BYTES = 16;
const PAGE_ID = 0xff81;
const FLAG = { leaf: 1, tuplesDeleted: 4, followRight: 8 } as const;
const ROOT_BLOCK = 0;
const NO_BLOCK = 0xffff_ffff;

/** Id of the reference to the child whose split the record finishes. */
function childId(record: WalRecord): number {
  return record.operation === GIST.pageUpdate ? 1 : 0;
}

/** Whether the page is a child that gets its sequence number from the record. */
export function isGistChild(record: WalRecord, ref: BlockRef): boolean {
  const { operation } = record;
  return (operation === GIST.pageUpdate || operation === GIST.pageSplit) && ref.id === childId(record);
}

/** Gives a child the record's end as its sequence number: its pointer is in the parent now. */
export function finishGistChild(record: WalRecord, page: Page): void {
  setSequence(page, record.endHigh, record.endLow);
  mark(page, FLAG.followRight, false);
}

export function replayGist(record: WalRecord, ref: BlockRef, page: Page): boolean {
  if (isGistChild(record, ref)) finishGistChild(record, page);
  else if (record.operation === GIST.pageUpdate) updatePage(record, ref, page);
  else if (record.operation === GIST.pageSplit) splitPage(record, ref, page);
  else throw new NotSupported("of Gist only page updates and splits are replayed");
  return true;
}

function setSequence(page: Page, high: number, low: number): void {
  page.view.setUint32(page.special + OPAQUE.nsnHigh, high, true);
  page.view.setUint32(page.special + OPAQUE.nsnLow, low, true);
}

function mark(page: Page, flag: number, on: boolean): void {
  const at = page.special + OPAQUE.flags;
  const flags = page.view.getUint16(at, true);
  page.view.setUint16(at, on ? flags | flag : flags & ~flag, true);
}

/** Appends the tuples that `data` has next, up to its end. */
function appendTuples(page: Page): void {
  for (let number = page.maxOffset + 1; data.left > 0; number += 1) {
    invariant(data.left >= INDEX_TUPLE_HEADER_BYTES, "a tuple is cut off");
    const bytes = indexTupleBytes(data.view, data.at);
    page.addItem(data.bytes, data.take(bytes), bytes, number, "overwrite");
  }
}

function updatePage(record: WalRecord, ref: BlockRef, page: Page): void {
  const deleted = main.readMain(record).u16();
  const inserted = main.u16();
  data.readData(record, ref);
  if (deleted === 1 && inserted === 1) {
    const number = data.u16();
    invariant(data.left >= INDEX_TUPLE_HEADER_BYTES, "a tuple is cut off");
    const bytes = indexTupleBytes(data.view, data.at);
    page.overwriteIndexItem(number, data.bytes, data.take(bytes), bytes);
    data.finish();
    return;
  }
  if (deleted > 0) {
    page.deleteIndexItems(data.view, data.take(2 * deleted), deleted);
    const isLeaf = (page.view.getUint16(page.special + OPAQUE.flags, true) & FLAG.leaf) !== 0;
    if (isLeaf) mark(page, FLAG.tuplesDeleted, true);
  }
  appendTuples(page);
}

/** References 1 to n are the pages that the old one became, linked in their order. */
function splitPage(record: WalRecord, ref: BlockRef, page: Page): void {
  const oldRightLink = main.readMain(record).u32();
  main.skip(4);
  const oldSequenceLow = main.u32();
  const oldSequenceHigh = main.u32();
  const oldIsLeaf = main.u8() !== 0;
  main.skip(1);
  const pages = main.u16();
  const markFollowRight = main.u8() !== 0;
  const isRoot = ref.block === ROOT_BLOCK;
  const isLast = ref.id === pages;
  const next = record.ref(ref.id + 1);
  invariant(
    ref.id >= 1 && ref.id <= pages && (isLast || next !== undefined),
    "a page of the split is not named",
  );
  page.init(OPAQUE_BYTES);
  page.view.setUint16(page.special + OPAQUE.pageId, PAGE_ID, true);
  mark(page, FLAG.leaf, oldIsLeaf && !isRoot);
  data.readData(record, ref);
  const count = data.u32();
  appendTuples(page);
  invariant(page.maxOffset === count, "another number of tuples");
  const rootSplit = record.ref(1)?.block === ROOT_BLOCK;
  const rightLink = isRoot ? NO_BLOCK : isLast ? oldRightLink : (next?.block ?? NO_BLOCK);
  page.view.setUint32(page.special + OPAQUE.rightLink, rightLink, true);
  setSequence(page, oldSequenceHigh, oldSequenceLow);
  mark(page, FLAG.followRight, !isRoot && !isLast && !rootSplit && markFollowRight);
}

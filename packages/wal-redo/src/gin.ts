/**
 * Redo of resource manager Gin: entry pages, the list of pending entries, and what comes as images (ginxlog.c).
 *
 * The posting trees, whose leaves are compressed, are not replayed.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { invariant, NotSupported } from "./errors.js";
import { INDEX_TUPLE, INDEX_TUPLE_HEADER_BYTES, indexTupleBytes, setBlockOfTuple } from "./index-tuple.js";
import { copyBytes, PAGE_HEADER_BYTES } from "./page.js";
import type { Page } from "./page.js";
import { data, main } from "./replay.js";

export const GIN = {
  insert: 0x20,
  split: 0x30,
  vacuumPage: 0x40,
  updateMeta: 0x60,
  insertListPage: 0x70,
  deleteListPages: 0x80,
} as const;

const OPAQUE = { rightLink: 0, maxOffset: 4, flags: 6 } as const;
const OPAQUE_BYTES = 8;
const FLAG = { deleted: 4, meta: 8, list: 16, listFullRow: 32, incompleteSplit: 64 } as const;
const INSERT_FLAG = { isData: 1, isLeaf: 2 } as const;
const NO_BLOCK = 0xffff_ffff;
const META_BYTES = 56;
/** The metadata in UPDATE_META: behind the relation, aligned to 8. */
const META_AT = 16;

export function replayGin(record: WalRecord, ref: BlockRef, page: Page): boolean {
  switch (record.operation) {
    case GIN.insert:
      insert(record, ref, page);
      break;
    case GIN.updateMeta:
      updateMeta(record, ref, page);
      break;
    case GIN.insertListPage:
      insertListPage(record, ref, page);
      break;
    case GIN.deleteListPages:
      main.readMain(record);
      if (ref.id === 0) initMeta(page);
      else initPage(page, FLAG.deleted);
      break;
    default:
      throw new NotSupported("of Gin only entries and the pending list are replayed");
  }
  return true;
}

function initPage(page: Page, flags: number): void {
  page.init(OPAQUE_BYTES);
  page.view.setUint32(page.special + OPAQUE.rightLink, NO_BLOCK, true);
  page.view.setUint16(page.special + OPAQUE.flags, flags, true);
}

/** Writes the metapage that `main` has next. */
function initMeta(page: Page): void {
  initPage(page, FLAG.meta);
  copyBytes(main.bytes, main.take(META_BYTES), page.bytes, PAGE_HEADER_BYTES, META_BYTES);
  page.lower = PAGE_HEADER_BYTES + META_BYTES;
}

function insert(record: WalRecord, ref: BlockRef, page: Page): void {
  const flags = main.readMain(record).u16();
  if (ref.id === 1) {
    const at = page.special + OPAQUE.flags;
    page.view.setUint16(at, page.view.getUint16(at, true) & ~FLAG.incompleteSplit, true);
    return;
  }
  if ((flags & INSERT_FLAG.isData) !== 0) throw new NotSupported("posting trees of Gin are not replayed");
  data.readData(record, ref);
  const number = data.u16();
  const isDelete = data.u8() !== 0;
  data.skip(1);
  if ((flags & INSERT_FLAG.isLeaf) === 0) {
    main.skip(4);
    const right = ((main.u16() << 16) | main.u16()) >>> 0;
    const old = page.normalItem(number);
    setBlockOfTuple(page.view, old, right);
    page.view.setUint16(old + INDEX_TUPLE.offset, 0, true);
  }
  if (isDelete) page.deleteIndexItem(number);
  addTuple(page, number);
}

/** Adds the index tuple that `data` has next. */
function addTuple(page: Page, number: number): void {
  invariant(data.left >= INDEX_TUPLE_HEADER_BYTES, "a tuple is cut off");
  const bytes = indexTupleBytes(data.view, data.at);
  page.addItem(data.bytes, data.take(bytes), bytes, number, "insert");
}

function appendTuples(page: Page, count: number): void {
  for (let index = 0; index < count; index += 1) addTuple(page, page.maxOffset + 1);
  data.finish();
}

function updateMeta(record: WalRecord, ref: BlockRef, page: Page): void {
  main.readMain(record).skip(META_AT);
  if (ref.id === 0) {
    initMeta(page);
    return;
  }
  main.skip(META_BYTES);
  const oldTail = main.u32();
  const newRightLink = main.u32();
  const count = main.u32();
  const { special, view } = page;
  if (count > 0) {
    data.readData(record, ref);
    appendTuples(page, count);
    view.setUint16(special + OPAQUE.maxOffset, view.getUint16(special + OPAQUE.maxOffset, true) + 1, true);
  } else if (oldTail !== NO_BLOCK) view.setUint32(special + OPAQUE.rightLink, newRightLink, true);
}

function insertListPage(record: WalRecord, ref: BlockRef, page: Page): void {
  const rightLink = main.readMain(record).u32();
  const count = main.u32();
  initPage(page, FLAG.list);
  const { special, view } = page;
  view.setUint32(special + OPAQUE.rightLink, rightLink, true);
  if (rightLink === NO_BLOCK) {
    view.setUint16(special + OPAQUE.flags, FLAG.list | FLAG.listFullRow, true);
    view.setUint16(special + OPAQUE.maxOffset, 1, true);
  }
  data.readData(record, ref);
  appendTuples(page, count);
}

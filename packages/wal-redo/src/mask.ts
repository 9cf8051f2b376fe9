/**
 * What two states of a page may differ in and still be the same: hints, free space, what redo does not restore.
 *
 * PostgreSQL compares a page after redo with the image that `wal_consistency_checking` put into the record, both masked
 * (bufmask.c and the access methods' `mask` functions). One is not taken over: PostgreSQL masks the visibility map whole,
 * as the page header says that all of it is free space; here its bits are compared.
 */
import { BLOCK_BYTES } from "@millrace/lsn";
import { FORK } from "@millrace/wal-decoder";
import { INFOMASK, TUPLE } from "./heap-tuple.js";
import { align8, LINE_POINTER, Page, PAGE_FLAG, PAGE_HEADER, PAGE_HEADER_BYTES } from "./page.js";
import { RMGR } from "./rmgr.js";

/** The value that PostgreSQL writes over what is masked. */
const MASK = 0;

const ALL_PAGE_FLAGS = PAGE_FLAG.hasFreeLinePointers | PAGE_FLAG.full | PAGE_FLAG.allVisible;

/** Offset of a tuple's pointer while an insertion that may be taken back is under way (SpecTokenOffsetNumber). */
const SPECULATIVE_OFFSET = 0xfffe;

const BTREE_FLAG = { deleted: 0x04, splitEnd: 0x20, hasGarbage: 0x40, leaf: 0x01 } as const;
const HASH_FLAG = { pageType: 0x0f, unused: 0, bucketOrOverflow: 3, hasDeadTuples: 0x80 } as const;
const GIN_FLAG_DELETED = 4;
const GIST_FLAG = { leaf: 1, followRight: 8, hasGarbage: 16 } as const;
const BRIN_PAGE = { type: 6, flags: 4, regular: 0xf093, meta: 0xf091, evacuate: 1 } as const;

/**
 * A copy of a page in which everything is gone that two states of it may differ in.
 *
 * @param page 8192 bytes, borrowed
 * @param rmid resource manager of the record that changed the page
 * @param fork fork of the page's relation
 * @param block number of the block
 * @returns the caller's; a page that was never initialised comes back without its LSN and checksum only
 */
export function maskPage(page: Uint8Array, rmid: number, fork: number, block: number): Uint8Array {
  const masked = new Page(Uint8Array.from(page));
  masked.bytes.fill(MASK, PAGE_HEADER.lsnHigh, PAGE_HEADER.flags);
  if (masked.isNew || fork === FORK.vm) return masked.bytes;
  switch (rmid) {
    case RMGR.heap:
    case RMGR.heap2:
      maskHints(masked);
      maskFreeSpace(masked);
      maskHeapTuples(masked, block);
      break;
    case RMGR.btree:
      maskBtree(masked);
      break;
    case RMGR.hash:
      maskHash(masked);
      break;
    case RMGR.gin:
      maskGin(masked);
      break;
    case RMGR.gist:
      maskGist(masked);
      break;
    case RMGR.spgist:
      maskHints(masked);
      // Metapages have no items, and say nothing about their free space.
      if (masked.lower >= PAGE_HEADER_BYTES) maskFreeSpace(masked);
      break;
    case RMGR.brin:
      maskBrin(masked);
      break;
    default:
      maskFreeSpace(masked);
  }
  return masked.bytes;
}

/** Hints in the page header. */
function maskHints(page: Page): void {
  page.view.setUint32(PAGE_HEADER.pruneXid, MASK, true);
  page.mark(ALL_PAGE_FLAGS, false);
}

function maskFreeSpace(page: Page): void {
  const { lower, upper, special } = page;
  if (lower <= upper && upper <= special && special <= BLOCK_BYTES) page.bytes.fill(MASK, lower, upper);
}

/** All of a page that is out of use: what is on it was not removed. */
function maskContents(page: Page): void {
  page.lower = page.upper = MASK;
  page.bytes.fill(MASK, PAGE_HEADER_BYTES, BLOCK_BYTES);
}

/** Dead items of an index are hints. */
function maskItemStates(page: Page): void {
  for (let number = 1; number <= page.maxOffset; number += 1) {
    if (page.itemState(number) === LINE_POINTER.unused) continue;
    page.setPointer(number, page.itemOffset(number), LINE_POINTER.unused, page.itemBytes(number));
  }
}

function maskHeapTuples(page: Page, block: number): void {
  const { view } = page;
  for (let number = 1; number <= page.maxOffset; number += 1) {
    const bytes = page.itemBytes(number);
    const tuple = page.itemOffset(number);
    if (page.itemState(number) === LINE_POINTER.normal) {
      maskHeapTuple(page, tuple);
      if (view.getUint16(tuple + TUPLE.ctidOffset, true) === SPECULATIVE_OFFSET) {
        view.setUint16(tuple + TUPLE.ctidBlockHigh, block >>> 16, true);
        view.setUint16(tuple + TUPLE.ctidBlockLow, block & 0xffff, true);
        view.setUint16(tuple + TUPLE.ctidOffset, number, true);
      }
    }
    if (bytes > 0) page.bytes.fill(MASK, tuple + bytes, tuple + align8(bytes));
  }
}

/**
 * Hint bits, and the command id, which redo does not know. PostgreSQL masks all bits about transactions of a tuple that is
 * not frozen; those of a lock or an update are no hints, and are compared here.
 */
function maskHeapTuple(page: Page, tuple: number): void {
  const { view } = page;
  const infomask = view.getUint16(tuple + TUPLE.infomask, true);
  const frozen = (infomask & INFOMASK.xminFrozen) === INFOMASK.xminFrozen;
  const hints = INFOMASK.comboCommandId | INFOMASK.xmaxDecided | (frozen ? 0 : INFOMASK.xminFrozen);
  view.setUint16(tuple + TUPLE.infomask, infomask & ~hints, true);
  view.setUint32(tuple + TUPLE.commandId, MASK, true);
}

function maskBtree(page: Page): void {
  maskHints(page);
  maskFreeSpace(page);
  const at = page.special + 12;
  const flags = page.view.getUint16(at, true);
  if ((flags & BTREE_FLAG.deleted) === 0 && (flags & BTREE_FLAG.leaf) !== 0) maskItemStates(page);
  page.view.setUint16(at, flags & ~(BTREE_FLAG.hasGarbage | BTREE_FLAG.splitEnd), true);
  page.view.setUint16(at + 2, MASK, true);
}

function maskHash(page: Page): void {
  maskHints(page);
  maskFreeSpace(page);
  const at = page.special + 12;
  const flags = page.view.getUint16(at, true);
  const type = flags & HASH_FLAG.pageType;
  if (type === HASH_FLAG.unused) maskContents(page);
  else {
    if ((type & HASH_FLAG.bucketOrOverflow) !== 0) maskItemStates(page);
    page.view.setUint16(at, flags & ~HASH_FLAG.hasDeadTuples, true);
  }
}

function maskGin(page: Page): void {
  maskHints(page);
  const flags = page.view.getUint16(page.special + 6, true);
  if ((flags & GIN_FLAG_DELETED) !== 0) maskContents(page);
  else if (page.lower > PAGE_HEADER_BYTES) maskFreeSpace(page);
}

function maskGist(page: Page): void {
  maskHints(page);
  maskFreeSpace(page);
  const { special, view } = page;
  view.setUint32(special, MASK, true);
  view.setUint32(special + 4, MASK, true);
  const flags = view.getUint16(special + 12, true);
  view.setUint16(special + 12, (flags | GIST_FLAG.followRight) & ~GIST_FLAG.hasGarbage, true);
  if ((flags & GIST_FLAG.leaf) !== 0) maskItemStates(page);
}

function maskBrin(page: Page): void {
  maskHints(page);
  const { special, view } = page;
  const type = view.getUint16(special + BRIN_PAGE.type, true);
  if (type === BRIN_PAGE.regular || (type === BRIN_PAGE.meta && page.lower > PAGE_HEADER_BYTES)) {
    maskFreeSpace(page);
  }
  const flags = view.getUint16(special + BRIN_PAGE.flags, true);
  view.setUint16(special + BRIN_PAGE.flags, flags & ~BRIN_PAGE.evacuate, true);
}

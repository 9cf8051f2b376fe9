/**
 * Redo of resource manager SPGist: leaf tuples that are added (spgxlog.c). All that reorganises the tree is not replayed.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { invariant, NotSupported } from "./errors.js";
import { INDEX_TUPLE, indexTupleBytes, setBlockOfTuple } from "./index-tuple.js";
import type { Page } from "./page.js";
import { main } from "./replay.js";

export const SPGIST_ADD_LEAF = 0x10;

const OPAQUE = { flags: 0, placeholders: 4, pageId: 6 } as const;
const OPAQUE_BYTES = 8;
const PAGE_ID = 0xff82;
const FLAG = { leaf: 4, nulls: 8 } as const;
const STATE_MASK = 3;
const PLACEHOLDER = 3;
/** The next tuple of a leaf's chain: the low 14 bits of a word that has flags above. */
const CHAIN_AT = 4;
const CHAIN_MASK = 0x3fff;
const LEAF_HEADER_BYTES = 12;
const INNER_HEADER_BYTES = 8;

export function replaySpgist(record: WalRecord, ref: BlockRef, page: Page): boolean {
  if (record.operation !== SPGIST_ADD_LEAF)
    throw new NotSupported("of SPGist only added leaves are replayed");
  main.readMain(record);
  const isNew = main.u8() !== 0;
  const storesNulls = main.u8() !== 0;
  const leaf = main.u16();
  const head = main.u16();
  const parent = main.u16();
  const node = main.u16();
  if (ref.id === 1) {
    const leafRef = record.ref(0);
    invariant(leafRef !== undefined, "no leaf page is named");
    linkNode(page, page.normalItem(parent), node, leafRef.block, leaf);
    return true;
  }
  if (isNew) {
    page.init(OPAQUE_BYTES);
    page.view.setUint16(page.special + OPAQUE.flags, FLAG.leaf | (storesNulls ? FLAG.nulls : 0), true);
    page.view.setUint16(page.special + OPAQUE.pageId, PAGE_ID, true);
  }
  invariant(main.left >= LEAF_HEADER_BYTES, "a tuple is cut off");
  const bytes = main.view.getUint32(main.at, true) >>> 2;
  const from = main.take(bytes);
  if (leaf === head) {
    page.deleteIndexItem(leaf);
    page.addItem(main.bytes, from, bytes, leaf, "insert");
    return true;
  }
  if (leaf <= page.maxOffset) replacePlaceholder(page, leaf);
  page.addItem(main.bytes, from, bytes, leaf, "insert");
  if (head !== 0) {
    const tuple = page.normalItem(head);
    const chain = page.view.getUint16(tuple + CHAIN_AT, true);
    page.view.setUint16(tuple + CHAIN_AT, (chain & ~CHAIN_MASK) | (leaf & CHAIN_MASK), true);
  }
  return true;
}

function replacePlaceholder(page: Page, number: number): void {
  const state = page.view.getUint32(page.item(number), true) & STATE_MASK;
  invariant(state === PLACEHOLDER, `item ${String(number)} is in use already`);
  const at = page.special + OPAQUE.placeholders;
  page.view.setUint16(at, page.view.getUint16(at, true) - 1, true);
  page.deleteIndexItem(number);
}

/** Points a node of an inner tuple to a leaf. */
function linkNode(page: Page, tuple: number, node: number, block: number, number: number): void {
  const { view } = page;
  const header = view.getUint32(tuple, true);
  const nodes = (header >>> 3) & 0x1fff;
  const prefixBytes = header >>> 16;
  invariant(node < nodes, `node ${String(node)} of ${String(nodes)}`);
  let at = tuple + INNER_HEADER_BYTES + prefixBytes;
  for (let index = 0; index < node; index += 1) at += indexTupleBytes(view, at);
  setBlockOfTuple(view, at, block);
  view.setUint16(at + INDEX_TUPLE.offset, number, true);
}

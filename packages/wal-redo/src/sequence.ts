/**
 * Redo of records that hold a page's contents in another form: sequences (sequence.c) and generic WAL (generic_xlog.c).
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { invariant } from "./errors.js";
import { copyBytes, PAGE_HEADER_BYTES } from "./page.js";
import type { Page } from "./page.js";
import { data, main } from "./replay.js";

const SEQUENCE_MAGIC = 0x1717;
const SEQUENCE_SPECIAL_BYTES = 4;
/** The relation, which the block reference names too. */
const LOCATOR_BYTES = 12;

/** A sequence's page has one tuple, which the record has whole. */
export function replaySequence(record: WalRecord, _ref: BlockRef, page: Page): boolean {
  main.readMain(record).skip(LOCATOR_BYTES);
  page.init(SEQUENCE_SPECIAL_BYTES);
  page.view.setUint32(page.special, SEQUENCE_MAGIC, true);
  const bytes = main.left;
  page.addItem(main.bytes, main.take(bytes), bytes, 1, "insert");
  return true;
}

/** Pieces of the page, whatever they mean; the free space becomes zeros. */
export function replayGeneric(record: WalRecord, ref: BlockRef, page: Page): boolean {
  data.readData(record, ref);
  while (data.left > 0) {
    const offset = data.u16();
    const bytes = data.u16();
    invariant(offset + bytes <= page.bytes.byteLength, "a piece lies beyond the page");
    copyBytes(data.bytes, data.take(bytes), page.bytes, offset, bytes);
  }
  const { lower, upper } = page;
  invariant(lower >= PAGE_HEADER_BYTES && lower <= upper && upper <= page.bytes.byteLength, "no free space");
  page.bytes.fill(0, lower, upper);
  return true;
}

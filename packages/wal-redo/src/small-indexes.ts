/**
 * Redo of the records of Hash and BRIN that change a page by its contents (hash_xlog.c, brin_xlog.c).
 *
 * The rest of these access methods' records are rare, and refused unless they bring images.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { NotSupported } from "./errors.js";
import { PAGE_HEADER_BYTES } from "./page.js";
import type { Page } from "./page.js";
import { data, main } from "./replay.js";

export const HASH_INSERT = 0x20;
export const BRIN_SAMEPAGE_UPDATE = 0x30;
const OPERATION = 0x70;

/** The number of tuples in a hash index's metapage, a double behind magic and version. */
const HASH_META_TUPLES = PAGE_HEADER_BYTES + 8;

export function replayHash(record: WalRecord, ref: BlockRef, page: Page): boolean {
  if (record.operation !== HASH_INSERT) throw new NotSupported("of Hash only inserts are replayed");
  if (ref.id === 1) {
    page.view.setFloat64(HASH_META_TUPLES, page.view.getFloat64(HASH_META_TUPLES, true) + 1, true);
    return true;
  }
  const number = main.readMain(record).u16();
  const bytes = data.readData(record, ref).left;
  page.addItem(data.bytes, data.take(bytes), bytes, number, "insert");
  return true;
}

export function replayBrin(record: WalRecord, ref: BlockRef, page: Page): boolean {
  if ((record.operation & OPERATION) !== BRIN_SAMEPAGE_UPDATE) {
    throw new NotSupported("of BRIN only updates within a page are replayed");
  }
  const number = main.readMain(record).u16();
  const bytes = data.readData(record, ref).left;
  page.overwriteIndexItem(number, data.bytes, data.take(bytes), bytes);
  return true;
}

/**
 * What records do to pages that none of their block references names: the visibility map's.
 *
 * A heap record that ends a block's visibility says so with a flag, and redo finds the map's page itself; so does the
 * truncation of a relation with the map's tail (heapam_xlog.c, visibilitymap.c). Whoever keeps pages by their history must
 * put these changes into the map's history. They change the map and not its LSN: they are applied exactly once, in order.
 */
import { FORK } from "@millrace/wal-decoder";
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { CLEARED, HEAP, HEAP_OPERATION_MASK } from "./heap.js";
import { HEAP2 } from "./heap2.js";
import { PAGE_HEADER_BYTES } from "./page.js";
import type { Page } from "./page.js";
import { main } from "./replay.js";
import { RMGR } from "./rmgr.js";
import { clearVisibility, mapBlockOf, mapByteOf, mapShiftOf, VISIBILITY } from "./visibility-map.js";

/** A change of a visibility map's page. */
export interface MapEffect {
  readonly kind:
    /** The bits of `heapBlock` that `bits` has are cleared. */
    | "clear"
    /** All bits of `heapBlock` and of the blocks behind it are cleared. */
    | "truncate";
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  /** Block of the map's fork. */
  readonly mapBlock: number;
  readonly heapBlock: number;
  /** 1 all visible, 2 all frozen; 3 for a truncation. */
  readonly bits: number;
}

const NONE: readonly MapEffect[] = [];
const STORAGE_TRUNCATE = 0x20;
const TRUNCATE_MAP = 2;

/**
 * The changes that the record makes to visibility maps without naming their pages; nearly always none.
 *
 * @returns in the order in which they are to be made
 * @throws {InvariantViolation} the record is shorter than its type
 */
export function implicitEffects(record: WalRecord): readonly MapEffect[] {
  const { rmid } = record;
  if (rmid === RMGR.heap) return namesMap(record) ? NONE : ofHeap(record);
  if (rmid === RMGR.heap2) return namesMap(record) ? NONE : ofHeap2(record);
  return rmid === RMGR.storage && record.operation === STORAGE_TRUNCATE ? ofTruncation(record) : NONE;
}

/**
 * Makes one such change.
 *
 * @param page the block `mapBlock` of the map, changed in place; one that was never initialised has nothing to clear
 * @returns whether a bit was set that is not any more
 */
export function applyMapEffect(effect: MapEffect, page: Page): boolean {
  if (effect.kind === "clear") return clearVisibility(page, effect.mapBlock, effect.heapBlock, effect.bits);
  const at = mapByteOf(effect.heapBlock);
  const kept = (page.bytes[at] ?? 0) & ((1 << mapShiftOf(effect.heapBlock)) - 1);
  const changes = kept !== page.bytes[at] || page.bytes.subarray(at + 1).some((byte) => byte !== 0);
  page.bytes[at] = kept;
  page.bytes.fill(0, at + 1);
  return changes;
}

/** Whether the record names a map's page: it then says all that becomes of it. */
function namesMap(record: WalRecord): boolean {
  for (const ref of record.refs) if (ref.fork === FORK.vm) return true;
  return false;
}

function ofHeap(record: WalRecord): readonly MapEffect[] {
  const operation = record.operation & HEAP_OPERATION_MASK;
  const first = record.ref(0);
  if (first === undefined) return NONE;
  switch (operation) {
    case HEAP.insert:
      return clearIf(flagsAt(record, 2), CLEARED.old, first, VISIBILITY.both);
    case HEAP.delete:
      return clearIf(flagsAt(record, 7), CLEARED.old, first, VISIBILITY.both);
    case HEAP.lock:
      return clearIf(flagsAt(record, 7), CLEARED.old, first, VISIBILITY.allFrozen);
    case HEAP.update:
    case HEAP.hotUpdate: {
      const flags = flagsAt(record, 7);
      const old = clearIf(flags, CLEARED.old, record.ref(1) ?? first, VISIBILITY.both);
      const added = clearIf(flags, CLEARED.new, first, VISIBILITY.both);
      return old.length === 0 ? added : added.length === 0 ? old : [...old, ...added];
    }
    default:
      return NONE;
  }
}

function ofHeap2(record: WalRecord): readonly MapEffect[] {
  const operation = record.operation & HEAP_OPERATION_MASK;
  const first = record.ref(0);
  if (first === undefined) return NONE;
  if (operation === HEAP2.multiInsert) {
    return clearIf(flagsAt(record, 0), CLEARED.old, first, VISIBILITY.both);
  }
  if (operation === HEAP2.lockUpdated) {
    return clearIf(flagsAt(record, 7), CLEARED.old, first, VISIBILITY.allFrozen);
  }
  return NONE;
}

function flagsAt(record: WalRecord, at: number): number {
  return main.readMain(record).skip(at).u8();
}

function clearIf(flags: number, flag: number, heap: BlockRef, bits: number): readonly MapEffect[] {
  if ((flags & flag) === 0) return NONE;
  const { spc, db, rel, block } = heap;
  return [{ kind: "clear", spc, db, rel, mapBlock: mapBlockOf(block), heapBlock: block, bits }];
}

/** The relation shrinks to `blocks`; the map's page that has the first lost block's bits stays if it has others too. */
function ofTruncation(record: WalRecord): readonly MapEffect[] {
  const blocks = main.readMain(record).u32();
  const spc = main.u32();
  const db = main.u32();
  const rel = main.u32();
  if ((main.u32() & TRUNCATE_MAP) === 0) return NONE;
  if (mapByteOf(blocks) === PAGE_HEADER_BYTES && mapShiftOf(blocks) === 0) return NONE;
  const mapBlock = mapBlockOf(blocks);
  return [{ kind: "truncate", spc, db, rel, mapBlock, heapBlock: blocks, bits: VISIBILITY.both }];
}

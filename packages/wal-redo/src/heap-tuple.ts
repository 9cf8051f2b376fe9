/**
 * Heap tuple headers: 23 bytes of transaction ids, a pointer to the next version and two words of flags.
 *
 * Facts of htup_details.h. Records carry five bits about a tuple's lock (`infobits`), which stand for flags in both words.
 */
import type { Page } from "./page.js";

/** Bytes of a tuple header without its null bitmap. */
export const TUPLE_HEADER_BYTES = 23;

/** Byte offsets in a tuple. */
export const TUPLE = {
  xmin: 0,
  xmax: 4,
  /** Command id, or the transaction of an old VACUUM FULL. */
  commandId: 8,
  ctidBlockHigh: 12,
  ctidBlockLow: 14,
  ctidOffset: 16,
  infomask2: 18,
  infomask: 20,
  hoff: 22,
} as const;

export const INFOMASK = {
  xmaxKeyShare: 0x10,
  comboCommandId: 0x20,
  xmaxExclusive: 0x40,
  xmaxLockOnly: 0x80,
  xmaxIsMulti: 0x1000,
  xminFrozen: 0x300,
  xmaxDecided: 0xc00,
  /** Everything about xmax (0x1cd0), and the traces of an old VACUUM FULL (0xc000). */
  xmaxAndMoved: 0xdcd0,
} as const;

export const INFOMASK2 = { keysUpdated: 0x2000, hotUpdated: 0x4000 } as const;

/** Where a row that moved to another partition points to: nowhere (ItemPointerSetMovedPartitions). */
export const MOVED_PARTITION = { block: 0xffff_ffff, offset: 0xfffd } as const;

const INFOBIT = { isMulti: 1, lockOnly: 2, exclusive: 4, keyShare: 8, keysUpdated: 16 } as const;

/** Sets a tuple's pointer to its next version, which is itself for the last. */
export function setCtid(page: Page, tuple: number, block: number, offset: number): void {
  page.view.setUint16(tuple + TUPLE.ctidBlockHigh, block >>> 16, true);
  page.view.setUint16(tuple + TUPLE.ctidBlockLow, block & 0xffff, true);
  page.view.setUint16(tuple + TUPLE.ctidOffset, offset, true);
}

/** Forgets who locked, updated or deleted the tuple, and says it anew as a record's infobits do. */
export function replaceXmaxFlags(page: Page, tuple: number, infobits: number): void {
  let infomask = page.view.getUint16(tuple + TUPLE.infomask, true) & ~INFOMASK.xmaxAndMoved;
  let infomask2 = page.view.getUint16(tuple + TUPLE.infomask2, true) & ~INFOMASK2.keysUpdated;
  if ((infobits & INFOBIT.isMulti) !== 0) infomask |= INFOMASK.xmaxIsMulti;
  if ((infobits & INFOBIT.lockOnly) !== 0) infomask |= INFOMASK.xmaxLockOnly;
  if ((infobits & INFOBIT.exclusive) !== 0) infomask |= INFOMASK.xmaxExclusive;
  if ((infobits & INFOBIT.keyShare) !== 0) infomask |= INFOMASK.xmaxKeyShare;
  if ((infobits & INFOBIT.keysUpdated) !== 0) infomask2 |= INFOMASK2.keysUpdated;
  page.view.setUint16(tuple + TUPLE.infomask, infomask, true);
  page.view.setUint16(tuple + TUPLE.infomask2, infomask2, true);
}

/** Whether xmax is that of a lock and not of an update or a deletion. */
export function isLockedOnly(page: Page, tuple: number): boolean {
  const infomask = page.view.getUint16(tuple + TUPLE.infomask, true);
  const kind = infomask & (INFOMASK.xmaxIsMulti | INFOMASK.xmaxExclusive | INFOMASK.xmaxKeyShare);
  return (infomask & INFOMASK.xmaxLockOnly) !== 0 || kind === INFOMASK.xmaxExclusive;
}

export function markHotUpdated(page: Page, tuple: number, on: boolean): void {
  const infomask2 = page.view.getUint16(tuple + TUPLE.infomask2, true);
  const marked = on ? infomask2 | INFOMASK2.hotUpdated : infomask2 & ~INFOMASK2.hotUpdated;
  page.view.setUint16(tuple + TUPLE.infomask2, marked, true);
}

/** Sets xmax, and the command id to that of a transaction's first command. */
export function setXmax(page: Page, tuple: number, xmax: number): void {
  page.view.setUint32(tuple + TUPLE.xmax, xmax, true);
  resetCommandId(page, tuple);
}

/** Sets the command id to that of a transaction's first command: replay does not know another. */
export function resetCommandId(page: Page, tuple: number): void {
  page.view.setUint32(tuple + TUPLE.commandId, 0, true);
  const infomask = page.view.getUint16(tuple + TUPLE.infomask, true);
  page.view.setUint16(tuple + TUPLE.infomask, infomask & ~INFOMASK.comboCommandId, true);
}

/**
 * Writes a tuple's header: what the record has of it, and what follows from the rest.
 *
 * @param tuple where its 23 bytes begin, which are overwritten
 */
export function writeTupleHeader(
  page: Page,
  tuple: number,
  flags: { readonly infomask2: number; readonly infomask: number; readonly hoff: number },
  xids: { readonly xmin: number; readonly xmax: number },
  ctid: { readonly block: number; readonly offset: number },
): void {
  const { view } = page;
  view.setUint32(tuple + TUPLE.xmin, xids.xmin, true);
  view.setUint32(tuple + TUPLE.xmax, xids.xmax, true);
  view.setUint32(tuple + TUPLE.commandId, 0, true);
  setCtid(page, tuple, ctid.block, ctid.offset);
  view.setUint16(tuple + TUPLE.infomask2, flags.infomask2, true);
  view.setUint16(tuple + TUPLE.infomask, flags.infomask & ~INFOMASK.comboCommandId, true);
  view.setUint8(tuple + TUPLE.hoff, flags.hoff);
}

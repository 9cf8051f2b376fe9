/**
 * A page of PostgreSQL and what can be done with the items on it, byte for byte as bufpage.c does.
 *
 * Where an item comes to lie, which bytes of the free space change and which stay, is part of what is replayed: a later
 * record may copy bytes from a place that an earlier one chose. So the order of the moves is PostgreSQL's, even where
 * another order would leave a page that means the same: deleting one or two items moves their neighbours, deleting more
 * lays all of them out anew.
 *
 * A page is changed in place. After an `InvariantViolation` its contents are of no use; `applyBlock` works on a copy.
 */
import { BLOCK_BYTES } from "@millrace/lsn";
import { invariant } from "./errors.js";

/** Byte offsets of the page header. */
export const PAGE_HEADER = {
  lsnHigh: 0,
  lsnLow: 4,
  checksum: 8,
  flags: 10,
  lower: 12,
  upper: 14,
  special: 16,
  sizeAndVersion: 18,
  pruneXid: 20,
} as const;

export const PAGE_HEADER_BYTES = 24;
/** 8192 bytes, layout version 4. */
const SIZE_AND_VERSION = 0x2004;

/** Flags of a page. */
export const PAGE_FLAG = { hasFreeLinePointers: 1, full: 2, allVisible: 4 } as const;

/** States of a line pointer. */
export const LINE_POINTER = { unused: 0, normal: 1, redirect: 2, dead: 3 } as const;

const LINE_POINTER_BYTES = 4;

/** Where an added item goes: into an unused line pointer, or between others that move up by one. */
export type AddMode = "overwrite" | "insert";

/** The next multiple of 8. */
export function align8(bytes: number): number {
  return (bytes + 7) & ~7;
}

/** Items are laid out anew from here, as their old and new places overlap. No call waits, so that one will do. */
const before = new Uint8Array(BLOCK_BYTES);

/** One page in memory. */
export class Page {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  /** @param bytes 8192 bytes, borrowed for the life of this object */
  constructor(bytes: Uint8Array) {
    if (bytes.byteLength !== BLOCK_BYTES) throw new RangeError(`a page of ${String(bytes.byteLength)} bytes`);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get flags(): number {
    return this.view.getUint16(PAGE_HEADER.flags, true);
  }

  set flags(value: number) {
    this.view.setUint16(PAGE_HEADER.flags, value, true);
  }

  /** End of the line pointers. */
  get lower(): number {
    return this.view.getUint16(PAGE_HEADER.lower, true);
  }

  set lower(value: number) {
    this.view.setUint16(PAGE_HEADER.lower, value, true);
  }

  /** Start of the items; 0 in a page that was never initialised. */
  get upper(): number {
    return this.view.getUint16(PAGE_HEADER.upper, true);
  }

  set upper(value: number) {
    this.view.setUint16(PAGE_HEADER.upper, value, true);
  }

  /** Start of what the access method keeps at the page's end. */
  get special(): number {
    return this.view.getUint16(PAGE_HEADER.special, true);
  }

  get pruneXid(): number {
    return this.view.getUint32(PAGE_HEADER.pruneXid, true);
  }

  /** Whether the page was never initialised. */
  get isNew(): boolean {
    return this.upper === 0;
  }

  /** Number of line pointers, which is the number of the last one. */
  get maxOffset(): number {
    const { lower } = this;
    return lower <= PAGE_HEADER_BYTES ? 0 : (lower - PAGE_HEADER_BYTES) >> 2;
  }

  /** Sets the page's LSN from signed or unsigned halves. */
  setLsn(high: number, low: number): void {
    this.view.setUint32(PAGE_HEADER.lsnHigh, high, true);
    this.view.setUint32(PAGE_HEADER.lsnLow, low, true);
  }

  /** Whether the page's LSN is at least the one whose halves are given. */
  isAtLeast(high: number, low: number): boolean {
    const ownHigh = this.view.getUint32(PAGE_HEADER.lsnHigh, true);
    const ownLow = this.view.getUint32(PAGE_HEADER.lsnLow, true);
    return ownHigh === high >>> 0 ? ownLow >= low >>> 0 : ownHigh > high >>> 0;
  }

  /** Sets flags, or clears them. */
  mark(flags: number, on: boolean): void {
    this.flags = on ? this.flags | flags : this.flags & ~flags;
  }

  /** Remembers the oldest transaction whose end makes the page worth pruning. */
  setPrunable(xid: number): void {
    const { pruneXid } = this;
    if (pruneXid === 0 || xidPrecedes(xid, pruneXid)) this.view.setUint32(PAGE_HEADER.pruneXid, xid, true);
  }

  /** Makes an empty page with `specialBytes` at its end, zeros but for the header. */
  init(specialBytes: number): void {
    this.bytes.fill(0);
    const special = BLOCK_BYTES - align8(specialBytes);
    this.lower = PAGE_HEADER_BYTES;
    this.upper = special;
    this.view.setUint16(PAGE_HEADER.special, special, true);
    this.view.setUint16(PAGE_HEADER.sizeAndVersion, SIZE_AND_VERSION, true);
  }

  /** Makes an empty page that keeps the special space. */
  initKeepingSpecial(): void {
    const { special } = this;
    invariant(
      special >= PAGE_HEADER_BYTES && special <= BLOCK_BYTES,
      "the page's special space is not on it",
    );
    this.bytes.fill(0, 0, special);
    this.lower = PAGE_HEADER_BYTES;
    this.upper = special;
    this.view.setUint16(PAGE_HEADER.special, special, true);
    this.view.setUint16(PAGE_HEADER.sizeAndVersion, SIZE_AND_VERSION, true);
  }

  /** Byte offset of an item; the line pointer must exist. */
  itemOffset(number: number): number {
    return this.#pointer(number) & 0x7fff;
  }

  itemState(number: number): number {
    return (this.#pointer(number) >>> 15) & 3;
  }

  itemBytes(number: number): number {
    return this.#pointer(number) >>> 17;
  }

  setPointer(number: number, offset: number, state: number, bytes: number): void {
    this.#checkNumber(number);
    this.#setPointer(number, offset, state, bytes);
  }

  /** Byte offset of an item that is there, all of it on the page. */
  item(number: number): number {
    const pointer = this.#pointer(number);
    const offset = pointer & 0x7fff;
    const bytes = pointer >>> 17;
    invariant(
      bytes > 0 && offset >= this.upper && offset + bytes <= this.special,
      `item ${String(number)} of ${String(bytes)} bytes at ${String(offset)} is not there`,
    );
    return offset;
  }

  /** The same for an item in use. */
  normalItem(number: number): number {
    invariant(this.itemState(number) === LINE_POINTER.normal, `item ${String(number)} is not in use`);
    return this.item(number);
  }

  /** Copies an item's bytes in, as item `number`. */
  addItem(source: Uint8Array, from: number, bytes: number, number: number, mode: AddMode): void {
    const to = this.makeRoom(bytes, number, mode);
    copyBytes(source, from, this.bytes, to, bytes);
  }

  /** Makes room for an item and its line pointer; what it holds is written by the caller to the offset returned. */
  makeRoom(bytes: number, number: number, mode: AddMode): number {
    const { maxOffset, lower, upper, special } = this;
    invariant(
      lower >= PAGE_HEADER_BYTES && lower <= upper && upper <= special && special <= BLOCK_BYTES,
      `the page's pointers are ${String(lower)}, ${String(upper)}, ${String(special)}`,
    );
    const limit = maxOffset + 1;
    invariant(number >= 1 && number <= limit, `item ${String(number)} of ${String(maxOffset)}`);
    invariant(bytes > 0, "an item of no bytes");
    const added = number === limit || mode === "insert";
    const newLower = added ? lower + LINE_POINTER_BYTES : lower;
    const newUpper = upper - align8(bytes);
    invariant(newLower <= newUpper, `${String(bytes)} bytes do not fit`);
    if (number < limit) {
      const at = pointerAt(number);
      if (mode === "insert") this.bytes.copyWithin(at + LINE_POINTER_BYTES, at, lower);
      else {
        const free = this.itemState(number) === LINE_POINTER.unused && this.itemBytes(number) === 0;
        invariant(free, `item ${String(number)} is in use already`);
      }
    }
    this.lower = newLower;
    this.upper = newUpper;
    this.#setPointer(number, newUpper, LINE_POINTER.normal, bytes);
    return newUpper;
  }

  /** After pruning: gives back what has no line pointer any more, and unused line pointers at the end. */
  repair(): void {
    const count = this.maxOffset;
    let lastUsed = 0;
    let unused = 0;
    let stored = 0;
    for (let number = 1; number <= count; number += 1) {
      if (this.itemState(number) === LINE_POINTER.unused) {
        this.#setPointer(number, 0, LINE_POINTER.unused, 0);
        unused += 1;
      } else {
        lastUsed = number;
        if (this.itemBytes(number) > 0) stored += 1;
      }
    }
    if (stored === 0) this.upper = this.special;
    else this.#compact(count);
    const cut = count - lastUsed;
    this.lower -= cut * LINE_POINTER_BYTES;
    this.mark(PAGE_FLAG.hasFreeLinePointers, unused - cut > 0);
  }

  /** After the second pass of a vacuum: gives back unused line pointers at the end, but never the first one. */
  truncateLinePointers(): void {
    let number = this.maxOffset;
    let cut = 0;
    while (number > 1 && this.itemState(number) === LINE_POINTER.unused) {
      cut += 1;
      number -= 1;
    }
    let unusedLeft = false;
    for (; number >= 1 && !unusedLeft; number -= 1)
      unusedLeft = this.itemState(number) === LINE_POINTER.unused;
    this.lower -= cut * LINE_POINTER_BYTES;
    this.mark(PAGE_FLAG.hasFreeLinePointers, unusedLeft);
  }

  /** Deletes one item of an index page; the others move together. */
  deleteIndexItem(number: number): void {
    const offset = this.item(number);
    const bytes = align8(this.itemBytes(number));
    const { upper, lower } = this;
    const at = pointerAt(number);
    this.bytes.copyWithin(at, at + LINE_POINTER_BYTES, lower);
    if (offset > upper) this.bytes.copyWithin(upper + bytes, upper, offset);
    this.upper = upper + bytes;
    this.lower = lower - LINE_POINTER_BYTES;
    this.#moveItems(offset, bytes, false);
  }

  /** Deletes items of an index page whose numbers, ascending, are 16-bit words at `at` of `view`. */
  deleteIndexItems(view: DataView, at: number, count: number): void {
    if (count <= 2) {
      for (let index = count - 1; index >= 0; index -= 1)
        this.deleteIndexItem(view.getUint16(at + 2 * index, true));
      return;
    }
    const { maxOffset } = this;
    let kept = 0;
    let next = 0;
    for (let number = 1; number <= maxOffset; number += 1) {
      this.item(number);
      if (next < count && view.getUint16(at + 2 * next, true) === number) next += 1;
      else {
        kept += 1;
        this.#setPointer(kept, this.itemOffset(number), this.itemState(number), this.itemBytes(number));
      }
    }
    invariant(next === count, "items to be deleted are not there, or not in order");
    this.lower = PAGE_HEADER_BYTES + kept * LINE_POINTER_BYTES;
    if (kept === 0) this.upper = this.special;
    else this.#compact(kept);
  }

  /** Replaces an item of an index page by one of another length; the others move as far as the lengths differ. */
  overwriteIndexItem(number: number, source: Uint8Array, from: number, bytes: number): void {
    const offset = this.item(number);
    const { upper, lower } = this;
    const oldBytes = align8(this.itemBytes(number));
    const difference = oldBytes - align8(bytes);
    invariant(bytes > 0 && -difference <= upper - lower, `${String(bytes)} bytes do not fit`);
    if (difference !== 0) {
      this.bytes.copyWithin(upper + difference, upper, offset);
      this.upper = upper + difference;
      this.#moveItems(offset, difference, true);
    }
    this.#setPointer(number, offset + difference, LINE_POINTER.normal, bytes);
    copyBytes(source, from, this.bytes, offset + difference, bytes);
  }

  /** Lays the items of the first `count` line pointers out anew, in their order, downward from the special space. */
  #compact(count: number): void {
    before.set(this.bytes);
    let upper = this.special;
    for (let number = 1; number <= count; number += 1) {
      const bytes = this.itemBytes(number);
      if (bytes === 0) continue;
      const offset = this.item(number);
      upper -= align8(bytes);
      invariant(upper >= this.lower, "the items of the page overlap");
      copyBytes(before, offset, this.bytes, upper, align8(bytes));
      this.#setPointer(number, upper, this.itemState(number), bytes);
    }
    this.upper = upper;
  }

  /** Line pointers to items at `offset` or below it follow a move by `distance`. */
  #moveItems(offset: number, distance: number, onlyStored: boolean): void {
    const count = this.maxOffset;
    for (let number = 1; number <= count; number += 1) {
      const pointer = this.#pointer(number);
      const own = pointer & 0x7fff;
      if (own <= offset && (!onlyStored || pointer >>> 17 > 0))
        this.#setPointer(number, own + distance, (pointer >>> 15) & 3, pointer >>> 17);
    }
  }

  #checkNumber(number: number): void {
    invariant(number >= 1 && number <= this.maxOffset, `item ${String(number)} of ${String(this.maxOffset)}`);
  }

  #pointer(number: number): number {
    this.#checkNumber(number);
    return this.view.getUint32(pointerAt(number), true);
  }

  #setPointer(number: number, offset: number, state: number, bytes: number): void {
    this.view.setUint32(pointerAt(number), offset | (state << 15) | (bytes << 17), true);
  }
}

/** Copies between two arrays; short items are the rule, for which a loop is faster than a view. */
export function copyBytes(
  source: Uint8Array,
  from: number,
  target: Uint8Array,
  to: number,
  count: number,
): void {
  if (count > 48) target.set(source.subarray(from, from + count), to);
  else for (let index = 0; index < count; index += 1) target[to + index] = source[from + index] ?? 0;
}

/** Whether a transaction id is older than another: modulo 2^32, but for the three special ones, which are oldest. */
export function xidPrecedes(xid: number, other: number): boolean {
  if (xid < 3 || other < 3) return xid < other;
  return ((xid - other) | 0) < 0;
}

function pointerAt(number: number): number {
  return PAGE_HEADER_BYTES + (number - 1) * LINE_POINTER_BYTES;
}

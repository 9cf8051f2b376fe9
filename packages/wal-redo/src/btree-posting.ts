/**
 * Posting lists of btrees: one key, and in its tuple the sorted places of all the rows that have it (nbtdedup.c).
 *
 * Such a tuple says so in two flags, one among the size's bits and one in the offset of its pointer, whose other bits
 * count the list; the block number is where the list begins. The tuples that are made here are kept in buffers of this
 * file until the next one is made.
 */
import { invariant } from "./errors.js";
import {
  INDEX_SIZE_MASK,
  INDEX_TUPLE,
  indexTupleBytes,
  blockOfTuple,
  setBlockOfTuple,
} from "./index-tuple.js";
import { align8, copyBytes } from "./page.js";

/** Bytes of a pointer to a heap tuple. */
export const TID_BYTES = 6;
/** The offset of the tuple's pointer means something else. */
export const ALTERNATIVE_TID = 0x2000;
const IS_POSTING = 0x2000;
const COUNT_MASK = 0x0fff;

/** A tuple in memory of this file, or on a page. */
export interface TupleBuffer {
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

function buffer(): TupleBuffer {
  const bytes = new Uint8Array(INDEX_SIZE_MASK + 1);
  return { bytes, view: new DataView(bytes.buffer) };
}

export function isPosting(view: DataView, tuple: number): boolean {
  return (
    (view.getUint16(tuple + INDEX_TUPLE.info, true) & ALTERNATIVE_TID) !== 0 &&
    (view.getUint16(tuple + INDEX_TUPLE.offset, true) & IS_POSTING) !== 0
  );
}

/** Pointers in a tuple's posting list; 1 for a tuple without one. */
export function postingCount(view: DataView, tuple: number): number {
  return isPosting(view, tuple) ? view.getUint16(tuple + INDEX_TUPLE.offset, true) & COUNT_MASK : 1;
}

/** Where a tuple's pointers begin: its posting list, or the one that every tuple starts with. */
function pointersAt(view: DataView, tuple: number): number {
  if (!isPosting(view, tuple)) return tuple;
  const list = blockOfTuple(view, tuple);
  const end = list + postingCount(view, tuple) * TID_BYTES;
  invariant(end <= indexTupleBytes(view, tuple), "a posting list is longer than its tuple");
  return tuple + list;
}

/** Length of a tuple up to its posting list. */
function keyBytes(view: DataView, tuple: number): number {
  return isPosting(view, tuple) ? blockOfTuple(view, tuple) : indexTupleBytes(view, tuple);
}

/** The posting list that is being collected. */
export class PostingList {
  readonly #made = buffer();
  readonly #tids = new Uint8Array(8192);
  readonly #key = buffer();
  #keyBytes = 0;
  #count = 0;

  /** Pointers collected. */
  get count(): number {
    return this.#count;
  }

  /** Begins with the key of a tuple, and none of its pointers. */
  begin(bytes: Uint8Array, view: DataView, tuple: number): void {
    this.#keyBytes = keyBytes(view, tuple);
    invariant(this.#keyBytes >= INDEX_TUPLE.info + 2, "a tuple's key begins before its end");
    copyBytes(bytes, tuple, this.#key.bytes, 0, this.#keyBytes);
    this.#count = 0;
  }

  /** Adds all pointers of a tuple. */
  add(bytes: Uint8Array, view: DataView, tuple: number): void {
    const from = pointersAt(view, tuple);
    this.addPointers(bytes, from, postingCount(view, tuple));
  }

  addPointers(bytes: Uint8Array, from: number, count: number): void {
    invariant((this.#count + count) * TID_BYTES <= this.#tids.byteLength, "a posting list does not end");
    copyBytes(bytes, from, this.#tids, this.#count * TID_BYTES, count * TID_BYTES);
    this.#count += count;
  }

  /** Adds the pointers of a tuple that are not among the numbered ones, which ascend from 0. */
  addWithout(
    bytes: Uint8Array,
    view: DataView,
    tuple: number,
    numbers: DataView,
    at: number,
    count: number,
  ): void {
    const from = pointersAt(view, tuple);
    const total = postingCount(view, tuple);
    let next = 0;
    for (let index = 0; index < total; index += 1) {
      if (next < count && numbers.getUint16(at + 2 * next, true) === index) next += 1;
      else this.addPointers(bytes, from + index * TID_BYTES, 1);
    }
    invariant(next === count, "pointers to be deleted are not there, or not in order");
  }

  /**
   * The tuple of key and pointers, valid until the next one is made.
   *
   * @returns its memory and its length, a multiple of 8 where there is a list
   */
  form(): TupleBuffer & { readonly length: number } {
    const { bytes, view } = this.#made;
    invariant(this.#count > 0, "a posting list without pointers");
    const several = this.#count > 1;
    const length = several ? align8(this.#keyBytes + this.#count * TID_BYTES) : this.#keyBytes;
    invariant(length <= INDEX_SIZE_MASK, "a posting list is too long");
    bytes.fill(0, 0, length);
    copyBytes(this.#key.bytes, 0, bytes, 0, this.#keyBytes);
    const info = view.getUint16(INDEX_TUPLE.info, true) & ~INDEX_SIZE_MASK;
    if (several) {
      view.setUint16(INDEX_TUPLE.info, info | length | ALTERNATIVE_TID, true);
      view.setUint16(INDEX_TUPLE.offset, this.#count | IS_POSTING, true);
      setBlockOfTuple(view, 0, this.#keyBytes);
      copyBytes(this.#tids, 0, bytes, this.#keyBytes, this.#count * TID_BYTES);
    } else {
      view.setUint16(INDEX_TUPLE.info, (info | length) & ~ALTERNATIVE_TID, true);
      copyBytes(this.#tids, 0, bytes, 0, TID_BYTES);
    }
    return { bytes, view, length };
  }
}

const grown = buffer();
const inserted = buffer();

/** A posting list that a new row's place went into, and the tuple that its last place went out with. */
export interface SwappedPosting {
  /** The list, as long as before; valid until the next one. */
  readonly posting: TupleBuffer & { readonly length: number };
  /** The new tuple; valid as long. */
  readonly tuple: TupleBuffer & { readonly length: number };
}

/**
 * Puts a new tuple's pointer into a list, in place `at`; its last pointer becomes the new tuple's.
 *
 * @param source where the new tuple is read, at `from`
 * @param old where the list is, at `oldAt`
 */
export function swapPosting(
  source: TupleBuffer,
  from: number,
  old: TupleBuffer,
  oldAt: number,
  at: number,
): SwappedPosting {
  const count = postingCount(old.view, oldAt);
  invariant(isPosting(old.view, oldAt) && at > 0 && at < count, "no such place in the posting list");
  const length = indexTupleBytes(old.view, oldAt);
  copyBytes(old.bytes, oldAt, grown.bytes, 0, length);
  const newLength = indexTupleBytes(source.view, from);
  invariant(newLength >= INDEX_TUPLE.info + 2, "a tuple shorter than its header");
  copyBytes(source.bytes, from, inserted.bytes, 0, newLength);
  const list = pointersAt(grown.view, 0);
  const place = list + at * TID_BYTES;
  const last = list + (count - 1) * TID_BYTES;
  copyBytes(old.bytes, oldAt + last, inserted.bytes, 0, TID_BYTES);
  grown.bytes.copyWithin(place + TID_BYTES, place, last);
  copyBytes(source.bytes, from, grown.bytes, place, TID_BYTES);
  return {
    posting: { ...grown, length },
    tuple: { ...inserted, length: newLength },
  };
}

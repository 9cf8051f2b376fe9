/**
 * Index tuples, which all index access methods but BRIN and the leaves of SP-GiST share (itup.h): a pointer to a heap
 * tuple or to a page below, 16 bits of size and flags, then the key.
 */

export const INDEX_TUPLE = { blockHigh: 0, blockLow: 2, offset: 4, info: 6 } as const;
export const INDEX_TUPLE_HEADER_BYTES = 8;
export const INDEX_SIZE_MASK = 0x1fff;

/** Length of the tuple at `at`, its header included. */
export function indexTupleBytes(view: DataView, at: number): number {
  return view.getUint16(at + INDEX_TUPLE.info, true) & INDEX_SIZE_MASK;
}

/** Block that the tuple points to. */
export function blockOfTuple(view: DataView, at: number): number {
  return (
    ((view.getUint16(at + INDEX_TUPLE.blockHigh, true) << 16) |
      view.getUint16(at + INDEX_TUPLE.blockLow, true)) >>>
    0
  );
}

export function setBlockOfTuple(view: DataView, at: number, block: number): void {
  view.setUint16(at + INDEX_TUPLE.blockHigh, block >>> 16, true);
  view.setUint16(at + INDEX_TUPLE.blockLow, block & 0xffff, true);
}

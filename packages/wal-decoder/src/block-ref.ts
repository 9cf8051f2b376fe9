/**
 * One block that a record changes, as the record's header says it.
 *
 * Places are indexes into the memory that the record lies in, not views: a scan of millions of records makes no object.
 * Only `WalRecord` writes here; its references are filled again by the next record.
 */

/** Highest id of a block reference (XLR_MAX_BLOCK_ID): a record has at most 33 of them. */
export const BLOCK_ID_MAX = 32;

/** Forks of a relation by their numbers. */
export const FORK = { main: 0, fsm: 1, vm: 2, init: 3 } as const;

/** Flags of a block reference's fork byte. */
export const BLOCK_FLAG = {
  forkMask: 0x0f,
  hasImage: 0x10,
  hasData: 0x20,
  willInit: 0x40,
  sameRelation: 0x80,
};

/** Flags of an image (bimg_info). */
export const IMAGE_FLAG = { hasHole: 0x01, applies: 0x02, pglz: 0x04, lz4: 0x08, zstd: 0x10 };

export type ImageCompression = "none" | "pglz" | "lz4" | "zstd";

/** A block reference of the record that was decoded last. */
export class BlockRef {
  /** 0 to 32, ascending within a record; what the reference means depends on it and on the record's type. */
  id = 0;
  /** Fork byte: the fork's number in the lower half, flags in the upper. */
  flags = 0;
  /** Object ids of tablespace and database, and the relation's file number. */
  spc = 0;
  db = 0;
  rel = 0;
  /** Number of the block in its fork. */
  block = 0;
  /** Where the block's data begin, an index in the record's memory, and how many bytes they are; 0 bytes: none. */
  dataAt = 0;
  dataBytes = 0;
  /** The same for the page image, as it is stored; 0 bytes: none. */
  imageAt = 0;
  imageBytes = 0;
  /** Flags of the image. */
  imageFlags = 0;
  /** The part of the page that the image leaves out, zeros: where it begins and how long it is. */
  holeOffset = 0;
  holeBytes = 0;

  /** 0 main, 1 free space map, 2 visibility map, 3 init fork. */
  get fork(): number {
    return this.flags & BLOCK_FLAG.forkMask;
  }

  /** Whether the record carries an image of the page. */
  get hasImage(): boolean {
    return (this.flags & BLOCK_FLAG.hasImage) !== 0;
  }

  /** Whether redo restores the image; without this it is there for verification only. */
  get imageApplies(): boolean {
    return (this.imageFlags & IMAGE_FLAG.applies) !== 0;
  }

  /** Whether redo starts from an empty page and needs no earlier one. */
  get willInit(): boolean {
    return (this.flags & BLOCK_FLAG.willInit) !== 0;
  }

  /** How the image is compressed. */
  get compression(): ImageCompression {
    if ((this.imageFlags & IMAGE_FLAG.pglz) !== 0) return "pglz";
    if ((this.imageFlags & IMAGE_FLAG.lz4) !== 0) return "lz4";
    return (this.imageFlags & IMAGE_FLAG.zstd) !== 0 ? "zstd" : "none";
  }
}

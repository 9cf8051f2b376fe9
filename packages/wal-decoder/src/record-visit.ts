/**
 * What a visitor sees of a record: one view, filled again for each record.
 *
 * Numbers are plain fields, LSNs are made when asked for, so that a visitor that only counts costs no allocation.
 * Only the decoder writes here, and only right before it calls the visitor.
 */
import type { Lsn } from "@millrace/lsn";
import { lsnOf } from "./position.js";

/**
 * As many of a record's first bytes are kept in one piece, whatever pages and chunks it came in. Enough for the
 * header and the whole body of OVERWRITE_CONTRECORD and END_OF_RECOVERY, and for the timelines in a CHECKPOINT.
 */
export const HEAD_BYTES = 64;

/** A complete record whose checksum was right. Valid during the visit only: the next record reuses the object. */
export interface RecordVisit {
  /** Where the record begins, behind any page header; what pg_waldump prints as `lsn`. */
  readonly startLsn: Lsn;
  /** Where the next record may begin: aligned to 8, the next segment's start for a segment switch. */
  readonly endLsn: Lsn;
  /** Start of the record before, as this record says. */
  readonly prevLsn: Lsn;
  /** Resource manager: 0 to 21 are PostgreSQL's, 128 to 255 belong to extensions. */
  readonly rmid: number;
  /** Operation in the upper half, flags in the lower. */
  readonly info: number;
  /** Transaction id, 0 if none. */
  readonly xid: number;
  /** The record's length, bytes, page headers and padding not counted: 24 to 1 069 547 520. */
  readonly totalBytes: number;
  /** Timeline of the page where the record ended; 0 before the first page header. */
  readonly timelineId: number;
  /** The record's first bytes, at most `HEAD_BYTES` of them. Lent for the visit; made when asked for. */
  readonly head: Uint8Array;
  /**
   * All bytes of the record from its header on, page headers and padding taken out. Lent for the visit; made when asked
   * for.
   *
   * @throws {RangeError} the decoder was made without `wholeRecords`
   */
  readonly bytes: Uint8Array;
  /** Halves of start and end as signed 32-bit integers, for visitors that make no bigint. */
  readonly startHigh: number;
  readonly startLow: number;
  readonly endHigh: number;
  readonly endLow: number;
  /** The memory that the record is in, whole or its first bytes only, for visitors that make no object. Lent too. */
  readonly source: Uint8Array;
  readonly view: DataView;
  /** Index in `view` of the record's first byte. */
  readonly at: number;
}

/** The writable side of `RecordVisit`. */
export class RecordView implements RecordVisit {
  startHigh = 0;
  startLow = 0;
  segmentHigh = 0;
  segmentLow = 0;
  endOffset = 0;
  rmid = 0;
  info = 0;
  xid = 0;
  totalBytes = 0;
  timelineId = 0;
  prevHigh = 0;
  prevLow = 0;
  source: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.source.buffer);
  at = 0;
  readonly #whole: boolean;

  constructor(whole: boolean) {
    this.#whole = whole;
  }

  get startLsn(): Lsn {
    return lsnOf(this.startHigh, this.startLow, 0);
  }

  get endHigh(): number {
    const carries = (this.segmentLow >>> 0) + this.endOffset > 0xffff_ffff;
    return carries ? (this.segmentHigh + 1) | 0 : this.segmentHigh;
  }

  get endLow(): number {
    return (this.segmentLow + this.endOffset) | 0;
  }

  get endLsn(): Lsn {
    return lsnOf(this.segmentHigh, this.segmentLow, this.endOffset);
  }

  get prevLsn(): Lsn {
    return lsnOf(this.prevHigh, this.prevLow, 0);
  }

  get head(): Uint8Array {
    return this.source.subarray(this.at, this.at + Math.min(this.totalBytes, HEAD_BYTES));
  }

  get bytes(): Uint8Array {
    if (!this.#whole) throw new RangeError("a decoder without wholeRecords keeps no record's bytes");
    return this.source.subarray(this.at, this.at + this.totalBytes);
  }
}

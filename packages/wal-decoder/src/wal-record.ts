/**
 * What is in a record: its block references with their images and data, and its main data.
 *
 * One object is filled again for each record, and so are its references. Everything that the header says is checked
 * against the record's length before anything is looked at, as `DecodeXLogRecord` in PostgreSQL's xlogreader.c does;
 * the checksum was right already, so that a contradiction means a foreign or a forged record, never a torn one.
 * Nothing is copied: data and images stay where the record lies, which is lent by the decoder for the visit. A record
 * that is to outlive it is copied as bytes and decoded again.
 */
import { BLOCK_BYTES } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { BLOCK_FLAG, BLOCK_ID_MAX, BlockRef, FORK, IMAGE_FLAG } from "./block-ref.js";
import { WalDecodeError } from "./errors.js";
import { checkedMajor, OPERATION_MASK, RECORD, RECORD_HEADER_BYTES } from "./layout.js";
import type { WalPgMajor } from "./layout.js";
import { highHalf, lowHalf, lsnOf } from "./position.js";
import type { RecordVisit } from "./record-visit.js";

/** Ids of header items that are no block references. */
const ITEM = { topXid: 252, origin: 253, mainDataLong: 254, mainDataShort: 255 } as const;

const COMPRESSED = IMAGE_FLAG.pglz | IMAGE_FLAG.lz4 | IMAGE_FLAG.zstd;

/** Where a record that is given as bytes lies in the WAL. */
export interface RecordPosition {
  readonly startLsn: Lsn;
  readonly endLsn: Lsn;
}

/** The structure of one record at a time. */
export class WalRecord {
  /** The version whose format the record has. */
  readonly pgMajor: WalPgMajor;
  /** Halves of the record's start and end as signed 32-bit integers, for loops that make no bigint. */
  startHigh = 0;
  startLow = 0;
  endHigh = 0;
  endLow = 0;
  rmid = 0;
  /** Operation in the upper half, flags in the lower. */
  info = 0;
  /** Transaction id, 0 if none. */
  xid = 0;
  /** The record's length, header included. */
  totalBytes = 0;
  /** The memory that the record lies in, and the record's first byte in it. Borrowed until the next record. */
  source: Uint8Array = new Uint8Array(RECORD_HEADER_BYTES);
  view: DataView = new DataView(this.source.buffer);
  at = 0;
  /** References in the order of their ids; filled again by the next record. */
  refs: readonly BlockRef[];
  /** Where the main data begin in that memory, and how many bytes they are. */
  mainAt = 0;
  mainBytes = 0;
  /** Replication origin, 0 if none is named. */
  originId = 0;
  /** Top-level transaction of a subtransaction's record, 0 if none is named. */
  topXid = 0;

  /** The references that are filled, and lists of the first so many of them: each made once. */
  readonly #pool: BlockRef[] = [];
  readonly #lists: (readonly BlockRef[])[] = [[]];
  #count = 0;
  // Of the header item at hand.
  #next = 0;
  #left = 0;
  #payload = 0;

  /**
   * @param pgMajor 15 to 18
   * @throws {WalDecodeError} ERR_WAL_VERSION
   */
  constructor(pgMajor: number) {
    this.pgMajor = checkedMajor(pgMajor);
    this.refs = this.#lists[0] ?? [];
  }

  get startLsn(): Lsn {
    return lsnOf(this.startHigh, this.startLow, 0);
  }

  /** Where the next record may begin: what a page that this record changed has as its LSN. */
  get endLsn(): Lsn {
    return lsnOf(this.endHigh, this.endLow, 0);
  }

  /** The record before, as this record says. */
  get prevLsn(): Lsn {
    const at = this.at + RECORD.prevLsn;
    return lsnOf(this.view.getInt32(at + 4, true), this.view.getInt32(at, true), 0);
  }

  /** The upper half of `info`: what the record does, whose meaning the resource manager defines. */
  get operation(): number {
    return this.info & OPERATION_MASK;
  }

  /** All bytes of the record. Borrowed until the next one. */
  get bytes(): Uint8Array {
    return this.source.subarray(this.at, this.at + this.totalBytes);
  }

  /** Bytes of the main data. Borrowed until the next record. */
  get main(): Uint8Array {
    return this.source.subarray(this.mainAt, this.mainAt + this.mainBytes);
  }

  /** Data of a block. Borrowed until the next record. */
  dataOf(ref: BlockRef): Uint8Array {
    return this.source.subarray(ref.dataAt, ref.dataAt + ref.dataBytes);
  }

  /** The page image of a block as it is stored; `restoreImage` unpacks it. Borrowed until the next record. */
  imageOf(ref: BlockRef): Uint8Array {
    return this.source.subarray(ref.imageAt, ref.imageAt + ref.imageBytes);
  }

  /** The reference with this id, if the record has it. */
  ref(id: number): BlockRef | undefined {
    for (const ref of this.refs) if (ref.id === id) return ref;
    return undefined;
  }

  /**
   * Decodes the record of a visit. What is seen here is lent as long as the visit is.
   *
   * @param visit of a decoder with `wholeRecords`
   * @throws {WalDecodeError} ERR_WAL_RECORD_STRUCTURE; nothing in this object is of use then
   */
  decode(visit: RecordVisit): this {
    this.startHigh = visit.startHigh;
    this.startLow = visit.startLow;
    this.endHigh = visit.endHigh;
    this.endLow = visit.endLow;
    this.#decodeAt(visit.source, visit.view, visit.at);
    return this;
  }

  /**
   * Decodes a record that was copied, as `bytes` of a visit were.
   *
   * @param bytes the whole record, borrowed until the next one; its checksum is not looked at
   * @throws {WalDecodeError} ERR_WAL_RECORD_LENGTH, ERR_WAL_RECORD_STRUCTURE
   */
  decodeBytes(bytes: Uint8Array, position: RecordPosition): this {
    this.startHigh = highHalf(position.startLsn);
    this.startLow = lowHalf(position.startLsn);
    this.endHigh = highHalf(position.endLsn);
    this.endLow = lowHalf(position.endLsn);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const claimed = bytes.byteLength < RECORD_HEADER_BYTES ? 0 : view.getUint32(RECORD.totalBytes, true);
    if (claimed !== bytes.byteLength || claimed === 0) {
      const text = `record of ${String(claimed)} bytes in ${String(bytes.byteLength)}`;
      throw new WalDecodeError("ERR_WAL_RECORD_LENGTH", position.startLsn, text);
    }
    this.#decodeAt(bytes, view, 0);
    return this;
  }

  #decodeAt(source: Uint8Array, view: DataView, at: number): void {
    this.source = source;
    this.view = view;
    this.at = at;
    this.totalBytes = view.getUint32(at + RECORD.totalBytes, true);
    this.xid = view.getUint32(at + RECORD.xid, true);
    this.info = view.getUint8(at + RECORD.info);
    this.rmid = view.getUint8(at + RECORD.rmid);
    this.originId = this.topXid = this.mainBytes = 0;
    this.#count = 0;
    this.#payload = 0;
    this.#next = at + RECORD_HEADER_BYTES;
    this.#left = this.totalBytes - RECORD_HEADER_BYTES;
    this.#readItems();
    if (this.#left !== this.#payload) {
      throw this.#refuse(`its parts have ${String(this.#payload)} bytes, ${String(this.#left)} are left`);
    }
    this.#place();
  }

  /** Reads header items until what is left are the parts that they announced. */
  #readItems(): void {
    let highestId = -1;
    while (this.#left > this.#payload) {
      const id = this.#u8();
      if (id <= BLOCK_ID_MAX) {
        if (id <= highestId) throw this.#refuse(`block ${String(id)} after block ${String(highestId)}`);
        highestId = id;
        this.#readRef(id);
      } else if (id === ITEM.mainDataShort || id === ITEM.mainDataLong) {
        this.mainBytes = id === ITEM.mainDataShort ? this.#u8() : this.#u32();
        this.#payload += this.mainBytes;
        return;
      } else if (id === ITEM.origin) this.originId = this.#u16();
      else if (id === ITEM.topXid) this.topXid = this.#u32();
      else throw this.#refuse(`header item ${String(id)}`);
    }
  }

  #readRef(id: number): void {
    const { view } = this;
    const previous = this.#count === 0 ? undefined : this.#pool[this.#count - 1];
    const ref = (this.#pool[this.#count] ??= new BlockRef());
    const at = this.#take(3);
    ref.id = id;
    ref.flags = view.getUint8(at);
    ref.dataBytes = view.getUint16(at + 1, true);
    this.#payload += ref.dataBytes;
    if (ref.fork > FORK.init) throw this.#refuse(`block ${String(id)} is of fork ${String(ref.fork)}`);
    if (((ref.flags & BLOCK_FLAG.hasData) !== 0) !== ref.dataBytes > 0) {
      throw this.#refuse(
        `block ${String(id)} has ${String(ref.dataBytes)} bytes of data, its flag says otherwise`,
      );
    }
    ref.imageBytes = ref.imageFlags = ref.holeOffset = ref.holeBytes = 0;
    if ((ref.flags & BLOCK_FLAG.hasImage) !== 0) this.#readImage(ref);
    if ((ref.flags & BLOCK_FLAG.sameRelation) === 0) {
      const relation = this.#take(12);
      ref.spc = view.getUint32(relation, true);
      ref.db = view.getUint32(relation + 4, true);
      ref.rel = view.getUint32(relation + 8, true);
    } else {
      if (previous === undefined) throw this.#refuse("the first block is of the relation of the one before");
      ref.spc = previous.spc;
      ref.db = previous.db;
      ref.rel = previous.rel;
    }
    ref.block = this.#u32();
    this.#count += 1;
  }

  #readImage(ref: BlockRef): void {
    const bytes = (ref.imageBytes = this.#u16());
    ref.holeOffset = this.#u16();
    const flags = (ref.imageFlags = this.#u8());
    const compressed = (flags & COMPRESSED) !== 0;
    const hasHole = (flags & IMAGE_FLAG.hasHole) !== 0;
    if (!compressed) ref.holeBytes = BLOCK_BYTES - bytes;
    else if (hasHole) ref.holeBytes = this.#u16();
    this.#payload += bytes;
    const sizesFit =
      bytes > 0 &&
      bytes <= BLOCK_BYTES &&
      ref.holeOffset + ref.holeBytes <= BLOCK_BYTES &&
      ref.holeBytes >= 0;
    const holeFits = hasHole
      ? ref.holeOffset > 0 && ref.holeBytes > 0 && bytes < BLOCK_BYTES
      : ref.holeOffset === 0 && ref.holeBytes === 0;
    if (!sizesFit || !holeFits || (compressed && bytes === BLOCK_BYTES)) {
      throw this.#refuse(
        `the image of block ${String(ref.id)} has ${String(bytes)} bytes, flags ${String(flags)}, ` +
          `a hole of ${String(ref.holeBytes)} bytes at ${String(ref.holeOffset)}`,
      );
    }
  }

  /** Hands out what follows the header: each block's image and data, then the main data. */
  #place(): void {
    let at = this.#next;
    this.refs = this.#lists[this.#count] ??= this.#pool.slice(0, this.#count);
    for (const ref of this.refs) {
      ref.imageAt = at;
      at += ref.imageBytes;
      ref.dataAt = at;
      at += ref.dataBytes;
    }
    this.mainAt = at;
  }

  #take(count: number): number {
    const at = this.#next;
    if (this.#left < count) throw this.#refuse("its header ends early");
    this.#left -= count;
    this.#next = at + count;
    return at;
  }

  #u8(): number {
    return this.view.getUint8(this.#take(1));
  }

  #u16(): number {
    return this.view.getUint16(this.#take(2), true);
  }

  #u32(): number {
    return this.view.getUint32(this.#take(4), true);
  }

  #refuse(problem: string): WalDecodeError {
    const text = `record of resource manager ${String(this.rmid)}: ${problem}`;
    return new WalDecodeError("ERR_WAL_RECORD_STRUCTURE", this.startLsn, text);
  }
}

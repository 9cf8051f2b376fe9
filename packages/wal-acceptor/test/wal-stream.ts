/**
 * WAL for tests: a growing stream of well-formed records from any position, with page headers where pages begin.
 *
 * Every record's body is its own position repeated, so that bytes at a wrong place are noticed. What has been built is
 * kept whole, and any range of it can be taken again, as a proposer resends from wherever an acceptor asks.
 */
import { crc32c } from "@millrace/checksums";
import type { Lsn } from "@millrace/lsn";

export const PAGE = 8192;
export const MIB: number = 1024 * 1024;
const MAGIC_PG15 = 0xd110;

export interface StreamShape {
  readonly startLsn: bigint;
  readonly segmentBytes?: number;
  readonly systemId?: bigint;
  /** Mixed into every body: two streams of different marks differ in every record. */
  readonly mark?: number;
  /** Start of the record before the first, if the first must name it. */
  readonly prevLsn?: bigint;
}

export interface RecordKind {
  readonly rmid?: number;
  readonly info?: number;
  /** The first bytes behind the record's header, instead of its position. */
  readonly body?: Uint8Array;
}

export class WalStream {
  /** PostgreSQL's timeline, in the headers of pages that are begun from now on. */
  timelineId = 1;
  readonly startLsn: Lsn;
  readonly segmentBytes: number;
  readonly #systemId: bigint;
  readonly #mark: number;
  #bytes = new Uint8Array(1 << 16);
  #length = 0;
  #prevLsn: bigint;
  /** Record boundaries: the start and each record's end, ascending. */
  readonly boundaries: Lsn[] = [];

  constructor(shape: StreamShape) {
    this.startLsn = shape.startLsn as Lsn;
    this.segmentBytes = shape.segmentBytes ?? MIB;
    this.#systemId = shape.systemId ?? 0x1122334455667788n;
    this.#mark = shape.mark ?? 1;
    this.#prevLsn = shape.prevLsn ?? shape.startLsn - 8n;
    this.boundaries.push(this.startLsn);
  }

  /** Where the next record begins. */
  get endLsn(): Lsn {
    return (this.startLsn + BigInt(this.#length)) as Lsn;
  }

  /** Adds a record with a body of `bytes` bytes; its end is the new `endLsn`. */
  record(bytes = 40, kind: RecordKind = {}): this {
    this.#append(this.#encode(bytes, kind));
    this.boundaries.push(this.endLsn);
    return this;
  }

  /** Adds a transaction's commit record. */
  commit(): this {
    return this.record(16, { rmid: 1, info: 0 });
  }

  /** Adds a segment switch and the zeros after it; gives the position where the record's own bytes end. */
  switchSegment(): Lsn {
    this.#append(this.#encode(0, { rmid: 0, info: 0x40 }));
    const dataEnd = this.endLsn;
    const rest = this.segmentBytes - Number(dataEnd % BigInt(this.segmentBytes));
    if (rest < this.segmentBytes) this.#put(new Uint8Array(rest));
    this.boundaries.push(this.endLsn);
    return dataEnd;
  }

  /** Adds the record with which PostgreSQL begins another timeline; the pages that follow are on it. */
  endOfRecovery(timelineId: number): this {
    this.timelineId = timelineId;
    const body = new Uint8Array(18);
    const view = new DataView(body.buffer);
    view.setUint16(0, 0x10ff, true); // a short data header: 255, 16 bytes
    view.setUint32(10, timelineId, true);
    return this.record(18, { rmid: 0, info: 0x90, body });
  }

  /** A stream that agrees with this one up to `lsn` and is free to go on differently. */
  fork(lsn: bigint, mark: number): WalStream {
    const at = this.boundaries.indexOf(lsn as Lsn);
    if (at < 0) throw new Error("a stream forks at a record boundary");
    const fork = new WalStream({
      startLsn: this.startLsn,
      segmentBytes: this.segmentBytes,
      systemId: this.#systemId,
      mark,
    });
    fork.#put(this.slice(this.startLsn, lsn));
    fork.boundaries.push(...this.boundaries.slice(1, at + 1));
    fork.#prevLsn = at === 0 ? this.startLsn - 8n : this.#startOfRecordEnding(at);
    return fork;
  }

  /** The bytes of [from, to), the caller's. */
  slice(from: bigint, to: bigint): Uint8Array {
    const begin = Number(from - this.startLsn);
    const end = Number(to - this.startLsn);
    if (begin < 0 || end > this.#length || begin > end) throw new Error("outside the stream");
    return this.#bytes.slice(begin, end);
  }

  /** The last record boundary at or before `lsn`. */
  boundaryBefore(lsn: bigint): Lsn {
    let found = this.startLsn;
    for (const boundary of this.boundaries) if (boundary <= lsn) found = boundary;
    return found;
  }

  // A record starts behind the header of the page that its predecessor ended at.
  #startOfRecordEnding(index: number): bigint {
    const before = this.boundaries[index - 1] ?? this.startLsn;
    return before % BigInt(PAGE) === 0n ? before + BigInt(this.#headerBytes(before)) : before;
  }

  #headerBytes(lsn: bigint): number {
    return lsn % BigInt(this.segmentBytes) === 0n ? 40 : 24;
  }

  #encode(bodyBytes: number, kind: RecordKind): Uint8Array {
    const total = 24 + bodyBytes;
    const record = new Uint8Array(total);
    const view = new DataView(record.buffer);
    const at = this.endLsn;
    const start = at % BigInt(PAGE) === 0n ? at + BigInt(this.#headerBytes(at)) : at;
    view.setUint32(0, total, true);
    view.setUint32(4, 7, true);
    view.setBigUint64(8, this.#prevLsn, true);
    view.setUint8(16, kind.info ?? 0);
    view.setUint8(17, kind.rmid ?? 10);
    const low = Number(start & 0xffff_ffffn) ^ (this.#mark * 0x0101_0101);
    for (let i = 24; i < total; i += 1) record[i] = (low >>> ((i % 4) * 8)) & 0xff;
    if (kind.body !== undefined) record.set(kind.body, 24);
    view.setUint32(20, crc32c(record.subarray(0, 20), crc32c(record.subarray(24))), true);
    this.#prevLsn = start;
    return record;
  }

  #append(record: Uint8Array): void {
    for (let at = 0; at < record.byteLength;) {
      const lsn = this.endLsn;
      if (lsn % BigInt(PAGE) === 0n) this.#put(this.#pageHeader(lsn, at === 0 ? 0 : record.byteLength - at));
      const room = PAGE - Number(this.endLsn % BigInt(PAGE));
      const count = Math.min(room, record.byteLength - at);
      this.#put(record.subarray(at, at + count));
      at += count;
    }
    this.#put(new Uint8Array(-this.#length & 7));
  }

  #pageHeader(lsn: bigint, remaining: number): Uint8Array {
    const long = lsn % BigInt(this.segmentBytes) === 0n;
    const header = new Uint8Array(long ? 40 : 24);
    const view = new DataView(header.buffer);
    view.setUint16(0, MAGIC_PG15, true);
    view.setUint16(2, (remaining > 0 ? 1 : 0) | (long ? 2 : 0), true);
    view.setUint32(4, this.timelineId, true);
    view.setBigUint64(8, lsn, true);
    view.setUint32(16, remaining, true);
    if (long) {
      view.setBigUint64(24, this.#systemId, true);
      view.setUint32(32, this.segmentBytes, true);
      view.setUint32(36, PAGE, true);
    }
    return header;
  }

  #put(bytes: Uint8Array): void {
    while (this.#length + bytes.byteLength > this.#bytes.byteLength) {
      const grown = new Uint8Array(this.#bytes.byteLength * 2);
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.byteLength;
  }
}

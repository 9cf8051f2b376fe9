/**
 * The WAL of one simulated database: real pages and records, so that the stores' own decoder accepts them.
 *
 * Every record's body depends on its position and on the database's mark, so two databases differ in every record
 * they write at the same position, and bytes at a wrong place show. A log either grows by `write`, or takes over the
 * beginning of another database's log with `adopt`, as a new primary restored from it does.
 *
 * Layout: PostgreSQL's xlog_internal.h and xlogrecord.h, version 15.
 */
import { crc32c } from "@millrace/checksums";
import type { Lsn } from "@millrace/lsn";
import { WalDecoder } from "@millrace/wal-decoder";
import { RECORD_HEADER_BYTES } from "@millrace/wal-decoder";
import type { Random } from "./random.js";

/** What all logs of a simulation have in common. */
export const WAL_SHAPE: {
  readonly pgVersion: number;
  readonly pgMajor: number;
  readonly systemId: bigint;
  readonly segmentBytes: number;
} = { pgVersion: 150015, pgMajor: 15, systemId: 0x5eed_0000_0000_0001n, segmentBytes: 1024 * 1024 };

const PAGE_BYTES = 8192;
const MAGIC_PG15 = 0xd110;
const SHORT_HEADER_BYTES = 24;
const LONG_HEADER_BYTES = 40;
/** Resource managers: heap for ordinary records, transactions for commits, xlog for switches. */
const RMID = { xlog: 0, transaction: 1, heap: 10 } as const;
const XLOG_SWITCH = 0x40;

/** A growing log from a fixed start. Positions inside are offsets from `startLsn`. */
export class WalLog {
  readonly startLsn: Lsn;
  readonly #start: number;
  readonly #mark: number;
  readonly #boundaries = new Set<number>();
  #bytes = new Uint8Array(1 << 14);
  #length = 0;
  /** Position of the last record, for the next one's back link. */
  #previous: number;

  /** @param mark what the bodies of this database's records are filled from */
  constructor(startLsn: Lsn, mark: number) {
    this.startLsn = startLsn;
    this.#start = Number(startLsn);
    this.#mark = mark;
    this.#previous = this.#start - 8;
    this.#boundaries.add(this.#start);
  }

  get endLsn(): Lsn {
    return BigInt(this.#start + this.#length) as Lsn;
  }

  /** Whether `lsn` is the start of the log or the end of a record. */
  isBoundary(lsn: Lsn): boolean {
    return this.#boundaries.has(Number(lsn));
  }

  /** The bytes of [from, to), borrowed. What lies beyond the end is cut off. */
  view(from: Lsn, to: Lsn): Uint8Array {
    return this.#bytes.subarray(
      Math.max(0, Number(from) - this.#start),
      Math.min(this.#length, Number(to) - this.#start),
    );
  }

  /** Adds one record. */
  write(bodyBytes: number, isCommit: boolean): void {
    this.#record(bodyBytes, isCommit ? RMID.transaction : RMID.heap, 0);
  }

  /** Leaves the segment: a switch record and zeros up to the next segment's start. */
  switchSegment(): void {
    this.#record(0, RMID.xlog, XLOG_SWITCH, () => {
      const into = (this.#start + this.#length) % WAL_SHAPE.segmentBytes;
      if (into !== 0) this.#put(new Uint8Array(WAL_SHAPE.segmentBytes - into));
    });
  }

  /** Adds records of the kinds and sizes that a database under load writes. */
  writeSome(random: Random, records: number): void {
    for (let count = 0; count < records; count += 1) {
      const dice = random.next();
      const bytes =
        dice < 0.7
          ? 8 + random.below(200)
          : dice < 0.95
            ? 200 + random.below(1500)
            : 1000 + random.below(20_000);
      this.write(bytes, random.chance(0.25));
    }
  }

  /**
   * Becomes a copy of another log's bytes from the start; goes on with its own mark.
   *
   * @param bytes copied: whole records from `startLsn` on
   */
  adopt(bytes: Uint8Array): void {
    this.#length = 0;
    this.#boundaries.clear();
    this.#boundaries.add(this.#start);
    this.#previous = this.#start - 8;
    this.#put(bytes);
    const decoder = new WalDecoder({
      startLsn: this.startLsn,
      pgMajor: WAL_SHAPE.pgMajor,
      segmentBytes: WAL_SHAPE.segmentBytes,
      onRecord: (record) => {
        this.#boundaries.add(Number(record.endLsn));
        this.#previous = Number(record.startLsn);
      },
    });
    decoder.feed(bytes);
  }

  #record(bodyBytes: number, rmid: number, info: number, behind?: () => void): void {
    const total = RECORD_HEADER_BYTES + bodyBytes;
    const record = new Uint8Array(total);
    const view = new DataView(record.buffer);
    const at = this.#start + this.#length;
    const startsAt = at % PAGE_BYTES === 0 ? at + headerBytes(at) : at;
    view.setUint32(0, total, true);
    view.setUint32(4, 7, true);
    view.setBigUint64(8, BigInt(this.#previous), true);
    view.setUint8(16, info);
    view.setUint8(17, rmid);
    let word = Math.imul(startsAt, 0x9e3779b1) ^ Math.imul(this.#mark, 0x85ebca6b);
    for (let index = RECORD_HEADER_BYTES; index < total; index += 1) {
      record[index] = word >>> 24;
      word = (Math.imul(word, 0x0019660d) + 0x3c6ef35f) | 0;
    }
    const bodyChecksum = crc32c(record.subarray(RECORD_HEADER_BYTES));
    view.setUint32(20, crc32c(record.subarray(0, 20), bodyChecksum), true);
    this.#previous = startsAt;
    this.#append(record);
    behind?.();
    this.#boundaries.add(this.#start + this.#length);
  }

  #append(record: Uint8Array): void {
    for (let done = 0; done < record.byteLength;) {
      const at = this.#start + this.#length;
      if (at % PAGE_BYTES === 0) this.#put(pageHeader(at, done === 0 ? 0 : record.byteLength - done));
      const room = PAGE_BYTES - ((this.#start + this.#length) % PAGE_BYTES);
      const count = Math.min(room, record.byteLength - done);
      this.#put(record.subarray(done, done + count));
      done += count;
    }
    const padding = -(this.#start + this.#length) & 7;
    if (padding > 0) this.#put(new Uint8Array(padding));
  }

  #put(bytes: Uint8Array): void {
    const end = this.#length + bytes.byteLength;
    if (end > this.#bytes.byteLength) {
      const grown = new Uint8Array(Math.max(end, this.#bytes.byteLength * 2));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = end;
  }
}

function headerBytes(at: number): number {
  return at % WAL_SHAPE.segmentBytes === 0 ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES;
}

/** @param remaining bytes of a record that earlier pages began */
function pageHeader(at: number, remaining: number): Uint8Array {
  const isLong = at % WAL_SHAPE.segmentBytes === 0;
  const header = new Uint8Array(isLong ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint16(0, MAGIC_PG15, true);
  view.setUint16(2, (remaining > 0 ? 1 : 0) | (isLong ? 2 : 0), true);
  view.setUint32(4, 1, true);
  view.setBigUint64(8, BigInt(at), true);
  view.setUint32(16, remaining, true);
  if (isLong) {
    view.setBigUint64(24, WAL_SHAPE.systemId, true);
    view.setUint32(32, WAL_SHAPE.segmentBytes, true);
    view.setUint32(36, PAGE_BYTES, true);
  }
  return header;
}

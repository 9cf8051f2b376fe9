/**
 * The dumbest encoder of WAL: one page's part after the other, a header where a page begins, checksums byte by byte.
 *
 * It shares no code with the decoder, so that a misunderstanding would have to be made twice. What it builds is
 * what PostgreSQL would have written, plus what PostgreSQL cannot be made to write on demand: records that end
 * or tear at a chosen byte, segment switches at a segment's very end, records aborted by a crash.
 */
export interface BuiltRecord {
  readonly startLsn: bigint;
  readonly endLsn: bigint;
  /** Behind the record's last byte: from here on a decoder can know it. */
  readonly dataEndLsn: bigint;
  readonly prevLsn: bigint;
  readonly rmid: number;
  readonly info: number;
  readonly xid: number;
  readonly totalBytes: number;
}

export interface WalShape {
  readonly startLsn: bigint;
  readonly pgMajor?: 15 | 16 | 17 | 18;
  readonly segmentBytes?: number;
  readonly systemId?: bigint;
  readonly timelineId?: number;
}

export interface RecordSpec {
  /** Bytes behind the record header. Default: none. */
  readonly body?: Uint8Array | number;
  readonly rmid?: number;
  readonly info?: number;
  readonly xid?: number;
  /** Instead of the true predecessor. */
  readonly prevLsn?: bigint;
}

export const PAGE = 8192;
export const MIB = 0x10_0000;
const MAGIC = { 15: 0xd110, 16: 0xd113, 17: 0xd116, 18: 0xd118 } as const;

/** What a byte does to a CRC-32C register, found bit by bit. */
const CRC_OF_BYTE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? 0x82f63b78 : 0);
  return crc;
});

/** CRC-32C, a byte at a time. */
export function slowCrc32c(...parts: readonly Uint8Array[]): number {
  let crc = 0xffffffff;
  for (const part of parts) {
    for (const byte of part) crc = (crc >>> 8) ^ (CRC_OF_BYTE[(crc ^ byte) & 255] ?? 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** Writes the checksum that belongs to a record which is in one piece. */
export function sealRecord(record: Uint8Array): void {
  const view = new DataView(record.buffer, record.byteOffset, record.byteLength);
  view.setUint32(20, slowCrc32c(record.subarray(24), record.subarray(0, 20)), true);
}

export class WalBuilder {
  readonly segmentBytes: number;
  readonly startLsn: bigint;
  readonly systemId: bigint;
  readonly pgMajor: 15 | 16 | 17 | 18;
  readonly records: BuiltRecord[] = [];
  timelineId: number;
  #bytes = new Uint8Array(1 << 16);
  #length = 0;
  #prevLsn: bigint;
  /** Flags for the next page header only. */
  #nextPageInfo = 0;
  #seed = 12345;

  constructor(shape: WalShape) {
    this.startLsn = shape.startLsn;
    this.segmentBytes = shape.segmentBytes ?? MIB;
    this.systemId = shape.systemId ?? 0x6543_2109_8765_4321n;
    this.pgMajor = shape.pgMajor ?? 15;
    this.timelineId = shape.timelineId ?? 1;
    this.#prevLsn = shape.startLsn - 64n;
  }

  /** Where the next byte goes. */
  get lsn(): bigint {
    return this.startLsn + BigInt(this.#length);
  }

  /** Everything so far, a view. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** What the decoder has to be told. */
  get options(): { startLsn: never; segmentBytes: number; pgMajor: number; systemId: bigint } {
    const { segmentBytes, pgMajor, systemId } = this;
    return { startLsn: this.startLsn as never, segmentBytes, pgMajor, systemId };
  }

  /** Bytes from the position to the end of its page; a whole page at a page's start. */
  get leftOnPage(): number {
    return PAGE - Number(this.lsn % BigInt(PAGE));
  }

  get leftInSegment(): number {
    return this.segmentBytes - Number(this.lsn % BigInt(this.segmentBytes));
  }

  /** Appends a record and the padding behind it. */
  record(spec: RecordSpec = {}): BuiltRecord {
    this.pageHeaderIfDue(0);
    const startLsn = this.lsn;
    const record = this.encode(spec);
    this.#put(record);
    return this.#finish(startLsn, record, this.lsn);
  }

  /** Appends records so that the next one starts `bytes` before the end of the page; a multiple of 8. */
  fillPageUpTo(bytes: number): void {
    this.pageHeaderIfDue(0);
    let body = this.leftOnPage - bytes - 24;
    if (body < 0) {
      this.record({ body: this.leftOnPage - 8 });
      body = this.leftOnPage - bytes - 24;
    }
    if (body >= 0) this.record({ body });
  }

  /** Appends records so that the next one starts `bytes` (at most a page) before the end of the segment. */
  fillSegmentUpTo(bytes: number): void {
    this.pageHeaderIfDue(0);
    while (this.leftInSegment > 2 * PAGE) this.record({ body: this.leftOnPage - 24 + 3000 });
    while (this.leftInSegment > PAGE) this.fillPageUpTo(0);
    this.fillPageUpTo(bytes);
  }

  /** Appends a segment switch and `filler` up to the segment's end. */
  switchSegment(filler = 0): BuiltRecord {
    this.pageHeaderIfDue(0);
    const startLsn = this.lsn;
    const record = this.encode({ rmid: 0, info: 0x40 });
    this.#put(record);
    const dataEndLsn = this.lsn;
    const rest = this.leftInSegment % this.segmentBytes;
    const built = this.#finish(startLsn, record, dataEndLsn, dataEndLsn + BigInt(rest));
    const missing = Number(built.endLsn - this.lsn);
    this.#reserve(missing);
    this.#bytes.fill(filler, this.#length, this.#length + missing);
    this.#length += missing;
    return built;
  }

  /**
   * Appends a record of which only the first `pages` pages survived a crash, and what PostgreSQL then puts into the
   * next page: the flag and the record that names the aborted one.
   *
   * @param abortedLsn instead of the truth
   */
  abortedRecord(pages: number, abortedLsn?: bigint): BuiltRecord {
    this.abortedStart(pages);
    this.#nextPageInfo = 0x08;
    return this.overwriteRecord(abortedLsn ?? this.lastAbortedLsn);
  }

  lastAbortedLsn = 0n;

  /** The surviving pages of an aborted record only. */
  abortedStart(pages: number): void {
    this.pageHeaderIfDue(0);
    this.lastAbortedLsn = this.lsn;
    const record = this.encode({ body: (pages + 1) * PAGE });
    const survivor = (pages - 1) * PAGE + this.leftOnPage;
    const end = this.#length + survivor;
    this.#put(record);
    this.#length = end;
  }

  overwriteRecord(abortedLsn: bigint): BuiltRecord {
    const body = new Uint8Array(18);
    body[0] = 255;
    body[1] = 16;
    new DataView(body.buffer).setBigUint64(2, abortedLsn, true);
    return this.record({ rmid: 0, info: 0xd0, body });
  }

  /** Sets flags in the next page header, whatever it is. */
  flagNextPage(info: number): void {
    this.#nextPageInfo = info;
  }

  /** A record in one piece, with its checksum. */
  encode(spec: RecordSpec): Uint8Array {
    const body = typeof spec.body === "number" ? this.noise(spec.body) : (spec.body ?? new Uint8Array(0));
    const record = new Uint8Array(24 + body.byteLength);
    const view = new DataView(record.buffer);
    view.setUint32(0, record.byteLength, true);
    view.setUint32(4, spec.xid ?? 0, true);
    view.setBigUint64(8, spec.prevLsn ?? this.#prevLsn, true);
    record[16] = spec.info ?? 0;
    record[17] = spec.rmid ?? 10;
    record.set(body, 24);
    sealRecord(record);
    return record;
  }

  /** Reproducible bytes that are not all alike. */
  noise(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    for (let i = 0; i < count; i += 1) {
      this.#seed = (Math.imul(this.#seed, 1103515245) + 12345) >>> 0;
      bytes[i] = this.#seed >>> 16;
    }
    return bytes;
  }

  /** Writes a page header if the position is at a page's start. */
  pageHeaderIfDue(remaining: number): void {
    if (this.lsn % BigInt(PAGE) !== 0n) return;
    const long = this.lsn % BigInt(this.segmentBytes) === 0n;
    const header = new Uint8Array(long ? 40 : 24);
    const view = new DataView(header.buffer);
    view.setUint16(0, MAGIC[this.pgMajor], true);
    view.setUint16(2, (remaining > 0 ? 1 : 0) | (long ? 2 : 0) | 4 | this.#nextPageInfo, true);
    view.setUint32(4, this.timelineId, true);
    view.setBigUint64(8, this.lsn, true);
    view.setUint32(16, remaining, true);
    if (long) {
      view.setBigUint64(24, this.systemId, true);
      view.setUint32(32, this.segmentBytes, true);
      view.setUint32(36, PAGE, true);
    }
    this.#nextPageInfo = 0;
    this.raw(header);
  }

  /** Appends bytes as they are. */
  raw(bytes: Uint8Array): void {
    this.#reserve(bytes.byteLength);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.byteLength;
  }

  #put(record: Uint8Array): void {
    for (let at = 0; at < record.byteLength;) {
      this.pageHeaderIfDue(record.byteLength - at);
      const part = record.subarray(at, at + this.leftOnPage);
      this.raw(part);
      at += part.byteLength;
    }
  }

  #finish(startLsn: bigint, record: Uint8Array, dataEndLsn: bigint, switchEnd?: bigint): BuiltRecord {
    while (this.lsn % 8n !== 0n) this.raw(Uint8Array.of(0));
    const view = new DataView(record.buffer);
    const built = {
      startLsn,
      dataEndLsn,
      endLsn: switchEnd ?? this.lsn,
      prevLsn: view.getBigUint64(8, true),
      rmid: record[17] ?? 0,
      info: record[16] ?? 0,
      xid: view.getUint32(4, true),
      totalBytes: record.byteLength,
    };
    this.#prevLsn = startLsn;
    this.records.push(built);
    return built;
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.byteLength) return;
    const larger = new Uint8Array(2 * this.#bytes.byteLength + count);
    larger.set(this.bytes);
    this.#bytes = larger;
  }
}

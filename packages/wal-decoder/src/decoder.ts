/**
 * The decoder of a WAL stream: bytes in, record boundaries out, every record verified.
 *
 * What it keeps true: `recordEndLsn` is the end of a record whose bytes all arrived, whose checksum is right and
 * whose pages are those of this stream, and every record between the start and it was so too. Nothing depends on how
 * the bytes were cut into chunks. Memory does not depend on the records: the checksum runs along as bytes pass, and
 * only a record's first 64 bytes are kept, unless whole records are asked for. After a failure nothing more is
 * accepted until `reset`.
 *
 * The position is a segment's start in two 32-bit halves plus an offset; no bigint and no object is made per record.
 * A record that lies in one page and one chunk is checked where it is (`#takeWholeRecords`), any other passes
 * through `#takeRecordPart`. The offset alone says whether a page header is due.
 *
 * The rules are those of PostgreSQL's xlogreader.c; the streaming shape that of the decoder in Neon's
 * postgres_ffi, which keeps whole records in memory and does not know aborted ones.
 */
import { crc32cOfRange } from "@millrace/checksums";
import { BLOCK_BYTES, checkSegmentBytes, formatLsn, segmentOffset } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { AbortedRecord } from "./aborted-record.js";
import { WalDecodeError } from "./errors.js";
import type { WalDecodeErrorCode } from "./errors.js";
import {
  CHECKSUMMED_HEADER_BYTES,
  headerBytesAt,
  LONG_HEADER_BYTES,
  OPERATION_MASK,
  paddingBytes,
  PAGE,
  PAGE_INFO,
  RECORD,
  RECORD_BYTES_MAX,
  RECORD_HEADER_BYTES,
  RMID,
  RMID_BUILTIN_MAX,
  RMID_CUSTOM_MIN,
  SHORT_HEADER_BYTES,
  TRANSACTION_END_MAX,
  TRANSACTION_OPERATION_MASK,
  XLOG_OVERWRITE_CONTRECORD,
  XLOG_SWITCH,
} from "./layout.js";
import { checkPageHeader, isRecordPosition, pageExpectation } from "./page-header.js";
import type { PageExpectation } from "./page-header.js";
import { highHalf, isBelow, lowHalf, lsnOf } from "./position.js";
import { RecordParts } from "./record-parts.js";
import { RecordView } from "./record-visit.js";
import type { RecordVisit } from "./record-visit.js";

/** Where in the WAL reading begins. */
export type WalStartMode =
  /** At the start of a record or at a page that begins with one. */
  | "record"
  /** At any page's start; the rest of an earlier record is skipped unverified. */
  | "anywhere";

export interface WalDecoderOptions {
  /** Position of the first byte that will be fed. */
  readonly startLsn: Lsn;
  /** 15 to 18: the WAL format. */
  readonly pgMajor: number;
  /** A power of two from 1 MiB to 1 GiB. */
  readonly segmentBytes: number;
  /** Every segment must belong to this cluster. Without it, to the same one as the first segment seen. */
  readonly systemId?: bigint;
  /** Timelines that a page may have; borrowed and asked at each page, so that more may be added. Without it, any. */
  readonly timelines?: ReadonlySet<number>;
  /** Default: "record". */
  readonly start?: WalStartMode;
  /**
   * Whether visitors see all bytes of a record, as `WalRecord` needs. A record in one page and one chunk is shown where
   * it is; any other is put together in a buffer that grows with what has arrived, never by what a length claims.
   * Default: false, the first `HEAD_BYTES` only.
   */
  readonly wholeRecords?: boolean;
  /**
   * Sees each complete record, in order, during `feed`. The view is lent for the call. It must not call `feed` or
   * `reset`. If it throws, `feed` throws the same; the decoder then stands behind the record and may be fed from
   * `nextLsn` on.
   */
  readonly onRecord?: (record: RecordVisit) => void;
}

/** Streaming decoder of record boundaries. One stream, one caller; synchronous. */
export class WalDecoder {
  readonly #segmentBytes: number;
  readonly #timelines: ReadonlySet<number> | undefined;
  readonly #onRecord: ((record: RecordVisit) => void) | undefined;
  readonly #visit: RecordView;
  #expected: PageExpectation;
  #error: WalDecodeError | undefined;

  // The position of the next byte: a segment's start and an offset, which is #segmentBytes at the segment's end.
  #segmentHigh = 0;
  #segmentLow = 0;
  #offset = 0;
  /** Offset up to which bytes are passed over unseen: padding, or what follows a segment switch. */
  #skipUntil = 0;
  /** The page header at hand, if it comes in parts; how much of it is there follows from the offset. */
  readonly #pageHeader = new Uint8Array(LONG_HEADER_BYTES);
  readonly #pageHeaderView = new DataView(this.#pageHeader.buffer);
  #timelineId = 0;

  // The record at hand, if it is taken in parts: what is kept of it, bytes seen (0: none at hand), its length (0: not
  // known yet).
  readonly #kept: RecordParts;
  #fill = 0;
  #totalBytes = 0;
  #crc = 0;
  #startHigh = 0;
  #startLow = 0;

  /** Nothing was seen since a start "anywhere": the first page may continue a record. */
  #tailPossible = false;
  /** Bytes of that record which are still to be skipped. */
  #tailBytes = 0;

  readonly #aborted = new AbortedRecord();

  // The last complete record: its start, and its end as an offset that may equal #segmentBytes.
  #lastKnown = false;
  #lastHigh = 0;
  #lastLow = 0;
  #endHigh = 0;
  #endLow = 0;
  #endOffset = 0;
  #recordCount = 0;
  #transactionEnded = false;

  /**
   * @throws {RangeError} bad `segmentBytes`
   * @throws {WalDecodeError} ERR_WAL_VERSION, ERR_WAL_START, ERR_WAL_LSN_LIMIT
   */
  constructor(options: WalDecoderOptions) {
    checkSegmentBytes(options.segmentBytes);
    this.#segmentBytes = options.segmentBytes;
    this.#timelines = options.timelines;
    this.#onRecord = options.onRecord;
    this.#kept = new RecordParts(options.wholeRecords === true);
    this.#visit = new RecordView(options.wholeRecords === true);
    this.#expected = pageExpectation(options.pgMajor, options.segmentBytes, options.systemId);
    this.reset(options.startLsn, options.start);
  }

  /** Where the next byte that is fed belongs. After a failure: somewhere in what was refused. */
  get nextLsn(): Lsn {
    return lsnOf(this.#segmentHigh, this.#segmentLow, this.#offset);
  }

  /**
   * End of the last complete record, aligned to 8: where the next one may begin. Known as soon as the record's last
   * byte has arrived, and so ahead of `nextLsn` by the padding (up to 7 bytes) or, after a segment switch, by the
   * rest of the segment: what lies between carries nothing. The start position before the first record.
   */
  get recordEndLsn(): Lsn {
    return lsnOf(this.#endHigh, this.#endLow, this.#endOffset);
  }

  /** Start of the last complete record, which the next one names as its predecessor; undefined before the first. */
  get lastRecordLsn(): Lsn | undefined {
    return this.#lastKnown ? lsnOf(this.#lastHigh, this.#lastLow, 0) : undefined;
  }

  /** Start of the record of which some but not all bytes have arrived, if there is one. */
  get partialRecordLsn(): Lsn | undefined {
    return this.#fill > 0 ? lsnOf(this.#startHigh, this.#startLow, 0) : undefined;
  }

  /** Complete records since the start or the last reset. */
  get recordCount(): number {
    return this.#recordCount;
  }

  /** Timeline of the last page header seen; 0 before the first. */
  get timelineId(): number {
    return this.#timelineId;
  }

  /** What `feed` failed with, and goes on failing with until `reset`. */
  get error(): WalDecodeError | undefined {
    return this.#error;
  }

  /**
   * Whether a transaction's end (commit, abort, prepare, or commit or abort of a prepared one) has become complete
   * since the last call: somebody may be waiting for this WAL to be durable.
   */
  takeTransactionEnd(): boolean {
    const ended = this.#transactionEnded;
    this.#transactionEnded = false;
    return ended;
  }

  /**
   * Forgets everything but the options and the cluster's system id, and starts again at `lsn`.
   *
   * @param mode default: "record", whatever the mode was before
   * @throws {WalDecodeError} ERR_WAL_START if no record can start at `lsn`, or, for "anywhere", if it is not a page's
   *   start; ERR_WAL_LSN_LIMIT in the last segment of the address space. Nothing has changed then.
   */
  reset(lsn: Lsn, mode: WalStartMode = "record"): void {
    const offset = segmentOffset(lsn, this.#segmentBytes);
    const segmentLsn = lsn - BigInt(offset);
    if (mode === "record" ? !isRecordPosition(offset) : offset % BLOCK_BYTES !== 0) {
      throw new WalDecodeError("ERR_WAL_START", lsn, "reading cannot start here");
    }
    if (segmentLsn + BigInt(this.#segmentBytes) >= 2n ** 64n) {
      throw new WalDecodeError("ERR_WAL_LSN_LIMIT", lsn, "the last segment cannot be read");
    }
    this.#segmentHigh = this.#endHigh = highHalf(segmentLsn);
    this.#segmentLow = this.#endLow = lowHalf(segmentLsn);
    this.#offset = this.#endOffset = offset;
    this.#error = undefined;
    this.#skipUntil = this.#timelineId = 0;
    this.#fill = this.#totalBytes = this.#tailBytes = 0;
    this.#tailPossible = mode === "anywhere";
    this.#aborted.clear();
    this.#lastKnown = false;
    this.#recordCount = 0;
    this.#transactionEnded = false;
  }

  /**
   * Takes the bytes that follow at `nextLsn`, any number of them.
   *
   * @param chunk borrowed for the call; not written to, not kept
   * @throws {WalDecodeError} any code but ERR_WAL_VERSION and ERR_WAL_START; records before the bad one were taken.
   *   The same error again for each further call until `reset`.
   */
  feed(chunk: Uint8Array): void {
    if (this.#error !== undefined) throw this.#error;
    // A view of a Buffer of Node's is a Buffer, which takes several times as long to make as a view of an array.
    const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const end = bytes.byteLength;
    let at = 0;
    while (at < end) {
      if (this.#offset === this.#segmentBytes) this.#enterNextSegment();
      const inPage = this.#offset & (BLOCK_BYTES - 1);
      const before = at;
      // A page's rest and the chunk's: nothing below looks further at a time.
      const until = Math.min(end, at + BLOCK_BYTES - inPage);
      if (this.#offset < this.#skipUntil) {
        at = Math.min(end, at + this.#skipUntil - this.#offset);
        this.#offset += at - before;
      } else if (inPage < SHORT_HEADER_BYTES || this.#offset < LONG_HEADER_BYTES) {
        at = this.#takePageHeader(bytes, view, at, until);
      } else if (this.#tailBytes > 0) {
        at = this.#takeTail(at, until);
      } else if (this.#fill > 0) {
        at = this.#takeRecordPart(bytes, at, until);
      } else {
        at = this.#takeWholeRecords(bytes, view, at, until);
        if (at < until && this.#offset >= this.#skipUntil) at = this.#takeRecordPart(bytes, at, until);
      }
    }
  }

  /**
   * Passes over the padding, or the rest of the segment after a segment switch, without its bytes: `nextLsn` becomes
   * `recordEndLsn`. Does nothing in any other state.
   */
  skipToRecordEnd(): void {
    if (this.#error === undefined && this.#offset < this.#skipUntil) this.#offset = this.#skipUntil;
  }

  /** Done before a segment's first byte is taken, not after the last one: a record may end the address space. */
  #enterNextSegment(): void {
    const low = (this.#segmentLow >>> 0) + this.#segmentBytes;
    this.#segmentLow = low | 0;
    if (low > 0xffff_ffff) this.#segmentHigh = (this.#segmentHigh + 1) | 0;
    this.#offset = this.#skipUntil = 0;
    if (this.#segmentHigh === -1 && (this.#segmentLow >>> 0) + this.#segmentBytes > 0xffff_ffff) {
      throw this.#failAt("ERR_WAL_LSN_LIMIT", 0, "the last segment cannot be read");
    }
  }

  #takePageHeader(bytes: Uint8Array, view: DataView, from: number, until: number): number {
    const inPage = this.#offset & (BLOCK_BYTES - 1);
    const headerBytes = headerBytesAt(this.#offset);
    const at = Math.min(until, from + headerBytes - inPage);
    const taken = at - from;
    if (taken === headerBytes) {
      this.#checkPage(view, from, this.#offset);
    } else {
      this.#pageHeader.set(bytes.subarray(from, at), inPage);
      if (inPage + taken === headerBytes) this.#checkPage(this.#pageHeaderView, 0, this.#offset - inPage);
    }
    this.#offset += taken;
    return at;
  }

  /** Checks the header of the page at `offset` of the segment, and what it says about the record at hand. */
  #checkPage(view: DataView, at: number, offset: number): void {
    try {
      checkPageHeader(view, at, this.#segmentHigh, this.#segmentLow, offset, this.#expected);
    } catch (error) {
      if (error instanceof WalDecodeError) this.#error = error;
      throw error;
    }
    if (offset === 0 && this.#expected.systemId === undefined) {
      const systemId = view.getBigUint64(at + PAGE.systemId, true);
      this.#expected = { ...this.#expected, systemId: { high: highHalf(systemId), low: lowHalf(systemId) } };
    }
    const timelineId = view.getUint32(at + PAGE.timelineId, true);
    if (timelineId === 0 || timelineId < this.#timelineId || this.#timelines?.has(timelineId) === false) {
      const text = `page of timeline ${String(timelineId)} after timeline ${String(this.#timelineId)}`;
      throw this.#failAt("ERR_WAL_TIMELINE", offset, text);
    }
    this.#timelineId = timelineId;
    const info = view.getUint16(at + PAGE.info, true);
    const remaining = view.getUint32(at + PAGE.remainingBytes, true);
    const continues = (info & PAGE_INFO.firstIsContrecord) !== 0;
    if ((info & PAGE_INFO.firstIsOverwriteContrecord) !== 0) {
      if (continues || remaining !== 0) {
        throw this.#failAt("ERR_WAL_PAGE_INFO", offset, "the page both continues and replaces a record");
      }
      this.#abandonRecord(offset);
    } else if (this.#tailPossible) {
      if (continues ? remaining > RECORD_BYTES_MAX : remaining !== 0) {
        throw this.#failAt("ERR_WAL_CONTRECORD", offset, `the page continues ${String(remaining)} bytes`);
      }
      this.#tailBytes = remaining;
    } else {
      const missing = this.#tailBytes > 0 ? this.#tailBytes : this.#totalBytes - this.#fill;
      if (remaining !== missing || continues !== missing > 0) {
        const text = `${String(missing)} bytes of a record are missing, the page has ${String(remaining)}`;
        throw this.#failAt("ERR_WAL_CONTRECORD", offset, text);
      }
    }
    this.#tailPossible = false;
  }

  /**
   * The page at `offset` replaces the record at hand, whose rest was lost in a crash. A page that does so although
   * the record before it is complete cannot come from PostgreSQL; only where reading began there, it may.
   */
  #abandonRecord(offset: number): void {
    if (this.#fill === 0 && this.#lastKnown) {
      throw this.#failAt("ERR_WAL_OVERWRITE", offset, "the page replaces a record, and none is incomplete");
    }
    this.#aborted.expect(this.#fill > 0, this.#startHigh, this.#startLow);
    this.#fill = this.#totalBytes = this.#tailBytes = 0;
  }

  #takeTail(from: number, until: number): number {
    const taken = Math.min(this.#tailBytes, until - from);
    this.#tailBytes -= taken;
    this.#offset += taken;
    if (this.#tailBytes === 0) this.#skipUntil = this.#offset + paddingBytes(this.#offset);
    return from + taken;
  }

  /**
   * Takes records one after another as long as each lies within [from, until), which is within one page. Returns
   * behind the last of them, or behind its padding as far as that is there.
   */
  #takeWholeRecords(bytes: Uint8Array, view: DataView, from: number, until: number): number {
    let at = from;
    while (until - at >= RECORD_HEADER_BYTES) {
      const totalBytes = view.getUint32(at + RECORD.totalBytes, true);
      if (totalBytes > until - at || totalBytes < RECORD_HEADER_BYTES) break;
      this.#startHigh = this.#segmentHigh;
      this.#startLow = (this.#segmentLow + this.#offset) | 0;
      this.#checkRecordHeader(view, at);
      const body =
        totalBytes === RECORD_HEADER_BYTES
          ? 0
          : crc32cOfRange(bytes, at + RECORD_HEADER_BYTES, at + totalBytes);
      const checksum = crc32cOfRange(bytes, at, at + CHECKSUMMED_HEADER_BYTES, body);
      const endOffset = this.#completeRecord(view, at, checksum, this.#offset + totalBytes);
      const next = Math.min(until, at + totalBytes + paddingBytes(totalBytes));
      this.#offset += next - at;
      this.#skipUntil = endOffset;
      if (this.#onRecord !== undefined) this.#visitRecord(this.#onRecord, view, at, bytes);
      at = next;
      if (this.#offset < endOffset) break;
    }
    return at;
  }

  /** Takes what [from, until) has of one record, which begins there or before; until is at most the page's end. */
  #takeRecordPart(bytes: Uint8Array, from: number, until: number): number {
    let at = from;
    let fill = this.#fill;
    if (fill === 0) {
      this.#startHigh = this.#segmentHigh;
      this.#startLow = (this.#segmentLow + this.#offset) | 0;
      this.#crc = 0;
    }
    if (this.#totalBytes === 0) {
      // The length is never torn by a page, as records are aligned to 8, but a chunk may end anywhere.
      while (fill < RECORD.xid && at < until) this.#kept.bytes[fill++] = bytes[at++] ?? 0;
      if (fill === RECORD.xid) this.#checkRecordLength(this.#kept.view.getUint32(RECORD.totalBytes, true));
    }
    if (at < until) {
      const taken = Math.min(this.#totalBytes - fill, until - at);
      this.#takeRecordBytes(bytes, at, taken, fill);
      at += taken;
      fill += taken;
    }
    this.#offset += at - from;
    this.#fill = fill;
    if (fill === this.#totalBytes) this.#completeTakenRecord();
    return at;
  }

  /** Keeps what is to be kept, checks the header when it is complete, runs the checksum over the body. */
  #takeRecordBytes(bytes: Uint8Array, at: number, count: number, fill: number): void {
    this.#kept.keep(bytes, at, count, fill);
    const ofHeader = Math.min(count, Math.max(0, RECORD_HEADER_BYTES - fill));
    if (ofHeader > 0 && fill + ofHeader === RECORD_HEADER_BYTES) this.#checkRecordHeader(this.#kept.view, 0);
    if (count > ofHeader) this.#crc = crc32cOfRange(bytes, at + ofHeader, at + count, this.#crc);
  }

  #completeTakenRecord(): void {
    const { bytes, view } = this.#kept;
    const checksum = crc32cOfRange(bytes, 0, CHECKSUMMED_HEADER_BYTES, this.#crc);
    this.#skipUntil = this.#completeRecord(view, 0, checksum, this.#offset);
    this.#fill = this.#totalBytes = 0;
    if (this.#onRecord !== undefined) this.#visitRecord(this.#onRecord, view, 0, bytes);
  }

  #checkRecordLength(totalBytes: number): void {
    if (totalBytes < RECORD_HEADER_BYTES || totalBytes > RECORD_BYTES_MAX) {
      throw this.#failRecord("ERR_WAL_RECORD_LENGTH", `record of ${String(totalBytes)} bytes`);
    }
    this.#totalBytes = totalBytes;
  }

  /** Checks what can be told from the 24 bytes at `at`: the predecessor and the resource manager. */
  #checkRecordHeader(view: DataView, at: number): void {
    const prevLow = view.getInt32(at + RECORD.prevLsn, true);
    const prevHigh = view.getInt32(at + RECORD.prevLsn + 4, true);
    const follows = this.#lastKnown
      ? prevLow === this.#lastLow && prevHigh === this.#lastHigh
      : isBelow(prevHigh, prevLow, this.#startHigh, this.#startLow);
    if (!follows) {
      const named = formatLsn(lsnOf(prevHigh, prevLow, 0));
      const wanted = this.#lastKnown
        ? ` instead of ${formatLsn(lsnOf(this.#lastHigh, this.#lastLow, 0))}`
        : "";
      throw this.#failRecord("ERR_WAL_RECORD_PREV", `the record names ${named}${wanted} as its predecessor`);
    }
    const rmid = view.getUint8(at + RECORD.rmid);
    if (rmid > RMID_BUILTIN_MAX && rmid < RMID_CUSTOM_MIN) {
      throw this.#failRecord("ERR_WAL_RECORD_RMID", `resource manager ${String(rmid)}`);
    }
  }

  /**
   * The record whose head is at `at` of `view` is all there: compares the checksum and moves the ends.
   *
   * @param dataEnd offset where its bytes end, in the segment where they do
   * @returns the offset where the record ends, alignment and segment switch included
   */
  #completeRecord(view: DataView, at: number, checksum: number, dataEnd: number): number {
    if (checksum !== view.getUint32(at + RECORD.checksum, true)) {
      throw this.#failRecord("ERR_WAL_RECORD_CRC", "the record's checksum does not match");
    }
    const rmid = view.getUint8(at + RECORD.rmid);
    const info = view.getUint8(at + RECORD.info);
    const operation = rmid === RMID.xlog ? info & OPERATION_MASK : -1;
    if (this.#aborted.due || operation === XLOG_OVERWRITE_CONTRECORD) {
      const problem = this.#aborted.problem(
        operation,
        view,
        at,
        this.#startHigh,
        this.#startLow,
        !this.#lastKnown,
      );
      if (problem !== undefined) throw this.#failRecord("ERR_WAL_OVERWRITE", problem);
    }
    if (rmid === RMID.transaction && (info & TRANSACTION_OPERATION_MASK) <= TRANSACTION_END_MAX) {
      this.#transactionEnded = true;
    }
    // A switch that ends with its segment has nothing to skip: this is no special case.
    const endOffset = operation === XLOG_SWITCH ? this.#segmentBytes : dataEnd + paddingBytes(dataEnd);
    this.#lastKnown = true;
    this.#lastHigh = this.#startHigh;
    this.#lastLow = this.#startLow;
    this.#endHigh = this.#segmentHigh;
    this.#endLow = this.#segmentLow;
    this.#endOffset = endOffset;
    this.#recordCount += 1;
    return endOffset;
  }

  #visitRecord(visitor: (record: RecordVisit) => void, view: DataView, at: number, source: Uint8Array): void {
    const visit = this.#visit;
    visit.startHigh = this.#lastHigh;
    visit.startLow = this.#lastLow;
    visit.segmentHigh = this.#endHigh;
    visit.segmentLow = this.#endLow;
    visit.endOffset = this.#endOffset;
    visit.prevHigh = view.getInt32(at + RECORD.prevLsn + 4, true);
    visit.prevLow = view.getInt32(at + RECORD.prevLsn, true);
    visit.rmid = view.getUint8(at + RECORD.rmid);
    visit.info = view.getUint8(at + RECORD.info);
    visit.xid = view.getUint32(at + RECORD.xid, true);
    visit.totalBytes = view.getUint32(at + RECORD.totalBytes, true);
    visit.timelineId = this.#timelineId;
    visit.source = source;
    visit.view = view;
    visit.at = at;
    visitor(visit);
  }

  /** The error about the record that begins at #start*. */
  #failRecord(code: WalDecodeErrorCode, message: string): WalDecodeError {
    return this.#fail(code, lsnOf(this.#startHigh, this.#startLow, 0), message);
  }

  /** The error about the page at `offset` of the segment at hand. */
  #failAt(code: WalDecodeErrorCode, offset: number, message: string): WalDecodeError {
    return this.#fail(code, lsnOf(this.#segmentHigh, this.#segmentLow, offset), message);
  }

  #fail(code: WalDecodeErrorCode, lsn: Lsn, message: string): WalDecodeError {
    const error = new WalDecodeError(code, lsn, message);
    this.#error = error;
    return error;
  }
}

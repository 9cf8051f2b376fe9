/**
 * The WAL store over segment files.
 *
 * One file is open for writing, and bytes go to it in order, once. Nothing is told durable before the sync that
 * covers it, and only up to the end of a whole record. What differs from Neon's PhysicalStorage, after which it is
 * modelled: a failed write leaves the store at its last durable record, able to vote and waiting for a truncation;
 * names are made durable like bytes; a segment that PostgreSQL switched away from is completed with zeros; the
 * decoder runs over a batch while the kernel writes it.
 *
 * A failed sync is final (`poisoned`). `needsTruncation` is set from opening until the first truncation, because
 * behind the recovered end there may be anything.
 */
import * as assert from "node:assert";
import * as path from "node:path";
import { formatLsn, INVALID_LSN, segmentNumber, segmentOffset } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ControlStore } from "./control-store.js";
import { recoverFiles } from "./disk-recovery.js";
import { DiskWalReader } from "./disk-wal-reader.js";
import { AcceptorError, storageError } from "./errors.js";
import { closeQuietly, nodeFileSystem, withoutSync } from "./file-system.js";
import type { FileSystem, OpenFile } from "./file-system.js";
import { firstSegmentHeaders } from "./first-segment.js";
import { AcceptorMeasures } from "./measures.js";
import type { StorageOperation } from "./measures.js";
import { OpenSegment } from "./open-segment.js";
import { RecordTracker } from "./record-tracker.js";
import type { SegmentSwitch } from "./record-tracker.js";
import { SegmentFiles } from "./segment-files.js";
import { checkWrite, needsCut } from "./wal-checks.js";
import { WalPositions } from "./wal-positions.js";
import type { WalReader, WalStore } from "./wal-store.js";
import { dropBytes, takeBytes, totalBytes, writeFully } from "./write-fully.js";

/** Where the segments are and how they are reached. */
export interface DiskWalStoreOptions {
  /** The timeline's directory. */
  readonly directory: string;
  /** Only read: server information, and positions to recover from. */
  readonly control: Pick<ControlStore, "get">;
  /** Default: the machine's. */
  readonly fileSystem?: FileSystem;
  /** Skip every sync: for tests and throw-away clusters. */
  readonly noSync?: boolean;
  /** Called once, when a sync has failed: the process must not go on. */
  readonly onFatal?: (error: AcceptorError) => void;
  /** Where times and sizes go; nowhere when absent. */
  readonly measures?: AcceptorMeasures;
}

/**
 * Opens the WAL of a timeline and finds its end. Before this resolves, the files that hold WAL from the persisted
 * commit position on and their directory have been synced, so that every position it reports is durable even if
 * the process before died without syncing.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_WAL_MISSING when WAL below the commit position is gone; ERR_ACCEPTOR_IO,
 *   _POISONED, _PG_VERSION
 */
export async function openDiskWalStore(options: DiskWalStoreOptions): Promise<WalStore> {
  const store = new DiskWalStore(options);
  await store.recover();
  return store;
}

class DiskWalStore implements WalStore {
  readonly #control: Pick<ControlStore, "get">;
  readonly #files: SegmentFiles;
  readonly #segmentBytes: number;
  readonly #onFatal: ((error: AcceptorError) => void) | undefined;
  readonly #measures: AcceptorMeasures;
  readonly #positions = new WalPositions();
  readonly #tracker: RecordTracker;
  readonly #zeroAhead: boolean;
  /** The segment that holds `writeLsn`, if it is open. */
  #current: OpenSegment | undefined;
  /** A segment switch at the end of the log, whose segment still has to be completed. */
  #switch: SegmentSwitch | undefined;
  /** Why writes are refused until a truncation. */
  #truncateFirst: string | undefined = "the timeline was just opened";
  #layoutVersion = 0;
  #poison: AcceptorError | undefined;
  #closed = false;
  #running: Promise<unknown> | undefined;

  constructor(options: DiskWalStoreOptions) {
    const base = options.fileSystem ?? nodeFileSystem;
    const fileSystem = options.noSync === true ? withoutSync(base) : base;
    this.#zeroAhead = options.noSync !== true;
    this.#control = options.control;
    this.#segmentBytes = options.control.get().server.segmentBytes;
    this.#onFatal = options.onFatal;
    this.#measures = options.measures ?? new AcceptorMeasures();
    this.#tracker = new RecordTracker(() => this.#control.get().server);
    this.#files = new SegmentFiles(fileSystem, path.resolve(options.directory), this.#segmentBytes, (cause) =>
      this.#poisonWith(cause),
    );
  }

  get writeLsn(): Lsn {
    return this.#positions.writeLsn;
  }

  get writeRecordLsn(): Lsn {
    return this.#positions.writeRecordLsn;
  }

  get flushLsn(): Lsn {
    return this.#positions.flushLsn;
  }

  get unflushedBytes(): number {
    return this.#positions.unflushedBytes;
  }

  get needsTruncation(): boolean {
    return this.#truncateFirst !== undefined;
  }

  get poisoned(): boolean {
    return this.#poison !== undefined;
  }

  get oldestSegment(): bigint | undefined {
    return this.#files.oldest;
  }

  takeTransactionEnd(): boolean {
    return this.#tracker.takeTransactionEnd();
  }

  initFirstSegment(lsn: Lsn): Promise<void> {
    return this.#exclusive("initialize_first_segment", () => this.#initFirstSegment(lsn));
  }

  write(beginLsn: Lsn, buffers: readonly Uint8Array[]): Promise<void> {
    return this.#exclusive("write_wal", () => this.#write(beginLsn, buffers));
  }

  flush(): Promise<void> {
    return this.#exclusive("flush_wal", () => this.#flush());
  }

  truncate(endLsn: Lsn): Promise<void> {
    return this.#exclusive("truncate_wal", () => this.#truncate(endLsn));
  }

  removeUpTo(segno: bigint): Promise<number> {
    return this.#exclusive("remove_wal", () => this.#removeUpTo(segno));
  }

  openReader(lsn: Lsn): WalReader {
    this.#checkUsable();
    const positions = this.#positions;
    const closed = (): boolean => this.#closed;
    const layoutVersion = (): number => this.#layoutVersion;
    return new DiskWalReader(
      {
        files: this.#files,
        state: () => this.#control.get(),
        get closed() {
          return closed();
        },
        get layoutVersion() {
          return layoutVersion();
        },
        get readableLsn() {
          return positions.readableLsn;
        },
      },
      lsn,
    );
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#running?.catch(() => undefined);
    await this.#closeCurrent();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Finds the end of the log; called once, before anything else. */
  async recover(): Promise<void> {
    const end = await recoverFiles(this.#files, this.#control.get(), this.#measures);
    if (end === undefined) return;
    this.#positions.reset(end.endLsn);
    this.#tracker.reset(end.endLsn);
    this.#switch = end.segmentSwitch;
  }

  async #initFirstSegment(lsn: Lsn): Promise<void> {
    const headers = firstSegmentHeaders(lsn, this.#control.get().server);
    if (headers.length === 0) return;
    const segno = segmentNumber(lsn, this.#segmentBytes);
    await this.#closeCurrent();
    // No WAL was ever stored: what is there is left of an attempt that did not get as far as the control file.
    if (this.#positions.writeLsn === INVALID_LSN) await this.#files.remove(segno);
    const file = this.#files.has(segno)
      ? await this.#files.openExisting(segno)
      : await this.#files.create(segno);
    try {
      const magic = new Uint8Array(2);
      for (const placed of headers) {
        const offset = segmentOffset(placed.lsn, this.#segmentBytes);
        magic.fill(0);
        await file.pread(magic, offset);
        // A header that is there already may have come with real WAL.
        if (magic[0] === 0 && magic[1] === 0) await writeFully(file, [placed.header], offset);
      }
    } catch (error) {
      throw storageError(`write the first segment's headers for ${formatLsn(lsn)}`, error);
    } finally {
      await closeQuietly(file);
    }
  }

  async #write(beginLsn: Lsn, buffers: readonly Uint8Array[]): Promise<void> {
    checkWrite(this.#positions, this.#truncateFirst, beginLsn);
    try {
      let rest = buffers;
      for (let left = totalBytes(buffers); left > 0;) {
        const room = this.#segmentBytes - segmentOffset(this.#positions.writeLsn, this.#segmentBytes);
        const bytes = Math.min(left, room);
        await this.#writeInSegment(bytes === left ? rest : takeBytes(rest, bytes), bytes);
        rest = bytes === left ? [] : dropBytes(rest, bytes);
        left -= bytes;
      }
    } catch (error) {
      const failure = storageError("write WAL", error);
      this.#fallBack(failure.message);
      throw failure;
    }
  }

  // Bytes that stay within the segment of writeLsn.
  async #writeInSegment(buffers: readonly Uint8Array[], bytes: number): Promise<void> {
    const beginLsn = this.#positions.writeLsn;
    const segno = segmentNumber(beginLsn, this.#segmentBytes);
    const segment = this.#current?.segno === segno ? this.#current : await this.#openCurrent(segno);
    const began = this.#measures.now();
    const writing = segment.write(buffers, bytes, segmentOffset(beginLsn, this.#segmentBytes));
    // A long write is with the kernel now; meanwhile it is decoded. Nothing counts before the write has succeeded.
    let decodeError: unknown;
    try {
      this.#tracker.feed(buffers);
    } catch (error) {
      decodeError = error;
    }
    if (writing !== undefined) await writing;
    this.#measures.writeWalSeconds.observe(this.#measures.secondsSince(began));
    this.#measures.writeWalBytes.observe(bytes);
    if (decodeError !== undefined) throw decodeError;
    const endLsn = (beginLsn + BigInt(bytes)) as Lsn;
    this.#positions.wrote(endLsn, this.#tracker.recordEndLsn);
    if (segmentOffset(endLsn, this.#segmentBytes) === 0) await this.#completeSegment(segment, endLsn);
  }

  async #completeSegment(segment: OpenSegment, boundaryLsn: Lsn): Promise<void> {
    await this.#files.sync(`segment before ${formatLsn(boundaryLsn)}`, () => segment.fdatasync());
    await this.#files.complete(segment.segno);
    this.#positions.segmentSynced(boundaryLsn);
    await this.#closeCurrent();
  }

  async #flush(): Promise<void> {
    const { writeLsn, writeRecordLsn, flushLsn } = this.#positions;
    if (flushLsn === writeRecordLsn) return;
    const current = this.#current;
    assert.ok(current !== undefined, "WAL is unflushed, but no file is open");
    const began = this.#measures.now();
    await this.#files.sync(`WAL up to ${formatLsn(writeRecordLsn)}`, () => current.fdatasync());
    this.#measures.flushWalSeconds.observe(this.#measures.secondsSince(began));
    this.#positions.synced(writeLsn, writeRecordLsn);
  }

  async #truncate(endLsn: Lsn): Promise<void> {
    if (!needsCut(this.#positions, this.#truncateFirst, endLsn)) return;
    const isFresh = this.#positions.writeLsn === INVALID_LSN;
    this.#truncateFirst = `truncation at ${formatLsn(endLsn)} was not finished`;
    const segmentSwitch = this.#tracker.pendingSwitch ?? this.#switch;
    this.#switch = segmentSwitch?.boundaryLsn === endLsn ? segmentSwitch : undefined;
    this.#positions.reset(endLsn);
    this.#tracker.reset(endLsn);
    this.#layoutVersion += 1;
    // Bytes below endLsn that were not synced yet are in the file that is cut and synced now.
    await this.#closeCurrent();

    const offset = segmentOffset(endLsn, this.#segmentBytes);
    const segno = segmentNumber(endLsn, this.#segmentBytes);
    const lastKept = offset === 0 ? segno - 1n : segno;
    // From the end, so that a crash in between leaves a log without a hole.
    for (const later of this.#files.from(lastKept + 1n).toReversed()) await this.#files.remove(later);
    if (isFresh) {
      for (const stale of this.#files.upTo(segno - 1n)) await this.#files.remove(stale);
    }
    if (offset === 0) await this.#finishSegmentBefore(segno);
    else await this.#cutSegment(segno, offset);
    await this.#files.syncDirectory();
    this.#layoutVersion += 1;
    this.#switch = undefined;
    this.#truncateFirst = undefined;
  }

  async #cutSegment(segno: bigint, offset: number): Promise<void> {
    const exists = this.#files.has(segno);
    const file = exists ? await this.#files.openExisting(segno) : await this.#files.create(segno);
    this.#current = this.#opened(segno, file);
    if (!exists) return;
    await this.#files.cut(file, segno, offset);
    await this.#files.uncomplete(segno);
  }

  // The log goes on in a new segment. If the one before kept its partial name, it is either full or was switched away
  // from; nobody will write to it again, so that it gets its zeros and its name now.
  async #finishSegmentBefore(segno: bigint): Promise<void> {
    const before = segno - 1n;
    if (!this.#files.isPartial(before)) return;
    const file = await this.#files.openExisting(before);
    try {
      const dataEnd = this.#switch?.dataEndLsn;
      const cutAt =
        dataEnd === undefined
          ? this.#segmentBytes
          : segmentOffset(dataEnd, this.#segmentBytes) || this.#segmentBytes;
      await this.#files.cut(file, before, cutAt);
    } finally {
      await closeQuietly(file);
    }
    await this.#files.complete(before);
  }

  async #removeUpTo(segno: bigint): Promise<number> {
    // Recovery starts in the segment of the persisted commit position.
    const needed = segmentNumber(this.#control.get().commitLsn, this.#segmentBytes);
    const last = segno < needed ? segno : needed - 1n;
    const doomed = this.#files.upTo(last);
    if (doomed.length === 0) return 0;
    this.#layoutVersion += 1;
    for (const old of doomed) await this.#files.remove(old);
    await this.#files.syncDirectory();
    return doomed.length;
  }

  async #openCurrent(segno: bigint): Promise<OpenSegment> {
    assert.ok(this.#current === undefined, "the file of another segment is open for writing");
    const file = this.#files.has(segno)
      ? await this.#files.openExisting(segno)
      : await this.#files.create(segno);
    this.#current = this.#opened(segno, file);
    return this.#current;
  }

  #opened(segno: bigint, file: OpenFile): OpenSegment {
    return new OpenSegment({ segno, file, segmentBytes: this.#segmentBytes, zeroAhead: this.#zeroAhead });
  }

  async #closeCurrent(): Promise<void> {
    const current = this.#current;
    this.#current = undefined;
    await closeQuietly(current);
  }

  #fallBack(reason: string): void {
    this.#truncateFirst = reason;
    const pending = this.#tracker.pendingSwitch;
    this.#positions.fallBack();
    if (pending?.boundaryLsn === this.#positions.flushLsn) this.#switch = pending;
    this.#tracker.reset(this.#positions.flushLsn);
  }

  #poisonWith(cause: AcceptorError): AcceptorError {
    if (this.#poison !== undefined) return this.#poison;
    this.#poison = new AcceptorError("ERR_ACCEPTOR_POISONED", `WAL: ${cause.message}`, { cause });
    this.#onFatal?.(this.#poison);
    return this.#poison;
  }

  #checkUsable(): void {
    if (this.#closed) throw new AcceptorError("ERR_ACCEPTOR_CLOSED", "the WAL store is closed");
    if (this.#poison !== undefined) throw this.#poison;
  }

  async #exclusive<T>(operation: StorageOperation, body: () => Promise<T>): Promise<T> {
    this.#checkUsable();
    assert.ok(this.#running === undefined, "two calls of one WAL store overlap: lock missing");
    const began = this.#measures.now();
    const running = body();
    this.#running = running;
    try {
      return await running;
    } finally {
      this.#running = undefined;
      this.#measures.storageOperationSeconds[operation].observe(this.#measures.secondsSince(began));
    }
  }
}

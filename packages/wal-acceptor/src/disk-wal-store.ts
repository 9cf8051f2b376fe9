/**
 * The WAL store over segment files.
 *
 * Bytes collect in memory and go to the disk in order, with one durable write for everything that has collected
 * (`LogTail`); segments are there, full of zeros, before they are needed (`SegmentSupply`). Nothing is told durable before
 * the write or sync that covers it, and only up to the end of a whole record. What differs from Neon's PhysicalStorage, after
 * which it is modelled: a failed write leaves the store at its last durable record, able to vote and waiting for a
 * truncation; names are made durable like bytes; a segment that PostgreSQL switched away from is completed with zeros; WAL
 * is decoded before it goes to the disk, while the kernel writes what came before it.
 *
 * A failed sync is final (`poisoned`), and so is a failed write that was to be durable. `needsTruncation` is set from
 * opening until the first truncation, because behind the recovered end there may be anything.
 */
import * as assert from "node:assert";
import * as path from "node:path";
import { formatLsn, INVALID_LSN, segmentNumber, segmentOffset } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { dropBytes, takeBytes, totalBytes } from "./buffer-list.js";
import type { ControlStore } from "./control-store.js";
import { recoverFiles } from "./disk-recovery.js";
import { DiskWalReader } from "./disk-wal-reader.js";
import { AcceptorError, storageError } from "./errors.js";
import { withoutSync } from "./file-system.js";
import type { FileSystem } from "./file-system.js";
import { firstSegmentHeaders } from "./first-segment.js";
import { LogSegments } from "./log-segments.js";
import type { SegmentPlace } from "./log-segments.js";
import { AcceptorMeasures } from "./measures.js";
import type { StorageOperation } from "./measures.js";
import { RecordTracker } from "./record-tracker.js";
import type { SegmentSwitch } from "./record-tracker.js";
import { SegmentFiles } from "./segment-files.js";
import { checkWrite, needsCut } from "./wal-checks.js";
import { WalPositions } from "./wal-positions.js";
import type { WalReader, WalStore } from "./wal-store.js";

/** Where the segments are and how they are reached. */
export interface DiskWalStoreOptions {
  /** The timeline's directory. */
  readonly directory: string;
  /** Only read: server information, and positions to recover from. */
  readonly control: Pick<ControlStore, "get">;
  readonly fileSystem: FileSystem;
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
 * More may overlap than `WalStore` says: writes may go on, and further flushes be asked for, while flushes are under way. All
 * that is written meanwhile becomes durable together, by the next write to the disk (group commit).
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
  readonly #segments: LogSegments;
  readonly #segmentBytes: number;
  readonly #onFatal: ((error: AcceptorError) => void) | undefined;
  readonly #measures: AcceptorMeasures;
  readonly #positions = new WalPositions();
  readonly #tracker: RecordTracker;
  /** A segment switch at the end of the log, whose segment still has to be completed. */
  #switch: SegmentSwitch | undefined;
  /** Why writes are refused until a truncation. */
  #truncateFirst: string | undefined = "the timeline was just opened";
  /** Grows whenever the log falls back or is cut: what a flush had covered may be gone then. */
  #cuts = 0;
  #layoutVersion = 0;
  #poison: AcceptorError | undefined;
  #closed = false;
  #running: Promise<unknown> | undefined;
  readonly #flushes = new Set<Promise<void>>();

  constructor(options: DiskWalStoreOptions) {
    const fileSystem = options.noSync === true ? withoutSync(options.fileSystem) : options.fileSystem;
    this.#control = options.control;
    this.#segmentBytes = options.control.get().server.segmentBytes;
    this.#onFatal = options.onFatal;
    this.#measures = options.measures ?? new AcceptorMeasures();
    this.#tracker = new RecordTracker(() => this.#control.get().server);
    this.#files = new SegmentFiles(fileSystem, path.resolve(options.directory), this.#segmentBytes, (cause) =>
      this.#poisonWith(cause),
    );
    this.#segments = new LogSegments(this.#files, this.#segmentBytes, this.#measures);
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
    return this.#alone("initialize_first_segment", () => this.#initFirstSegment(lsn));
  }

  write(beginLsn: Lsn, buffers: readonly Uint8Array[]): Promise<void> {
    return this.#exclusive("write_wal", () => this.#write(beginLsn, buffers));
  }

  async flush(): Promise<void> {
    this.#checkUsable();
    assert.ok(this.#running === undefined, "a flush and another call of one WAL store overlap: lock missing");
    const flushing = this.#measured("flush_wal", () => this.#flush());
    this.#flushes.add(flushing);
    try {
      await flushing;
    } finally {
      this.#flushes.delete(flushing);
    }
  }

  truncate(endLsn: Lsn): Promise<void> {
    return this.#alone("truncate_wal", () => this.#truncate(endLsn));
  }

  removeUpTo(segno: bigint): Promise<number> {
    return this.#alone("remove_wal", () => this.#removeUpTo(segno));
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
    await Promise.allSettled([this.#running, ...this.#flushes]);
    await this.#segments.closeTail();
    await this.#segments.idle();
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
    const isFresh = this.#positions.writeLsn === INVALID_LSN;
    try {
      await this.#segments.initialize(this.#placeOf(lsn), headers, isFresh);
    } catch (error) {
      throw this.#fail(`make the first segment for ${formatLsn(lsn)}`, error);
    }
  }

  async #write(beginLsn: Lsn, buffers: readonly Uint8Array[]): Promise<void> {
    checkWrite(this.#positions, this.#truncateFirst, beginLsn);
    try {
      // A full name that could not be given is given by the next truncation.
      const failure = this.#segments.takeFailure();
      if (failure !== undefined) throw failure;
      let rest = buffers;
      for (let left = totalBytes(buffers); left > 0;) {
        const room = this.#segmentBytes - this.#placeOf(this.#positions.writeLsn).offsetBytes;
        const bytes = Math.min(left, room);
        await this.#writeInSegment(bytes === left ? rest : takeBytes(rest, bytes), bytes);
        rest = bytes === left ? [] : dropBytes(rest, bytes);
        left -= bytes;
      }
    } catch (error) {
      throw this.#fail("write WAL", error);
    }
  }

  // Bytes that stay within the segment of writeLsn.
  async #writeInSegment(buffers: readonly Uint8Array[], bytes: number): Promise<void> {
    const beginLsn = this.#positions.writeLsn;
    const { segno } = this.#placeOf(beginLsn);
    const tail = await this.#segments.openTail(segno);
    this.#tracker.feed(buffers);
    await tail.append(buffers);
    const endLsn = (beginLsn + BigInt(bytes)) as Lsn;
    this.#positions.wrote(endLsn, this.#tracker.recordEndLsn);
    const end = this.#placeOf(endLsn);
    if (end.offsetBytes > 0) {
      this.#segments.prepareAfter(end);
      return;
    }
    await tail.flush();
    this.#positions.segmentSynced(endLsn);
    await this.#segments.completeTail();
  }

  async #flush(): Promise<void> {
    const { writeLsn, writeRecordLsn, flushLsn } = this.#positions;
    if (flushLsn === writeRecordLsn) return;
    const { tail } = this.#segments;
    assert.ok(tail !== undefined, "WAL is unflushed, but no segment is open");
    const cuts = this.#cuts;
    const began = this.#measures.now();
    try {
      await tail.flush();
    } catch (error) {
      throw this.#fail(`flush WAL up to ${formatLsn(writeRecordLsn)}`, error);
    }
    if (cuts !== this.#cuts) throw truncateFirst(this.#truncateFirst);
    this.#measures.flushWalSeconds.observe(this.#measures.secondsSince(began));
    this.#positions.synced(writeLsn, writeRecordLsn);
  }

  async #truncate(endLsn: Lsn): Promise<void> {
    if (!needsCut(this.#positions, this.#truncateFirst, endLsn)) return;
    // What stays must be durable, and may be in memory only. Behind this, nothing below endLsn can get lost any more.
    if (endLsn > this.#positions.flushLsn) await this.#flush();
    const isFresh = this.#positions.writeLsn === INVALID_LSN;
    this.#truncateFirst = `truncation at ${formatLsn(endLsn)} was not finished`;
    const segmentSwitch = this.#tracker.pendingSwitch ?? this.#switch;
    this.#switch = segmentSwitch?.boundaryLsn === endLsn ? segmentSwitch : undefined;
    this.#endAt(endLsn);
    this.#layoutVersion += 1;
    const failure = await this.#segments.closeTail();
    if (failure?.code === "ERR_ACCEPTOR_POISONED") throw this.#poisonWith(failure);
    const switched = this.#switch === undefined ? undefined : this.#placeOf(this.#switch.dataEndLsn);
    await this.#segments.cut(this.#placeOf(endLsn), switched, isFresh);
    this.#layoutVersion += 1;
    this.#switch = undefined;
    this.#truncateFirst = undefined;
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

  /** What the writing of the log has failed with, in this package's words; the log falls back to what is durable. */
  #fail(doing: string, error: unknown): AcceptorError {
    const failure = storageError(doing, error);
    this.#truncateFirst = failure.message;
    const pending = this.#tracker.pendingSwitch;
    this.#segments.tail?.discard();
    if (pending?.boundaryLsn === this.#positions.flushLsn) this.#switch = pending;
    this.#endAt(this.#positions.flushLsn);
    return failure.code === "ERR_ACCEPTOR_POISONED" ? this.#poisonWith(failure) : failure;
  }

  /** The log ends here, in memory. */
  #endAt(lsn: Lsn): void {
    this.#cuts += 1;
    this.#positions.reset(lsn);
    this.#tracker.reset(lsn);
  }

  #placeOf(lsn: Lsn): SegmentPlace {
    const segmentBytes = this.#segmentBytes;
    return { segno: segmentNumber(lsn, segmentBytes), offsetBytes: segmentOffset(lsn, segmentBytes) };
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

  // A call that changes files otherwise than by appending: nothing else runs, in the background neither.
  async #alone<T>(operation: StorageOperation, body: () => Promise<T>): Promise<T> {
    assert.ok(this.#flushes.size === 0, "two calls of one WAL store overlap: lock missing");
    return await this.#exclusive(operation, async () => {
      await this.#segments.idle();
      this.#checkUsable();
      return await body();
    });
  }

  async #exclusive<T>(operation: StorageOperation, body: () => Promise<T>): Promise<T> {
    this.#checkUsable();
    assert.ok(this.#running === undefined, "two calls of one WAL store overlap: lock missing");
    const running = this.#measured(operation, body);
    this.#running = running;
    try {
      return await running;
    } finally {
      this.#running = undefined;
    }
  }

  async #measured<T>(operation: StorageOperation, body: () => Promise<T>): Promise<T> {
    const began = this.#measures.now();
    try {
      return await body();
    } finally {
      this.#measures.storageOperationSeconds[operation].observe(this.#measures.secondsSince(began));
    }
  }
}

function truncateFirst(reason: string | undefined): AcceptorError {
  return new AcceptorError(
    "ERR_ACCEPTOR_TRUNCATE_FIRST",
    `the log was cut meanwhile: ${reason ?? "it goes on"}`,
  );
}

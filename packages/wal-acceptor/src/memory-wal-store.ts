/**
 * A WAL store in memory that forgets like a disk, for tests and the simulator.
 *
 * Bytes live on a `MemoryWalDisk`, which outlives the store and decides what a crash leaves. A store opened on the disk
 * afterwards finds its end by decoding, by the same rules as the one on files; segment completion syncs, as there.
 * Faults and delays come from the `beforeStep` hook, which runs where the disk store makes system calls.
 */
import * as assert from "node:assert";
import {
  BLOCK_BYTES,
  blockOffset,
  blockStart,
  formatLsn,
  INVALID_LSN,
  minLsn,
  segmentNumber,
  segmentOffset,
  segmentStart,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { WalDecodeError, WalDecoder } from "@millrace/wal-decoder";
import type { ControlStore } from "./control-store.js";
import { AcceptorError, storageError } from "./errors.js";
import { copySyntheticBytes, firstSegmentHeaders } from "./first-segment.js";
import { MemoryWalDisk } from "./memory-wal-disk.js";
import { decoderSettings, RecordTracker, segmentEnd, walError } from "./record-tracker.js";
import { checkWrite, needsCut } from "./wal-checks.js";
import { WalPositions } from "./wal-positions.js";
import type { WalReader, WalStore } from "./wal-store.js";
import { dropBytes, takeBytes, totalBytes } from "./buffer-list.js";

/** What the store is about to do to its disk. */
export type MemoryWalStep = "write" | "sync" | "create-segment" | "remove-segment" | "cut";

/** What a memory store is made of. */
export interface MemoryWalStoreOptions {
  /** Only read: server information, and positions to recover from. */
  readonly control: Pick<ControlStore, "get">;
  /** Default: an empty one. */
  readonly disk?: MemoryWalDisk;
  /** Runs before each access to the disk: delay it, or throw to make it fail. A failing "sync" poisons the store. */
  readonly beforeStep?: (step: MemoryWalStep) => Promise<void> | void;
  /** Called once, when a sync has failed. */
  readonly onFatal?: (error: AcceptorError) => void;
}

/**
 * Opens a store on the disk and finds the end of the log there.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_PG_VERSION, ERR_ACCEPTOR_WAL_INVALID
 */
export function createMemoryWalStore(options: MemoryWalStoreOptions): WalStore {
  return new MemoryWalStore(options);
}

class MemoryWalStore implements WalStore {
  readonly #control: Pick<ControlStore, "get">;
  readonly #disk: MemoryWalDisk;
  readonly #life: number;
  readonly #segmentBytes: number;
  readonly #beforeStep: ((step: MemoryWalStep) => Promise<void> | void) | undefined;
  readonly #onFatal: ((error: AcceptorError) => void) | undefined;
  readonly #positions = new WalPositions();
  readonly #tracker: RecordTracker;
  #truncateFirst: string | undefined = "the timeline was just opened";
  #poison: AcceptorError | undefined;
  #closed = false;
  #running = false;

  constructor(options: MemoryWalStoreOptions) {
    this.#control = options.control;
    this.#disk = options.disk ?? new MemoryWalDisk();
    this.#life = this.#disk.life;
    this.#beforeStep = options.beforeStep;
    this.#onFatal = options.onFatal;
    this.#segmentBytes = options.control.get().server.segmentBytes;
    this.#tracker = new RecordTracker(() => this.#control.get().server);
    const endLsn = this.#recover();
    this.#positions.reset(endLsn);
    this.#tracker.reset(endLsn);
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
    const first = this.#disk.firstPageLsn;
    return first === undefined ? undefined : segmentNumber(first, this.#segmentBytes);
  }

  takeTransactionEnd(): boolean {
    return this.#tracker.takeTransactionEnd();
  }

  initFirstSegment(lsn: Lsn): Promise<void> {
    return this.#exclusive(async () => {
      const headers = firstSegmentHeaders(lsn, this.#control.get().server);
      if (headers.length === 0) return;
      await this.#step("create-segment");
      for (const { lsn: at, header } of headers) {
        const page = this.#disk.page(at);
        const there = page !== undefined && (page[0] !== 0 || page[1] !== 0);
        if (!there || this.writeLsn === INVALID_LSN) this.#disk.write(at, header);
      }
    });
  }

  write(beginLsn: Lsn, buffers: readonly Uint8Array[]): Promise<void> {
    return this.#exclusive(() => this.#write(beginLsn, buffers));
  }

  flush(): Promise<void> {
    return this.#exclusive(async () => {
      const { writeLsn, writeRecordLsn, flushLsn } = this.#positions;
      if (flushLsn === writeRecordLsn) return;
      await this.#sync();
      this.#positions.synced(writeLsn, writeRecordLsn);
    });
  }

  truncate(endLsn: Lsn): Promise<void> {
    return this.#exclusive(async () => {
      if (!needsCut(this.#positions, this.#truncateFirst, endLsn)) return;
      this.#truncateFirst = `truncation at ${formatLsn(endLsn)} was not finished`;
      const switched = this.#tracker.pendingSwitch;
      this.#positions.reset(endLsn);
      this.#tracker.reset(endLsn);
      await this.#removeSegmentsAfter(endLsn);
      await this.#step("cut");
      this.#disk.cut(switched?.boundaryLsn === endLsn ? switched.dataEndLsn : endLsn);
      await this.#sync();
      this.#truncateFirst = undefined;
    });
  }

  removeUpTo(segno: bigint): Promise<number> {
    return this.#exclusive(async () => {
      const needed = segmentNumber(this.#control.get().commitLsn, this.#segmentBytes);
      const last = segno < needed ? segno : needed - 1n;
      const oldest = this.oldestSegment;
      if (oldest === undefined || oldest > last) return 0;
      await this.#step("remove-segment");
      this.#disk.removeBelow(segmentStart(last + 1n, this.#segmentBytes));
      return Number(last - oldest) + 1;
    });
  }

  openReader(lsn: Lsn): WalReader {
    this.#checkUsable();
    return new MemoryWalReader(lsn, (at, target) => this.#read(at, target));
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  // The same rule as on files, without waiting: whole pages in order until one does not continue the log.
  #recover(): Lsn {
    const { commitLsn, server } = this.#control.get();
    const firstPage = this.#disk.page(commitLsn);
    if (commitLsn === INVALID_LSN || firstPage === undefined) return commitLsn;
    try {
      const decoder = new WalDecoder({ ...decoderSettings(server), startLsn: commitLsn });
      for (
        let page: Uint8Array | undefined = firstPage;
        page !== undefined;
        page = this.#disk.page(decoder.nextLsn)
      ) {
        try {
          decoder.feed(page.subarray(blockOffset(decoder.nextLsn)));
        } catch (error) {
          if (error instanceof WalDecodeError) return decoder.recordEndLsn;
          throw error;
        }
        decoder.skipToRecordEnd();
      }
      return decoder.recordEndLsn;
    } catch (error) {
      throw walError(error);
    }
  }

  async #write(beginLsn: Lsn, buffers: readonly Uint8Array[]): Promise<void> {
    checkWrite(this.#positions, this.#truncateFirst, beginLsn);
    try {
      let rest = buffers;
      for (let left = totalBytes(buffers); left > 0;) {
        const offset = segmentOffset(this.#positions.writeLsn, this.#segmentBytes);
        if (offset === 0) await this.#step("create-segment");
        const bytes = Math.min(left, this.#segmentBytes - offset);
        await this.#writeInSegment(takeBytes(rest, bytes), bytes);
        rest = dropBytes(rest, bytes);
        left -= bytes;
      }
    } catch (error) {
      const failure = storageError("write WAL", error);
      this.#truncateFirst = failure.message;
      this.#positions.reset(this.#positions.flushLsn);
      this.#tracker.reset(this.#positions.flushLsn);
      throw failure;
    }
  }

  async #writeInSegment(buffers: readonly Uint8Array[], bytes: number): Promise<void> {
    const beginLsn = this.#positions.writeLsn;
    await this.#step("write");
    let at = beginLsn;
    for (const buffer of buffers) {
      this.#disk.write(at, buffer);
      at = (at + BigInt(buffer.byteLength)) as Lsn;
    }
    this.#tracker.feed(buffers);
    const endLsn = (beginLsn + BigInt(bytes)) as Lsn;
    this.#positions.wrote(endLsn, this.#tracker.recordEndLsn);
    if (segmentOffset(endLsn, this.#segmentBytes) !== 0) return;
    await this.#sync();
    this.#positions.segmentSynced(endLsn);
  }

  // From the end, one segment at a time, as files are removed.
  async #removeSegmentsAfter(endLsn: Lsn): Promise<void> {
    let lastLsn = endLsn;
    for (
      let lsn = segmentEnd(endLsn, this.#segmentBytes);
      this.#hasPages(lsn);
      lsn = segmentEnd(lsn, this.#segmentBytes)
    ) {
      lastLsn = lsn;
    }
    for (; lastLsn > endLsn; lastLsn = (lastLsn - BigInt(this.#segmentBytes)) as Lsn) {
      await this.#step("remove-segment");
      this.#disk.cut(lastLsn);
    }
  }

  #hasPages(segmentLsn: Lsn): boolean {
    return this.#disk.page(segmentLsn) !== undefined;
  }

  #read(lsn: Lsn, target: Uint8Array): number {
    this.#checkUsable();
    const end = minLsn(this.#positions.readableLsn, segmentEnd(lsn, this.#segmentBytes));
    if (lsn >= end) return 0;
    const count = Number(minLsn(end, (lsn + BigInt(target.byteLength)) as Lsn) - lsn);
    const { timelineStartLsn, server } = this.#control.get();
    const oldest = this.oldestSegment;
    const segno = segmentNumber(lsn, this.#segmentBytes);
    if (oldest === undefined || segno < oldest) {
      if (segno !== segmentNumber(timelineStartLsn, this.#segmentBytes) || lsn >= timelineStartLsn) {
        throw new AcceptorError(
          "ERR_ACCEPTOR_SEGMENT_REMOVED",
          `requested WAL segment ${String(segno)} has already been removed`,
        );
      }
      const made = Math.min(count, Number(timelineStartLsn - lsn));
      copySyntheticBytes(firstSegmentHeaders(timelineStartLsn, server), lsn, target.subarray(0, made));
      return made;
    }
    for (let at = 0; at < count;) {
      const position = (lsn + BigInt(at)) as Lsn;
      const inPage = blockOffset(position);
      const bytes = Math.min(count - at, BLOCK_BYTES - inPage);
      const page = this.#disk.page(blockStart(position));
      if (page === undefined) target.fill(0, at, at + bytes);
      else target.set(page.subarray(inPage, inPage + bytes), at);
      at += bytes;
    }
    return count;
  }

  async #sync(): Promise<void> {
    try {
      await this.#step("sync");
    } catch (error) {
      if (error instanceof AcceptorError && error.code === "ERR_ACCEPTOR_CLOSED") throw error;
      const cause = storageError("sync WAL", error);
      this.#poison = new AcceptorError("ERR_ACCEPTOR_POISONED", `WAL: ${cause.message}`, { cause });
      this.#onFatal?.(this.#poison);
      throw this.#poison;
    }
    this.#disk.sync();
  }

  async #step(step: MemoryWalStep): Promise<void> {
    try {
      await this.#beforeStep?.(step);
    } catch (error) {
      throw storageError(step, error);
    }
    this.#checkUsable();
  }

  #checkUsable(): void {
    if (this.#closed || this.#disk.life !== this.#life) {
      throw new AcceptorError("ERR_ACCEPTOR_CLOSED", "the WAL store is closed, or its node has crashed");
    }
    if (this.#poison !== undefined) throw this.#poison;
  }

  async #exclusive<T>(body: () => Promise<T>): Promise<T> {
    this.#checkUsable();
    assert.ok(!this.#running, "two calls of one WAL store overlap: lock missing");
    this.#running = true;
    try {
      return await body();
    } finally {
      this.#running = false;
    }
  }
}

class MemoryWalReader implements WalReader {
  readonly #readAt: (lsn: Lsn, target: Uint8Array) => number;
  #lsn: Lsn;
  #closed = false;

  constructor(lsn: Lsn, readAt: (lsn: Lsn, target: Uint8Array) => number) {
    this.#lsn = lsn;
    this.#readAt = readAt;
  }

  get lsn(): Lsn {
    return this.#lsn;
  }

  async read(target: Uint8Array): Promise<number> {
    if (this.#closed) throw new AcceptorError("ERR_ACCEPTOR_CLOSED", "the WAL reader is closed");
    const count = await Promise.resolve(this.#readAt(this.#lsn, target));
    this.#lsn = (this.#lsn + BigInt(count)) as Lsn;
    return count;
  }

  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

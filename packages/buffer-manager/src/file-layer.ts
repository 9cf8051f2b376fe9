/**
 * What the pool needs of files: relations as numbered blocks, and nothing about names, segments or descriptors.
 *
 * One object for each thread. Whoever has another way to store blocks puts it in the place of `SegmentedFiles`; what must
 * hold is said here. Reads and writes go through handles of the thread's backend, so that any thread can complete them.
 */
import type { IoHandle, IoVector } from "@millrace/aio";

import type { Fork, Relation, Tag } from "./tag.js";

/** The files of one thread. */
export interface FileLayer {
  /** Whether files are opened with O_DIRECT. */
  readonly isDirect: boolean;
  /** Whether `advise` can do anything. */
  readonly canAdvise: boolean;
  /** Whether a fork exists. */
  exists(relation: Relation, fork: Fork): boolean;
  /** Blocks of a fork. @throws {BufferError} the fork does not exist */
  blocks(relation: Relation, fork: Fork): number;
  /** Blocks from this one on that one I/O may span: up to the end of its segment. */
  runMax(block: number): number;
  /**
   * Sets the target of a handle that is handed out, adds the layer's own callback and starts a read.
   *
   * The callback turns bytes into blocks: its result is how many came, "partial" if not all, "error" with an errno or 0 (end
   * of file) if none. It is registered last, so that it runs first.
   *
   * @param vectors memory of the pool, a whole number of blocks each
   * @param count blocks; within one segment
   */
  startRead(
    handle: IoHandle,
    relation: Relation,
    fork: Fork,
    block: number,
    vectors: readonly IoVector[],
    count: number,
  ): void;
  /** As `startRead`, for a write. A short write is an error; the layer finishes nothing by itself. */
  startWrite(
    handle: IoHandle,
    relation: Relation,
    fork: Fork,
    block: number,
    vectors: readonly IoVector[],
    count: number,
  ): void;
  /** Appends blocks of zeros: afterwards the fork has `block + count` blocks at least. Blocking, once an extension. */
  zeroExtend(relation: Relation, fork: Fork, block: number, count: number): void;
  /** Tells the kernel that blocks will be read soon. @returns whether it was told */
  advise(relation: Relation, fork: Fork, block: number, count: number): boolean;
  /** Has the kernel begin to write blocks back. Never fails, never waits for the disk. */
  writeBack(relation: Relation, fork: Fork, block: number, count: number): void;
  /** Makes everything written to a fork durable. Blocking. */
  sync(relation: Relation, fork: Fork): void;
  /** The same without blocking the thread. Needed for the asynchronous forms; `sync` is called there without it. */
  syncAsync?(relation: Relation, fork: Fork): Promise<void>;
  /** The file of a block, as messages name it. */
  fileName(relation: Relation, fork: Fork, block: number): string;
  /** Waits for I/O under way and closes all descriptors; on a thread that must not sleep they are closed later. */
  close(): void;
  /** The same without sleeping; resolves once all are closed. */
  closeAsync(): Promise<void>;
}

/** What the pool needs of the WAL. */
export interface WalHooks {
  /** Makes WAL durable up to a position, blocking. Called before a page with this LSN is written. */
  flush(lsn: bigint): void;
  /** The same without blocking the thread. Needed for the asynchronous forms; `flush` is called there without it. */
  flushAsync?(lsn: bigint): Promise<void>;
  /** Whether WAL is durable up to a position. */
  isDurable(lsn: bigint): boolean;
  /**
   * Logs a full image of a page that only a hint has changed, if a torn write could spoil it: where there are checksums, once
   * after each checkpoint began. Without this, nothing is logged. Must not wait.
   *
   * @param page borrowed for the call; its content lock is held shared, other hints may change it
   * @returns the image's LSN, which the page gets; undefined if none was needed
   */
  logHint?(tag: Tag, page: Uint8Array): bigint | undefined;
}

/**
 * Where an acceptor keeps the WAL of one timeline: the interface, and what each position means.
 *
 * Two implementations pass one conformance suite: segment files on disk and pages in memory. The consensus core
 * sees only this interface. All mutating calls of one store are made one at a time, by whoever holds the
 * timeline's lock; readers may run beside them.
 *
 * The invariant all callers rely on: `flushLsn` is the end of a whole record, every byte below it survives any
 * crash, and it moves back only by `truncate`. Idea: PhysicalStorage of Neon's safekeeper, with its known gaps
 * closed (failed writes leave a usable store, renames are made durable, a switched-off segment is completed).
 */
import type { Lsn } from "@millrace/lsn";

/**
 * The WAL of one timeline.
 *
 * Ordering: `flushLsn` <= `writeRecordLsn`, and both are <= `writeLsn` except behind an XLOG_SWITCH record, which
 * ends at the next segment's start before the rest of its segment has arrived. All are 0 before the first WAL.
 */
export interface WalStore extends AsyncDisposable {
  /** Where the next byte goes. */
  readonly writeLsn: Lsn;
  /** End of the last complete record that was written. */
  readonly writeRecordLsn: Lsn;
  /** End of the last complete record that is durable: the only position that may be acknowledged. */
  readonly flushLsn: Lsn;
  /** Bytes received since the last flush; what a crash may lose. */
  readonly unflushedBytes: number;
  /** True from opening, or from a failed write, until a truncation has made the end clean: writes are refused. */
  readonly needsTruncation: boolean;
  /** A sync failed; every call that could lead to an acknowledgement rejects with ERR_ACCEPTOR_POISONED. */
  readonly poisoned: boolean;

  /**
   * Makes the file that holds the timeline's first byte readable from its start: page headers and a continuation
   * up to `lsn`. Not durable by itself. Does nothing when the segment has a header already.
   *
   * @throws {RangeError} `lsn` points into a page header
   */
  initFirstSegment(lsn: Lsn): Promise<void>;

  /**
   * Appends `buffers` at `beginLsn`, which must equal `writeLsn`, and decodes them, which moves `writeRecordLsn`.
   * Crossing a segment's end makes that segment durable, so `flushLsn` may move. Where the bytes are until they are
   * flushed is the store's business: a disk that is full may be found out by the flush only. Not atomic: on failure, of
   * this or of an earlier write, the positions fall back to `flushLsn`, the bytes never count, and `needsTruncation` is set.
   *
   * @param buffers lent until the promise settles
   * @throws {AcceptorError} ERR_ACCEPTOR_TRUNCATE_FIRST, _GAP, _REWRITE (nothing written); _NO_SPACE, _IO;
   *   _WAL_INVALID (a record or page is wrong), _PG_VERSION; _POISONED, _CLOSED
   */
  write(beginLsn: Lsn, buffers: readonly Uint8Array[]): Promise<void>;

  /**
   * Makes every complete record durable: `flushLsn` becomes `writeRecordLsn`. Without a new complete record there
   * is no disk access. If what was written cannot be, the positions fall back as after a failed write.
   *
   * @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE, _IO: the store is usable, as after a failed write;
   *   _POISONED when a sync or durable write failed, now or before; _CLOSED
   */
  flush(): Promise<void>;

  /**
   * Cuts the log at `endLsn`, durably, and positions the next write there. All positions become `endLsn` before
   * the first file is touched; when it fails half-way, `needsTruncation` stays set and it can be repeated.
   *
   * @param endLsn a record boundary, not above `writeRecordLsn` unless the store holds no WAL yet
   * @throws {RangeError} `endLsn` is beyond the log
   * @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE, _IO, _POISONED, _CLOSED
   */
  truncate(endLsn: Lsn): Promise<void>;

  /**
   * Removes segments with numbers up to and including `segno`, oldest first. Segments needed after a restart (that
   * of the persisted commit position and later) always stay.
   *
   * @returns how many files went
   * @throws {AcceptorError} ERR_ACCEPTOR_IO, _POISONED, _CLOSED
   */
  removeUpTo(segno: bigint): Promise<number>;

  /** Reads bytes from `lsn` on; see `WalReader`. Costs nothing until the first read. */
  openReader(lsn: Lsn): WalReader;

  /** Whether a commit, abort or prepare record became complete since this was last asked; asking clears it. */
  takeTransactionEnd(): boolean;

  /** Number of the oldest segment on disk, or undefined when there is none. */
  readonly oldestSegment: bigint | undefined;

  /** Waits for the call in progress and closes the files. Flushes nothing. A second call does nothing. */
  close(): Promise<void>;
}

/** A cursor over stored WAL. One read at a time. */
export interface WalReader extends AsyncDisposable {
  /** Where the next read starts. */
  readonly lsn: Lsn;

  /**
   * Reads the bytes that follow. The store does not know who may see what: the caller limits `target` so that it
   * ends at or below commit (or, in term mode, flush) position.
   *
   * @param target lent until the promise settles
   * @returns bytes read, which may be fewer than asked (a read never crosses a segment's end); 0 at the end of
   *   what is durable
   * @throws {AcceptorError} ERR_ACCEPTOR_SEGMENT_REMOVED, _IO, _CLOSED
   */
  read(target: Uint8Array): Promise<number>;

  /** Closes the file; a second call does nothing. */
  close(): Promise<void>;
}

/**
 * Writing a log: several writes in flight, started before anybody waits for them, and a position that says what is durable.
 *
 * Durable is the end of the longest run of completed writes without a gap, never more, in whatever order they complete.
 * On a file opened with O_DSYNC a completed write is durable by itself; otherwise an fdatasync makes durable what had
 * completed when it was submitted, and nothing that completed later. One that fails, write or sync, is the end: the kernel may have dropped the pages,
 * so the whole system panics instead of trying again. Waiters are let go in the order of their positions.
 *
 * All of it is legal in a critical section: acquiring a handle may have to complete other I/O of this thread, and that
 * cannot fail. Group commit comes by itself: while a sync is in flight everybody else waits for the next.
 */
import type { AioBackend } from "./backend.js";
import { AioError } from "./errors.js";
import { FILE_CALLBACK } from "./file-registry.js";
import type { FileLease } from "./file-table.js";
import type { IoHandle } from "./io-handle.js";
import type { IoVector } from "./io-vector.js";
import { totalBytes } from "./io-vector.js";
import { PANIC, panic } from "./panic.js";
import { ioError } from "./report.js";
import { createIoReturn } from "./result.js";
import type { IoReturn } from "./result.js";
import type { IoScope } from "./scope.js";
import { NO_WAIT_REF } from "./wait-ref.js";
import type { WaitRef } from "./wait-ref.js";
import { WAL_TARGET, walTargetWords } from "./wal-target.js";

/** How a log is written. */
export interface WalWriterOptions {
  /** Position at which writing begins: everything before is durable. */
  readonly start: bigint;
  /** Whether the files are opened with O_DSYNC, so that a completed write is durable. */
  readonly isDataSync: boolean;
  readonly timeline?: number;
}

/** Where a write goes. */
export interface WalPiece {
  readonly file: FileLease;
  /** Number of the segment the file is, for the view of handles. */
  readonly segmentNumber: bigint;
  /** Position in the file. */
  readonly offsetBytes: number;
  /** Lent until the write has completed. */
  readonly vectors: readonly IoVector[];
}

interface PendingWrite {
  end: bigint;
  lengthBytes: number;
  file: FileLease;
  ref: WaitRef;
  isDone: boolean;
}

interface PendingSync {
  readonly covers: bigint;
  ref: WaitRef;
}

interface Committer {
  readonly lsn: bigint;
  readonly resolve: (durable: bigint) => void;
  readonly reject: (error: unknown) => void;
}

/** A log being written by one backend. */
export class WalWriter implements Disposable {
  readonly #backend: AioBackend;
  readonly #isDataSync: boolean;
  readonly #timeline: number;
  readonly #scope: IoScope;
  /** Writes that are not part of the completed run, oldest first. */
  readonly #writes: PendingWrite[] = [];
  /** Files written since the last sync of them was submitted. */
  readonly #unsynced = new Map<number, FileLease>();
  readonly #committers: Committer[] = [];
  #sync: PendingSync | undefined;
  #isSyncPlanned = false;
  /** End of what was started, of the run of completed writes, and of what is durable. */
  #started: bigint;
  #written: bigint;
  #durable: bigint;
  #failure: Error | undefined;

  constructor(backend: AioBackend, options: WalWriterOptions) {
    this.#backend = backend;
    this.#isDataSync = options.isDataSync;
    this.#timeline = options.timeline ?? 1;
    this.#started = this.#written = this.#durable = options.start;
    this.#scope = backend.openScope();
  }

  /** End of the writes that were started. */
  get started(): bigint {
    return this.#started;
  }

  /** End of the run of completed writes. */
  get written(): bigint {
    return this.#written;
  }

  /** Everything before is durable. Never goes back. */
  get durable(): bigint {
    return this.#durable;
  }

  /**
   * Starts a write at the position where the last one ended. Waits only for a handle.
   *
   * @returns the position where it ends
   * @throws {AioError} ERR_AIO_PANIC: an earlier write or sync failed; ERR_AIO_WOULD_BLOCK
   */
  start(piece: WalPiece): bigint {
    this.#check();
    const write = this.#plan(piece);
    return this.#startWrite(this.#backend.acquire(this.#scope, this.#writeSlot(write)), write, piece);
  }

  /** As `start`, for threads that must not sleep. Calls are to be made one after the other. */
  async startAsync(piece: WalPiece): Promise<bigint> {
    this.#check();
    const write = this.#plan(piece);
    const handle = await this.#backend.acquireAsync(this.#scope, this.#writeSlot(write));
    return this.#startWrite(handle, write, piece);
  }

  /**
   * Waits until everything before `lsn` is durable.
   *
   * @throws {RangeError} nothing was started that far
   * @throws {AioError} ERR_AIO_PANIC: the write or sync failed; ERR_AIO_WOULD_BLOCK
   */
  flush(lsn: bigint): void {
    this.#checkReachable(lsn);
    while (this.#durable < lsn) {
      this.#check();
      if (this.#written < lsn) this.#backend.wait(this.#writes[0]?.ref ?? NO_WAIT_REF);
      else if (this.#isDataSync) return;
      else if (this.#sync === undefined)
        this.#startSync(this.#backend.acquire(this.#scope, this.#syncSlot()));
      else this.#backend.wait(this.#sync.ref);
    }
    this.#check();
  }

  /** As `flush`, without sleeping. @returns the durable position, at least `lsn` */
  async flushAsync(lsn: bigint): Promise<bigint> {
    this.#checkReachable(lsn);
    this.#check();
    if (this.#durable >= lsn) return this.#durable;
    return await new Promise<bigint>((resolve, reject) => {
      let at = this.#committers.length;
      while (at > 0 && (this.#committers[at - 1] as Committer).lsn > lsn) at--;
      this.#committers.splice(at, 0, { lsn, resolve, reject });
      this.#advance();
    });
  }

  /** Leaves I/O in flight to itself. Committers hear nothing any more: let them finish first. */
  [Symbol.dispose](): void {
    this.#scope.end();
  }

  #plan({ file, vectors }: WalPiece): PendingWrite {
    return { end: 0n, lengthBytes: totalBytes(vectors), file, ref: NO_WAIT_REF, isDone: false };
  }

  #writeSlot(write: PendingWrite): IoReturn {
    return createIoReturn((slot) => this.#onWritten(write, slot));
  }

  #startWrite(handle: IoHandle, write: PendingWrite, piece: WalPiece): bigint {
    const { lengthBytes } = write;
    const lsn = this.#started;
    write.end = lsn + BigInt(lengthBytes);
    write.ref = handle.ref();
    this.#writes.push(write);
    this.#started = write.end;
    const place = { timeline: this.#timeline, segmentNumber: piece.segmentNumber, lsn, lengthBytes };
    handle
      .setTarget(WAL_TARGET, walTargetWords(place))
      .addCallback(FILE_CALLBACK)
      .startWritev(piece.file, piece.vectors, piece.offsetBytes);
    return write.end;
  }

  #onWritten(write: PendingWrite, { result }: IoReturn): void {
    if (result.status === "error") {
      this.#fail(ioError("write", result.error, "WAL"));
      return;
    }
    // What is missing of a short write was not durable and cannot be made so by guessing: the log ends here.
    if (result.result !== write.lengthBytes) {
      const message = `${result.result} of ${write.lengthBytes} bytes of WAL were written`;
      this.#fail(new AioError("ERR_AIO_SHORT", message));
      return;
    }
    write.isDone = true;
    while (this.#writes[0]?.isDone === true) {
      const { end, file } = this.#writes.shift() as PendingWrite;
      this.#written = end;
      if (!this.#isDataSync) this.#unsynced.set(file.slot, file);
    }
    if (this.#isDataSync && this.#failure === undefined) this.#durable = this.#written;
    this.#advance();
  }

  /** Lets go whom it can, and starts a sync for those who need one. */
  #advance(): void {
    while (this.#failure === undefined) {
      const [first] = this.#committers;
      if (first === undefined || first.lsn > this.#durable) break;
      this.#committers.shift();
      first.resolve(this.#durable);
    }
    if (this.#needsSync() && !this.#isSyncPlanned) {
      this.#isSyncPlanned = true;
      // Not at once: writes that completed together are covered by one sync.
      queueMicrotask(() => this.#syncNow());
    }
  }

  /** Whether somebody waits for bytes that are written, and no sync is on its way. */
  #needsSync(): boolean {
    const [next] = this.#committers;
    if (next === undefined || this.#isDataSync || this.#sync !== undefined) return false;
    return this.#failure === undefined && next.lsn <= this.#written;
  }

  #syncNow(): void {
    this.#isSyncPlanned = false;
    if (!this.#needsSync()) return;
    const handle = this.#backend.tryAcquire(this.#scope, this.#syncSlot());
    if (handle === undefined) void this.#syncLater();
    else this.#startSync(handle);
  }

  /** All handles are busy: the next that is free is ours. */
  async #syncLater(): Promise<void> {
    try {
      const handle = await this.#backend.acquireAsync(this.#scope, this.#syncSlot());
      if (this.#sync === undefined) this.#startSync(handle);
      else handle.release();
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #syncSlot(): IoReturn {
    return createIoReturn((slot) => this.#onSynced(slot));
  }

  /** One fdatasync for each file written since: the last of them to complete is the one that counts. */
  #startSync(handle: IoHandle): void {
    const [file] = this.#unsynced.values();
    if (file === undefined) {
      handle.release();
      return;
    }
    // With several files (a log that has just changed segments) only the first is synced now: nothing is covered
    // until the last one is.
    this.#unsynced.delete(file.slot);
    const covers = this.#unsynced.size === 0 ? this.#written : this.#durable;
    this.#sync = { covers, ref: handle.ref() };
    handle
      .setTarget(
        WAL_TARGET,
        walTargetWords({ timeline: this.#timeline, segmentNumber: 0n, lsn: covers, lengthBytes: 0 }),
      )
      .addCallback(FILE_CALLBACK)
      .startFsync(file, true);
  }

  #onSynced({ result }: IoReturn): void {
    const covers = this.#sync?.covers ?? this.#durable;
    this.#sync = undefined;
    if (result.status === "error") {
      this.#fail(ioError("fdatasync", result.error, "WAL"));
      return;
    }
    if (covers > this.#durable) this.#durable = covers;
    this.#advance();
  }

  #fail(error: Error): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    panic(this.#backend.table, PANIC.walFailed);
    for (const { reject } of this.#committers.splice(0)) reject(this.#panicError());
  }

  #panicError(): AioError {
    return new AioError("ERR_AIO_PANIC", "a write or a sync of WAL failed", { cause: this.#failure });
  }

  #checkReachable(lsn: bigint): void {
    if (lsn > this.#started) throw new RangeError(`WAL was started up to ${this.#started}, not ${lsn}`);
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#panicError();
  }
}

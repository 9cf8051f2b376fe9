/**
 * A file of the promise face: positional reads and writes into an engine's memory, and durability.
 *
 * Every call names its position; there is no current one, so calls may run in any order and at once. On a direct file,
 * position, length and memory must be multiples of the file's alignment: that is checked here, before anything is issued,
 * because the kernel's EINVAL says nothing and is not even given at the end of a file. A failed sync poisons the file:
 * the kernel may have dropped what was written, and a later sync that succeeds would prove nothing.
 */
import { close, fstat } from "node:fs";
import { promisify } from "node:util";

import { FADVISE, fadvise } from "@millrace/io-uring";

import type { AioBackend } from "./backend.js";
import type { IoEngine } from "./engine.js";
import type { RawDone, RequestDone } from "./engine-request.js";
import { AioError } from "./errors.js";
import type { FileLease } from "./file-table.js";
import type { IoVector } from "./io-vector.js";
import { mergeVectors } from "./io-vector.js";
import { COMBINE_MAX } from "./layout.js";
import type { IoOperation } from "./operations.js";
import { TARGET_WORDS } from "./result.js";
import { writeZeros } from "./write-zeros.js";

const TRANSFER_BYTES_MAX: number = 2 ** 31 - 4096;

/** How a write becomes durable; see `IoFile.write`. */
export interface FileWriteOptions {
  /** "data": fdatasync, "full": fsync, as part of the write. */
  readonly sync?: "data" | "full";
  /** Aborts the wait, not the I/O. */
  readonly signal?: AbortSignal;
}

/** How a range will be used. */
export type FileAdvice = keyof typeof FADVISE;

/** What every call takes. */
export interface CallOptions {
  /**
   * The promise settles with the signal's reason, but not before the kernel has let go of the memory: cancelling a wait
   * is not cancelling an I/O.
   */
  readonly signal?: AbortSignal;
}

/**
 * The ends of the promise made last. One function for all of them, where a closure for each would be made anew and keep
 * the call's arguments alive: `new Promise(capture)`, and at once take what it has captured.
 */
const captured: { resolve: (bytes: number) => void; reject: (error: unknown) => void } = {
  resolve: () => undefined,
  reject: () => undefined,
};

function capture(resolve: (bytes: number) => void, reject: (error: unknown) => void): void {
  captured.resolve = resolve;
  captured.reject = reject;
}

const closeDescriptor = promisify(close);
const statDescriptor = promisify(fstat);

/** A file. Closing waits for its I/O. */
export class IoFile implements AsyncDisposable {
  readonly path: string;
  readonly fd: number;
  /** Whether I/O goes past the page cache. */
  readonly isDirect: boolean;
  /** What positions, lengths and memory must be multiples of: 1 unless the file is direct. */
  readonly alignmentBytes: number;
  readonly #engine: IoEngine;
  readonly #backend: AioBackend;
  /** For {@link EngineRequest}. */
  readonly lease: FileLease;
  /** For {@link EngineRequest}: the words of the target that its handles get. */
  readonly target: Int32Array = new Int32Array(TARGET_WORDS);
  #poison: Error | undefined;
  #openRequests = 0;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /** For {@link openIoFile}. */
  constructor(
    engine: IoEngine,
    backend: AioBackend,
    path: string,
    descriptor: { readonly fd: number; readonly isDirect: boolean; readonly alignmentBytes: number },
  ) {
    this.path = path;
    this.fd = descriptor.fd;
    this.isDirect = descriptor.isDirect;
    this.alignmentBytes = descriptor.alignmentBytes;
    this.#engine = engine;
    this.#backend = backend;
    this.lease = backend.openLease(descriptor.fd);
    this.target.set([this.lease.fd, this.lease.slot]);
  }

  /**
   * Reads from the file into `target`.
   *
   * @param target lent: in memory of the engine; leave it alone until the promise settles
   * @param offsetBytes position in the file; a multiple of `alignmentBytes`, as are target's place and length
   * @returns bytes read; fewer than `target.byteLength` only at the end of the file, 0 beyond it
   * @throws {AioError} ERR_AIO_IO (with `errno`), ERR_AIO_CLOSED, ERR_AIO_MEMORY; the signal's reason on abort
   */
  read(target: Uint8Array, offsetBytes: number, options?: CallOptions): Promise<number> {
    return this.#transfer("readv", target, offsetBytes, undefined, options?.signal);
  }

  /**
   * Writes `source` to the file.
   *
   * @param source lent: in memory of the engine; must not change until the promise settles
   * @param offsetBytes as for a read
   * @returns the length of `source`: a short write is continued
   * @throws {AioError} as for a read; ERR_AIO_SHORT: nothing more could be written; ERR_AIO_POISONED: a sync had failed
   */
  write(source: Uint8Array, offsetBytes: number, options?: FileWriteOptions): Promise<number> {
    return this.#transfer("writev", source, offsetBytes, options?.sync, options?.signal);
  }

  /**
   * Reads into several pieces of memory, one after the other, with as few I/Os as their places allow.
   *
   * @param targets as for `read`; at most 16 pieces after neighbours have been joined
   */
  readv(targets: readonly Uint8Array[], offsetBytes: number, options: CallOptions = {}): Promise<number> {
    return this.#vectored("readv", targets, offsetBytes, undefined, options.signal);
  }

  /** Writes several pieces of memory, one after the other; otherwise as `write` and `readv`. */
  writev(
    sources: readonly Uint8Array[],
    offsetBytes: number,
    options: FileWriteOptions = {},
  ): Promise<number> {
    return this.#vectored("writev", sources, offsetBytes, options.sync, options.signal);
  }

  /**
   * Reads without a promise, for those who count nanoseconds: `done` is called with bytes or a negative errno, and with
   * `token`. A short read is handed over as it is.
   *
   * @throws as `read`, but for ERR_AIO_IO, at once
   */
  readRaw(target: Uint8Array, offsetBytes: number, done: RawDone, token: number): void {
    this.#checkTransfer(offsetBytes, target.length);
    const segment = this.#locate(target, offsetBytes);
    const request = this.#engine.request().prepare(this, "readv", offsetBytes, target.length);
    this.#engine.enqueue(request.onMemory(segment, target.byteOffset).handsOver(done, token));
  }

  /** Writes without a promise, as `readRaw`. */
  writeRaw(source: Uint8Array, offsetBytes: number, done: RawDone, token: number): void {
    this.#checkTransfer(offsetBytes, source.length);
    const segment = this.#locate(source, offsetBytes);
    const request = this.#engine.request().prepare(this, "writev", offsetBytes, source.length);
    this.#engine.enqueue(request.onMemory(segment, source.byteOffset).handsOver(done, token));
  }

  /**
   * Makes everything that was written before durable.
   *
   * @param dataOnly without metadata that is not needed to read the data back; true by default
   * @throws {AioError} ERR_AIO_IO: and from then on ERR_AIO_POISONED, whatever is called
   */
  sync(dataOnly = true): Promise<void> {
    this.#check();
    const operation = dataOnly ? "fdatasync" : "fsync";
    return new Promise<void>((resolve, reject) => {
      const done: RequestDone = (error) => {
        if (error === undefined) resolve();
        else reject(this.#poisonBy(error));
      };
      this.#engine.enqueue(this.#engine.request().prepare(this, operation, 0, 0).tells(done));
    });
  }

  /**
   * Tells the kernel how a range will be used, for what goes through the page cache.
   *
   * @param lengthBytes 0: up to the end
   * @returns whether it listened: false on a direct file, and where the native part is missing
   */
  advise(offsetBytes: number, lengthBytes: number, advice: FileAdvice): boolean {
    this.#check();
    return !this.isDirect && fadvise(this.fd, offsetBytes, lengthBytes, FADVISE[advice]) === 0;
  }

  /**
   * Makes the first `lengthBytes` bytes exist as written zeros, and durable: a log segment that is then overwritten with
   * O_DSYNC needs no change of metadata any more, which is what makes those writes fast. What the file holds is lost.
   *
   * @param lengthBytes a multiple of `alignmentBytes`
   * @throws as `write` and `sync`; ERR_ARENA_EXHAUSTED if the arena has no room for a buffer of 256 KiB
   */
  async preallocate(lengthBytes: number): Promise<void> {
    await writeZeros(this, this.#engine.arena, lengthBytes);
    await this.sync(false);
  }

  /** Size of the file in bytes. */
  async size(): Promise<number> {
    this.#check();
    return (await statDescriptor(this.fd)).size;
  }

  /** Waits for the file's I/O and closes it. A second call waits for the first. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** For {@link EngineRequest}. */
  began(): void {
    this.#openRequests += 1;
  }

  /** For {@link EngineRequest}. */
  ended(): void {
    this.#openRequests -= 1;
    if (this.#openRequests === 0) this.#onIdle?.();
  }

  async #close(): Promise<void> {
    this.#engine.forget(this);
    if (this.#openRequests > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    await this.#backend.closingFileAsync(this.lease);
    await closeDescriptor(this.fd);
  }

  #transfer(
    operation: IoOperation,
    view: Uint8Array,
    offsetBytes: number,
    sync: "data" | "full" | undefined,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const promise = new Promise<number>(capture);
    const { resolve, reject } = captured;
    try {
      signal?.throwIfAborted();
      // Not byteLength, nor anything else twice: V8 of Node 20 inlines the length, and makes calls of the others.
      const { length } = view;
      this.#checkTransfer(offsetBytes, length);
      const segment = this.#locate(view, offsetBytes);
      const request = this.#engine.request().prepare(this, operation, offsetBytes, length, sync);
      request.onMemory(segment, view.byteOffset);
      // The usual case without one more closure.
      if (sync === undefined && signal === undefined) request.settles(resolve, reject);
      else request.tells(this.#settler(sync, signal, resolve, reject));
      this.#engine.enqueue(request);
    } catch (error) {
      reject(error);
    }
    return promise;
  }

  #vectored(
    operation: IoOperation,
    views: readonly Uint8Array[],
    offsetBytes: number,
    sync: "data" | "full" | undefined,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    return new Promise<number>((resolve, reject) => {
      signal?.throwIfAborted();
      const pieces: IoVector[] = views.map((view) => ({
        segment: this.#locate(view, offsetBytes),
        offsetBytes: view.byteOffset,
        lengthBytes: view.byteLength,
      }));
      const vectors = mergeVectors(pieces);
      if (vectors.length > COMBINE_MAX)
        throw new RangeError(`at most ${COMBINE_MAX} pieces, not ${vectors.length}`);
      const length = pieces.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
      this.#checkTransfer(offsetBytes, length);
      const done = this.#settler(sync, signal, resolve, reject);
      if (vectors.length === 0) {
        done(undefined, 0);
        return;
      }
      const request = this.#engine.request().prepare(this, operation, offsetBytes, length, sync);
      this.#engine.enqueue(request.onVectors(vectors).tells(done));
    });
  }

  #settler(
    sync: "data" | "full" | undefined,
    signal: AbortSignal | undefined,
    resolve: (bytes: number) => void,
    reject: (error: unknown) => void,
  ): RequestDone {
    return (error, bytes) => {
      if (signal?.aborted === true) reject(signal.reason);
      else if (error === undefined) resolve(bytes);
      else reject(sync === undefined ? error : this.#poisonBy(error));
    };
  }

  #poisonBy(error: Error): Error {
    this.#poison ??= error;
    return error;
  }

  #checkTransfer(offsetBytes: number, lengthBytes: number): void {
    this.#check();
    if (!Number.isSafeInteger(offsetBytes) || offsetBytes < 0) {
      throw new RangeError(`not a position in a file: ${offsetBytes}`);
    }
    if (lengthBytes > TRANSFER_BYTES_MAX)
      throw new RangeError(`at most ${TRANSFER_BYTES_MAX} bytes at a time`);
  }

  /** The segment of a view; everything that direct I/O needs is checked. */
  #locate(view: Uint8Array, offsetBytes: number): number {
    const { alignmentBytes } = this;
    const segment = this.#backend.segments.numberOf(view.buffer);
    if (alignmentBytes > 1) {
      const isAligned =
        view.byteOffset % alignmentBytes === 0 &&
        view.byteLength % alignmentBytes === 0 &&
        offsetBytes % alignmentBytes === 0;
      if (!isAligned) {
        throw new AioError(
          "ERR_AIO_MEMORY",
          `direct I/O on ${this.path} needs multiples of ${alignmentBytes}, not ${view.byteLength} bytes at ` +
            `${view.byteOffset} of the memory and ${offsetBytes} of the file`,
        );
      }
    }
    return segment;
  }

  #check(): void {
    if (this.#poison !== undefined) {
      throw new AioError("ERR_AIO_POISONED", `a sync of ${this.path} has failed: reopen it and recover`, {
        cause: this.#poison,
      });
    }
    if (this.#closing !== undefined) throw new AioError("ERR_AIO_CLOSED", `${this.path} is closed`);
  }
}

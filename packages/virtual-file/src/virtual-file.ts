/**
 * A file of positional reads and writes, whose descriptor comes and goes.
 *
 * There is no current position and no append, so that calls may run at once and be repeated. On a direct file, address,
 * offset and length are checked here, before any system call: the kernel's EINVAL says nothing, and is not even given for
 * holes, at the end of a file, or on tmpfs. The path must keep naming this file while it is open: after a rename or an
 * unlink by others, close it.
 *
 * A failed sync poisons the file, and so does a failed write that was to be durable at once. Writes through the page cache
 * are synced before the descriptor is given up to the cache, because the kernel reports a failed write-back to descriptors
 * that are open then, and to later ones only with luck.
 *
 * Idea: VirtualFile of Neon's pageserver. Different: the alignment is checked in production too.
 */
import type { IoBuffer, IoBufferMut, MemorySegment } from "@millrace/aligned-buffers";
import { alignmentOf } from "./environment.js";
import type { FileEnvironment } from "./environment.js";
import {
  AlignmentError,
  errnoCodeOf,
  FileError,
  FileIoError,
  ioFailure,
  UnexpectedEofError,
} from "./errors.js";
import { CacheEntry } from "./fd-cache.js";
import type { FdCache } from "./fd-cache.js";
import type { FileDescriptor } from "./file-engine.js";
import { flagsToTry, HAS_DATA_SYNC, isDirectFlags, isDirectRefusal, reopenFlags } from "./open-flags.js";
import type { OpenOptions } from "./open-flags.js";
import { readUpTo, writeAll } from "./transfer.js";

const MODE_DEFAULT = 0o666;
/** Failures that say that there was no room. The kernel has dropped nothing that it had taken before. */
const NO_ROOM: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** What a writer needs of a file; `VirtualFile` is one. */
export interface PositionalWriter {
  /**
   * Writes all of a buffer.
   *
   * @param buffer lent; the memory is held until the write has ended, even if the caller disposes of it
   */
  writeAllAt(buffer: IoBuffer, offsetBytes: number): Promise<void>;
  /** Makes the file exactly so long. */
  setLength(lengthBytes: number): Promise<void>;
}

/** What a reader needs of a file; `VirtualFile` is one. */
export interface PositionalReader {
  /**
   * Reads into the room behind the bytes in use, and adds what was read to them.
   *
   * @param target lent: leave the handle alone until the promise has settled
   * @param lengthBytes at most `target.spare`
   * @returns bytes read; fewer than `lengthBytes` only at the end of the file
   */
  readAt(target: IoBufferMut, offsetBytes: number, lengthBytes: number): Promise<number>;
}

/** A file. Closing waits for its I/O and makes nothing durable. */
export class VirtualFile implements PositionalWriter, PositionalReader, AsyncDisposable {
  readonly path: string;
  /** Whether reads and writes go past the page cache. */
  readonly isDirect: boolean;
  /** Whether a write that has returned is durable without a `sync`. */
  readonly isDataSync: boolean;
  /** What addresses, offsets and lengths must be multiples of: 1 unless the file is direct. */
  readonly alignmentBytes: number;
  readonly #cache: FdCache;
  readonly #isSyncReal: boolean;
  readonly #entry: CacheEntry;
  #poison: Error | undefined;
  /** Changes so far, and how many of them a sync has covered. */
  #changes = 0;
  #synced = 0;
  #inFlight = 0;
  #onIdle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  private constructor(path: string, flags: number, options: OpenOptions, environment: FileEnvironment) {
    const { engine, descriptors, sync = "real" } = environment;
    const { mode = MODE_DEFAULT, dataSync = false } = options;
    this.path = path;
    this.isDataSync = dataSync;
    this.isDirect = isDirectFlags(flags);
    this.alignmentBytes = this.isDirect ? alignmentOf(environment) : 1;
    this.#cache = descriptors;
    this.#isSyncReal = sync === "real";
    this.#entry = new CacheEntry({
      reopen: () => engine.open(path, reopenFlags(flags), mode, this.alignmentBytes),
      beforeEviction: (descriptor) => this.#beforeEviction(descriptor),
      onCloseFailure: (error) => this.#poisonBy(ioFailure(path, "close", error)),
    });
  }

  /**
   * Opens a file.
   *
   * @returns rejects with `FileIoError` ERR_FILE_IO: the file cannot be opened, or not for direct I/O that is required;
   *   with a TypeError for options that contradict each other; EINVAL too where files cannot be `dataSync`
   */
  static async open(path: string, options: OpenOptions, environment: FileEnvironment): Promise<VirtualFile> {
    const { engine, descriptors, ioMode = "direct-rw" } = environment;
    const { mode = MODE_DEFAULT } = options;
    const tries = flagsToTry(ioMode, options);
    if (options.dataSync === true && !HAS_DATA_SYNC) throw new FileIoError(path, "open", "EINVAL");
    let refusal: unknown;
    for (const flags of tries) {
      const file = new VirtualFile(path, flags, options, environment);
      try {
        await descriptors.open(file.#entry, () => engine.open(path, flags, mode, file.alignmentBytes));
        return file;
      } catch (error) {
        refusal = error;
        if (!file.isDirect || !isDirectRefusal(errnoCodeOf(error))) break;
      }
    }
    throw ioFailure(path, "open", refusal);
  }

  /**
   * Writes all of a buffer.
   *
   * @param buffer lent; the memory is held until the write has ended, even if the caller disposes of it
   * @param offsetBytes on a direct file a multiple of `alignmentBytes`, as are the buffer's place and length
   * @throws {AlignmentError} ERR_FILE_ALIGNMENT, before anything is issued
   * @throws {FileError} ERR_FILE_IO, ERR_FILE_WRITE_ZERO: any part of the bytes may have been written;
   *   ERR_FILE_CLOSED, ERR_FILE_POISONED. On a `dataSync` file ERR_FILE_IO poisons, except for want of room
   */
  async writeAllAt(buffer: IoBuffer, offsetBytes: number): Promise<void> {
    const { length, byteOffset, segment } = buffer;
    this.#checkRange(segment, byteOffset, offsetBytes, length);
    this.#check();
    if (length === 0) return;
    using held = buffer.clone();
    held.verify();
    this.#changes += 1;
    try {
      await this.#use("write", (descriptor) =>
        writeAll(this.path, descriptor, held.unsafeView(), offsetBytes, this.alignmentBytes),
      );
    } catch (error) {
      if (this.isDataSync && isFailedWrite(error)) this.#poisonBy(error);
      throw error;
    }
    held.verify();
  }

  /**
   * Reads into the room behind the bytes in use of `target`, and adds what was read to them.
   *
   * @param target lent: leave the handle alone until the promise has settled
   * @param offsetBytes on a direct file a multiple of `alignmentBytes`, as are the room's place and `lengthBytes`
   * @returns bytes read; fewer than `lengthBytes` only at the end of the file
   * @throws {AlignmentError} ERR_FILE_ALIGNMENT, before anything is issued
   * @throws {RangeError} `target` has less room
   * @throws {FileError} ERR_FILE_IO, ERR_FILE_CLOSED, ERR_FILE_POISONED; the bytes in use of `target` are as before
   */
  async readAt(target: IoBufferMut, offsetBytes: number, lengthBytes: number): Promise<number> {
    const { length, spare } = target;
    if (!Number.isInteger(lengthBytes) || lengthBytes < 0 || lengthBytes > spare)
      throw new RangeError(`${String(lengthBytes)} bytes into a room of ${String(spare)}`);
    this.#checkRange(target.segment, target.byteOffset + length, offsetBytes, lengthBytes);
    this.#check();
    if (lengthBytes === 0) return 0;
    const room = target.spareView().subarray(0, lengthBytes);
    const got = await this.#use("read", (descriptor) =>
      readUpTo(descriptor, room, offsetBytes, this.alignmentBytes),
    );
    target.setLength(length + got);
    return got;
  }

  /**
   * As `readAt`, for bytes that must be there.
   *
   * @throws {UnexpectedEofError} ERR_FILE_UNEXPECTED_EOF: the file ends before; `target` has what was there
   */
  async readExactAt(target: IoBufferMut, offsetBytes: number, lengthBytes: number): Promise<void> {
    const got = await this.readAt(target, offsetBytes, lengthBytes);
    if (got < lengthBytes) throw new UnexpectedEofError(this.path, offsetBytes, lengthBytes, got);
  }

  /**
   * Makes everything durable that was written by calls which have returned.
   *
   * @param kind "data": what is needed to read it back, the length included (fdatasync); "all": times too (fsync)
   * @throws {FileError} ERR_FILE_IO: and from then on ERR_FILE_POISONED, whatever is called
   */
  async sync(kind: "data" | "all" = "data"): Promise<void> {
    this.#check();
    if (!this.#isSyncReal) return;
    await this.#use("fsync", (descriptor) => this.#syncNow(descriptor, kind === "data"));
    // Another sync of the same descriptor may have been told of the failure.
    this.#check();
  }

  /** Makes the file exactly `lengthBytes` long, with zeros where it grows. */
  async setLength(lengthBytes: number): Promise<void> {
    checkOffset(lengthBytes);
    this.#check();
    this.#changes += 1;
    await this.#use("ftruncate", (descriptor) => descriptor.truncate(lengthBytes));
  }

  /** Size of the file, bytes. */
  async size(): Promise<number> {
    this.#check();
    return await this.#use("fstat", (descriptor) => descriptor.size());
  }

  /** Waits for the file's I/O and closes it. A second call waits for the first. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    if (this.#inFlight > 0) await new Promise<void>((resolve) => (this.#onIdle = resolve));
    try {
      await this.#cache.close(this.#entry);
    } catch (error) {
      throw ioFailure(this.path, "close", error);
    }
  }

  /** Does something with the pinned descriptor. */
  async #use<T>(syscall: string, call: (descriptor: FileDescriptor) => Promise<T>): Promise<T> {
    this.#inFlight += 1;
    try {
      const descriptor = this.#cache.tryPin(this.#entry) ?? (await this.#reopened());
      try {
        this.#checkPoison();
        return await call(descriptor);
      } finally {
        this.#cache.unpin(this.#entry);
      }
    } catch (error) {
      throw error instanceof FileError ? error : ioFailure(this.path, syscall, error);
    } finally {
      this.#inFlight -= 1;
      if (this.#inFlight === 0) this.#onIdle?.();
    }
  }

  async #reopened(): Promise<FileDescriptor> {
    try {
      return await this.#cache.pin(this.#entry);
    } catch (error) {
      throw ioFailure(this.path, "open", error);
    }
  }

  async #syncNow(descriptor: FileDescriptor, dataOnly: boolean): Promise<void> {
    const changes = this.#changes;
    try {
      await descriptor.sync(dataOnly);
    } catch (error) {
      throw this.#poisonBy(ioFailure(this.path, dataOnly ? "fdatasync" : "fsync", error));
    }
    this.#synced = Math.max(this.#synced, changes);
  }

  async #beforeEviction(descriptor: FileDescriptor): Promise<void> {
    if (this.isDirect || this.isDataSync || !this.#isSyncReal || this.#synced === this.#changes) return;
    try {
      await this.#syncNow(descriptor, true);
    } catch {
      // The file is poisoned: whoever uses it next hears of it.
    }
  }

  #poisonBy(error: Error): Error {
    this.#poison ??= error;
    return error;
  }

  #check(): void {
    if (this.#closing !== undefined) throw new FileError("ERR_FILE_CLOSED", this.path, "the file is closed");
    this.#checkPoison();
  }

  #checkPoison(): void {
    if (this.#poison === undefined) return;
    const message = "a sync has failed: reopen the file and recover";
    throw new FileError("ERR_FILE_POISONED", this.path, message, { cause: this.#poison });
  }

  #checkRange(segment: MemorySegment, byteOffset: number, offsetBytes: number, lengthBytes: number): void {
    checkOffset(offsetBytes);
    const { path, alignmentBytes } = this;
    if (alignmentBytes === 1) return;
    if (!segment.isAligned(byteOffset, alignmentBytes))
      throw new AlignmentError(path, "address", byteOffset, alignmentBytes);
    if (offsetBytes % alignmentBytes !== 0)
      throw new AlignmentError(path, "offset", offsetBytes, alignmentBytes);
    if (lengthBytes % alignmentBytes !== 0)
      throw new AlignmentError(path, "length", lengthBytes, alignmentBytes);
  }
}

/** Whether the device may have lost something: not so if there was no room, or if the file could not be opened again. */
function isFailedWrite(error: unknown): error is FileIoError {
  return error instanceof FileIoError && error.syscall === "write" && !NO_ROOM.has(error.errnoCode);
}

function checkOffset(offsetBytes: number): void {
  if (!Number.isSafeInteger(offsetBytes) || offsetBytes < 0)
    throw new RangeError(`not a position in a file: ${String(offsetBytes)}`);
}

/**
 * Positional reads, writes and syncs, done at once, that return a negative errno instead of throwing.
 *
 * With the native part these save what `node:fs` spends on checking, on objects and, when it fails, on an Error with a
 * stack. Without it they do the same through `node:fs`. A short count is an answer, not a failure: at the end of the
 * file, on a full disk, past a size limit. EINTR never comes out.
 */
import { fdatasyncSync, fsyncSync, readSync, writeSync } from "node:fs";
import { errnoOf } from "./errno.js";
import type { IovecTable } from "./iovec-table.js";
import type { TypedArray } from "./memory.js";
import { nativeOrNone, nativeOrThrow } from "./native.js";

/** Entries of one preadv or pwritev. */
export const IOVECS_MAX = 128;

function checkTransfer(
  fd: number,
  view: TypedArray,
  byteOffset: number,
  length: number,
  fileOffset: number,
): void {
  if (!ArrayBuffer.isView(view) || view instanceof DataView) throw new TypeError("not a typed array");
  if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`fd: ${fd}`);
  if (!Number.isInteger(byteOffset) || !Number.isInteger(length) || byteOffset < 0 || length < 0)
    throw new RangeError(`byteOffset: ${byteOffset}, length: ${length}`);
  if (byteOffset + length > view.byteLength)
    throw new RangeError(`byteOffset ${byteOffset} and length ${length} exceed ${view.byteLength} bytes`);
  if (!Number.isSafeInteger(fileOffset) || fileOffset < 0) throw new RangeError(`fileOffset: ${fileOffset}`);
}

function checkVector(fd: number, table: IovecTable, count: number, fileOffset: number): void {
  if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`fd: ${fd}`);
  if (!Number.isInteger(count) || count < 0 || count > table.entries || count > IOVECS_MAX)
    throw new RangeError(`count: ${count}, entries: ${table.entries}, at most ${IOVECS_MAX}`);
  if (!Number.isSafeInteger(fileOffset) || fileOffset < 0) throw new RangeError(`fileOffset: ${fileOffset}`);
}

/**
 * Reads from the file into `view`, which is borrowed for the call.
 *
 * @param byteOffset in the view, in bytes   @param length in bytes   @param fileOffset in bytes
 * @returns bytes read, fewer than `length` at the end of the file, 0 behind it; or a negative errno
 */
export function preadInto(
  fd: number,
  view: TypedArray,
  byteOffset: number,
  length: number,
  fileOffset: number,
): number {
  checkTransfer(fd, view, byteOffset, length, fileOffset);
  const native = nativeOrNone();
  if (native !== undefined) return native.pread(fd, view, byteOffset, length, fileOffset);
  try {
    return readSync(fd, view, byteOffset, length, fileOffset);
  } catch (error) {
    return errnoOf(error);
  }
}

/**
 * Writes from `view`, which is borrowed for the call, to the file.
 *
 * @returns bytes written, fewer than `length` for example on a full disk; or a negative errno
 */
export function pwriteFrom(
  fd: number,
  view: TypedArray,
  byteOffset: number,
  length: number,
  fileOffset: number,
): number {
  checkTransfer(fd, view, byteOffset, length, fileOffset);
  const native = nativeOrNone();
  if (native !== undefined) return native.pwrite(fd, view, byteOffset, length, fileOffset);
  try {
    return writeSync(
      fd,
      new Uint8Array(view.buffer, view.byteOffset + byteOffset, length),
      0,
      length,
      fileOffset,
    );
  } catch (error) {
    return errnoOf(error);
  }
}

/**
 * Reads into the memory that the first `count` entries of `table` describe.
 *
 * @param rwFlags bits of RWF; with noWait, -EAGAIN if the bytes are not in the page cache
 * @returns bytes read, or a negative errno
 * @throws {UringError} ERR_URING_UNAVAILABLE: addresses mean nothing to `node:fs`
 */
export function preadv(
  fd: number,
  table: IovecTable,
  count: number,
  fileOffset: number,
  rwFlags = 0,
): number {
  checkVector(fd, table, count, fileOffset);
  return nativeOrThrow().preadv(fd, table.words, count, fileOffset, rwFlags);
}

/** Writes the memory that the first `count` entries of `table` describe; otherwise as preadv. */
export function pwritev(
  fd: number,
  table: IovecTable,
  count: number,
  fileOffset: number,
  rwFlags = 0,
): number {
  checkVector(fd, table, count, fileOffset);
  return nativeOrThrow().pwritev(fd, table.words, count, fileOffset, rwFlags);
}

/** Makes the file durable, its metadata included. @returns 0 or a negative errno, which is final for this file */
export function fsyncFd(fd: number): number {
  if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`fd: ${fd}`);
  const native = nativeOrNone();
  if (native !== undefined) return native.fsync(fd);
  try {
    fsyncSync(fd);
    return 0;
  } catch (error) {
    return errnoOf(error);
  }
}

/** Makes the file's data durable. @returns 0 or a negative errno, which is final for this file */
export function fdatasyncFd(fd: number): number {
  if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`fd: ${fd}`);
  const native = nativeOrNone();
  if (native !== undefined) return native.fdatasync(fd);
  try {
    fdatasyncSync(fd);
    return 0;
  } catch (error) {
    return errnoOf(error);
  }
}

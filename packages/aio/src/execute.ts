/**
 * Executes an I/O here and now, in the calling thread, and gives its raw result.
 *
 * It is what method sync does, what an I/O worker does, and what everybody falls back to: flagged I/O, a full queue, a
 * completion that the kernel gave up because its submitter died. An operating system's error is a negative number, never
 * an exception. The lease is looked at last before the call: a descriptor that was closed fails with EBADF instead of
 * reaching whatever file has the number now.
 */
import { constants } from "node:os";

import type { FileTable } from "./file-table.js";
import type { Faults } from "./faults.js";
import type { HandleTable } from "./handle-table.js";
import { HANDLE, VECTOR } from "./layout.js";
import { FLAG, OPERATION } from "./operations.js";
import type { SegmentTable } from "./segment-table.js";
import type { SynchronousCalls } from "./synchronous-calls.js";

/** The lease of an I/O no longer holds. */
export const RESULT_CLOSED: number = -constants.errno.EBADF;
/** The system no longer wants this I/O, or its submitter is gone. */
export const RESULT_CANCELLED: number = -constants.errno.ECANCELED;
const EINTR = -constants.errno.EINTR;
const EAGAIN = -constants.errno.EAGAIN;

/** What executing needs; each thread has its own. */
export interface ExecutionContext {
  readonly table: HandleTable;
  readonly files: FileTable;
  readonly segments: SegmentTable;
  readonly faults: Faults;
  readonly calls: SynchronousCalls;
}

/**
 * Executes a handle's operation. The handle is SUBMITTED, and stays so.
 *
 * @returns bytes moved (0 for a sync), or a negative errno
 */
export function executeNow(context: ExecutionContext, handle: number): number {
  const { table, files, faults } = context;
  const at = table.at(handle);
  const { words } = table;
  const operation = table.operation(handle);
  const fd = words[at + HANDLE.fd] as number;
  if (operation === OPERATION.nop) return 0;
  if (faults.isArmed) {
    const result = faults.strike("instead", operation, fd);
    if (result !== undefined) return result;
  }
  if (!files.holds(words[at + HANDLE.fileSlot] as number, words[at + HANDLE.fileGeneration] as number)) {
    return RESULT_CLOSED;
  }
  const { calls } = context;
  if (operation === OPERATION.fsync) return calls.sync(fd, false);
  if (operation === OPERATION.fdatasync) return calls.sync(fd, true);
  const moved = transfer(context, handle, operation === OPERATION.writev, fd);
  return moved < 0 ? moved : syncAfter(context, handle, fd, moved);
}

/** The second half of a write that is to be durable when it completes. A short write is not synced: it is not done. */
function syncAfter(context: ExecutionContext, handle: number, fd: number, moved: number): number {
  const flags = context.table.flags(handle);
  if ((flags & (FLAG.thenDataSync | FLAG.thenSync)) === 0) return moved;
  if (moved < context.table.get(handle, HANDLE.lengthBytes)) return moved;
  const result = context.calls.sync(fd, (flags & FLAG.thenDataSync) !== 0);
  return result < 0 ? result : moved;
}

function transfer(context: ExecutionContext, handle: number, isWrite: boolean, fd: number): number {
  const { table, segments, calls } = context;
  const { words } = table;
  const count = table.vectorLength(handle);
  const position = table.offsetBytes(handle);
  if (count === 1) {
    const at = table.vectorAt(handle, 0);
    const segment = words[at + VECTOR.segment] as number;
    const offset = words[at + VECTOR.offset] as number;
    const length = words[at + VECTOR.length] as number;
    return isWrite
      ? calls.write(fd, segments, segment, offset, length, position)
      : calls.read(fd, segments, segment, offset, length, position);
  }
  const first = table.vectorAt(handle, 0);
  return calls.vectored(isWrite, fd, segments, words, first, count, position);
}

/** Whether a result says nothing about the I/O, only that it was given up: by a signal, a busy kernel, a dead thread. */
export function isTransient(result: number): boolean {
  return result === RESULT_CANCELLED || result === EINTR || result === EAGAIN;
}

/**
 * Executes an I/O once more, here, if its result is transient and it has not been repeated before: repeating a
 * positional read or write, or a sync, changes nothing.
 *
 * @returns the result to complete it with
 */
export function settle(context: ExecutionContext, handle: number, result: number): number {
  if (!isTransient(result)) return result;
  const { table } = context;
  if (table.isRetried(handle)) return result;
  const again = executeNow(context, handle);
  // After the call: a thread that dies in it leaves the repetition to whoever completes the I/O instead.
  table.markRetried(handle);
  return again;
}

/**
 * Zeroes what a read did not deliver after its result was cut to `kept` bytes, so that data which was read but is not
 * reported cannot pass for delivered.
 */
export function zeroTail(context: ExecutionContext, handle: number, kept: number): void {
  const { table, segments } = context;
  if (table.operation(handle) !== OPERATION.readv) return;
  let skip = Math.max(0, kept);
  const count = table.vectorLength(handle);
  for (let index = 0; index < count; index++) {
    const at = table.vectorAt(handle, index);
    const offset = table.words[at + VECTOR.offset] as number;
    const length = table.words[at + VECTOR.length] as number;
    if (skip < length) {
      segments.view(table.words[at + VECTOR.segment] as number).fill(0, offset + skip, offset + length);
    }
    skip = Math.max(0, skip - length);
  }
}

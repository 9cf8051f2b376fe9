/**
 * Wait references: which I/O, without keeping its handle.
 *
 * A handle is reused as soon as its I/O has been reclaimed; number and generation together name one I/O for ever. A
 * reference may be copied, kept as long as one likes, and sent to any thread: at worst it is stale, which means done.
 */
import { AioError } from "./errors.js";

/** One I/O. Plain data. */
export interface WaitRef {
  /** Number of the handle in its system; INVALID_HANDLE for no I/O. */
  readonly handle: number;
  /** Below 2^53; from 1. */
  readonly generation: number;
}

/** The handle of a reference to nothing. */
export const INVALID_HANDLE = 0xffff_ffff;
/** A reference to nothing: waiting for it returns at once. */
export const NO_WAIT_REF: WaitRef = { handle: INVALID_HANDLE, generation: 0 };

/** @throws {AioError} ERR_AIO_BAD_STATE: not a handle of this system */
export function checkWaitRef(ref: WaitRef, handles: number): void {
  if (ref.handle === INVALID_HANDLE) return;
  if (!Number.isInteger(ref.handle) || ref.handle < 0 || ref.handle >= handles) {
    throw new AioError("ERR_AIO_BAD_STATE", `no handle ${ref.handle} in this system`);
  }
}

/**
 * An arena as another thread sees it: bytes that the owner has lent or leased, and nothing else.
 *
 * Who may do what: the owner alone allocates and gives back. A thread that got the lease of a loan may read and write
 * those bytes until it tells the owner, by a message or an atomic, that it is done; from then on it may not touch them.
 * A thread that got the lease of a frozen buffer may only read. Nothing here checks that: shared memory has no
 * locks. The message that carries a lease, or the atomic store that publishes it, orders the bytes before it.
 */
import { attachMemorySegment } from "./memory-segment.js";
import type { MemorySegment, MemorySegmentHandle } from "./memory-segment.js";
import type { Lease } from "./io-buffer.js";

/** An arena as it travels: from `AlignedArena.handle`. */
export interface AttachedArenaHandle {
  readonly segment: MemorySegmentHandle;
  readonly alignment: number;
}

/** Has no state of its own and needs no closing. */
export interface AttachedArena {
  readonly segment: MemorySegment;
  /** Of every buffer, bytes. */
  readonly alignment: number;
  /**
   * The bytes of a lease, borrowed until this thread says that it is done.
   *
   * @throws {RangeError} the lease is not of this arena
   */
  open(lease: Lease): Uint8Array<SharedArrayBuffer>;
}

/**
 * Opens an arena in a thread that does not own it.
 *
 * @throws {TypeError} this is not the handle of an arena
 */
export function attachArena(handle: AttachedArenaHandle): AttachedArena {
  const segment = attachMemorySegment(handle.segment);
  const { alignment } = handle;
  return { segment, alignment, open: ({ byteOffset, length }) => segment.view(byteOffset, length) };
}

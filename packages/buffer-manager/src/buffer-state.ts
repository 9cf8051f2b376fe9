/**
 * The state word of a buffer: everything about it that changes often, in 32 bits that one compare-exchange moves.
 *
 * Rules. Whoever has the header lock may rewrite the word by a plain store, which gives the lock back. Everybody else
 * changes it by compare-exchange only, and only while the lock bit is clear. The reference count counts backends, not pins:
 * how often a backend has pinned a buffer is its own business (private-pins.ts). A buffer's tag does not change while the
 * count is above zero, so it may be read without the lock by anyone who has a pin.
 *
 * The layout is PostgreSQL 18's (buf_internals.h). The top bit makes the word negative as an int32; all arithmetic here is
 * on int32, which V8 keeps in registers, where unsigned values above 2^31 would be boxed.
 */
export const REFCOUNT_ONE = 1;
export const REFCOUNT_MASK = 0x3_ffff;
export const USAGE_SHIFT = 18;
export const USAGE_ONE: number = 1 << USAGE_SHIFT;
export const USAGE_MASK: number = 0xf << USAGE_SHIFT;
/** A buffer survives so many passes of the clock after its last use. */
export const USAGE_MAX = 5;

/** The flags of the state word. */
export const STATE = {
  /** The header lock. */
  locked: 0x0040_0000,
  /** The page differs from the file. */
  dirty: 0x0080_0000,
  /** The page is what the tag says. */
  valid: 0x0100_0000,
  /** The tag has an entry in the mapping table. */
  tagValid: 0x0200_0000,
  /** Somebody reads or writes the page; also the I/O lock. */
  ioInProgress: 0x0400_0000,
  /** The last I/O failed. */
  ioError: 0x0800_0000,
  /** Dirtied again since the write that runs began. */
  justDirtied: 0x1000_0000,
  /** A backend sleeps until it has the only pin. */
  pinCountWaiter: 0x2000_0000,
  /** The checkpoint that runs has to write it. */
  checkpointNeeded: 0x4000_0000,
  /** WAL must be durable up to the page's LSN before it is written. */
  permanent: -0x8000_0000,
} as const;

/** All flags but the lock. */
export const FLAGS_MASK: number =
  STATE.dirty |
  STATE.valid |
  STATE.tagValid |
  STATE.ioInProgress |
  STATE.ioError |
  STATE.justDirtied |
  STATE.pinCountWaiter |
  STATE.checkpointNeeded |
  STATE.permanent;

/** Backends that have the buffer pinned. */
export function refcountOf(state: number): number {
  return state & REFCOUNT_MASK;
}

/** Passes of the clock it survives. */
export function usageOf(state: number): number {
  return (state & USAGE_MASK) >>> USAGE_SHIFT;
}

/**
 * A state word of parts.
 *
 * @param flags of {@link STATE}, combined
 * @throws {RangeError} a count is out of its range
 */
export function packState(refcount: number, usage: number, flags: number): number {
  if (!Number.isInteger(refcount) || refcount < 0 || refcount > REFCOUNT_MASK) {
    throw new RangeError(`not a reference count: ${refcount}`);
  }
  if (!Number.isInteger(usage) || usage < 0 || usage > USAGE_MAX) {
    throw new RangeError(`not a usage count: ${usage}`);
  }
  return refcount | (usage << USAGE_SHIFT) | flags;
}

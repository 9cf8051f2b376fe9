/**
 * Control points: named places where a test can stop a thread, or make it fail, to force an interleaving.
 *
 * In production nothing is set, and reaching one costs a comparison. A hook may block its thread on a latch of the test's, or
 * throw; what it throws goes the way an error of the step after the point would go.
 */

/** Where a thread can be. */
export type PoolPoint =
  | "victim:selected" // a victim is pinned, its header unlocked, nothing done to it yet
  | "victim:before-invalidate" // it is clean, and about to lose its tag
  | "alloc:before-insert" // a free buffer is at hand, the mapping not yet locked
  | "flush:after-wal" // WAL is durable up to the page's LSN
  | "flush:before-write" // the copy is made, its checksum set
  | "read:before-start" // I/O locks are taken, the read not yet started
  | "read:completing" // in the completing thread, before the page is looked at
  | "extend:locked" // the relation is locked for extension
  | "resize:phase" // a phase of a resize begins; the buffer is the phase's number
  | "cleanup:registered"; // registered as the waiter for the only pin, not yet asleep

/** Called at a point. `buffer` is an index from 0, or -1 where there is none. */
export type PoolHook = (point: PoolPoint, backend: number, buffer: number) => void;

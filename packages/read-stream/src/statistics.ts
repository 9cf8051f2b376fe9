/**
 * What EXPLAIN tells about a stream in PostgreSQL 19: how deep it looked ahead and how large its reads were.
 *
 * Sums and counts only, so that the caller divides. Buffers that a reset throws away were never returned and are not
 * counted; the reads they came from are.
 */

/** Counters of one stream since it began. */
export interface StreamStatistics {
  /** Buffers returned. */
  returned: number;
  /** Buffers pinned for the stream when each of them was returned, itself included: summed, and the most. */
  depthSum: number;
  depthMax: number;
  /** The most that could have been pinned. */
  depthCapacity: number;
  /** I/Os, the blocks they covered, and how many were in progress once each had started, summed. */
  reads: number;
  blocksRead: number;
  inProgressSum: number;
  /** Waits that took time, as far as the pool can tell. */
  waits: number;
}

/** All zero. */
export function createStatistics(depthCapacity: number): StreamStatistics {
  return {
    returned: 0,
    depthSum: 0,
    depthMax: 0,
    depthCapacity,
    reads: 0,
    blocksRead: 0,
    inProgressSum: 0,
    waits: 0,
  };
}

/** A buffer is returned while `pinned` are pinned, itself included. */
export function countReturn(statistics: StreamStatistics, pinned: number): void {
  statistics.returned += 1;
  statistics.depthSum += pinned;
  if (pinned > statistics.depthMax) statistics.depthMax = pinned;
}

/** A read of `blocks` has started, as the last of `inProgress`. */
export function countRead(statistics: StreamStatistics, blocks: number, inProgress: number): void {
  statistics.reads += 1;
  statistics.blocksRead += blocks;
  statistics.inProgressSum += inProgress;
}

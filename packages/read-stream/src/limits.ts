/**
 * How much a stream may have in its hands: decided once, when it begins, from settings that may change later.
 *
 * A queue as long as the concurrency could ever fill, but no longer than what the ring and the backend's share of the
 * pool allow. All of it fits 16 bits signed, as in PostgreSQL, whose numbers these are (read_stream_begin_impl).
 */
import { STREAM_FLAG } from "./options.js";
import type { ReadStreamOptions } from "./options.js";
import type { StreamPool } from "./pool.js";

/** Everything is counted in 16 bits there; here it bounds the memory of a stream. */
const INT16_MAX = 32_767;

/** What a stream was made with. */
export interface StreamLimits {
  /** I/Os in progress, at least 1. */
  readonly maxIos: number;
  /** Buffers pinned for the stream, at least 1. */
  readonly maxPinned: number;
  /** Slots of the queue: one more, so that the record of the buffer returned last stays as it is until the next call. */
  readonly queueSize: number;
  /** Slots behind the queue, for an I/O that begins near its end and needs its buffers in a row. */
  readonly overflow: number;
  /** Blocks in one I/O. */
  readonly combine: number;
  /** Whether the kernel is advised of reads to come. */
  readonly adviceEnabled: boolean;
  /** Concurrency 0: reads run while they are started. */
  readonly isSynchronous: boolean;
  /** Temporary relations live in the backend's own buffers. */
  readonly isLocal: boolean;
}

/** What the limits depend on, of the options. */
type LimitOptions = Pick<ReadStreamOptions<unknown>, "relation" | "flags" | "ring" | "isCatalog">;

function concurrency(pool: StreamPool, options: LimitOptions): number {
  const isMaintenance = ((options.flags ?? 0) & STREAM_FLAG.maintenance) !== 0;
  const wanted =
    options.isCatalog === true
      ? pool.effectiveConcurrency
      : pool.concurrencyOf(options.relation, isMaintenance);
  return Math.min(wanted, INT16_MAX);
}

/** The limits of a stream that begins now. */
export function streamLimits(pool: StreamPool, options: LimitOptions): StreamLimits {
  const flags = options.flags ?? 0;
  const isLocal = options.relation.persistence === "temporary";
  const combine = pool.combineLimit;
  const maxIos = concurrency(pool, options);
  const overflow = combine - 1;
  const maxPinned = Math.max(
    1,
    Math.min(
      (maxIos + 1) * combine,
      INT16_MAX - overflow - 1,
      options.ring?.pinLimit ?? pool.buffersCount,
      pool.pinLimit(isLocal),
    ),
  );
  return {
    maxIos: Math.max(1, maxIos),
    maxPinned,
    queueSize: maxPinned + 1,
    overflow,
    combine,
    adviceEnabled:
      pool.isSynchronous &&
      pool.canAdvise &&
      !pool.isDirect &&
      (flags & STREAM_FLAG.sequential) === 0 &&
      maxIos > 0,
    isSynchronous: maxIos === 0,
    isLocal,
  };
}

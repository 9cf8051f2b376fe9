/**
 * What a stream is made with: where its block numbers come from, and what is known about the access to come.
 *
 * The flags are PostgreSQL's READ_STREAM_* with the same values; what each caller there uses is in the README.
 */
import type { StreamFork, StreamPool, StreamRelation, StreamRing } from "./pool.js";
import type { StreamEvent } from "./trace.js";

/** Bits of `ReadStreamOptions.flags`. */
export const STREAM_FLAG = {
  default: 0,
  /** The maintenance concurrency applies instead of the effective one. */
  maintenance: 1,
  /** Never advise the kernel: the caller knows that its own read-ahead will do. */
  sequential: 2,
  /** Everything will be read: begin with full I/Os instead of working up to them. */
  full: 4,
  /** Submit several I/Os at once. The callback may then run while I/O is staged; see the README for what it must not do. */
  useBatching: 8,
} as const;

/**
 * Gives the number of the next block, or -1 when there are no more.
 *
 * Called ahead of consumption, never while it runs already, and after -1 not until the stream is reset (or resumed).
 *
 * @param slot the record that will come with the block, to be filled in; undefined if the stream has none, or if the
 *   block is only asked for by `nextBlock`
 */
export type NextBlock<T> = (slot: T | undefined) => number;

/** What the owner of the stream's pins tells it: the shape of `IoScope` in @millrace/aio. */
export interface StreamScope {
  /** Runs `hook` when the scope ends; the pins acquired in it are then gone. */
  onEnd(hook: () => void): void;
}

/** Options of `ReadStream.begin`. */
export interface ReadStreamOptions<T> {
  readonly relation: StreamRelation;
  /** 0, the main fork, if absent. */
  readonly fork?: StreamFork;
  /** Of {@link STREAM_FLAG}, added up. */
  readonly flags?: number;
  /** Stays the caller's. */
  readonly ring?: StreamRing | null;
  readonly next: NextBlock<T>;
  /** Makes one record; called as often as the queue is long, once, and the records go round. Must give objects. */
  readonly perBuffer?: () => T;
  /** The relation is part of the catalog: the plain effective concurrency applies, whatever else is set. */
  readonly isCatalog?: boolean;
  /** Which version's rules say how far to look ahead; `"pg18"` if absent. */
  readonly lookahead?: "pg18" | "pg19";
  /** Iterators let go of each buffer when the following one is asked for. */
  readonly autoRelease?: boolean;
  /** The scope in which the pins are acquired. When it ends the stream is dead. */
  readonly scope?: StreamScope;
  /** Told about every step, synchronously; must not throw and must not call the stream. */
  readonly trace?: (event: StreamEvent) => void;
  /** Count what EXPLAIN would show; see `ReadStream.statistics`. */
  readonly statistics?: boolean;
  /** Check the invariants after every call, and overwrite the record that the consumer has lost the right to. */
  readonly debug?: boolean;
}

/** Checks everything about `options` that no type can say. */
export function checkOptions(
  options: Pick<ReadStreamOptions<unknown>, "fork" | "flags" | "lookahead">,
): void {
  const { fork = 0, flags = 0, lookahead = "pg18" } = options;
  if (!Number.isInteger(fork) || fork < 0 || fork > 3) throw new RangeError(`fork ${fork} is not 0 to 3`);
  if (!Number.isInteger(flags) || flags < 0 || flags > 15)
    throw new RangeError(`flags ${flags} are not 0 to 15`);
  if (lookahead !== "pg18" && lookahead !== "pg19")
    throw new TypeError(`lookahead is pg18 or pg19, not ${String(lookahead)}`);
}

/** Checks what a stream takes from the pool once and for all. */
export function checkPool(pool: Pick<StreamPool, "combineLimit">): void {
  if (!Number.isInteger(pool.combineLimit) || pool.combineLimit < 1 || pool.combineLimit > COMBINE_LIMIT_MAX)
    throw new RangeError(`combineLimit ${pool.combineLimit} is not 1 to ${COMBINE_LIMIT_MAX}`);
}

/** Pieces in one vectored I/O, at most. */
const COMBINE_LIMIT_MAX = 128;

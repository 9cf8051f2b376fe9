/**
 * Counters like those of pg_stat_io, one set a backend, in shared memory: each backend writes its own, anybody reads all.
 *
 * A count is a float64, so that it cannot wrap and is stored at once. What cannot happen is never counted (a background writer
 * does not read, a ring never fsyncs), so that a view of it shows a blank instead of a zero.
 */
export const STATISTICS_OBJECTS = ["relation", "temporary"] as const;
export const STATISTICS_CONTEXTS = ["normal", "bulkread", "bulkwrite", "vacuum", "init"] as const;
export const STATISTICS_OPERATIONS = [
  "evict",
  "fsync",
  "hit",
  "reuse",
  "writeback",
  "extend",
  "read",
  "write",
] as const;

export type StatisticsObject = (typeof STATISTICS_OBJECTS)[number];
export type StatisticsContext = (typeof STATISTICS_CONTEXTS)[number];
export type StatisticsOperation = (typeof STATISTICS_OPERATIONS)[number];

/** Counts, bytes and milliseconds of an operation. */
export const STATISTICS_FIELDS = 3;
/** Float64s of a backend. */
export const STATISTICS_DOUBLES: number =
  STATISTICS_OBJECTS.length * STATISTICS_CONTEXTS.length * STATISTICS_OPERATIONS.length * STATISTICS_FIELDS;

/** Operations of the counters, as numbers for the hot paths. */
export const COUNTED = {
  evict: 0,
  fsync: 1,
  hit: 2,
  reuse: 3,
  writeback: 4,
  extend: 5,
  read: 6,
  write: 7,
} as const;
/** Contexts, as numbers. */
export const CONTEXT = { normal: 0, bulkread: 1, bulkwrite: 2, vacuum: 3, init: 4 } as const;

/** The counters of one backend. */
export class Counters {
  readonly #doubles: Float64Array;
  readonly #at: number;
  readonly #own: Float64Array;

  /** @param at index of the backend's first float64 */
  constructor(doubles: Float64Array, at: number) {
    this.#doubles = doubles;
    this.#at = at;
    this.#own = doubles.subarray(at, at + STATISTICS_DOUBLES);
  }

  /**
   * Counts.
   *
   * @param operation of {@link COUNTED}   @param context of {@link CONTEXT}
   * @param bytes of reads, writes and extensions
   */
  count(operation: number, context: number, isTemporary: boolean, count = 1, bytes = 0): void {
    const at =
      this.#at +
      (((isTemporary ? 5 : 0) + context) * STATISTICS_OPERATIONS.length + operation) * STATISTICS_FIELDS;
    const doubles = this.#doubles;
    doubles[at] = (doubles[at] as number) + count;
    if (bytes !== 0) doubles[at + 1] = (doubles[at + 1] as number) + bytes;
  }

  /** Counts a hit of a page that all share. */
  hit(context: number): void {
    const at = (context * STATISTICS_OPERATIONS.length + COUNTED.hit) * STATISTICS_FIELDS;
    this.#own[at] = (this.#own[at] as number) + 1;
  }

  /** Adds time spent. */
  time(operation: number, context: number, isTemporary: boolean, ms: number): void {
    const at =
      this.#at +
      (((isTemporary ? 5 : 0) + context) * STATISTICS_OPERATIONS.length + operation) * STATISTICS_FIELDS +
      2;
    this.#doubles[at] = (this.#doubles[at] as number) + ms;
  }

  /** A counter's value. */
  get(
    operation: number,
    context: number,
    isTemporary: boolean,
  ): { count: number; bytes: number; ms: number } {
    const at =
      this.#at +
      (((isTemporary ? 5 : 0) + context) * STATISTICS_OPERATIONS.length + operation) * STATISTICS_FIELDS;
    const [count = 0, bytes = 0, ms = 0] = this.#doubles.subarray(at, at + STATISTICS_FIELDS);
    return { count, bytes, ms };
  }
}

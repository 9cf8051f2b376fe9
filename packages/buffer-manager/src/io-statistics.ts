/**
 * Statistics of a pool as rows, after pg_stat_io: kind of backend, object, context, and a count for each operation.
 *
 * A row sums over the backends of its kind, those that have left included: a backend that leaves adds its counters to its
 * kind's total. What cannot happen is never counted, and its cell is null, not 0: a background writer reads nothing, a
 * relation is not extended by a bulk read, a temporary relation is not synced (pgstat_tracks_io_op of PostgreSQL 18).
 *
 * Counters are each written by their own backend without a lock, so they cannot be set back by somebody else: a reset
 * remembers what has been counted until then, and rows show the difference. Adding up and resetting exclude each other by
 * the header's statistics lock.
 */
import { BufferError } from "./errors.js";
import { lockMutex, unlatchExclusive } from "./latch.js";
import { BACKEND, BACKEND_KINDS, HEADER } from "./layout.js";
import type { BackendKind, PoolLayout } from "./layout.js";
import {
  STATISTICS_CONTEXTS,
  STATISTICS_FIELDS,
  STATISTICS_OBJECTS,
  STATISTICS_OPERATIONS,
} from "./statistics.js";
import type { StatisticsContext, StatisticsObject, StatisticsOperation } from "./statistics.js";

/** What an operation came to. */
export interface OperationStatistics {
  /** How often; blocks for hits, evictions, reuses and hints to write back. */
  readonly count: number;
  /** Bytes moved; null for operations that move none. */
  readonly bytes: number | null;
  /** Milliseconds spent, where they are measured; null for operations that take none. */
  readonly ms: number | null;
}

/** A row: an operation that is never counted here is null. */
export type StatisticsRow = {
  readonly kind: BackendKind;
  readonly object: StatisticsObject;
  readonly context: StatisticsContext;
} & { readonly [operation in StatisticsOperation]: OperationStatistics | null };

/** What a pool's statistics are read from. */
export interface StatisticsView {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly layout: PoolLayout;
}

const RING_CONTEXTS: ReadonlySet<StatisticsContext> = new Set(["bulkread", "bulkwrite", "vacuum"]);
const WITH_BYTES: ReadonlySet<StatisticsOperation> = new Set(["read", "write", "extend"]);
const WITHOUT_TIME: ReadonlySet<StatisticsOperation> = new Set(["evict", "hit", "reuse"]);
const NEVER_BY_WRITER: ReadonlySet<StatisticsOperation> = new Set(["read", "evict", "hit", "extend"]);

function isWriter(kind: BackendKind): boolean {
  return kind === "background writer" || kind === "checkpointer";
}

/** Whether backends of this kind do any I/O on such objects in this context: whether there is a row. */
export function isCountedObject(
  kind: BackendKind,
  object: StatisticsObject,
  context: StatisticsContext,
): boolean {
  if (object === "temporary") return context === "normal" && !isWriter(kind);
  return !(isWriter(kind) && RING_CONTEXTS.has(context));
}

/** Whether an operation can happen: whether its cell is a number. */
export function isCounted(
  kind: BackendKind,
  object: StatisticsObject,
  context: StatisticsContext,
  operation: StatisticsOperation,
): boolean {
  if (!isCountedObject(kind, object, context)) return false;
  if (isWriter(kind) && NEVER_BY_WRITER.has(operation)) return false;
  if (object === "temporary" && (operation === "fsync" || operation === "writeback")) return false;
  if (context === "bulkread" && operation === "extend") return false;
  // A sync that a backend with a ring has to do is counted as normal.
  return RING_CONTEXTS.has(context) ? operation !== "fsync" : operation !== "reuse";
}

/** Runs `body` while nobody else adds up or resets. */
function withStatistics<T>(words: Int32Array, holder: number, mayBlock: boolean, body: () => T): T {
  if (!lockMutex(words, HEADER.statisticsLock, HEADER.statisticsSequence, holder, mayBlock)) {
    throw new BufferError("ERR_BUFFER_PANIC", "the statistics stay locked: who locked them is gone");
  }
  try {
    return body();
  } finally {
    unlatchExclusive(words, HEADER.statisticsLock, HEADER.statisticsSequence);
  }
}

/**
 * Adds a backend's counters to its kind's total and sets them to zero. For the backend as it leaves, and for whoever
 * recovers a dead one.
 *
 * @param holder number for the lock   @param mayBlock whether this thread may sleep
 */
export function foldStatistics(
  view: StatisticsView,
  backend: number,
  holder: number,
  mayBlock: boolean,
): void {
  const { words, doubles, layout } = view;
  const size = layout.statisticsDoubles;
  const kind = words[layout.backendsAt + backend * layout.backendWords + BACKEND.kind] as number;
  const total = layout.totalsAt + kind * size;
  const own = layout.statisticsAt + backend * size;
  withStatistics(words, holder, mayBlock, () => {
    for (let index = 0; index < size; index++) {
      doubles[total + index] = (doubles[total + index] as number) + (doubles[own + index] as number);
      doubles[own + index] = 0;
    }
  });
}

/** What a kind of backend has counted since the pool was made. */
function sumOf({ words, doubles, layout }: StatisticsView, kind: number): Float64Array {
  const size = layout.statisticsDoubles;
  const sum = doubles.slice(layout.totalsAt + kind * size, layout.totalsAt + (kind + 1) * size);
  for (let backend = 0; backend < layout.backends; backend++) {
    if (words[layout.backendsAt + backend * layout.backendWords + BACKEND.kind] !== kind) continue;
    const own = layout.statisticsAt + backend * size;
    for (let index = 0; index < size; index++) {
      sum[index] = (sum[index] as number) + (doubles[own + index] as number);
    }
  }
  return sum;
}

function rowOf(
  counted: Float64Array,
  kind: BackendKind,
  object: StatisticsObject,
  context: StatisticsContext,
): StatisticsRow {
  const objectAt = STATISTICS_OBJECTS.indexOf(object) * STATISTICS_CONTEXTS.length;
  const first = (objectAt + STATISTICS_CONTEXTS.indexOf(context)) * STATISTICS_OPERATIONS.length;
  const cells = STATISTICS_OPERATIONS.map((operation, index) => {
    if (!isCounted(kind, object, context, operation)) return [operation, null];
    const at = (first + index) * STATISTICS_FIELDS;
    const [count = 0, bytes = 0, ms = 0] = counted.subarray(at, at + STATISTICS_FIELDS);
    return [
      operation,
      {
        count,
        bytes: WITH_BYTES.has(operation) ? bytes : null,
        ms: WITHOUT_TIME.has(operation) ? null : ms,
      },
    ];
  });
  return { kind, object, context, ...Object.fromEntries(cells) } as StatisticsRow;
}

function rowsOf(counted: Float64Array, kind: BackendKind): StatisticsRow[] {
  return STATISTICS_OBJECTS.flatMap((object) =>
    STATISTICS_CONTEXTS.filter((context) => isCountedObject(kind, object, context)).map((context) =>
      rowOf(counted, kind, object, context),
    ),
  );
}

/** All rows of a pool, since the last reset. */
export function readStatistics(view: StatisticsView, holder: number, mayBlock: boolean): StatisticsRow[] {
  const { doubles, layout } = view;
  const size = layout.statisticsDoubles;
  const sums = withStatistics(view.words, holder, mayBlock, () =>
    BACKEND_KINDS.map((_, kind) => {
      const baseline = layout.baselinesAt + kind * size;
      return sumOf(view, kind).map((sum, index) => sum - (doubles[baseline + index] as number));
    }),
  );
  return BACKEND_KINDS.flatMap((kind, index) => rowsOf(sums[index] as Float64Array, kind));
}

/** The rows of one backend, since it came. */
export function readBackendStatistics(view: StatisticsView, backend: number): StatisticsRow[] {
  const { words, doubles, layout } = view;
  const kind = words[layout.backendsAt + backend * layout.backendWords + BACKEND.kind] as number;
  const own = layout.statisticsAt + backend * layout.statisticsDoubles;
  return rowsOf(doubles.slice(own, own + layout.statisticsDoubles), BACKEND_KINDS[kind] ?? "client backend");
}

/** Makes all rows begin at zero. @param nowMs the time, in milliseconds since 1970 */
export function resetStatistics(
  view: StatisticsView,
  holder: number,
  mayBlock: boolean,
  nowMs: number,
): void {
  const { doubles, layout } = view;
  withStatistics(view.words, holder, mayBlock, () => {
    for (let kind = 0; kind < BACKEND_KINDS.length; kind++) {
      doubles.set(sumOf(view, kind), layout.baselinesAt + kind * layout.statisticsDoubles);
    }
    doubles[layout.baselinesAt + BACKEND_KINDS.length * layout.statisticsDoubles] = nowMs;
  });
}

/** When the counters were last reset, in milliseconds since 1970; 0 for never. */
export function statisticsResetAt({ doubles, layout }: StatisticsView): number {
  return doubles[layout.baselinesAt + BACKEND_KINDS.length * layout.statisticsDoubles] as number;
}

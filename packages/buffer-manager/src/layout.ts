/**
 * The words of a pool in shared memory: one Int32Array, whose sections are laid out once and described in its header.
 *
 * What different threads write at the same time lies on different lines of 64 bytes. All of it is right when it is zero but
 * for the free list, which the creator fills: fresh memory is a pool without backends. A list or chain refers to buffer i as
 * i + 1, so that 0 is "none".
 *
 * | section    | words                      | written by                                                           |
 * | ---------- | -------------------------- | -------------------------------------------------------------------- |
 * | header     | 64                         | the creator, but for sizes, phase and panic: who resizes, who panics |
 * | strategy   | 3 lines                    | whoever takes a victim                                               |
 * | partitions | a line for each            | whoever changes or locks a part of the mapping table                 |
 * | extensions | a line for each            | whoever extends a relation                                           |
 * | syncs      | 8 for each of 1024, and 8  | whoever writes to files, and checkpoints                             |
 * | buckets    | a power of two             | the holder of the bucket's partition                                 |
 * | chain      | one a buffer               | the holder of its bucket's partition                                 |
 * | ioSequence | one a buffer               | whoever ends an I/O of that buffer                                   |
 * | headers    | a line for each buffer     | see buffer-state.ts                                                  |
 * | backends   | four lines, counts of pins | the backend; its wake words by others                                |
 * | statistics | float64s for each backend  | the backend; those of the whole pool under the header's statistics lock |
 * | failures   | two words an entry         | whoever read a page whose checksum is wrong, by atomic operations    |
 */
import assert from "node:assert/strict";

export const LINE_WORDS = 16;
export const PARTITIONS = 128;
/** So that few blocks share a bucket: with half as many buckets a hit takes a tenth longer, most of it for wrong guesses of the processor. */
const BUCKETS_A_BUFFER = 4;
/** Locks for the extension of relations, which share them by their numbers; a power of two. */
export const EXTENSION_LOCKS = 64;
/** PostgreSQL's smallest pool. */
export const BUFFERS_MIN = 16;
/** What a reference to a buffer and a sort key can hold, and 128 GiB of pages. */
export const BUFFERS_MAX: number = 2 ** 24;
export const BACKENDS_MAX = 256;
/** Pages of its own that a backend copies to before it writes them: as many as it writes at a time, and a power of two. */
export const SCRATCH_FRAMES = 64;

const MAGIC = 0x706f_6f6c;
const VERSION = 1;

export const HEADER = {
  magic: 0,
  version: 1,
  buffersMax: 2,
  backends: 3,
  bucketMask: 4,
  words: 5,
  /** Allocation looks at buffers below this. */
  low: 16,
  /** Buffers below this are initialised, and may hold pages. */
  high: 17,
  resizePhase: 18,
  /** Counted up by each change of the sizes; backends acknowledge it. */
  resizeGeneration: 19,
  /** Who resizes: backend + 1. */
  resizer: 20,
  panic: 32,
  closing: 33,
  /** Mutex of what is counted for backends that have left, and its wake sequence. */
  statisticsLock: 34,
  statisticsSequence: 35,
  /** The backend that has the background writer, + 1. */
  backgroundWriter: 37,
  /** The same once it is to stop. */
  backgroundWriterStop: 38,
  /** 1 once a sync of a data file has failed. */
  syncFailed: 36,
} as const;

/** Forks to sync are noted in so many sets of so many entries; both powers of two. */
export const SYNC_SETS = 128;
export const SYNC_WAYS = 8;

/** An entry of the forks to sync. The words before the first entry are the mutex of all, and its wake sequence. */
export const SYNC = {
  tablespace: 0,
  database: 1,
  relation: 2,
  fork: 3,
  isUsed: 4,
  /** Whether something was written since the last sync began. */
  pending: 5,
  /** Writes that have been begun and have not come back. */
  writing: 6,
  /** The backend that syncs the fork now, + 1. Changed under the mutex. */
  syncer: 7,
  words: 8,
} as const;

/** Words of the header; the last two belong to nobody and are never waited on for long. */
export const HEADER_WORDS = 64;

export const STRATEGY = {
  /** Mutex of the free list and of the folding of the hand; the word behind it is the mutex's sequence. */
  lock: 0,
  /** Ever-growing uint32; its own line. */
  hand: 16,
  firstFree: 32,
  completePasses: 33,
  allocations: 34,
  /** Who wants to hear of the next allocation: backend + 1. */
  bgwriter: 35,
  words: 48,
} as const;

export const DESCRIPTOR = {
  tablespace: 0,
  database: 1,
  relation: 2,
  fork: 3,
  block: 4,
  index: 5,
  state: 6,
  /** The backend that waits for the only pin, + 1. Changed under the header lock. */
  pinWaiter: 7,
  /** Next on the free list, + 1; 0 at its end; FREE_NOT_LINKED off the list. Changed under the strategy lock. */
  freeNext: 8,
  /** Handle of the I/O under way, + 1, and its generation in two words. Changed by the holder of the I/O lock. */
  ioHandle: 9,
  ioGenerationLow: 10,
  ioGenerationHigh: 11,
  /** Readers-writer lock of the page: its state, its wake sequence. */
  contentLock: 12,
  contentSequence: 13,
  /** The backend that has the I/O lock, + 1, negative if an I/O's pin came with it; 0 while nobody has it, or an I/O. Changed by whoever has it. */
  ioOwner: 14,
  /** Error word of the last failed I/O. */
  ioDetail: 15,
  words: 16,
} as const;

/** `freeNext` of a buffer that is not on the free list. */
export const FREE_NOT_LINKED: number = -1;

/** `inUse` of a backend whose thread has died and that is being recovered. */
export const BACKEND_RECOVERING: number = -1;

export const BACKEND = {
  /** Thread id + 1 while attached; BACKEND_RECOVERING while a supervisor cleans up. */
  inUse: 0,
  /** Sequence that others count up to wake it: cleanup lock, background writer's request, resize. */
  wake: 1,
  waitEvent: 2,
  /** Last resize generation it has seen. */
  resizeSeen: 3,
  /** Buffer + 1 whose header it locks or has locked. */
  headerIntent: 4,
  /** Buffer + 1 whose first pin it is about to take or last pin to give back; its count may be behind or ahead. */
  pinIntent: 5,
  /** Content lock it is about to take or give back: buffer + 1, negative if exclusive. */
  lockIntent: 6,
  /** Buffer + 1 it pins for a victim, a sync or a cleanup beside its counts. */
  victim: 7,
  /** Number of entries in `held`. */
  heldCount: 8,
  /** What the backend is for: an index into BACKEND_KINDS. */
  kind: 9,
  /** 1 while a hint is being logged whose page is not marked dirty yet: no checkpoint may begin. */
  delayCheckpoint: 10,
  /** Different buffers pinned. */
  pinned: 11,
  /** Content locks held: buffer + 1, negative if exclusive. */
  held: 12,
  words: 64,
} as const;

/** Databases whose checksum failures are counted each by itself, two entries apart. */
export const CHECKSUM_FAILURES_ENTRIES = 64;

/** Content locks a backend may hold at a time; PostgreSQL allows 200, nobody needs more than a few. */
export const HELD_LOCKS_MAX: number = BACKEND.words - BACKEND.held;

/**
 * What a backend is for, in the words of pg_stat_io. Counters are kept apart by it, and some never count for some kinds.
 */
export const BACKEND_KINDS = [
  "client backend",
  "background worker",
  "background writer",
  "checkpointer",
] as const;

/** What a backend is for. */
export type BackendKind = (typeof BACKEND_KINDS)[number];

/** What is laid out how. */
export interface PoolLayout {
  readonly buffersMax: number;
  readonly backends: number;
  readonly bucketMask: number;
  readonly words: number;
  readonly strategyAt: number;
  readonly partitionsAt: number;
  /** A lock and its wake sequence in each line. */
  readonly extensionsAt: number;
  /** The mutex of the forks to sync, and the entries. */
  readonly syncsAt: number;
  readonly bucketsAt: number;
  readonly chainAt: number;
  readonly ioSequenceAt: number;
  readonly descriptorsAt: number;
  readonly backendsAt: number;
  /** Words of a backend: its lines, and how often it has each buffer pinned. */
  readonly backendWords: number;
  /** Where a backend's counts of pins begin, from its first word. */
  readonly countsAt: number;
  /** Statistics as float64: index into a Float64Array over the same memory. */
  readonly statisticsAt: number;
  /** Float64s of a backend's statistics. */
  readonly statisticsDoubles: number;
  /** Index of a set of counters for each kind of backend: of those that have left. */
  readonly totalsAt: number;
  /** Index of a set for each kind: what had been counted when the counters were last reset, and behind them when. */
  readonly baselinesAt: number;
  /** First word of the table of checksum failures. */
  readonly checksumFailuresAt: number;
}

function aligned(words: number): number {
  return Math.ceil(words / LINE_WORDS) * LINE_WORDS;
}

/** Lays out a pool. Counts are checked by the caller. */
export function computePoolLayout(
  buffersMax: number,
  backends: number,
  statisticsDoubles: number,
): PoolLayout {
  const buckets = 2 ** Math.ceil(Math.log2(buffersMax * BUCKETS_A_BUFFER));
  const strategyAt = HEADER_WORDS;
  const partitionsAt = strategyAt + STRATEGY.words;
  const extensionsAt = partitionsAt + PARTITIONS * LINE_WORDS;
  const syncsAt = extensionsAt + EXTENSION_LOCKS * LINE_WORDS;
  const bucketsAt = aligned(syncsAt + (SYNC_SETS * SYNC_WAYS + 1) * SYNC.words);
  const chainAt = aligned(bucketsAt + buckets);
  const ioSequenceAt = aligned(chainAt + buffersMax);
  const descriptorsAt = aligned(ioSequenceAt + buffersMax);
  const backendsAt = aligned(descriptorsAt + buffersMax * DESCRIPTOR.words);
  const countsAt = BACKEND.words;
  const backendWords = aligned(countsAt + buffersMax);
  const statisticsWord = aligned(backendsAt + backends * backendWords);
  const totalsAt = statisticsWord / 2 + backends * statisticsDoubles;
  const baselinesAt = totalsAt + BACKEND_KINDS.length * statisticsDoubles;
  const doubles = (backends + 2 * BACKEND_KINDS.length) * statisticsDoubles + 1;
  const checksumFailuresAt = aligned(statisticsWord + doubles * 2);
  return {
    buffersMax,
    backends,
    bucketMask: buckets - 1,
    words: aligned(checksumFailuresAt + CHECKSUM_FAILURES_ENTRIES * 2),
    strategyAt,
    partitionsAt,
    extensionsAt,
    syncsAt,
    bucketsAt,
    chainAt,
    ioSequenceAt,
    descriptorsAt,
    backendsAt,
    backendWords,
    countsAt,
    statisticsAt: statisticsWord / 2,
    statisticsDoubles,
    totalsAt,
    baselinesAt,
    checksumFailuresAt,
  };
}

/** Writes what another thread checks before it believes the rest. */
export function writePoolHeader(words: Int32Array, layout: PoolLayout, buffers: number): void {
  words[HEADER.version] = VERSION;
  words[HEADER.buffersMax] = layout.buffersMax;
  words[HEADER.backends] = layout.backends;
  words[HEADER.bucketMask] = layout.bucketMask;
  words[HEADER.words] = layout.words;
  words[HEADER.low] = buffers;
  words[HEADER.high] = buffers;
  Atomics.store(words, HEADER.magic, MAGIC);
}

/**
 * The layout of a pool that another thread has made.
 *
 * @throws {TypeError} the memory is no pool, or one of another version of this package
 */
export function readPoolLayout(words: Int32Array, statisticsDoubles: number): PoolLayout {
  const isPool = Atomics.load(words, HEADER.magic) === MAGIC && words[HEADER.version] === VERSION;
  if (!isPool) throw new TypeError("not the memory of a buffer pool of this version");
  const layout = computePoolLayout(
    words[HEADER.buffersMax] as number,
    words[HEADER.backends] as number,
    statisticsDoubles,
  );
  if (layout.words !== words[HEADER.words]) throw new TypeError("a pool of another version of this package");
  return layout;
}

assert(DESCRIPTOR.words === LINE_WORDS && BACKEND.words % LINE_WORDS === 0);
assert((PARTITIONS & (PARTITIONS - 1)) === 0);
assert((EXTENSION_LOCKS & (EXTENSION_LOCKS - 1)) === 0);
assert((SYNC_SETS & (SYNC_SETS - 1)) === 0);
assert(BACKEND.held < BACKEND.words);

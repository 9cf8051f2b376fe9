/**
 * Evicting pages on demand: a tool for tests and experiments, which leaves alone what is in use.
 *
 * A dirty page is written first, once; if it is dirty again after that it stays. What is evicted does not go on the free list:
 * the clock's hand finds it. After EvictUnpinnedBuffer and its kin of PostgreSQL 18.
 */
import type { Allocator } from "./allocate.js";
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import { HEADER } from "./layout.js";
import type { WriteParts } from "./sorted-writes.js";
import { CONTEXT } from "./statistics.js";
import type { Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** What became of one page. */
export interface Eviction {
  readonly evicted: boolean;
  /** Whether it was written, also if it stayed after all. */
  readonly flushed: boolean;
}

/** What became of many. */
export interface EvictCounts {
  readonly evicted: number;
  readonly flushed: number;
  /** Pages that were in use. */
  readonly skipped: number;
}

/** What evicting works with. */
export interface EvictParts extends WriteParts {
  readonly allocator: Allocator;
}

/**
 * Evicts a page that nobody has pinned.
 *
 * @throws {BufferError} ERR_BUFFER_WRITE: it is dirty and could not be written
 */
export function* evict(parts: EvictParts, buffer: number): Waiting<Eviction> {
  const { context, locks, writer, allocator } = parts;
  const { headers, pins } = context;
  const state = headers.lock(buffer);
  if ((state & STATE.valid) === 0 || (state & REFCOUNT_MASK) !== 0) {
    headers.unlock(buffer, state);
    return { evicted: false, flushed: false };
  }
  const flushed = (state & STATE.dirty) !== 0;
  pins.pinLocked(buffer, state);
  try {
    if (flushed) {
      yield* locks.lock(buffer, "shared");
      try {
        yield* writer.flush(buffer, CONTEXT.normal);
      } finally {
        locks.unlock(buffer);
      }
    }
    const evicted = yield* allocator.invalidateVictim(buffer);
    return { evicted, flushed };
  } finally {
    pins.unpin(buffer);
  }
}

/** Evicts the unpinned pages of a relation. @throws {BufferError} as `evict` */
export function evictRelation(parts: EvictParts, relation: Relation): Waiting<EvictCounts> {
  const { headers } = parts.context;
  return evictMatching(parts, (buffer) => headers.isOfRelation(buffer, relation));
}

/** Evicts all unpinned pages. @throws {BufferError} as `evict` */
export function evictAll(parts: EvictParts): Waiting<EvictCounts> {
  return evictMatching(parts, () => true);
}

function* evictMatching(parts: EvictParts, matches: (buffer: number) => boolean): Waiting<EvictCounts> {
  const { headers, words } = parts.context;
  const buffers = words[HEADER.high] as number;
  const counts = { evicted: 0, flushed: 0, skipped: 0 };
  for (let buffer = 0; buffer < buffers; buffer++) {
    if ((headers.state(buffer) & STATE.valid) === 0 || !matches(buffer)) continue;
    const { evicted, flushed } = yield* evict(parts, buffer);
    counts[evicted ? "evicted" : "skipped"] += 1;
    if (flushed) counts.flushed += 1;
  }
  return counts;
}

/**
 * Dropping pages: of forks from a block on, of relations, of a database. Their files go away, so that nothing is written.
 *
 * Either the whole pool is looked through, or, if sizes are known to be right and small, each block is looked up. A page that
 * is being read or written, or that somebody like the background writer has pinned for a moment, is waited for; one that
 * the caller itself has pinned is its mistake. Buffers end up on the free list, the last one dropped first. After
 * DropRelationBuffers and InvalidateBuffer of PostgreSQL 18.
 */
import type { Allocator } from "./allocate.js";
import type { BackendContext } from "./backend-context.js";
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import { BufferError } from "./errors.js";
import type { IoLocks } from "./io-lock.js";
import { BACKEND, DESCRIPTOR, HEADER } from "./layout.js";
import { FORK, FORKS } from "./tag.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** Blocks are looked up one by one if there are fewer than this part of the pool. */
const LOOKUP_PART = 32;
/** So many relations are compared one by one; of more, a sorted array is searched. */
const LINEAR_MAX = 20;
/** Between two looks at a page that somebody has pinned without doing I/O on it. */
const PINNED_LOOK_MS = 1;
/** On an event loop another flow of the same thread may have the pin, and give it back: so many looks. */
const OWN_PIN_LOOKS = 1000;

/** A fork, from a block on. */
export interface ForkFrom {
  readonly fork: Fork;
  /** The first block that goes. */
  readonly from: number;
  /** Blocks that the fork has, if that is certain: nobody can have buffers of later ones. */
  readonly blocks?: number;
}

/** What dropping works with. */
export interface DropParts {
  readonly context: BackendContext;
  readonly allocator: Allocator;
  readonly ioLocks: IoLocks;
}

/** Drops pages for one backend. */
export class Dropper {
  readonly #parts: DropParts;

  constructor(parts: DropParts) {
    this.#parts = parts;
  }

  /**
   * Drops the pages of some forks of a relation, from a block on each. Whoever uses the relation has been locked out.
   *
   * @returns pages dropped
   * @throws {BufferError} ERR_BUFFER_PINNED_IN_DROP: this backend has one of them pinned
   */
  *dropForks(relation: Relation, forks: readonly ForkFrom[]): Waiting<number> {
    const total = forks.reduce((sum, { from, blocks }) => sum + Math.max(0, (blocks ?? Infinity) - from), 0);
    const { words } = this.#parts.context;
    if (total < (words[HEADER.high] as number) / LOOKUP_PART) return yield* this.#lookUp(relation, forks);
    const from: (number | undefined)[] = Array.from({ length: FORKS }, () => undefined);
    for (const each of forks) from[each.fork] = each.from;
    const { headers } = this.#parts.context;
    return yield* this.#scan((buffer) => {
      if (!headers.isOfRelation(buffer, relation)) return false;
      const first = from[headers.fork(buffer)];
      return first !== undefined && headers.block(buffer) >= first;
    });
  }

  /** Drops all pages of some relations. @returns, throws as `dropForks` */
  *dropRelations(relations: readonly Relation[]): Waiting<number> {
    if (relations.length === 0) return 0;
    const { headers } = this.#parts.context;
    if (relations.length <= LINEAR_MAX) {
      return yield* this.#scan((buffer) =>
        relations.some((relation) => headers.isOfRelation(buffer, relation)),
      );
    }
    const sorted = relations.toSorted(compare);
    return yield* this.#scan((buffer) => isAmong(sorted, headers.tag(buffer)));
  }

  /** Drops all pages of a database. @returns, throws as `dropForks` */
  *dropDatabase(database: number): Waiting<number> {
    const { headers, words } = this.#parts.context;
    return yield* this.#scan((buffer) => words[headers.at(buffer) + DESCRIPTOR.database] === (database | 0));
  }

  *#lookUp(relation: Relation, forks: readonly ForkFrom[]): Waiting<number> {
    const { allocator, context } = this.#parts;
    const { mapping, mutexes } = allocator;
    let dropped = 0;
    for (const { fork, from, blocks = from } of forks) {
      for (let block = from; block < blocks; block++) {
        const bucket = mapping.bucketOf(relation, fork, block);
        const mutex = mapping.mutexOf(bucket);
        if (!mutexes.tryLock(mutex)) yield* mutexes.lock(mutex);
        const buffer = mapping.find(bucket, relation, fork, block);
        mutexes.unlock(mutex);
        if (buffer < 0) continue;
        const isSame = (): boolean => context.headers.hasTag(buffer, relation, fork, block);
        if (yield* this.#invalidate(buffer, isSame)) dropped += 1;
      }
    }
    return dropped;
  }

  *#scan(matches: (buffer: number) => boolean): Waiting<number> {
    const { headers, words } = this.#parts.context;
    const buffers = words[HEADER.high] as number;
    let dropped = 0;
    for (let buffer = 0; buffer < buffers; buffer++) {
      if ((headers.state(buffer) & STATE.tagValid) === 0 || !matches(buffer)) continue;
      if (yield* this.#invalidate(buffer, () => matches(buffer))) dropped += 1;
    }
    return dropped;
  }

  /** Takes a page out of the pool, once nobody has it pinned. @returns false if it is another page by now */
  *#invalidate(buffer: number, matches: () => boolean): Waiting<boolean> {
    for (let look = 0; ; look++) {
      const outcome = yield* this.#tryInvalidate(buffer, matches);
      if (outcome !== "pinned") {
        if (outcome === "gone") this.#parts.allocator.pushFree(buffer);
        return outcome === "gone";
      }
      yield* this.#awaitPins(buffer, look);
    }
  }

  *#tryInvalidate(buffer: number, matches: () => boolean): Waiting<"gone" | "other" | "pinned"> {
    const { context, allocator } = this.#parts;
    const { headers } = context;
    const { mapping, mutexes } = allocator;
    // The tag may change as long as the mutex is not held: a wrong bucket is noticed by the second look.
    const bucket = mapping.bucketOfBuffer(buffer);
    const mutex = mapping.mutexOf(bucket);
    if (!mutexes.tryLock(mutex)) yield* mutexes.lock(mutex);
    try {
      const state = headers.lock(buffer);
      const isSame = (state & STATE.tagValid) !== 0 && matches() && mapping.bucketOfBuffer(buffer) === bucket;
      if (isSame && (state & REFCOUNT_MASK) === 0) {
        mapping.remove(bucket, buffer, 0);
        return "gone";
      }
      headers.unlock(buffer, state);
      return isSame ? "pinned" : "other";
    } finally {
      mutexes.unlock(mutex);
    }
  }

  *#awaitPins(buffer: number, look: number): Waiting<void> {
    const { context, ioLocks } = this.#parts;
    const { headers, pins, words, at, mayBlock } = context;
    if ((headers.state(buffer) & STATE.ioInProgress) !== 0) {
      yield* ioLocks.wait(buffer);
      return;
    }
    const isOwn = pins.count(buffer) > 0;
    if (isOwn && (mayBlock || look >= OWN_PIN_LOOKS)) throw pinned(buffer);
    const value = Atomics.load(words, at + BACKEND.wake);
    try {
      yield { kind: "word", at: at + BACKEND.wake, value, event: "BufferPin", timeoutMs: PINNED_LOOK_MS };
    } catch (error) {
      throw isOwn ? pinned(buffer, error) : error;
    }
  }
}

/** All forks of a relation, from their first blocks on. */
export function allForks(): ForkFrom[] {
  return Object.values(FORK).map((fork) => ({ fork, from: 0 }));
}

function pinned(buffer: number, cause?: unknown): BufferError {
  const message = `buffer ${buffer + 1} is to be dropped, and this backend has it pinned`;
  return new BufferError("ERR_BUFFER_PINNED_IN_DROP", message, { cause });
}

function compare(one: Relation, other: Relation): number {
  return one.relation - other.relation || one.database - other.database || one.tablespace - other.tablespace;
}

function isAmong(sorted: readonly Relation[], relation: Relation): boolean {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const order = compare(sorted[middle] as Relation, relation);
    if (order === 0) return true;
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return false;
}

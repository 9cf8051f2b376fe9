/**
 * Forks that have been written since they were last synced, by whomever: what a checkpoint has to sync before the WAL may go.
 *
 * A table in the pool's words, of sets of eight entries. Who writes begins on its fork's entry before the write is started and
 * ends on it when the write has come back to his thread; an entry with writes that have not come back counts as written,
 * because their pages may be clean already. A sync takes the mark away before it begins: a write that ends during it is the
 * next one's. One backend at a time syncs a fork, and is named in its entry: whoever finds it named waits until it is done,
 * because a mark that is gone means nothing before. If it fails the mark is back. If a set is full, an entry nobody is
 * writing to is synced and given away on the spot.
 *
 * Entries are found, made and removed under a mutex; counts and marks change by atomics. The request queue of PostgreSQL's
 * checkpointer, without a checkpointer process to send to.
 */
import type { BackendContext } from "./backend-context.js";
import { BACKEND, SYNC, SYNC_SETS, SYNC_WAYS } from "./layout.js";
import type { PoolLayout } from "./layout.js";
import { Mutexes } from "./mutex.js";
import { COUNTED, CONTEXT } from "./statistics.js";
import { hashTag } from "./tag.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** Until the next look, when all entries of a set are being written to: more forks at a time than anybody has. */
const FULL_LOOK_MS = 1;
/** Until the next look at a fork that somebody syncs, in case the pool has stopped meanwhile. */
const SYNCER_LOOK_MS = 10;

/** A fork. */
interface ForkTag {
  readonly relation: Relation;
  readonly fork: Fork;
}

/**
 * Withdraws the name of a dead backend from the forks that it was syncing. What it had written before may not be durable: the
 * marks are set again.
 */
export function releaseSyncs(words: Int32Array, layout: PoolLayout, backend: number): void {
  for (let entry = 0; entry < SYNC_SETS * SYNC_WAYS; entry++) {
    const at = layout.syncsAt + (entry + 1) * SYNC.words;
    if (Atomics.load(words, at + SYNC.syncer) !== backend + 1) continue;
    Atomics.store(words, at + SYNC.pending, 1);
    Atomics.store(words, at + SYNC.syncer, 0);
    Atomics.notify(words, at + SYNC.syncer);
  }
}

/** The forks to sync, as one backend sees them. */
export class SyncRequests {
  readonly #context: BackendContext;
  readonly #words: Int32Array;
  readonly #mutexes: Mutexes;
  readonly #mutexAt: number;
  readonly #firstAt: number;

  constructor(context: BackendContext) {
    this.#context = context;
    this.#words = context.words;
    this.#mutexes = new Mutexes(context);
    this.#mutexAt = context.layout.syncsAt;
    this.#firstAt = context.layout.syncsAt + SYNC.words;
  }

  /**
   * Notes that a fork is about to be written to.
   *
   * @returns its entry, for `end`, which must follow whatever happens
   * @throws {BufferError} ERR_BUFFER_POISONED: room had to be made, and a sync failed
   */
  *begin(relation: Relation, fork: Fork): Waiting<number> {
    for (;;) {
      this.#mutexes.lockNow(this.#mutexAt);
      const at = this.#claim(relation, fork);
      if (at >= 0) Atomics.add(this.#words, at + SYNC.writing, 1);
      const idle = at < 0 ? this.#idle(relation, fork) : -1;
      this.#mutexes.unlock(this.#mutexAt);
      if (at >= 0) return at;
      if (idle >= 0) {
        yield* this.#sync(idle);
        continue;
      }
      const { words, at: backendAt } = this.#context;
      const wakeAt = backendAt + BACKEND.wake;
      const value = Atomics.load(words, wakeAt);
      yield { kind: "word", at: wakeAt, value, event: "BufferIo", timeoutMs: FULL_LOOK_MS };
    }
  }

  /** The write is over, or was given up. The mark is set before the count goes down: one of both is always seen. */
  end(at: number): void {
    Atomics.store(this.#words, at + SYNC.pending, 1);
    Atomics.sub(this.#words, at + SYNC.writing, 1);
  }

  /**
   * Syncs every fork that was written to. What was written before the call is durable after it.
   *
   * @returns forks synced
   * @throws {BufferError} ERR_BUFFER_POISONED; ERR_BUFFER_WOULD_BLOCK: an asynchronous call of this thread is syncing one
   */
  *syncAll(): Waiting<number> {
    let count = 0;
    for (let entry = 0; entry < SYNC_SETS * SYNC_WAYS; entry++) {
      const at = this.#firstAt + entry * SYNC.words;
      if (Atomics.load(this.#words, at + SYNC.isUsed) !== 0 && (yield* this.#sync(at))) count += 1;
    }
    return count;
  }

  /** Syncs an entry's fork, if it has to be, and removes the entry if nobody has written to it meanwhile. */
  *#sync(at: number): Waiting<boolean> {
    const tag = yield* this.#take(at);
    if (tag === undefined) return false;
    const { files, counters } = this.#context;
    try {
      if (files.exists(tag.relation, tag.fork)) {
        const start = performance.now();
        yield { kind: "sync", ...tag };
        counters.count(COUNTED.fsync, CONTEXT.normal, false);
        counters.time(COUNTED.fsync, CONTEXT.normal, false, performance.now() - start);
      }
    } catch (error) {
      Atomics.store(this.#words, at + SYNC.pending, 1);
      throw error;
    } finally {
      this.#leave(at);
    }
    return true;
  }

  /** Waits until nobody syncs an entry's fork. @returns the fork, if it has to be synced: this backend is named as who does so */
  *#take(at: number): Waiting<ForkTag | undefined> {
    const words = this.#words;
    const mine = this.#context.id + 1;
    for (;;) {
      this.#mutexes.lockNow(this.#mutexAt);
      const syncer = words[at + SYNC.syncer] as number;
      const tag = syncer === 0 ? this.#tag(at) : undefined;
      const isWanted = tag !== undefined && this.#takeMark(at, mine);
      this.#mutexes.unlock(this.#mutexAt);
      if (tag !== undefined) return isWanted ? tag : undefined;
      const isOwn = syncer === mine;
      const timeoutMs = SYNCER_LOOK_MS;
      yield { kind: "word", at: at + SYNC.syncer, value: syncer, event: "DataFileSync", timeoutMs, isOwn };
    }
  }

  /** Under the mutex. The name first: whoever finds it on a dead backend's entry sets the mark again. */
  #takeMark(at: number, mine: number): boolean {
    const words = this.#words;
    if (words[at + SYNC.isUsed] === 0) return false;
    Atomics.store(words, at + SYNC.syncer, mine);
    // In this order: a write that ends in between has set the mark again before its count is seen as gone.
    const isWriting = Atomics.load(words, at + SYNC.writing) !== 0;
    if (Atomics.exchange(words, at + SYNC.pending, 0) !== 0 || isWriting) return true;
    Atomics.store(words, at + SYNC.isUsed, 0);
    Atomics.store(words, at + SYNC.syncer, 0);
    return false;
  }

  #leave(at: number): void {
    const words = this.#words;
    this.#mutexes.lockNow(this.#mutexAt);
    const isIdle =
      Atomics.load(words, at + SYNC.writing) === 0 && Atomics.load(words, at + SYNC.pending) === 0;
    if (isIdle) Atomics.store(words, at + SYNC.isUsed, 0);
    Atomics.store(words, at + SYNC.syncer, 0);
    this.#mutexes.unlock(this.#mutexAt);
    Atomics.notify(words, at + SYNC.syncer);
  }

  /** The entry of a fork, made if there is room for it. Under the mutex. */
  #claim(relation: Relation, fork: Fork): number {
    const words = this.#words;
    let free = -1;
    for (let at = this.#setOf(relation, fork), way = 0; way < SYNC_WAYS; way++, at += SYNC.words) {
      if (words[at + SYNC.isUsed] === 0) {
        if (free < 0) free = at;
      } else if (this.#isOf(at, relation, fork)) return at;
    }
    if (free < 0) return -1;
    words[free + SYNC.tablespace] = relation.tablespace | 0;
    words[free + SYNC.database] = relation.database | 0;
    words[free + SYNC.relation] = relation.relation | 0;
    words[free + SYNC.fork] = fork;
    Atomics.store(words, free + SYNC.isUsed, 1);
    return free;
  }

  /** An entry of a fork's set that nobody is writing to; -1 if there is none. Under the mutex. */
  #idle(relation: Relation, fork: Fork): number {
    for (let at = this.#setOf(relation, fork), way = 0; way < SYNC_WAYS; way++, at += SYNC.words) {
      if (Atomics.load(this.#words, at + SYNC.writing) === 0) return at;
    }
    return -1;
  }

  #setOf(relation: Relation, fork: Fork): number {
    return this.#firstAt + (hashTag(relation, fork, 0) & (SYNC_SETS - 1)) * SYNC_WAYS * SYNC.words;
  }

  #isOf(at: number, relation: Relation, fork: Fork): boolean {
    const words = this.#words;
    return (
      words[at + SYNC.relation] === (relation.relation | 0) &&
      words[at + SYNC.fork] === fork &&
      words[at + SYNC.database] === (relation.database | 0) &&
      words[at + SYNC.tablespace] === (relation.tablespace | 0)
    );
  }

  #tag(at: number): ForkTag {
    const word = (index: number): number => (this.#words[at + index] as number) >>> 0;
    const relation = {
      tablespace: word(SYNC.tablespace),
      database: word(SYNC.database),
      relation: word(SYNC.relation),
    };
    return { relation, fork: word(SYNC.fork) as Fork };
  }
}

/**
 * The calls of a buffer manager that write: marking pages dirty, flushing, checkpoints, extending, dropping, evicting.
 *
 * They turn buffer numbers (from 1) into indexes, note pins in the scope that was current when the call was made, and have the
 * parts do the work. `BufferManager` inherits them. Every `x` has a twin `xAsync`, which does not sleep. A blocking call must
 * not be made by a thread that has a page locked exclusively which the call may come across: it would wait for itself.
 */
import type { BackendParts } from "./backend-parts.js";
import { BackgroundWriter } from "./background-writer.js";
import type { BackgroundWriterOptions } from "./background-writer.js";
import { checkpoint } from "./checkpoint.js";
import type { CheckpointOptions, CheckpointReport } from "./checkpoint.js";
import { DirtyMarks } from "./dirty.js";
import { allForks, Dropper } from "./drop.js";
import type { ForkFrom } from "./drop.js";
import { BufferError } from "./errors.js";
import { evict, evictAll, evictRelation } from "./evict.js";
import type { EvictCounts, Eviction } from "./evict.js";
import type { Extension, ExtendOptions, ExtendToOptions } from "./extension.js";
import { flushDatabase, flushRelation } from "./flush-pages.js";
import { dropLocal, flushLocal } from "./local-relations.js";
import type { PoolScope } from "./pool-scope.js";
import { CONTEXT } from "./statistics.js";
import type { Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** The writing half of a buffer manager. */
export class BufferWrites {
  readonly #parts: BackendParts;
  readonly #marks: DirtyMarks;
  readonly #dropper: Dropper;

  constructor(parts: BackendParts) {
    const { context, allocator, locks, ioLocks } = parts;
    this.#parts = parts;
    this.#marks = new DirtyMarks(context, locks);
    this.#dropper = new Dropper({ context, allocator, ioLocks });
  }

  // --- changing pages ---

  /**
   * Says that a page was changed, or is about to be, before its lock is let go of. Its LSN has been set.
   *
   * @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has not pinned it and locked it exclusively
   */
  markDirty(buffer: number): void {
    if (buffer < 0) this.#parts.local.markDirty(this.#parts.pinnedOwn(buffer));
    else this.#marks.mark(buffer - 1);
  }

  /**
   * The same for a hint, which can be found out again: a shared lock is enough, and the mark may not be made.
   *
   * @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has not pinned it, or not locked it
   */
  markDirtyHint(buffer: number): void {
    if (buffer < 0) this.#parts.local.markDirty(this.#parts.pinnedOwn(buffer));
    else this.#marks.markHint(buffer - 1);
  }

  /**
   * Writes a page that this backend has pinned, if it is dirty, its WAL first. Nothing is durable by that.
   *
   * @throws {BufferError} ERR_BUFFER_BAD_ID; ERR_BUFFER_WRITE: it stays dirty; ERR_BUFFER_WOULD_BLOCK
   */
  flush(buffer: number): void {
    this.#run(this.#flush(buffer));
  }

  async flushAsync(buffer: number): Promise<void> {
    await this.#runAsync(this.#flush(buffer));
  }

  // --- extending ---

  /**
   * Adds blocks of zeros to a relation and returns their buffers, pinned: fewer than asked for if pins are short.
   *
   * @throws {BufferError} see {@link RelationExtender.extend}
   */
  extend(relation: Relation, count: number, options: ExtendOptions = {}): Extension {
    const scope = this.#scope;
    return noteExtension(this.#run(this.#parts.extender.extend(relation, count, options)), scope);
  }

  async extendAsync(relation: Relation, count: number, options: ExtendOptions = {}): Promise<Extension> {
    const scope = this.#scope;
    return noteExtension(await this.#runAsync(this.#parts.extender.extend(relation, count, options)), scope);
  }

  /**
   * Extends a fork to a number of blocks, if it has fewer.
   *
   * @returns the buffer of the last of them, pinned: new, or read if it was there already or somebody else has added it
   * @throws {BufferError} see {@link RelationExtender.extendTo}
   */
  extendTo(relation: Relation, blocks: number, options: ExtendToOptions = {}): number {
    const scope = this.#scope;
    return note(this.#run(this.#parts.extender.extendTo(relation, blocks, options)), scope);
  }

  async extendToAsync(relation: Relation, blocks: number, options: ExtendToOptions = {}): Promise<number> {
    const scope = this.#scope;
    return note(await this.#runAsync(this.#parts.extender.extendTo(relation, blocks, options, false)), scope);
  }

  // --- many pages ---

  /**
   * Writes all pages that are dirty now, and syncs the files that were written to: what was changed before the call needs no
   * WAL any more.
   *
   * @throws {BufferError} ERR_BUFFER_WRITE: the checkpoint has not happened; ERR_BUFFER_POISONED: a sync failed
   */
  checkpoint(options: CheckpointOptions = {}): CheckpointReport {
    return this.#run(checkpoint(this.#parts, options));
  }

  /** As `checkpoint`, without sleeping: the event loop turns also while files are synced, if the file layer has `syncAsync`. */
  async checkpointAsync(options: CheckpointOptions = {}): Promise<CheckpointReport> {
    return this.#runAsync(checkpoint(this.#parts, options));
  }

  /** The background writer, to be run by this thread. A pool should have one. */
  createBackgroundWriter(options: BackgroundWriterOptions = {}): BackgroundWriter {
    this.#parts.check();
    const { context, locks, ioLocks, writer, allocator } = this.#parts;
    return new BackgroundWriter({ context, locks, ioLocks, writer, sweep: allocator.sweep }, options);
  }

  /** Writes the dirty pages of a relation. @returns pages written @throws {BufferError} ERR_BUFFER_WRITE */
  flushRelation(relation: Relation): number {
    return this.#run(this.#flushRelation(relation));
  }

  async flushRelationAsync(relation: Relation): Promise<number> {
    return this.#runAsync(this.#flushRelation(relation));
  }

  /** The same for all relations of a database. */
  flushDatabase(database: number): number {
    return this.#run(flushDatabase(this.#parts, database));
  }

  async flushDatabaseAsync(database: number): Promise<number> {
    return this.#runAsync(flushDatabase(this.#parts, database));
  }

  /**
   * Drops the pages of some forks of a relation, from a block on each, dirty or not. Nobody uses them any more.
   *
   * @returns pages dropped
   * @throws {BufferError} ERR_BUFFER_PINNED_IN_DROP: this backend has one of them pinned
   */
  dropForks(relation: Relation, forks: readonly ForkFrom[]): number {
    return this.#run(this.#dropForks(relation, forks));
  }

  async dropForksAsync(relation: Relation, forks: readonly ForkFrom[]): Promise<number> {
    return this.#runAsync(this.#dropForks(relation, forks));
  }

  /** Drops all pages of some relations, in one pass over the pool. */
  dropRelations(relations: readonly Relation[]): number {
    return this.#run(this.#dropRelations(relations));
  }

  async dropRelationsAsync(relations: readonly Relation[]): Promise<number> {
    return this.#runAsync(this.#dropRelations(relations));
  }

  /** Drops all pages of a database. */
  dropDatabase(database: number): number {
    return this.#run(this.#dropper.dropDatabase(database));
  }

  async dropDatabaseAsync(database: number): Promise<number> {
    return this.#runAsync(this.#dropper.dropDatabase(database));
  }

  // --- for tests and experiments ---

  /**
   * Evicts a page that nobody has pinned; a dirty one is written first.
   *
   * @param buffer the number of any buffer of the pool
   * @throws {BufferError} ERR_BUFFER_BAD_ID: there is no such buffer; ERR_BUFFER_WRITE
   */
  evict(buffer: number): Eviction {
    return this.#run(evict(this.#parts, this.#any(buffer)));
  }

  async evictAsync(buffer: number): Promise<Eviction> {
    return this.#runAsync(evict(this.#parts, this.#any(buffer)));
  }

  /** Evicts the pages of a relation that nobody has pinned. @throws {BufferError} ERR_BUFFER_WRITE */
  evictRelation(relation: Relation): EvictCounts {
    return this.#run(evictRelation(this.#parts, relation));
  }

  async evictRelationAsync(relation: Relation): Promise<EvictCounts> {
    return this.#runAsync(evictRelation(this.#parts, relation));
  }

  /** Evicts all pages that nobody has pinned. @throws {BufferError} ERR_BUFFER_WRITE */
  evictAll(): EvictCounts {
    return this.#run(evictAll(this.#parts));
  }

  async evictAllAsync(): Promise<EvictCounts> {
    return this.#runAsync(evictAll(this.#parts));
  }

  #run<T>(flow: Waiting<T>): T {
    this.#parts.check();
    return this.#parts.context.waiter.run(flow);
  }

  async #runAsync<T>(flow: Waiting<T>): Promise<T> {
    this.#parts.check();
    return this.#parts.context.waiter.runAsync(flow);
  }

  *#flush(buffer: number): Waiting<void> {
    const { locks, writer, context, local } = this.#parts;
    if (buffer < 0) {
      yield* local.flush(this.#parts.pinnedOwn(buffer));
      return;
    }
    const index = this.#parts.pinned(buffer);
    if (context.mayBlock && locks.wouldWaitForSelf(index, "shared")) {
      const message = `buffer ${buffer} is locked by this backend, which would wait for itself`;
      throw new BufferError("ERR_BUFFER_WOULD_BLOCK", message);
    }
    yield* locks.lock(index, "shared");
    try {
      yield* writer.flush(index, CONTEXT.normal);
    } finally {
      locks.unlock(index);
    }
  }

  #flushRelation(relation: Relation): Waiting<number> {
    return isTemporary(relation)
      ? flushLocal(this.#parts.local, relation)
      : flushRelation(this.#parts, relation);
  }

  #dropForks(relation: Relation, forks: readonly ForkFrom[]): Waiting<number> {
    return isTemporary(relation)
      ? dropLocal(this.#parts.local, relation, forks)
      : this.#dropper.dropForks(relation, forks);
  }

  *#dropRelations(relations: readonly Relation[]): Waiting<number> {
    const shared = relations.filter((relation) => !isTemporary(relation));
    let dropped = yield* this.#dropper.dropRelations(shared);
    for (const relation of relations.filter(isTemporary)) {
      dropped += yield* dropLocal(this.#parts.local, relation, allForks());
    }
    return dropped;
  }

  get #scope(): PoolScope | undefined {
    return this.#parts.scopes?.current;
  }

  #any(buffer: number): number {
    const { buffersMax } = this.#parts.context.layout;
    if (Number.isInteger(buffer) && buffer >= 1 && buffer <= buffersMax) return buffer - 1;
    throw new BufferError("ERR_BUFFER_BAD_ID", `the pool has no buffer ${buffer}`);
  }
}

function isTemporary({ persistence }: Relation): boolean {
  return persistence === "temporary";
}

function note(buffer: number, scope: PoolScope | undefined): number {
  scope?.remember(buffer);
  return buffer;
}

function noteExtension(extension: Extension, scope: PoolScope | undefined): Extension {
  for (const buffer of extension.buffers) scope?.remember(buffer);
  return extension;
}

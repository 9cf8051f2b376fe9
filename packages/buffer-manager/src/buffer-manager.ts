/**
 * The buffer manager: what one thread calls to use a pool.
 *
 * It turns buffer numbers (from 1; 0 is none) into indexes, notes pins in scopes, and has its parts do the work. Every call
 * that can have to wait has two forms: `x` sleeps, and is refused on a thread that must not; `xAsync` lets the event loop turn.
 * What needs no wait is done at once in both.
 */
import { attachContext, detachContext } from "./backend-context.js";
import type { AttachOptions, BackendContext } from "./backend-context.js";
import { BackendParts } from "./backend-parts.js";
import { BufferLocks } from "./buffer-locks.js";
import type { ReadOptions } from "./buffer-reads.js";
import type { ContentLocks } from "./content-locks.js";
import { BufferError } from "./errors.js";
import type { HitCalls } from "./hit-module.js";
import { HEADER } from "./layout.js";
import type { MappingTable } from "./mapping.js";
import { isLockingMode } from "./page-reader.js";
import { PageViews } from "./page-views.js";
import type { PoolShared } from "./pool-core.js";
import { checkPoolPanic } from "./pool-core.js";
import { PoolScopes } from "./pool-scope.js";
import type { PoolScope } from "./pool-scope.js";
import type { Pins } from "./pins.js";
import { ringBuffers, ringKib, usesRing } from "./ring-sizes.js";
import type { RingKind } from "./ring-sizes.js";
import { Ring, ringInUse } from "./ring.js";
import { acknowledgeResize } from "./resize-barrier.js";
import { CONTEXT } from "./statistics.js";
import type { Counters } from "./statistics.js";
import { FORK } from "./tag.js";
import type { Fork, Relation, Tag } from "./tag.js";

/** A thread's part in a pool. For that thread only. */
export class BufferManager extends BufferLocks implements Disposable, AsyncDisposable {
  readonly #context: BackendContext;
  readonly #parts: BackendParts;
  readonly #words: Int32Array;
  readonly #pins: Pins;
  readonly #counters: Counters;
  /** Looks for a hit. Finds none once this backend has left the pool. */
  #pinHit: HitCalls["pin"];
  readonly #mapping: MappingTable;
  readonly #locks: ContentLocks;
  readonly #scopes: PoolScopes;
  readonly #pages: PageViews;
  #isAttached = true;

  private constructor(context: BackendContext) {
    const parts = new BackendParts(context);
    super(parts);
    this.#parts = parts;
    this.#context = context;
    this.#words = context.words;
    this.#pins = context.pins;
    this.#counters = context.counters;
    this.#pinHit = context.hitCalls.pin;
    this.#mapping = parts.allocator.mapping;
    this.#locks = parts.locks;
    this.#pages = new PageViews(context.frames, context.frames.frameCount);
    this.#scopes = new PoolScopes({
      releaseLeaked: (buffer) => {
        if (buffer > 0) this.#releaseLeaked(buffer - 1);
        else if (parts.local.pinCount(-1 - buffer) > 0) parts.local.unpin(-1 - buffer);
      },
      warnOfLeak: (buffer) => {
        context.warn("BUFFER_LEAKED_PIN", `buffer ${buffer} was still pinned when its scope ended`);
      },
    });
    parts.scopes = this.#scopes;
  }

  /**
   * Makes the calling thread a backend of a pool.
   *
   * @throws {BufferError} ERR_BUFFER_LIMIT: all backends are in use; ERR_BUFFER_CLOSED; ERR_BUFFER_PANIC
   */
  static attach(shared: PoolShared, options: AttachOptions): BufferManager {
    return new BufferManager(attachContext(shared, options));
  }

  // --- pages ---

  /**
   * Pins a page that is in the pool and valid, without waiting and without I/O.
   *
   * @param ring the ring of the scan that reads it, if one does: its hits leave other pages their place
   * @returns the buffer; 0 if the page would have to be read
   */
  tryRead(relation: Relation, block: number, fork: Fork = FORK.main, ring: Ring | null = null): number {
    const { tablespace, database, relation: number } = relation;
    const isRing = ring === null || ring.isDropped ? 0 : 1;
    const entry = this.#pinHit(tablespace, database, number, fork, block, isRing);
    if (entry <= 0) return this.#tryReadOtherwise(entry, relation, block, fork, ring);
    this.#noteHit(entry, ring);
    return entry;
  }

  /** @param entry what looking for a hit has found: 0 for nothing, or less for what is not a valid page of the block */
  #tryReadOtherwise(entry: number, relation: Relation, block: number, fork: Fork, ring: Ring | null): number {
    this.#check();
    const mapping = this.#mapping;
    const isRing = ringInUse(ring) !== null;
    const buffer = entry === 0 ? mapping.lookupAndPin(relation, fork, block, isRing) : mapping.adopt(entry);
    if (buffer < 0) return 0;
    if (mapping.isValid) {
      this.#noteHit(buffer + 1, ring);
      return buffer + 1;
    }
    this.#pins.unpin(buffer);
    return 0;
  }

  #noteHit(buffer: number, ring: Ring | null): void {
    this.#counters.hit(ring === null ? CONTEXT.normal : ring.context);
    if (this.#scopes.current !== undefined) this.#scopes.current.remember(buffer);
  }

  override read(relation: Relation, block: number, options?: ReadOptions): number {
    const buffer = this.#readCached(relation, block, options);
    return buffer === 0 ? super.read(relation, block, options) : buffer;
  }

  override async readAsync(relation: Relation, block: number, options?: ReadOptions): Promise<number> {
    const buffer = this.#readCached(relation, block, options);
    return buffer === 0 ? super.readAsync(relation, block, options) : buffer;
  }

  /** A cached page, if it may be returned as it is: the modes that make zeros lock it too. */
  #readCached(relation: Relation, block: number, options: ReadOptions | undefined): number {
    if (options === undefined) return this.tryRead(relation, block);
    const { fork, mode, ring } = options;
    return mode !== undefined && isLockingMode(mode) ? 0 : this.tryRead(relation, block, fork, ring);
  }

  /** Pins a buffer once more that this backend has pinned. @throws {BufferError} ERR_BUFFER_BAD_ID: it has not */
  pinAgain(buffer: number): void {
    if (buffer < 0) this.#parts.local.pin(this.#parts.pinnedOwn(buffer));
    else this.#pins.pinAgain(this.#parts.pinned(buffer));
    this.#scopes.current?.remember(buffer);
  }

  /** Lets go of one pin. @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has none on the buffer */
  release(buffer: number): void {
    if (buffer < 1) {
      this.#parts.release(buffer);
      return;
    }
    this.#pins.unpin(buffer - 1);
    if (this.#scopes.current !== undefined) this.#scopes.forget(buffer);
  }

  /**
   * The bytes of a page, borrowed: they belong to another page as soon as the pin is gone. A lock says who may read and write.
   *
   * @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has no pin on it
   */
  page(buffer: number): Uint8Array<SharedArrayBuffer> {
    if (buffer < 0) return this.#pages.get(this.#parts.local.frame(this.#parts.pinnedOwn(buffer)));
    return this.#pages.get(this.#parts.pinned(buffer));
  }

  /** Which block a buffer holds. @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has no pin on it */
  tag(buffer: number): Tag {
    if (buffer < 0) return this.#parts.local.tag(this.#parts.pinnedOwn(buffer));
    return this.#context.headers.tag(this.#parts.pinned(buffer));
  }

  // --- limits and rings ---

  /** Buffers in the pool. */
  get buffersCount(): number {
    return this.#words[HEADER.low] as number;
  }

  /**
   * Pins that a backend should not go beyond, so that there are some for everybody. Advisory; can be 0.
   *
   * @param isLocal of its own buffers, for temporary relations
   */
  pinLimit(isLocal = false): number {
    return isLocal ? this.#parts.local.pinLimit : this.#parts.pinLimit;
  }

  /** How many of them are left, as if a few were always in use; can be 0. One may always be taken. */
  additionalPins(isLocal = false): number {
    return isLocal ? this.#parts.local.additionalPins : this.#parts.additionalPins;
  }

  /**
   * Makes a ring.
   *
   * @param kib its size, up to an eighth of the pool: -1 for PostgreSQL's, 0 for none; the pool's setting unless given
   * @returns null if that comes to less than a page
   * @throws {RangeError} not a size
   */
  ring(kind: RingKind, kib?: number): Ring | null {
    const { settings } = this.#context;
    const wish = kib ?? settings.rings[kind];
    if (!Number.isInteger(wish) || wish < -1) throw new RangeError(`not a ring's size in KiB: ${wish}`);
    const { combineLimit, effectiveConcurrency } = this.session;
    const limits = { combineLimit, pinBackends: settings.pinBackends };
    const size = ringKib(kind, limits, this.buffersCount, effectiveConcurrency, wish);
    const buffers = ringBuffers(size, this.buffersCount);
    return buffers === 0 ? null : new Ring(kind, buffers);
  }

  /** The ring for a sequential scan of so many blocks; null if they are few enough to be cached like any others. */
  scanRing(blocks: number): Ring | null {
    return usesRing(blocks, this.buffersCount) ? this.ring("bulkread") : null;
  }

  // --- scopes and the end ---

  /** Opens a scope, where pins are noted from now on, until it ends. */
  openScope(): PoolScope {
    this.#check();
    return this.#scopes.open();
  }

  /** Runs `body` in a scope of its own; if it throws, what it has pinned and locked is given back. */
  scope<T>(body: (scope: PoolScope) => T): T {
    this.#check();
    return this.#scopes.run(body);
  }

  /** Leaves the pool: gives back what is pinned, with a warning, waits for own I/O, closes files. A second call does nothing. */
  detach(): void {
    if (!this.#isAttached) return;
    this.#leave();
    const { aio, files } = this.#context;
    try {
      this.#releaseAll();
      files.close();
      aio.detach();
    } finally {
      detachContext(this.#context);
    }
  }

  /** As `detach`, without sleeping. */
  async detachAsync(): Promise<void> {
    if (!this.#isAttached) return;
    this.#leave();
    const { aio, files } = this.#context;
    try {
      this.#releaseAll();
      await files.closeAsync();
      await aio.detachAsync();
    } finally {
      detachContext(this.#context);
    }
  }

  [Symbol.dispose](): void {
    this.detach();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.detachAsync();
  }

  #releaseAll(): void {
    this.#scopes.endAll();
    this.#releaseOwn();
    for (const index of this.#pins.buffers()) {
      this.#context.warn("BUFFER_LEAKED_PIN", `buffer ${index + 1} was still pinned when its backend left`);
      while (this.#pins.count(index) > 0) this.#releaseLeaked(index);
    }
  }

  #releaseOwn(): void {
    if (this.#context.ownBuffers.buffers === undefined) return;
    const { local } = this.#parts;
    for (const index of local.pinnedBuffers()) {
      this.#context.warn("BUFFER_LEAKED_PIN", `buffer ${-1 - index} was still pinned when its backend left`);
      while (local.pinCount(index) > 0) local.unpin(index);
    }
  }

  #releaseLeaked(index: number): void {
    const count = this.#pins.count(index);
    if (count === 0) return;
    if (count === 1) this.#locks.unlockAll(index);
    this.#pins.unpin(index);
  }

  #leave(): void {
    this.#isAttached = false;
    this.#parts.isAttached = false;
    this.#pinHit = () => 0;
  }

  #check(): void {
    if (!this.#isAttached) throw new BufferError("ERR_BUFFER_CLOSED", "this backend has left the pool");
    checkPoolPanic(this.#words);
    acknowledgeResize(this.#context.headers, this.#context.at);
  }
}

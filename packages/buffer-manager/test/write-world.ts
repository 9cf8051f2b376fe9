/**
 * What the tests of writing stand on: a pool over real files, a log that is a list, and files that record each write and look
 * at what is written.
 *
 * Whatever a test does, a page of a logged relation whose WAL is not durable must not reach a file: `RecordingFiles` refuses
 * it. Disposing checks that nothing was left behind: no pin, no lock, no I/O, no scratch frame, no bit of the header.
 */
import { closeSync, ftruncateSync, mkdirSync, openSync, readSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import type { AioBackend, IoHandle, IoVector } from "@millrace/aio";
import { verifyPage } from "@millrace/checksums";
import { expect } from "vitest";

import { attachContext, detachContext } from "../src/backend-context.js";
import type { AttachOptions, BackendContext } from "../src/backend-context.js";
import { BackendParts } from "../src/backend-parts.js";
import type { BackgroundWriterParts } from "../src/background-writer.js";
import { REFCOUNT_MASK, STATE } from "../src/buffer-state.js";
import { DirtyMarks } from "../src/dirty.js";
import type { WalHooks } from "../src/file-layer.js";
import { terminateIo } from "../src/io-lock.js";
import { BACKEND, DESCRIPTOR, STRATEGY } from "../src/layout.js";
import { pageLsn, setPageLsn } from "../src/page-lsn.js";
import type { PoolHook } from "../src/points.js";
import { openPool } from "../src/pool-core.js";
import type { PoolShared } from "../src/pool-core.js";
import { BufferPool } from "../src/pool.js";
import type { PoolOptions } from "../src/pool.js";
import { SegmentedFiles } from "../src/segmented-files.js";
import type { SegmentedFilesOptions } from "../src/segmented-files.js";
import { CONTEXT } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import type { Fork, Relation } from "../src/tag.js";
import { blockOf, DataDirectory, PAGE, TABLE } from "./data-directory.js";

/** A log: positions count up, and are durable up to somewhere. */
export class Log implements WalHooks {
  end = 0n;
  durable = 0n;
  /** Thrown by the next flushes. */
  failure: Error | undefined;
  /** A flush then returns without having done anything. */
  isStuck = false;
  logHint?: NonNullable<WalHooks["logHint"]>;
  readonly events: string[];

  constructor(events: string[]) {
    this.events = events;
  }

  append(): bigint {
    this.end += 8n;
    return this.end;
  }

  flush(lsn: bigint): void {
    this.events.push(`wal ${lsn}`);
    if (this.failure !== undefined) throw this.failure;
    if (!this.isStuck && lsn > this.durable) this.durable = lsn;
  }

  isDurable(lsn: bigint): boolean {
    return lsn <= this.durable;
  }
}

/** Segmented files that record what is written, before it is. */
export class RecordingFiles extends SegmentedFiles {
  readonly #world: {
    log: Log;
    events: string[];
    hints: string[];
    violations: string[];
    unlogged: Set<number>;
  };
  readonly #shared: ReturnType<typeof openPool>;

  constructor(
    aio: AioBackend,
    shared: PoolShared,
    options: SegmentedFilesOptions,
    world: { log: Log; events: string[]; hints: string[]; violations: string[]; unlogged: Set<number> },
  ) {
    super(aio, shared, options);
    this.#world = world;
    this.#shared = openPool(shared);
  }

  override startWrite(
    handle: IoHandle,
    relation: Relation,
    fork: Fork,
    block: number,
    vectors: readonly IoVector[],
    count: number,
  ): void {
    const name = `${relation.relation}${fork === FORK.main ? "" : `/${fork}`}`;
    this.#world.events.push(`write ${name}:${block}${count === 1 ? "" : `+${count}`}`);
    for (const page of this.#pages(vectors)) this.#check(relation, page);
    super.startWrite(handle, relation, fork, block, vectors, count);
  }

  override sync(relation: Relation, fork: Fork): void {
    this.#world.events.push(`sync ${relation.relation}${fork === FORK.main ? "" : `/${fork}`}`);
    super.sync(relation, fork);
  }

  override async syncAsync(relation: Relation, fork: Fork): Promise<void> {
    this.#world.events.push(`sync ${relation.relation}${fork === FORK.main ? "" : `/${fork}`}`);
    await super.syncAsync(relation, fork);
  }

  override writeBack(relation: Relation, fork: Fork, block: number, count: number): void {
    this.#world.hints.push(`${relation.relation}:${block},${count}`);
    super.writeBack(relation, fork, block, count);
  }

  #check(relation: Relation, page: Buffer): void {
    if (this.#world.unlogged.has(relation.relation)) return;
    const lsn = (BigInt(page.readUInt32LE(0)) << 32n) | BigInt(page.readUInt32LE(4));
    if (lsn <= this.#world.log.durable) return;
    this.#world.violations.push(`a page of ${relation.relation} at ${lsn}`);
    throw new Error(`page at ${lsn} written before its WAL`);
  }

  *#pages(vectors: readonly IoVector[]): Generator<Buffer> {
    for (const { segment, offsetBytes, lengthBytes } of vectors) {
      const { buffer } = this.#shared.frames.segments[segment] as { buffer: SharedArrayBuffer };
      for (let at = 0; at < lengthBytes; at += PAGE) yield Buffer.from(buffer, offsetBytes + at, PAGE);
    }
  }
}

/** Options of a world. */
export interface WorldOptions extends PoolOptions {
  readonly mayBlock?: boolean;
  readonly hook?: PoolHook;
}

/** One backend's parts, and its marks. */
export class Backend extends BackendParts {
  readonly marks: DirtyMarks = new DirtyMarks(this.context, this.locks);
}

/** A pool, its files and one backend or more. */
export class WriteWorld implements AsyncDisposable {
  readonly events: string[] = [];
  readonly hints: string[] = [];
  /** Pages that were about to be written before their WAL was durable. */
  readonly violations: string[] = [];
  readonly unlogged: Set<number> = new Set();
  readonly log: Log;
  readonly directory: DataDirectory;
  readonly pool: BufferPool;
  readonly backend: Backend;
  readonly backends: Backend[] = [];
  hook: PoolHook = () => undefined;

  constructor(options: WorldOptions = {}) {
    const { mayBlock = true, hook, ...pool } = options;
    if (hook !== undefined) this.hook = hook;
    this.log = new Log(this.events);
    this.directory = new DataDirectory(options.segmentBlocks);
    this.pool = BufferPool.create({ buffers: 64, backends: 4, ...pool });
    this.backend = this.attach(mayBlock);
  }

  attach(mayBlock = true, options: Partial<AttachOptions> = {}): Backend {
    const context = attachContext(this.pool.shared, {
      ...options,
      files: (aio, shared) => new RecordingFiles(aio, shared, { directory: this.directory.path }, this),
      wal: this.log,
      mayBlock,
      hook: (point, backend, buffer) => this.hook(point, backend, buffer),
    });
    const backend = new Backend(context);
    this.backends.push(backend);
    return backend;
  }

  get context(): BackendContext {
    return this.backend.context;
  }

  /** What a checkpoint or a background writer works with. */
  get parts(): BackgroundWriterParts {
    const { context, locks, ioLocks, writer, allocator } = this.backend;
    return { context, locks, ioLocks, writer, sweep: allocator.sweep };
  }

  /** Makes the files of a relation. */
  create(relation: Relation, blocks: number, fork: Fork = FORK.main): void {
    if (relation.persistence === "unlogged" && fork !== FORK.init) this.unlogged.add(relation.relation);
    mkdirSync(dirname(this.directory.segment(relation, 0, fork)), { recursive: true });
    this.directory.writeBlocks(relation, blocks, fork);
    if (blocks === 0) closeSync(openSync(this.directory.segment(relation, 0, fork), "w"));
  }

  /** Cuts a file short, for writes that must not find it longer. */
  truncate(relation: Relation, blocks: number): void {
    const fd = openSync(this.directory.segment(relation, 0), "r+");
    ftruncateSync(fd, blocks * PAGE);
    closeSync(fd);
  }

  /** A block's buffer with its page in it, pinned. */
  load(relation: Relation, block: number, fork: Fork = FORK.main, backend: Backend = this.backend): number {
    const { context, allocator, ioLocks } = backend;
    const flow = allocator.allocate(relation, fork, block, null, CONTEXT.normal);
    const buffer = context.waiter.run(flow);
    if (allocator.found) return buffer;
    if (context.waiter.run(ioLocks.start(buffer, true))) {
      context.frames.view(buffer).set(this.stored(relation, block, fork));
      terminateIo(context.headers, buffer, false, STATE.valid, false);
    }
    return buffer;
  }

  /** Changes a pinned page as PostgreSQL does: locked, logged, marked. @returns the LSN of the change */
  change(buffer: number, value: number, backend: Backend = this.backend): bigint {
    const { context, locks, marks } = backend;
    context.waiter.run(locks.lock(buffer, "exclusive"));
    context.frames.view(buffer)[100] = value;
    marks.mark(buffer);
    const lsn = this.log.append();
    setPageLsn(context.frames, buffer, lsn);
    locks.unlock(buffer);
    return lsn;
  }

  /** Loads, changes and unpins. @returns the buffer */
  dirty(relation: Relation, block: number, value: number, fork: Fork = FORK.main): number {
    const buffer = this.load(relation, block, fork);
    this.change(buffer, value);
    this.context.pins.unpin(buffer);
    return buffer;
  }

  /** Pins, locks and flushes a page, as a victim is flushed. */
  flush(buffer: number, { context, locks, writer }: Backend = this.backend): void {
    context.pins.pin(buffer);
    context.waiter.run(locks.lock(buffer, "shared"));
    try {
      context.waiter.run(writer.flush(buffer, CONTEXT.normal));
    } finally {
      locks.unlock(buffer);
      context.pins.unpin(buffer);
    }
  }

  /** Loads and unpins. */
  touch(relation: Relation, block: number, fork: Fork = FORK.main): number {
    const buffer = this.load(relation, block, fork);
    this.context.pins.unpin(buffer);
    return buffer;
  }

  /** The free list, from its head. */
  freeBuffers(): number[] {
    const { words, layout, headers } = this.context;
    const buffers: number[] = [];
    let next = words[layout.strategyAt + STRATEGY.firstFree] as number;
    for (; next !== 0; next = words[headers.at(next - 1) + DESCRIPTOR.freeNext] as number)
      buffers.push(next - 1);
    return buffers;
  }

  state(buffer: number): number {
    return this.context.headers.state(buffer);
  }

  has(buffer: number, flags: number): boolean {
    return (this.state(buffer) & flags) === flags;
  }

  lsn(buffer: number): bigint {
    return pageLsn(this.context.frames, buffer);
  }

  /** A block as it is in the file. */
  stored(relation: Relation, block: number, fork: Fork = FORK.main): Buffer {
    const page = Buffer.alloc(PAGE);
    const fd = openSync(this.directory.segment(relation, block, fork), "r");
    readSync(fd, page, 0, PAGE, (block % this.directory.segmentBlocks) * PAGE);
    closeSync(fd);
    return page;
  }

  /** The byte that `change` sets, of a block whose page must be valid. */
  storedValue(relation: Relation, block: number, fork: Fork = FORK.main): number {
    const page = this.stored(relation, block, fork);
    expect(verifyPage(page, block), `block ${block} in its file`).toBe("valid");
    expect(blockOf(page)).toBe(block);
    return page[100] as number;
  }

  /** What was recorded since the last call. */
  take(): string[] {
    return this.events.splice(0);
  }

  /** Gives the pages up that nobody is going to write. */
  discard(): void {
    rmSync(this.directory.path, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    expect(this.violations, "WAL comes before data").toEqual([]);
    const { words, layout, headers } = this.context;
    for (const { context, locks, writer } of this.backends) {
      expect(context.pins.buffers(), "no pin is left").toEqual([]);
      expect(locks.heldCount, "no lock is left").toBe(0);
      expect([writer.scratchCount, writer.inFlight.length], "no write is left").toEqual([0, 0]);
      expect(words[context.at + BACKEND.headerIntent]).toBe(0);
    }
    for (let buffer = 0; buffer < layout.buffersMax; buffer++) {
      const state = headers.state(buffer);
      expect(state & (STATE.locked | STATE.ioInProgress | REFCOUNT_MASK), `buffer ${buffer}`).toBe(0);
      if ((state & STATE.dirty) !== 0) expect(state & STATE.valid).not.toBe(0);
    }
    for (const { context } of this.backends) {
      await context.files.closeAsync();
      await context.aio.detachAsync();
      detachContext(context);
    }
    await this.pool.close();
    this.directory[Symbol.dispose]();
  }
}

export { TABLE };
/** A second table. */
export const OTHER: Relation = { ...TABLE, relation: 16_500 };
/** A table that is emptied in a crash. */
export const UNLOGGED: Relation = { ...TABLE, relation: 16_600, persistence: "unlogged" };

/**
 * What the tests of reads stand on: a data directory, a pool, and backends that read, all in this thread.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { ManualController } from "@millrace/aio";
import type { MethodName } from "@millrace/aio";
import { expect } from "vitest";

import { Allocator } from "../src/allocate.js";
import { attachContext, detachContext } from "../src/backend-context.js";
import type { AttachOptions, BackendContext } from "../src/backend-context.js";
import { refcountOf, STATE } from "../src/buffer-state.js";
import { CleanupLocks } from "../src/cleanup-lock.js";
import { ContentLocks } from "../src/content-locks.js";
import { BUFFER_CHANNEL } from "../src/diagnostics.js";
import type { BufferEvent } from "../src/diagnostics.js";
import { IoLocks } from "../src/io-lock.js";
import { DESCRIPTOR } from "../src/layout.js";
import { LocalBuffers } from "../src/local-buffers.js";
import { BufferPool } from "../src/pool.js";
import type { PoolOptions } from "../src/pool.js";
import { PageReader } from "../src/page-reader.js";
import type { ReadMode } from "../src/page-reader.js";
import { LocalReadBuffers, SharedReadBuffers } from "../src/read-buffers.js";
import { ReadOperation } from "../src/read-operation.js";
import { Reader } from "../src/reader.js";
import { Session } from "../src/session.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { COUNTED } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import type { Relation } from "../src/tag.js";
import type { Ring } from "../src/ring.js";
import { DataDirectory, TABLE } from "./data-directory.js";

/** A backend that only reads: its victims are never dirty. */
export class ReadingBackend {
  readonly context: BackendContext;
  readonly allocator: Allocator;
  readonly locks: IoLocks;
  readonly reader: Reader;
  readonly pages: PageReader;
  readonly contentLocks: ContentLocks;
  readonly session: Session;
  /** For its temporary relations. */
  readonly local: LocalBuffers;

  constructor(pool: BufferPool, directory: DataDirectory, options: Partial<AttachOptions> = {}) {
    const files = segmentedFiles({ directory: directory.path });
    this.context = attachContext(pool.shared, { files, mayBlock: false, ...options });
    this.contentLocks = new ContentLocks(this.context);
    this.allocator = new Allocator(this.context, this.contentLocks, {
      flush: () => expect.unreachable("a page that nobody dirtied is to be written"),
    });
    this.session = new Session(this.context.settings);
    this.local = new LocalBuffers(this.context);
    this.locks = new IoLocks(this.context.headers, this.context.id);
    this.reader = new Reader(
      this.context,
      new SharedReadBuffers(this.context, this.allocator, this.locks),
      () => {
        this.context.ownBuffers.buffers = this.local;
        return new LocalReadBuffers(this.local);
      },
      this.session,
    );
    const { reader, allocator, contentLocks, locks: ioLocks } = this;
    const cleanupLocks = new CleanupLocks(this.context, contentLocks);
    this.pages = new PageReader(this.context, { reader, allocator, ioLocks, contentLocks, cleanupLocks });
  }

  /** Reads one page, blocking. */
  readPage(block: number, mode: ReadMode = "normal", relation: Relation = TABLE): number {
    return this.context.waiter.run(this.pages.read(relation, FORK.main, block, null, mode, true));
  }

  async readPageAsync(block: number, mode: ReadMode = "normal", relation: Relation = TABLE): Promise<number> {
    return this.context.waiter.runAsync(this.pages.read(relation, FORK.main, block, null, mode, false));
  }

  operation(relation: Relation = TABLE, ring: Ring | null = null): ReadOperation {
    return new ReadOperation(relation, FORK.main, ring);
  }

  /** Reads blocks in as many I/Os as it takes. @returns their buffers, pinned */
  async read(block: number, count: number, flags = 0, relation: Relation = TABLE): Promise<number[]> {
    const operation = this.operation(relation);
    const buffers = new Int32Array(count);
    for (let done = 0; done < count;) {
      done += await this.reader.startReadAsync(
        operation.begin(buffers, done, block + done, count - done, flags),
      );
      if (operation.needWait) await this.reader.waitReadAsync(operation);
    }
    return [...buffers];
  }

  page(buffer: number): Uint8Array {
    return this.context.frames.view(buffer > 0 ? buffer - 1 : this.local.frame(-1 - buffer));
  }

  state(buffer: number): number {
    return buffer > 0 ? this.context.headers.state(buffer - 1) : this.local.state(-1 - buffer);
  }

  isValid(buffer: number): boolean {
    return (this.state(buffer) & STATE.valid) !== 0;
  }

  hasFailed(buffer: number): boolean {
    return (this.state(buffer) & STATE.ioError) !== 0;
  }

  release(...buffers: number[]): void {
    for (const buffer of buffers) {
      if (buffer > 0) this.context.pins.unpin(buffer - 1);
      else if (buffer < 0) this.local.unpin(-1 - buffer);
    }
  }

  counted(operation: keyof typeof COUNTED, isTemporary = false): { count: number; bytes: number } {
    const { count, bytes } = this.context.counters.get(COUNTED[operation], 0, isTemporary);
    return { count, bytes };
  }

  async leave(): Promise<void> {
    const { context } = this;
    for (const buffer of context.pins.buffers())
      while (context.pins.count(buffer) > 0) context.pins.unpin(buffer);
    await context.files.closeAsync();
    await context.aio.detachAsync();
    detachContext(context);
  }
}

/** A pool on a data directory. Disposing checks that no I/O, no I/O lock and no pin is left. */
export class ReadWorld implements AsyncDisposable {
  readonly directory: DataDirectory;
  readonly pool: BufferPool;
  readonly events: BufferEvent[] = [];
  readonly #backends: ReadingBackend[] = [];
  readonly #listen = (event: unknown): void => void this.events.push(event as BufferEvent);
  #controller: ManualController | undefined;

  constructor(method: MethodName, options: PoolOptions = {}) {
    this.directory = new DataDirectory(options.segmentBlocks);
    this.pool = BufferPool.create({
      buffers: 64,
      backends: 8,
      ...options,
      aio: { method, required: true, ...options.aio },
    });
    subscribe(BUFFER_CHANNEL, this.#listen);
  }

  backend(options: Partial<AttachOptions> = {}): ReadingBackend {
    const backend = new ReadingBackend(this.pool, this.directory, options);
    this.#backends.push(backend);
    return backend;
  }

  /** Completes manual I/O, as another thread would. */
  get controller(): ManualController {
    this.#controller ??= new ManualController(this.pool.aio.shared, this.pool.aio.registry);
    return this.#controller;
  }

  /** What was published of a kind, in words. */
  messages(type: BufferEvent["type"]): string[] {
    return this.events.filter((event) => event.type === type).map(({ message }) => message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    unsubscribe(BUFFER_CHANNEL, this.#listen);
    if (this.pool.aio.choice.method === "manual") this.controller.completeAll();
    for (const backend of this.#backends) await backend.leave();
    const words = new Int32Array(this.pool.shared.control.buffer);
    const [first] = this.#backends;
    if (first !== undefined) {
      const { headers, layout } = first.context;
      for (let buffer = 0; buffer < layout.buffersMax; buffer++) {
        const state = headers.state(buffer);
        const io = words[headers.at(buffer) + DESCRIPTOR.ioHandle];
        expect([refcountOf(state), state & (STATE.ioInProgress | STATE.locked), io]).toEqual([0, 0, 0]);
      }
    }
    await this.pool.close();
    this.directory[Symbol.dispose]();
  }
}

/**
 * What the tests of local buffers stand on: a pool, a backend of it and its local buffers, over plain files.
 */
import { attachContext, detachContext } from "../src/backend-context.js";
import type { BackendContext } from "../src/backend-context.js";
import { STATE } from "../src/buffer-state.js";
import { LocalBuffers } from "../src/local-buffers.js";
import { BufferPool } from "../src/pool.js";
import { PAGE_BYTES } from "../src/settings.js";
import { CONTEXT } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import type { Relation } from "../src/tag.js";
import { Directory, PlainFiles } from "./plain-files.js";

/** A temporary relation. */
export const RELATION: Relation = {
  tablespace: 1663,
  database: 5,
  relation: 0x8000_0001,
  persistence: "temporary",
};
/** Another one. */
export const OTHER: Relation = { ...RELATION, relation: 7 };

/** A pool, a backend of it and its local buffers. */
export class LocalWorld implements AsyncDisposable {
  readonly pool: BufferPool;
  readonly context: BackendContext;
  readonly files: PlainFiles;
  readonly locals: LocalBuffers;
  readonly #directory = new Directory();

  constructor(localBuffers = 100, method: "sync" | "worker" = "sync", mayBlock = true) {
    const aio = { method, required: true } as const;
    this.pool = BufferPool.create({ buffers: 16, backends: 2, localBuffers, aio });
    this.context = attachContext(this.pool.shared, {
      files: (backend) => new PlainFiles(backend, this.#directory.path),
      mayBlock,
    });
    this.files = this.context.files as PlainFiles;
    this.locals = new LocalBuffers(this.context);
  }

  page(buffer: number): Uint8Array {
    return this.context.frames.view(this.locals.frame(buffer));
  }

  /** Pins a block's buffer and, if need be, reads it. */
  read(block: number, relation: Relation = RELATION): number {
    const { locals } = this;
    const buffer = this.context.waiter.run(locals.allocate(relation, FORK.main, block));
    if (this.context.waiter.run(locals.startIo(buffer, true))) {
      const page = this.page(buffer);
      const bytes = new Uint8Array(PAGE_BYTES);
      this.files.readBlock(relation, FORK.main, block, bytes);
      page.set(bytes);
      locals.terminateIo(buffer, false, STATE.valid, false);
    }
    return buffer;
  }

  /** Reads a block and lets go of it. @returns its buffer */
  touch(block: number, relation: Relation = RELATION): number {
    const buffer = this.read(block, relation);
    this.locals.unpin(buffer);
    return buffer;
  }

  /** Writes a number into a page, which looks initialised afterwards, and marks it dirty. */
  fill(buffer: number, value: number): void {
    const page = new DataView(this.page(buffer).buffer, this.page(buffer).byteOffset, PAGE_BYTES);
    page.setUint16(12, 24, true);
    page.setUint16(14, PAGE_BYTES, true);
    page.setUint16(16, PAGE_BYTES, true);
    page.setUint16(18, 0x2004, true);
    page.setUint32(100, value, true);
    this.locals.markDirty(buffer);
  }

  value(buffer: number): number {
    return new DataView(this.page(buffer).buffer, this.page(buffer).byteOffset).getUint32(100, true);
  }

  /** The number in a block of the file. */
  stored(block: number, relation: Relation = RELATION): number {
    const bytes = new Uint8Array(PAGE_BYTES);
    this.files.readBlock(relation, FORK.main, block, bytes);
    return new DataView(bytes.buffer).getUint32(100, true);
  }

  count(operation: number): number {
    return this.context.counters.get(operation, CONTEXT.normal, true).count;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.files.close();
    this.context.aio.detach();
    detachContext(this.context);
    await this.pool.close();
    this.#directory[Symbol.dispose]();
  }
}

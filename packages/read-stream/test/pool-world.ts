/**
 * A real pool on real files, for one test: a data directory with one relation, a buffer pool on it, and one backend.
 *
 * Pages are valid pages of PostgreSQL that say which block they are, or, where only the I/O matters, holes in a file, which
 * read as pages of zeros and are valid too. Disposing checks that no pin was left.
 */
import { ftruncateSync, mkdirSync, mkdtempSync, openSync, closeSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import {
  BufferManager,
  BufferPool,
  FORK,
  relationPath,
  segmentedFiles,
  segmentPath,
} from "@millrace/buffer-manager";
import type { PoolOptions, Relation } from "@millrace/buffer-manager";
import { probeUring } from "@millrace/io-uring";

export type Method = "sync" | "worker" | "io_uring";

/** Methods of I/O that run here. */
export const METHODS: readonly Method[] = probeUring().available
  ? ["sync", "worker", "io_uring"]
  : ["sync", "worker"];
export const TABLE: Relation = { tablespace: 1663, database: 5, relation: 16_384 };
export const TEMPORARY_TABLE: Relation = { ...TABLE, relation: 16_385, persistence: "temporary" };

const PAGE_BYTES = 8192;
/** PostgreSQL's processes that are no client's share in the pins, too. */
const AUXILIARY_BACKENDS = 38;
const BLOCK_AT = 24;

/** Backends that bring the share of each in `buffers` down to `pins`. */
function backendsFor(buffers: number, pins: number): number {
  const backends = Math.floor(buffers / pins) - AUXILIARY_BACKENDS;
  if (Math.floor(buffers / (backends + AUXILIARY_BACKENDS)) !== pins)
    throw new RangeError(`${buffers} buffers cannot be shared so that each has ${pins}`);
  return backends;
}

/** A page with a header that makes sense, or does not. */
function makePage(block: number, isDamaged: boolean): Buffer {
  const page = Buffer.alloc(PAGE_BYTES);
  page.writeUInt16LE(isDamaged ? 0xffff : 0, 10);
  page.writeUInt16LE(BLOCK_AT + 4, 12);
  page.writeUInt16LE(PAGE_BYTES, 14);
  page.writeUInt16LE(PAGE_BYTES, 16);
  page.writeUInt16LE(0x2004, 18);
  page.writeUInt32LE(block, BLOCK_AT);
  return page;
}

export interface WorldOptions extends Omit<PoolOptions, "aio" | "pinBackends" | "buffers"> {
  readonly buffers?: number;
  /** The backend's share of the pool. */
  readonly pinLimit?: number;
  /** Whether the backend may sleep; it may unless said otherwise. */
  readonly mayBlock?: boolean;
  /** Blocks of the relations, empty pages. */
  readonly blocks?: number;
}

/** Pool, files and backend. */
export class PoolWorld implements AsyncDisposable {
  readonly pool: BufferPool;
  readonly manager: BufferManager;
  readonly warnings: string[] = [];
  readonly directory: string = mkdtempSync(join(tmpdir(), "millrace-stream-"));
  readonly #segmentBlocks: number;

  constructor(method: Method, options: WorldOptions = {}) {
    const { buffers = 4700, pinLimit = 94, mayBlock = true, blocks = 0, ...settings } = options;
    this.#segmentBlocks = settings.segmentBlocks ?? 131_072;
    this.pool = BufferPool.create({
      buffers,
      backends: 2,
      pinBackends: backendsFor(buffers, pinLimit),
      checksums: false,
      ...settings,
      aio: { method, required: true },
    });
    for (const relation of [TABLE, TEMPORARY_TABLE]) this.#extend(relation, blocks);
    this.manager = BufferManager.attach(this.pool.shared, {
      files: segmentedFiles({ directory: this.directory }),
      mayBlock,
      onWarning: (code) => this.warnings.push(code),
    });
  }

  /** Writes pages that say which block they are. */
  writeBlocks(relation: Relation, blocks: readonly number[], isDamaged = false): void {
    for (const block of blocks) {
      const file = openSync(this.#path(relation, block), "r+");
      const at = (block % this.#segmentBlocks) * PAGE_BYTES;
      writeSync(file, makePage(block, isDamaged), 0, PAGE_BYTES, at);
      closeSync(file);
    }
  }

  /** The block that a buffer's page says it is. */
  blockOf(buffer: number): number {
    const page = this.manager.page(buffer);
    return new DataView(page.buffer, page.byteOffset).getUint32(BLOCK_AT, true);
  }

  /** Blocks of the table, below `blocks`, that are in the pool and valid. */
  cachedBlocks(blocks: number): number[] {
    const cached: number[] = [];
    for (let block = 0; block < blocks; block += 1) {
      const buffer = this.manager.tryRead(TABLE, block);
      if (buffer === 0) continue;
      this.manager.release(buffer);
      cached.push(block);
    }
    return cached;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.manager.detachAsync();
    await this.pool.close();
    rmSync(this.directory, { recursive: true });
    if (this.warnings.length > 0) throw new Error(`the backend left something: ${this.warnings.join()}`);
  }

  #path(relation: Relation, block: number): string {
    const path = join(this.directory, relationPath(relation, FORK.main, "PG_18_202506291"));
    return segmentPath(path, Math.floor(block / this.#segmentBlocks));
  }

  /** Makes segments that are all holes. */
  #extend(relation: Relation, blocks: number): void {
    for (let first = 0; first < blocks; first += this.#segmentBlocks) {
      const path = this.#path(relation, first);
      mkdirSync(dirname(path), { recursive: true });
      const file = openSync(path, "w");
      ftruncateSync(file, Math.min(this.#segmentBlocks, blocks - first) * PAGE_BYTES);
      closeSync(file);
    }
  }
}

/**
 * Pools for benchmarks: a pool over files of zeros, and this thread as a backend that may sleep.
 *
 * PostgreSQL leaves pages of zeros where it has extended a file and written nothing, and takes them for valid; so a sparse
 * file is a relation of any size that costs no disk.
 */
import { closeSync, ftruncateSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";

import { BufferManager, BufferPool, segmentedFiles } from "@millrace/buffer-manager";
import type { PoolOptions, PoolShared, Relation } from "@millrace/buffer-manager";

export const PAGE_BYTES = 8192;
/** Blocks of a segment file. */
const SEGMENT_BLOCKS = 131_072;

/** A relation of the benchmark's database. */
export function relation(number: number): Relation {
  return { tablespace: 1663, database: 1, relation: number };
}

/** Makes a relation of zeros. */
export function createZeroRelation(
  directory: string,
  { database, relation: number }: Relation,
  blocks: number,
): void {
  const base = join(directory, "base", String(database));
  mkdirSync(base, { recursive: true });
  for (let segment = 0; segment * SEGMENT_BLOCKS < Math.max(1, blocks); segment += 1) {
    const name = segment === 0 ? String(number) : `${number}.${segment}`;
    const fd = openSync(join(base, name), "w");
    ftruncateSync(fd, Math.min(blocks - segment * SEGMENT_BLOCKS, SEGMENT_BLOCKS) * PAGE_BYTES);
    closeSync(fd);
  }
}

/** Makes this thread a backend of a pool. */
export function attach(shared: PoolShared, directory: string): BufferManager {
  return BufferManager.attach(shared, { files: segmentedFiles({ directory }), mayBlock: true });
}

/** A pool and this thread's part in it. Disposing ends both. */
export class PoolGround implements AsyncDisposable {
  readonly pool: BufferPool;
  readonly manager: BufferManager;
  readonly directory: string;

  constructor(directory: string, options: PoolOptions) {
    this.directory = directory;
    this.pool = BufferPool.create(options);
    this.manager = attach(this.pool.shared, directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.manager.detach();
    await this.pool.close();
  }
}

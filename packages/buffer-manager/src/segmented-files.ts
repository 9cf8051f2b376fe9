/**
 * Relations in files as PostgreSQL lays them out: a fork is a file, cut into segments of 1 GiB, all full but the last.
 *
 * I/O on blocks never spans two segments (`runMax`). What is kept open is bounded, and everything is done under the leases
 * of this thread. Sizes are asked of the file system each time, because other threads extend relations too; only which
 * segment was last once is remembered. After a failed sync the kernel may have dropped what was written: from then on every
 * call, in every thread of the pool, is refused, until the pool is made anew and recovered. After md.c of PostgreSQL 18.
 */
import { closeSync, existsSync, fdatasync, fdatasyncSync, fstatSync, fsyncSync, openSync } from "node:fs";
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { AioBackend, IoHandle, IoVector } from "@millrace/aio";
import { FADVISE, fadvise, nativeStatus, SYNC_FILE_RANGE, syncFileRange } from "@millrace/io-uring";

import { ClusterPaths } from "./cluster-paths.js";
import { BufferError } from "./errors.js";
import type { FileLayer } from "./file-layer.js";
import { POOL_CALLBACK, POOL_TARGET } from "./io-ids.js";
import { HEADER } from "./layout.js";
import { OpenFiles } from "./open-files.js";
import type { OpenFile } from "./open-files.js";
import type { PoolShared } from "./pool-core.js";
import { segmentPath } from "./relation-path.js";
import { fillRelationTarget, RELATION_WORDS } from "./relation-target.js";
import { PAGE_BYTES } from "./settings.js";
import type { Fork, Relation } from "./tag.js";
import { zeroBlocks } from "./zero-blocks.js";

/** Descriptors of a thread; eight threads with so many fill the table of files that a system has by default. */
const DESCRIPTORS_MAX = 128;
const fdatasyncAsync = promisify(fdatasync);

/** Where data files are. */
export interface SegmentedFilesOptions {
  /** A data directory, or one that is laid out like it. */
  readonly directory: string;
  /** Path of a fork's first segment below it; PostgreSQL's unless given. */
  readonly path?: (relation: Relation, fork: Fork) => string;
  /** Descriptors of this thread at a time; 128 unless said otherwise. */
  readonly descriptorsMax?: number;
  /** Open files for reading only. */
  readonly isReadOnly?: boolean;
}

/** A fork whose files have been used. */
interface ForkFiles {
  readonly relation: Relation;
  readonly fork: Fork;
  readonly path: string;
  readonly segments: (OpenFile | undefined)[];
  /** The segment that was the last one when it was last looked for. */
  lastSegment: number;
}

/**
 * The files of a data directory, for the `files` of whoever attaches to a pool.
 *
 * Segment size and direct I/O are the pool's settings.
 */
export function segmentedFiles(
  options: SegmentedFilesOptions,
): (aio: AioBackend, shared: PoolShared) => SegmentedFiles {
  return (aio, shared) => new SegmentedFiles(aio, shared, options);
}

/** The files of one thread. Made by {@link segmentedFiles}. */
export class SegmentedFiles implements FileLayer {
  readonly isDirect: boolean;
  readonly canAdvise: boolean;
  readonly #directory: string;
  readonly #path: (relation: Relation, fork: Fork) => string;
  readonly #files: OpenFiles;
  readonly #words: Int32Array;
  readonly #segmentBlocks: number;
  readonly #forks = new Map<number, ForkFiles[]>();
  readonly #target = new Int32Array(RELATION_WORDS.count);
  /** Directories in which a file was made since its fork was last synced. */
  readonly #changedDirectories = new Set<string>();
  #last: ForkFiles | undefined;

  constructor(aio: AioBackend, { control, settings }: PoolShared, options: SegmentedFilesOptions) {
    const { directory, path, descriptorsMax = DESCRIPTORS_MAX, isReadOnly = false } = options;
    this.isDirect = settings.direct;
    this.canAdvise = !settings.direct && nativeStatus().available;
    this.#directory = directory;
    const paths = new ClusterPaths(directory);
    this.#path = path ?? ((relation, fork) => paths.pathOf(relation, fork));
    this.#files = new OpenFiles(aio, { max: descriptorsMax, isDirect: settings.direct, isReadOnly });
    this.#words = new Int32Array(control.buffer);
    this.#segmentBlocks = settings.segmentBlocks;
  }

  /** Descriptors that are open. */
  get openCount(): number {
    return this.#files.size;
  }

  exists(relation: Relation, fork: Fork): boolean {
    return existsSync(this.#fork(relation, fork).path);
  }

  blocks(relation: Relation, fork: Fork): number {
    const files = this.#fork(relation, fork);
    let segment = files.lastSegment;
    let blocks = this.#segmentSize(files, segment) ?? 0;
    // The fork has become shorter, or was another one: the remembered segment says nothing any more.
    if (blocks === 0 && segment > 0) {
      segment = 0;
      blocks = this.#segmentSize(files, 0) ?? 0;
    }
    if (segment === 0 && blocks === 0 && this.#open(files, 0, false) === undefined) throw missing(files.path);
    while (blocks >= this.#segmentBlocks) {
      const next = this.#segmentSize(files, segment + 1);
      if (next === undefined) break;
      segment += 1;
      blocks = next;
    }
    files.lastSegment = segment;
    return segment * this.#segmentBlocks + Math.min(blocks, this.#segmentBlocks);
  }

  runMax(block: number): number {
    return this.#segmentBlocks - (block % this.#segmentBlocks);
  }

  startRead(
    handle: IoHandle,
    relation: Relation,
    fork: Fork,
    block: number,
    vectors: readonly IoVector[],
    count: number,
  ): void {
    this.#start(handle, false, relation, fork, block, vectors, count);
  }

  startWrite(
    handle: IoHandle,
    relation: Relation,
    fork: Fork,
    block: number,
    vectors: readonly IoVector[],
    count: number,
  ): void {
    this.#start(handle, true, relation, fork, block, vectors, count);
  }

  zeroExtend(relation: Relation, fork: Fork, block: number, count: number): void {
    this.#checkPoison();
    const files = this.#fork(relation, fork);
    for (let done = 0; done < count;) {
      const run = Math.min(count - done, this.runMax(block + done));
      const segment = Math.floor((block + done) / this.#segmentBlocks);
      const file = this.#open(files, segment, true);
      if (file === undefined) throw missing(segmentPath(files.path, segment));
      try {
        zeroBlocks(file.fd, this.#offset(block + done), run * PAGE_BYTES);
      } catch (cause) {
        const { code } = cause as NodeJS.ErrnoException;
        throw new BufferError("ERR_BUFFER_FILE", `could not extend "${file.path}": ${code ?? ""}`, { cause });
      }
      done += run;
    }
  }

  advise(relation: Relation, fork: Fork, block: number, count: number): boolean {
    if (!this.canAdvise) return false;
    return this.#forRuns(relation, fork, block, count, (fd, offset, length) => {
      return fadvise(fd, offset, length, FADVISE.willNeed) === 0;
    });
  }

  writeBack(relation: Relation, fork: Fork, block: number, count: number): void {
    if (this.isDirect || !nativeStatus().available) return;
    this.#forRuns(relation, fork, block, count, (fd, offset, length) => {
      return syncFileRange(fd, offset, length, SYNC_FILE_RANGE.write) === 0;
    });
  }

  sync(relation: Relation, fork: Fork): void {
    this.#checkPoison();
    const files = this.#fork(relation, fork);
    try {
      for (let segment = 0; ; segment++) {
        const file = this.#open(files, segment, false);
        if (file === undefined) break;
        fdatasyncSync(file.fd);
      }
      const directory = dirname(files.path);
      if (this.#changedDirectories.delete(directory)) syncDirectory(directory);
    } catch (cause) {
      throw this.#poison(files.path, cause);
    }
  }

  async syncAsync(relation: Relation, fork: Fork): Promise<void> {
    this.#checkPoison();
    const files = this.#fork(relation, fork);
    try {
      for (let segment = 0; ; segment++) {
        const file = this.#open(files, segment, false);
        if (file === undefined) break;
        await this.#files.whileOpen(file, fdatasyncAsync);
      }
      const directory = dirname(files.path);
      // Before it is synced: a file that is made meanwhile is the next sync's.
      if (this.#changedDirectories.delete(directory)) await syncDirectoryAsync(directory);
    } catch (cause) {
      throw this.#poison(files.path, cause);
    }
  }

  fileName(relation: Relation, fork: Fork, block: number): string {
    return segmentPath(this.#fork(relation, fork).path, Math.floor(block / this.#segmentBlocks));
  }

  /** Closes the descriptors of a relation whose files have been removed, or are about to be. */
  forget(relation: Relation): void {
    const forks = this.#forks.get(relation.relation) ?? [];
    for (const files of forks.filter((files) => isSame(files.relation, relation))) {
      for (const file of files.segments) if (file !== undefined) this.#files.close(file);
      forks.splice(forks.indexOf(files), 1);
    }
    this.#last = undefined;
  }

  close(): void {
    this.#files.closeAll();
  }

  /** As `close`, for a thread that must not sleep. Resolves once all descriptors are closed. */
  async closeAsync(): Promise<void> {
    await this.#files.closeAllAsync();
  }

  #start(
    handle: IoHandle,
    isWrite: boolean,
    relation: Relation,
    fork: Fork,
    block: number,
    vectors: readonly IoVector[],
    count: number,
  ): void {
    this.#checkPoison();
    const { lease } = this.#segmentOf(relation, fork, block);
    fillRelationTarget(this.#target, relation, fork, block, count);
    handle
      .setTarget(POOL_TARGET.relation, this.#target)
      .addCallback(isWrite ? POOL_CALLBACK.blocksWritten : POOL_CALLBACK.blocksRead);
    if (!this.isDirect) handle.flag("buffered");
    const [only] = vectors;
    if (vectors.length === 1 && only !== undefined) {
      const { segment, offsetBytes, lengthBytes } = only;
      handle.startTransfer(isWrite, lease, segment, offsetBytes, lengthBytes, this.#offset(block));
    } else if (isWrite) {
      handle.startWritev(lease, vectors, this.#offset(block));
    } else {
      handle.startReadv(lease, vectors, this.#offset(block));
    }
  }

  /** Calls `run` for each segment's part of some blocks. @returns whether all calls said so */
  #forRuns(
    relation: Relation,
    fork: Fork,
    block: number,
    count: number,
    run: (fd: number, offset: number, length: number) => boolean,
  ): boolean {
    const files = this.#fork(relation, fork);
    for (let done = 0; done < count;) {
      const blocks = Math.min(count - done, this.runMax(block + done));
      const file = this.#open(files, Math.floor((block + done) / this.#segmentBlocks), false);
      if (file === undefined) return false;
      if (!run(file.fd, this.#offset(block + done), blocks * PAGE_BYTES)) return false;
      done += blocks;
    }
    return true;
  }

  #offset(block: number): number {
    return (block % this.#segmentBlocks) * PAGE_BYTES;
  }

  /** The open file that a block is in. */
  #segmentOf(relation: Relation, fork: Fork, block: number): OpenFile {
    const files = this.#fork(relation, fork);
    const segment = Math.floor(block / this.#segmentBlocks);
    const file = this.#open(files, segment, false);
    if (file === undefined) throw missing(segmentPath(files.path, segment));
    return file;
  }

  #open(files: ForkFiles, segment: number, isCreating: boolean): OpenFile | undefined {
    const known = files.segments[segment];
    if (known?.isOpen === true) return this.#files.use(known);
    const path = segmentPath(files.path, segment);
    let file = this.#files.open(path, false);
    if (file === undefined && isCreating) {
      file = this.#files.open(path, true);
      this.#changedDirectories.add(dirname(path));
    }
    files.segments[segment] = file;
    return file;
  }

  /** Whole blocks of a segment; undefined if there is none. */
  #segmentSize(files: ForkFiles, segment: number): number | undefined {
    const file = this.#open(files, segment, false);
    return file === undefined ? undefined : Math.floor(fstatSync(file.fd).size / PAGE_BYTES);
  }

  #fork(relation: Relation, fork: Fork): ForkFiles {
    const last = this.#last;
    if (last !== undefined && last.fork === fork && isSame(last.relation, relation)) return last;
    let forks = this.#forks.get(relation.relation);
    if (forks === undefined) {
      forks = [];
      this.#forks.set(relation.relation, forks);
    }
    let files = forks.find((files) => files.fork === fork && isSame(files.relation, relation));
    if (files === undefined) {
      const path = join(this.#directory, this.#path(relation, fork));
      files = { relation, fork, path, segments: [], lastSegment: 0 };
      forks.push(files);
    }
    this.#last = files;
    return files;
  }

  #poison(path: string, cause: unknown): BufferError {
    Atomics.store(this.#words, HEADER.syncFailed, 1);
    return new BufferError("ERR_BUFFER_POISONED", `could not sync "${path}"`, { cause });
  }

  #checkPoison(): void {
    if (this.#words[HEADER.syncFailed] === 0) return;
    const message = "a sync of a data file has failed: what is durable is unknown, recover with a new pool";
    throw new BufferError("ERR_BUFFER_POISONED", message);
  }
}

function isSame(one: Relation, other: Relation): boolean {
  return (
    one.relation === other.relation &&
    one.database === other.database &&
    one.tablespace === other.tablespace &&
    one.owner === other.owner
  );
}

function missing(path: string): BufferError {
  return new BufferError("ERR_BUFFER_FILE", `could not open "${path}": there is no such file`);
}

function syncDirectory(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

async function syncDirectoryAsync(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

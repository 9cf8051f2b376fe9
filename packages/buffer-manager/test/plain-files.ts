/**
 * Files of blocks without segments, tablespaces or callbacks of their own: one file a fork in a directory that goes away.
 */
import {
  closeSync,
  fstatSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { FILE_CALLBACK, FILE_TARGET } from "@millrace/aio";
import type { AioBackend, FileLease, IoHandle, IoVector } from "@millrace/aio";

import type { FileLayer } from "../src/file-layer.js";
import { PAGE_BYTES } from "../src/settings.js";
import type { Fork, Relation } from "../src/tag.js";

/** A directory. */
export class Directory implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "millrace-pool-"));

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** The file layer of a test. Files come into being when they are first used. */
export class PlainFiles implements FileLayer {
  readonly isDirect = false;
  readonly canAdvise = false;
  /** Blocks in calls of `zeroExtend`, so far. */
  readonly extensions: number[] = [];
  readonly #aio: AioBackend;
  readonly #directory: string;
  readonly #leases = new Map<string, FileLease>();

  constructor(aio: AioBackend, directory: string) {
    this.#aio = aio;
    this.#directory = directory;
  }

  lease(relation: Relation, fork: Fork): FileLease {
    const name = this.fileName(relation, fork);
    let lease = this.#leases.get(name);
    if (lease === undefined) {
      closeSync(openSync(name, "a"));
      lease = this.#aio.openLease(openSync(name, "r+"));
      this.#leases.set(name, lease);
    }
    return lease;
  }

  exists(): boolean {
    return true;
  }

  blocks(relation: Relation, fork: Fork): number {
    return Math.floor(fstatSync(this.lease(relation, fork).fd).size / PAGE_BYTES);
  }

  runMax(): number {
    return Infinity;
  }

  startRead(
    handle: IoHandle,
    relation: Relation,
    fork: Fork,
    block: number,
    vectors: readonly IoVector[],
  ): void {
    const lease = this.lease(relation, fork);
    handle.setTarget(FILE_TARGET, [lease.fd, lease.slot]).addCallback(FILE_CALLBACK);
    handle.startReadv(lease, vectors, block * PAGE_BYTES);
  }

  startWrite(
    handle: IoHandle,
    relation: Relation,
    fork: Fork,
    block: number,
    vectors: readonly IoVector[],
  ): void {
    const lease = this.lease(relation, fork);
    handle.setTarget(FILE_TARGET, [lease.fd, lease.slot]).addCallback(FILE_CALLBACK);
    handle.startWritev(lease, vectors, block * PAGE_BYTES);
  }

  zeroExtend(relation: Relation, fork: Fork, block: number, count: number): void {
    this.extensions.push(count);
    writeSync(this.lease(relation, fork).fd, new Uint8Array(count * PAGE_BYTES), 0, null, block * PAGE_BYTES);
  }

  /** Cuts a file off after so many blocks; one that is shorter stays as it is. */
  truncate(relation: Relation, fork: Fork, blocks: number): void {
    if (this.blocks(relation, fork) > blocks)
      ftruncateSync(this.lease(relation, fork).fd, blocks * PAGE_BYTES);
  }

  /** A block as it is in the file. */
  readBlock(relation: Relation, fork: Fork, block: number, target: Uint8Array): number {
    return readSync(this.lease(relation, fork).fd, target, 0, PAGE_BYTES, block * PAGE_BYTES);
  }

  advise(): boolean {
    return false;
  }

  writeBack(): void {
    // Nothing to hint at.
  }

  sync(): void {
    // Nothing here outlives the test.
  }

  fileName(relation: Relation, fork: Fork): string {
    return join(this.#directory, `${relation.database}-${relation.relation}-${fork}`);
  }

  close(): void {
    for (const lease of this.#leases.values()) {
      this.#aio.closingFile(lease);
      closeSync(lease.fd);
    }
    this.#leases.clear();
  }

  async closeAsync(): Promise<void> {
    for (const lease of this.#leases.values()) {
      await this.#aio.closingFileAsync(lease);
      closeSync(lease.fd);
    }
    this.#leases.clear();
  }
}

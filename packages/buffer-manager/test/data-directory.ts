/**
 * A data directory of a test: PostgreSQL's layout, pages that are valid and say which block they are, small segments.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pageChecksum } from "@millrace/checksums";
import { probeUring } from "@millrace/io-uring";

import { relationPath, segmentPath } from "../src/relation-path.js";
import { FORK } from "../src/tag.js";
import type { Fork, Relation } from "../src/tag.js";

/** A page. */
export const PAGE = 8192;
/** Methods of I/O that run here. */
export const METHODS: readonly ("sync" | "worker" | "io_uring")[] = probeUring().available
  ? ["sync", "worker", "io_uring"]
  : ["sync", "worker"];

/** A relation of the default tablespace. */
export const TABLE: Relation = { tablespace: 1663, database: 5, relation: 16_384 };

const HEADER = { checksum: 8, flags: 10, lower: 12, upper: 14, special: 16, sizeVersion: 18 };

/** Where a test spoils a page. */
export interface Damage {
  /** The checksum does not fit. */
  readonly checksum?: boolean;
  /** The header makes no sense; its checksum is right unless that is spoilt too. */
  readonly header?: boolean;
}

/** A valid page: its block number is behind the header and at its end. */
export function makePage(block: number, damage: Damage = {}): Buffer {
  const page = Buffer.alloc(PAGE);
  page.writeUInt16LE(damage.header === true ? 0xffff : 0, HEADER.flags);
  page.writeUInt16LE(28, HEADER.lower);
  page.writeUInt16LE(PAGE - 8, HEADER.upper);
  page.writeUInt16LE(PAGE, HEADER.special);
  page.writeUInt16LE(0x2004, HEADER.sizeVersion);
  page.writeUInt32LE(block, 24);
  page.writeUInt32LE(block, PAGE - 8);
  const checksum = pageChecksum(page, block);
  page.writeUInt16LE(damage.checksum === true ? checksum ^ 0x5555 : checksum, HEADER.checksum);
  return page;
}

/** The block that a page says it is. */
export function blockOf(page: Uint8Array): number {
  return Buffer.from(page.buffer, page.byteOffset, page.byteLength).readUInt32LE(24);
}

/** A directory. */
export class DataDirectory implements Disposable {
  readonly path: string = mkdtempSync(join(tmpdir(), "millrace-pool-"));
  readonly segmentBlocks: number;

  constructor(segmentBlocks = 131_072) {
    this.segmentBlocks = segmentBlocks;
  }

  /** Path of the segment that a block is in. */
  segment(relation: Relation, block: number, fork: Fork = FORK.main): string {
    const path = join(this.path, relationPath(relation, fork, "PG_18_202506291"));
    return segmentPath(path, Math.floor(block / this.segmentBlocks));
  }

  /** Writes the blocks 0..`blocks` - 1 of a fork, cut into segments. */
  writeBlocks(relation: Relation, blocks: number, fork: Fork = FORK.main): void {
    for (let first = 0; first === 0 || first < blocks; first += this.segmentBlocks) {
      const count = Math.min(this.segmentBlocks, blocks - first);
      const path = this.segment(relation, first, fork);
      mkdirSync(dirname(path), { recursive: true });
      const pages = Array.from({ length: count }, (_, index) => makePage(first + index));
      writeFileSync(path, Buffer.concat(pages));
    }
  }

  /** Writes one block. */
  writeBlock(relation: Relation, block: number, page: Uint8Array, fork: Fork = FORK.main): void {
    const path = this.segment(relation, block, fork);
    const bytes = readFileSync(path);
    bytes.set(page, (block % this.segmentBlocks) * PAGE);
    writeFileSync(path, bytes);
  }

  /** Bytes of the segment that a block is in. */
  sizeOf(relation: Relation, block: number, fork: Fork = FORK.main): number {
    return statSync(this.segment(relation, block, fork)).size;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

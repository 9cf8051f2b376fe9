/**
 * Data files that PostgreSQL itself wrote: every page of a cluster is valid in the pool and equal to the file's, and one that is
 * spoilt is found by file and block, as pg_checksums finds it.
 */
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { PostgresCluster, postgresOrSkip, temporaryDirectory } from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { BufferPool } from "../src/pool.js";
import { DEFAULT_TABLESPACE, GLOBAL_TABLESPACE } from "../src/relation-path.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { FORK } from "../src/tag.js";
import type { Fork, Relation } from "../src/tag.js";
import { METHODS, PAGE } from "./data-directory.js";

/** A fork of a relation, and its file. */
interface ForkFile {
  readonly relation: Relation;
  readonly fork: Fork;
  readonly path: string;
}

const SUFFIXES: Readonly<Record<string, Fork>> = {
  "": FORK.main,
  _fsm: FORK.fsm,
  _vm: FORK.vm,
  _init: FORK.init,
};

/** Forks in a directory. None of a fresh cluster has a second segment. */
function forksIn(directory: string, tablespace: number, database: number): ForkFile[] {
  return readdirSync(directory).flatMap((name) => {
    const [, number, suffix] = /^(\d+)(|_fsm|_vm|_init)$/.exec(name) ?? [];
    const fork = SUFFIXES[suffix ?? ""];
    if (number === undefined || fork === undefined) return [];
    const relation = { tablespace, database, relation: Number(number) };
    return [{ relation, fork, path: join(directory, name) }];
  });
}

/** Every fork of a cluster. */
function forksOf(dataDirectory: string): ForkFile[] {
  const base = join(dataDirectory, "base");
  const databases = readdirSync(base).filter((name) => /^\d+$/.test(name));
  return [
    ...forksIn(join(dataDirectory, "global"), GLOBAL_TABLESPACE, 0),
    ...databases.flatMap((name) => forksIn(join(base, name), DEFAULT_TABLESPACE, Number(name))),
  ];
}

/** Compares a fork with its file. @returns its blocks */
async function compare(manager: BufferManager, { relation, fork, path }: ForkFile): Promise<number> {
  const bytes = readFileSync(path);
  const blocks = bytes.length / PAGE;
  const operation = manager.createReadOperation(relation, fork, manager.ring("bulkread"));
  const buffers = new Int32Array(manager.combineLimit);
  for (let block = 0; block < blocks;) {
    const wanted = Math.min(manager.combineLimit, blocks - block);
    const covered = await manager.startReadAsync(operation, buffers, 0, block, wanted);
    if (operation.needWait) await manager.waitReadAsync(operation);
    for (let index = 0; index < covered; index++) {
      const at = (block + index) * PAGE;
      const isSame = bytes.subarray(at, at + PAGE).equals(manager.page(buffers[index] ?? 0));
      expect(isSame, `block ${block + index} of ${path}`).toBe(true);
    }
    for (const [index, buffer] of buffers.entries()) {
      if (buffer !== 0) manager.release(buffer);
      buffers[index] = 0;
    }
    block += covered;
  }
  return blocks;
}

/** Changes one byte of a page that its header does not show. */
function spoil(path: string, block: number): void {
  const fd = openSync(path, "r+");
  const byte = Buffer.alloc(1);
  const at = block * PAGE + PAGE - 100;
  readSync(fd, byte, 0, 1, at);
  writeSync(fd, Buffer.of((byte[0] ?? 0) ^ 0xff), 0, 1, at);
  closeSync(fd);
}

describe.each(["system", "embedded"] as const)("files of the %s PostgreSQL", (flavour) => {
  const { installation, skip } = postgresOrSkip(flavour);

  // Aim: PostgreSQL's pages are read as they are and none is refused. Method: all forks of a fresh cluster with checksums, with
  // the best method, past the page cache; then one page is spoilt.
  test.skipIf(skip !== "")(`are read page for page, and a spoilt page is found ${skip}`, async () => {
    if (installation === undefined) return;
    await using place = await temporaryDirectory();
    const initdbArguments = ["--no-sync", "--data-checksums"];
    await using cluster = await PostgresCluster.create({
      installation,
      directory: join(place.path, "pg"),
      initdbArguments,
    });
    const directory = cluster.dataDirectory;
    const aio = { method: METHODS.at(-1) ?? "sync", required: true };
    await using pool = BufferPool.create({ buffers: 2048, direct: true, aio });
    await using manager = BufferManager.attach(pool.shared, {
      files: segmentedFiles({ directory, isReadOnly: true }),
    });
    const forks = forksOf(directory);
    let blocks = 0;
    for (const fork of forks) blocks += await compare(manager, fork);
    expect(forks.length).toBeGreaterThan(500);
    expect(blocks).toBeGreaterThan(2000);
    expect(manager.checksumFailures()).toEqual([]);

    const table = forks.findLast(({ fork, path }) => fork === FORK.main && statSync(path).size > 4 * PAGE);
    if (table === undefined) throw new Error("no table of a fresh cluster has five pages");
    spoil(table.path, 3);
    await manager.evictAllAsync();
    const { relation } = table;
    await expect(manager.readAsync(relation, 2)).resolves.toBeGreaterThan(0);
    await expect(manager.readAsync(relation, 3)).rejects.toMatchObject({
      code: "ERR_BUFFER_INVALID_PAGE",
      block: 3,
      message: `invalid page in block 3 of "${table.path}"`,
    });
    expect(manager.checksumFailures()).toEqual([{ database: relation.database, failures: 1 }]);
  });
});

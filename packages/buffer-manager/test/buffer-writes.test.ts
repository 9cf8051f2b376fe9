/**
 * The writing calls of a manager: buffer numbers, scopes, both forms, and threads that write at the same time.
 */
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { allForks } from "../src/drop.js";
import { BufferPool } from "../src/pool.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { FORK } from "../src/tag.js";
import { DataDirectory, METHODS, PAGE, TABLE } from "./data-directory.js";

/** Where `fill` puts the value: behind the header, on a page that is otherwise empty. */
const VALUE_AT = 100;

class World implements AsyncDisposable {
  readonly directory = new DataDirectory();
  readonly pool: BufferPool;
  readonly manager: BufferManager;
  flushed = 0n;

  constructor(method: (typeof METHODS)[number], mayBlock = true) {
    mkdirSync(dirname(this.directory.segment(TABLE, 0)), { recursive: true });
    closeSync(openSync(this.directory.segment(TABLE, 0), "w"));
    this.pool = BufferPool.create({ buffers: 64, backends: 4, aio: { method, required: true } });
    this.manager = BufferManager.attach(this.pool.shared, {
      files: segmentedFiles({ directory: this.directory.path }),
      mayBlock,
      wal: {
        flush: (lsn) => {
          this.flushed = lsn;
        },
        isDurable: (lsn) => lsn <= this.flushed,
      },
    });
  }

  /** Changes a pinned page. */
  change(buffer: number, value: number): void {
    this.manager.lock(buffer, "exclusive");
    this.manager.page(buffer)[VALUE_AT] = value;
    this.manager.page(buffer)[4] = value;
    this.manager.markDirty(buffer);
    this.manager.unlock(buffer);
  }

  stored(block: number): number {
    return readFileSync(this.directory.segment(TABLE, block))[block * PAGE + VALUE_AT] as number;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.manager.detachAsync();
    await this.pool.close();
    this.directory[Symbol.dispose]();
  }
}

const refused = (code: string): unknown => expect.objectContaining({ code });

describe.each(METHODS)("a manager with method %s", (method) => {
  test("extends, changes, writes, evicts and drops pages by their numbers", async () => {
    await using world = new World(method);
    const { manager } = world;
    const { first, buffers } = manager.extend(TABLE, 3);
    expect([first, buffers]).toEqual([0, [1]]);
    const [buffer = 0] = buffers;
    world.change(buffer, 5);
    manager.flush(buffer);
    expect([world.stored(0), world.flushed]).toEqual([5, 5n]);
    manager.release(buffer);
    const last = manager.extendTo(TABLE, 4);
    expect(manager.tag(last)).toEqual({ ...TABLE, fork: FORK.main, block: 3 });
    expect(manager.extendTo(TABLE, 4), "it has so many already").toBe(last);
    manager.release(last);
    world.change(last, 6);
    expect(manager.evict(last)).toEqual({ evicted: false, flushed: false });
    manager.release(last);
    expect(manager.checkpoint({ isImmediate: true })).toMatchObject({ marked: 1, written: 1 });
    expect(world.stored(3)).toBe(6);
    expect(manager.flushRelation(TABLE) + manager.flushDatabase(TABLE.database)).toBe(0);
    expect(manager.evict(last)).toEqual({ evicted: true, flushed: false });
    expect(manager.tryRead(TABLE, 3)).toBe(0);
    expect(manager.evictRelation(TABLE)).toEqual({ evicted: 3, flushed: 0, skipped: 0 });
    manager.release(manager.extendTo(TABLE, 5));
    expect(manager.evictAll()).toEqual({ evicted: 1, flushed: 0, skipped: 0 });
    manager.release(manager.extendTo(TABLE, 6));
    expect(manager.dropForks(TABLE, allForks())).toBe(1);
    expect(manager.dropRelations([TABLE]) + manager.dropDatabase(TABLE.database)).toBe(0);
    expect(manager.createBackgroundWriter().cycle()).toMatchObject({ written: 0 });
  });

  test("does the same without sleeping", async () => {
    await using world = new World(method, false);
    const { manager } = world;
    const { buffers } = await manager.extendAsync(TABLE, 1);
    const [buffer = 0] = buffers;
    world.change(buffer, 7);
    await manager.flushAsync(buffer);
    expect(world.stored(0)).toBe(7);
    world.change(buffer, 8);
    manager.release(buffer);
    expect(await manager.checkpointAsync({ isImmediate: true })).toMatchObject({ written: 1 });
    expect(world.stored(0)).toBe(8);
    manager.release(await manager.extendToAsync(TABLE, 3));
    expect(await manager.flushRelationAsync(TABLE)).toBe(0);
    expect(await manager.flushDatabaseAsync(TABLE.database)).toBe(0);
    expect(await manager.evictAsync(buffer)).toEqual({ evicted: true, flushed: false });
    expect(await manager.evictRelationAsync(TABLE)).toMatchObject({ evicted: 2 });
    expect(await manager.evictAllAsync()).toMatchObject({ evicted: 0 });
    expect(await manager.dropForksAsync(TABLE, allForks())).toBe(0);
    expect(await manager.dropRelationsAsync([TABLE])).toBe(0);
    expect(await manager.dropDatabaseAsync(TABLE.database)).toBe(0);
  });

  // Aim: threads that change pages and one that writes checkpoints over and over lose nothing. Method: two threads count each
  // page up under its lock, in a pool too small for all pages; every page must be in its file with the sum at the end.
  test("shares its pages with threads that change and write them", async () => {
    await using world = new World(method);
    const { manager, pool, directory } = world;
    const blocks = 32;
    manager.release(manager.extendTo(TABLE, blocks));
    const rounds = 300;
    const start = async (role: string): Promise<void> => {
      const worker = new Worker(new URL("writing-thread.mjs", import.meta.url), {
        execArgv: [],
        workerData: { shared: pool.shared, directory: directory.path, table: TABLE, role, blocks, rounds },
      });
      await new Promise<void>((resolve, reject) => {
        worker.once("error", reject);
        worker.once("exit", (code) => {
          if (code === 0) resolve();
          else reject(new Error(`exit ${code}`));
        });
      });
    };
    await Promise.all([start("change"), start("change"), start("checkpoint")]);
    await manager.checkpointAsync({ isImmediate: true });
    const file = readFileSync(directory.segment(TABLE, 0));
    let sum = 0;
    for (let block = 0; block < blocks; block++) sum += file.readUInt32LE(block * PAGE + VALUE_AT);
    expect(sum).toBe(2 * rounds);
    expect(manager.evictAll(), "nothing is pinned or locked any more").toMatchObject({
      skipped: 0,
      flushed: 0,
    });
  });
});

// Aim: a background writer in a thread of its own, asleep for ten seconds at a time, ends when it is told to. Method: real
// threads; it is told when it has been made, whether it runs already or not.
test("a background writer in another thread is stopped from here", async () => {
  await using world = new World("sync");
  expect(world.pool.stopBackgroundWriter()).toBe(false);
  const worker = new Worker(new URL("writing-thread.mjs", import.meta.url), {
    execArgv: [],
    workerData: {
      shared: world.pool.shared,
      directory: world.directory.path,
      table: TABLE,
      role: "background",
    },
  });
  const exit = once(worker, "exit");
  await once(worker, "message");
  expect(() => world.manager.createBackgroundWriter()).toThrow(refused("ERR_BUFFER_LIMIT"));
  expect(world.pool.stopBackgroundWriter()).toBe(true);
  expect(await exit).toEqual([0]);
  expect(world.manager.createBackgroundWriter().cycle()).toMatchObject({ written: 0 });
}, 9000);

test("pins of an extension belong to the scope, and what is wrong is refused", async () => {
  await using world = new World("sync");
  const { manager } = world;
  const scope = manager.openScope();
  manager.extend(TABLE, 1);
  manager.extendTo(TABLE, 2);
  expect(scope.pinCount).toBe(2);
  scope.end(true);
  expect(manager.evictAll()).toMatchObject({ evicted: 2, skipped: 0 });
  const bad = refused("ERR_BUFFER_BAD_ID");
  expect(() => manager.flush(1)).toThrow(bad);
  expect(() => manager.markDirty(1)).toThrow(bad);
  expect(() => manager.markDirtyHint(1)).toThrow(bad);
  for (const buffer of [0, -1, 65, 1.5]) expect(() => manager.evict(buffer)).toThrow(bad);
  const buffer = manager.extendTo(TABLE, 3, { mode: "zeroAndLock" });
  expect(() => manager.flush(buffer)).toThrow(refused("ERR_BUFFER_WOULD_BLOCK"));
  manager.unlock(buffer);
  manager.release(buffer);
  manager.detach();
  expect(() => manager.checkpoint()).toThrow(refused("ERR_BUFFER_CLOSED"));
  await expect(manager.checkpointAsync()).rejects.toThrow(refused("ERR_BUFFER_CLOSED"));
});

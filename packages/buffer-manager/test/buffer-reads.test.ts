/**
 * The reading calls of a buffer manager: pins noted in scopes, temporary relations beside others, and several real threads.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { openPool } from "../src/pool-core.js";
import { BufferPool } from "../src/pool.js";
import type { PoolOptions } from "../src/pool.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { readStatistics } from "../src/io-statistics.js";
import type { Relation } from "../src/tag.js";
import { blockOf, DataDirectory, makePage, METHODS, TABLE } from "./data-directory.js";

const code = (code: string): unknown => expect.objectContaining({ code });

/** A pool, and a manager of this thread. */
class World implements AsyncDisposable {
  readonly directory: DataDirectory = new DataDirectory();
  readonly pool: BufferPool;
  readonly manager: BufferManager;
  readonly warnings: string[] = [];

  constructor(method: (typeof METHODS)[number], options: PoolOptions = {}) {
    this.pool = BufferPool.create({ buffers: 64, backends: 9, ...options, aio: { method, required: true } });
    this.manager = BufferManager.attach(this.pool.shared, {
      files: segmentedFiles({ directory: this.directory.path }),
      mayBlock: true,
      onWarning: (code) => void this.warnings.push(code),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.manager.detachAsync();
    await this.pool.close();
    this.directory[Symbol.dispose]();
  }
}

describe.each(METHODS)("method %s", (method) => {
  test("pages are read, found again, and let go of by the scope that was current", async () => {
    await using world = new World(method);
    world.directory.writeBlocks(TABLE, 20);
    const { manager } = world;
    const scope = manager.openScope();
    const buffer = manager.read(TABLE, 3);
    expect([blockOf(manager.page(buffer)), manager.tag(buffer).block]).toEqual([3, 3]);
    expect(manager.tryRead(TABLE, 3)).toBe(buffer);
    expect(manager.readRecent(TABLE, 3, buffer)).toBe(true);
    expect(manager.prefetch(TABLE, 3)).toEqual({ buffer });
    const operation = manager.createReadOperation(TABLE);
    const buffers = new Int32Array(8);
    expect(manager.startRead(operation, buffers, 0, 8, 8)).toBe(8);
    manager.waitRead(operation);
    expect([...buffers].map((buffer) => blockOf(manager.page(buffer)))).toEqual([
      8, 9, 10, 11, 12, 13, 14, 15,
    ]);
    expect(scope.pinCount).toBe(3 + 8);
    scope.end(true);
    expect(() => manager.page(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
  });

  test("the asynchronous forms do the same, in the scope they were called in", async () => {
    await using world = new World(method);
    world.directory.writeBlocks(TABLE, 20);
    const { manager } = world;
    const scope = manager.openScope();
    const reads = [manager.readAsync(TABLE, 1), manager.readAsync(TABLE, 2, { mode: "zeroOnError" })];
    const operation = manager.createReadOperation(TABLE);
    const buffers = new Int32Array(8);
    const start = manager.startReadAsync(operation, buffers, 0, 8, 8);
    const inner = manager.openScope();
    const covered = await start;
    if (operation.needWait) await manager.waitReadAsync(operation);
    expect((await Promise.all(reads)).map((buffer) => blockOf(manager.page(buffer)))).toEqual([1, 2]);
    expect([scope.pinCount, inner.pinCount]).toEqual([2 + covered, 0]);
    inner.end();
    scope.end(true);
  });

  test("another page is read in the place of one, which stays if it is the same", async () => {
    await using world = new World(method);
    world.directory.writeBlocks(TABLE, 8);
    const { manager } = world;
    const one = manager.releaseAndRead(0, TABLE, 1);
    expect(manager.releaseAndRead(one, TABLE, 1)).toBe(one);
    const two = await manager.releaseAndReadAsync(one, TABLE, 2);
    expect(blockOf(manager.page(two))).toBe(2);
    expect(() => manager.page(one)).toThrow(code("ERR_BUFFER_BAD_ID"));
    manager.release(two);
  });

  // Aim: temporary relations go through the same calls. Method: every call that takes a buffer gets one of theirs.
  test("temporary relations have buffers below 0", async () => {
    await using world = new World(method);
    const { manager } = world;
    const temporary: Relation = { ...TABLE, persistence: "temporary", owner: 0 };
    world.directory.writeBlocks(temporary, 8);
    const buffer = manager.read(temporary, 3);
    expect([buffer, blockOf(manager.page(buffer)), manager.tag(buffer).block]).toEqual([-1, 3, 3]);
    manager.pinAgain(buffer);
    manager.release(buffer);
    expect(manager.prefetch(temporary, 3)).toEqual({ buffer });
    expect(manager.readRecent(temporary, 3, buffer)).toBe(true);
    expect(await manager.releaseAndReadAsync(buffer, temporary, 3)).toBe(buffer);
    manager.release(buffer);
    manager.release(buffer);
    expect(() => manager.release(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
    expect(() => manager.page(buffer)).toThrow(code("ERR_BUFFER_BAD_ID"));
    expect([manager.pinLimit(true), manager.additionalPins(true)]).toEqual([256, 256]);
    expect(manager.isForeignTemporary(temporary)).toBe(false);
    expect(manager.isForeignTemporary({ ...temporary, owner: 1 })).toBe(true);
    expect(manager.isForeignTemporary(TABLE)).toBe(false);
    const scope = manager.openScope();
    manager.read(temporary, 5);
    scope.end();
    manager.read(temporary, 6);
    await manager.detachAsync();
    expect(world.warnings).toEqual(["BUFFER_LEAKED_PIN", "BUFFER_LEAKED_PIN"]);
  });

  test("batches hold reads back, and bad checksums are told", async () => {
    await using world = new World(method);
    world.directory.writeBlocks(TABLE, 20);
    world.directory.writeBlock(TABLE, 4, makePage(4, { checksum: true }));
    const { manager } = world;
    manager.enterBatch();
    const operation = manager.createReadOperation(TABLE);
    const buffers = new Int32Array(8);
    manager.startRead(operation, buffers, 0, 0, 4);
    manager.submitStaged();
    manager.exitBatch();
    manager.waitRead(operation);
    expect(() => manager.read(TABLE, 4)).toThrow(code("ERR_BUFFER_INVALID_PAGE"));
    expect(manager.checksumFailures()).toEqual([{ database: 5, failures: 1 }]);
    for (const buffer of buffers) if (buffer !== 0) manager.release(buffer);
    expect([manager.isSynchronous, manager.isDirect, manager.combineLimit]).toEqual([
      method === "sync",
      false,
      16,
    ]);
    expect([
      manager.effectiveConcurrency,
      manager.maintenanceConcurrency,
      manager.concurrencyOf(TABLE, true),
    ]).toEqual([16, 16, 16]);
  });

  async function runThreads(world: World, count: number, job: object): Promise<number> {
    const line = new Int32Array(new SharedArrayBuffer(4));
    const { shared } = world.pool;
    const workers = Array.from({ length: count }, (_, index) => {
      const workerData = {
        shared,
        directory: world.directory.path,
        relation: TABLE,
        line,
        first: index * 5,
        ...job,
      };
      return new Worker(new URL("reading-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    });
    await Promise.all(workers.map(async (worker) => once(worker, "message")));
    // The last message and the end of a thread may come in one turn of the event loop.
    const results = workers.map(async (worker) => {
      const exit = once(worker, "exit");
      const [answer] = (await once(worker, "message")) as [{ wrong: number }];
      await exit;
      return answer.wrong;
    });
    Atomics.store(line, 0, 1);
    Atomics.notify(line, 0);
    const wrong = await Promise.all(results);
    return wrong.reduce((sum, each) => sum + each, 0);
  }

  // Aim: a cold block is read once, however many threads want it. Method: eight threads begin at a common start.
  test("eight threads that want one cold block read it once", async () => {
    await using world = new World(method);
    world.directory.writeBlocks(TABLE, 1);
    expect(await runThreads(world, 8, { first: 0, blocks: 1, combine: 1, rounds: 1 })).toBe(0);
    const sum = (operation: "read" | "hit"): number =>
      readStatistics(openPool(world.pool.shared), 0, true)
        .map((row) => row[operation]?.count ?? 0)
        .reduce((total, count) => total + count, 0);
    expect([sum("read"), sum("hit")]).toEqual([1, 7]);
  });

  // Aim: no thread ever sees another block's page. Method: threads scan a table that is bigger than the pool, from different
  // blocks on, so that they meet, evict what others have just let go of, and cut each other's reads short.
  test.each([false, true])(
    "threads that scan at once see their own blocks (contiguous %s)",
    async (contiguous) => {
      await using world = new World(method, { contiguous });
      world.directory.writeBlocks(TABLE, 96);
      expect(await runThreads(world, 3, { blocks: 96, combine: 8, rounds: 5 })).toBe(0);
    },
  );
});

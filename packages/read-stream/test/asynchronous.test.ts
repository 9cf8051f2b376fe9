/**
 * Streams on a thread that must not sleep: the same steps as on any other, with I/O that completes when the test says so.
 */
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import type { ReadStream } from "../src/read-stream.js";
import { blocksFrom, calls, FULL_SCAN, listed, observe, SCAN } from "./calls.js";
import { ModelPool } from "./model-pool.js";
import { TestScope } from "./test-scope.js";

const wouldBlock = expect.objectContaining({ code: "ERR_MODEL_WOULD_BLOCK" });

function manualPool(): ModelPool {
  return new ModelPool({ mayBlock: false });
}

/** Whether `promise` has been settled yet. */
function watched(promise: Promise<unknown>): { isSettled: boolean } {
  const state = { isSettled: false };
  const settle = (): void => {
    state.isSettled = true;
  };
  promise.then(settle, settle);
  return state;
}

/** Completes whatever is submitted until `promise` is settled. */
async function withIo<R>(pool: ModelPool, promise: Promise<R>): Promise<R> {
  const state = watched(promise);
  while (!state.isSettled) {
    for (const io of pool.submitted()) pool.complete(io);
    await turn();
  }
  return promise;
}

/** The next buffer; whatever is submitted is completed until it comes. */
function nextWithIo(pool: ModelPool, stream: ReadStream<object>): Promise<number> {
  return withIo(pool, stream.nextAsync());
}

describe("nextAsync", () => {
  test.each([
    ["a scan", SCAN, {}],
    ["a full scan", FULL_SCAN, {}],
    ["far blocks", STREAM_FLAG.useBatching, { perBuffer: () => ({}) }],
  ])("does what next does: %s", async (_name, flags, options) => {
    const blocks = blocksFrom(0, 100).map((block) =>
      flags === STREAM_FLAG.useBatching ? block * 10 : block,
    );
    const expected = calls(observe(blocks, { flags, ...options }, { isCached: (block) => block % 7 === 0 }));
    const pool = new ModelPool({
      mayBlock: false,
      isCached: (block) => block % 7 === 0,
    });
    const { stream, takeEvents } = observe(blocks, { flags, ...options }, pool);
    for (const { block, events, info } of expected) {
      const buffer = await nextWithIo(pool, stream);
      expect([ModelPool.blockOf(buffer), takeEvents(), stream.info]).toEqual([block, events, info]);
      pool.release(buffer);
    }
    expect(await nextWithIo(pool, stream)).toBe(0);
    expect(pool.pinsHeld).toBe(0);
  });

  test("makes no promise for a block that is there, once all were", async () => {
    const pool = new ModelPool({ mayBlock: false, isCached: (block) => block !== 20 });
    const blocks = listed(blocksFrom(0, 40));
    const startReadAsync = pool.startReadAsync.bind(pool);
    const asynchronous: number[] = [];
    pool.startReadAsync = (operation, buffers, at, block, count, flags) => {
      asynchronous.push(block);
      return startReadAsync(operation, buffers, at, block, count, flags);
    };
    const next = (): number => {
      const block = blocks(undefined);
      // Another backend begins to read it at the last moment, so that it has to be waited for.
      if (block === 20) pool.startForeign(20, 1);
      return block;
    };
    const { stream } = observe([], { next }, pool);
    const seen: number[] = [];
    for (;;) {
      const buffer = await nextWithIo(pool, stream);
      if (buffer === 0) break;
      seen.push(ModelPool.blockOf(buffer));
      pool.release(buffer);
    }
    expect(seen).toEqual(blocksFrom(0, 40));
    // Look-ahead pins blocks 0 and 1.
    expect(asynchronous).toEqual([0, 1, 20]);
    expect(pool.pinsHeld).toBe(0);
  });

  // Aim: a scan on the main thread leaves timers and sockets their turns even if every block is there at once. Method: turns
  // of the event loop are counted while 1000 cached blocks are taken.
  test.each([
    ["cached blocks", new ModelPool({ mayBlock: false, isCached: () => true })],
    ["blocks read within the call", new ModelPool({ mayBlock: false, method: "sync" })],
  ])("lets the event loop turn, also for %s", async (_name, pool) => {
    const { stream } = observe(blocksFrom(0, 1000), {}, pool);
    let turns = 0;
    let isRunning = true;
    const count = (): void => {
      turns += 1;
      if (isRunning) setImmediate(count);
    };
    setImmediate(count);
    let blocks = 0;
    for (;;) {
      const buffer = await stream.nextAsync();
      if (buffer === 0) break;
      blocks += 1;
      pool.release(buffer);
    }
    isRunning = false;
    expect(blocks).toBe(1000);
    expect(turns).toBeGreaterThanOrEqual(7);
  });

  test("a scope that ends during such a turn ends the call", async () => {
    const pool = new ModelPool({ mayBlock: false, isCached: () => true });
    const scope = new TestScope(pool);
    const { stream } = observe(blocksFrom(0, 1000), { scope }, pool);
    for (let index = 0; index < 128; index += 1) pool.release(await stream.nextAsync());
    const next = stream.nextAsync();
    scope.abort();
    await expect(next).rejects.toThrow(expect.objectContaining({ code: "ERR_STREAM_DEAD" }));
    expect(pool.pinsHeld).toBe(0);
  });

  test("really waits", async () => {
    const pool = manualPool();
    const { stream } = observe(blocksFrom(0, 100), {}, pool);
    const next = stream.nextAsync();
    const state = watched(next);
    for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
    expect(state.isSettled).toBe(false);
    for (const io of pool.submitted()) pool.complete(io);
    expect(ModelPool.blockOf(await next)).toBe(0);
  });

  test("keeps no batch open while it waits, so that two streams of a backend can take turns", async () => {
    const pool = manualPool();
    const streams = [blocksFrom(0, 60), blocksFrom(500, 560)].map(
      (blocks) => observe(blocks, {}, pool).stream,
    );
    const seen = await Promise.all(
      streams.map(async (stream) => {
        const blocks: number[] = [];
        for (;;) {
          const buffer = await nextWithIo(pool, stream);
          if (buffer === 0) return blocks;
          blocks.push(ModelPool.blockOf(buffer));
          pool.release(buffer);
        }
      }),
    );
    expect(seen).toEqual([blocksFrom(0, 60), blocksFrom(500, 560)]);
  });

  test("one call at a time", async () => {
    const pool = manualPool();
    const { stream } = observe(blocksFrom(0, 100), {}, pool);
    const first = stream.nextAsync();
    const busy = expect.objectContaining({ code: "ERR_STREAM_BUSY" });
    await expect(stream.nextAsync()).rejects.toThrow(busy);
    expect(() => stream.next()).toThrow(busy);
    await expect(stream.endAsync()).rejects.toThrow(busy);
    for (const io of pool.submitted()) pool.complete(io);
    expect(ModelPool.blockOf(await first)).toBe(0);
  });

  test("takes over where next was refused to sleep", async () => {
    const pool = manualPool();
    const { stream } = observe(blocksFrom(0, 100), {}, pool);
    expect(() => stream.next()).toThrow(wouldBlock);
    expect(() => stream.next()).toThrow(wouldBlock);
    expect(ModelPool.blockOf(await nextWithIo(pool, stream))).toBe(0);
    expect(ModelPool.blockOf(await nextWithIo(pool, stream))).toBe(1);
  });

  test("fails like next", async () => {
    const pool = manualPool();
    const { stream } = observe(blocksFrom(0, 10), { flags: FULL_SCAN }, pool);
    pool.corrupt.add(5);
    await expect(nextWithIo(pool, stream)).rejects.toThrow(
      expect.objectContaining({ code: "ERR_MODEL_INVALID_PAGE" }),
    );
    await expect(stream.nextAsync()).rejects.toThrow(expect.objectContaining({ code: "ERR_STREAM_FAILED" }));
    await stream.endAsync();
    expect(await stream.nextAsync()).toBe(0);
    expect(pool.pinsHeld).toBe(0);
  });

  test("an exception of the callback comes out with the batch left", async () => {
    const pool = manualPool();
    const { stream } = observe(
      [],
      {
        next: () => {
          throw new Error("no block");
        },
      },
      pool,
    );
    await expect(stream.nextAsync()).rejects.toThrow("no block");
    expect(pool.isInBatch).toBe(false);
    await stream.endAsync();
  });

  test("waits for a read of its own that it meets again", async () => {
    const pool = manualPool();
    const { stream } = observe([5, 5, 5, 6, 5], { flags: FULL_SCAN }, pool);
    const seen: number[] = [];
    for (;;) {
      const buffer = await nextWithIo(pool, stream);
      if (buffer === 0) break;
      seen.push(ModelPool.blockOf(buffer));
      pool.release(buffer);
    }
    expect(seen).toEqual([5, 5, 5, 6, 5]);
    expect(pool.blocksRead).toBe(2);
  });
});

describe("end and reset", () => {
  test("wait for what is in flight", async () => {
    const pool = manualPool();
    const { stream, takeEvents } = observe(blocksFrom(0, 100), { flags: FULL_SCAN }, pool);
    for (let index = 0; index < 3; index += 1) pool.release(await nextWithIo(pool, stream));
    takeEvents();
    await withIo(pool, stream.endAsync());
    expect(takeEvents()).toBe("R32+3 W16+16 W32+3");
    expect(pool.pinsHeld).toBe(0);
    await stream.endAsync();
  });

  test("refused to sleep, leave a stream that endAsync can still end", async () => {
    const pool = manualPool();
    const { stream } = observe(blocksFrom(0, 100), { flags: FULL_SCAN }, pool);
    for (let index = 0; index < 3; index += 1) pool.release(await nextWithIo(pool, stream));
    expect(() => stream.end()).toThrow(wouldBlock);
    expect(() => stream.next()).toThrow(expect.objectContaining({ code: "ERR_STREAM_FAILED" }));
    const ending = stream.endAsync();
    for (const io of pool.submitted()) pool.complete(io);
    await ending;
    expect(pool.pinsHeld).toBe(0);
    expect(pool.inFlight.size).toBe(0);
  });

  test("nobody gets in between the end and the last pin let go", async () => {
    const pool = manualPool();
    const { stream } = observe(blocksFrom(0, 100), { flags: FULL_SCAN }, pool);
    pool.release(await nextWithIo(pool, stream));
    const ending = watched(stream.endAsync());
    const outcomes = new Set<unknown>();
    // Tries at every microtask.
    while (!ending.isSettled) {
      for (const io of pool.submitted()) pool.complete(io);
      stream.nextAsync().then(
        (buffer) => outcomes.add(buffer),
        (error: unknown) => outcomes.add((error as { code?: unknown }).code),
      );
      await Promise.resolve();
    }
    await turn();
    expect([...outcomes]).toEqual(["ERR_STREAM_BUSY", 0]);
    expect(pool.pinsHeld).toBe(0);
  });

  test("resetAsync begins anew", async () => {
    const pool = manualPool();
    let next = listed(blocksFrom(0, 100));
    const { stream } = observe([], { flags: FULL_SCAN, next: () => next(undefined) }, pool);
    pool.release(await nextWithIo(pool, stream));
    const resetting = stream.resetAsync();
    for (const io of pool.submitted()) pool.complete(io);
    await resetting;
    expect(pool.pinsHeld).toBe(0);
    next = listed(blocksFrom(200, 210));
    expect(ModelPool.blockOf(await nextWithIo(pool, stream))).toBe(200);
    expect(stream.info.distance).toBe(2);
  });
});

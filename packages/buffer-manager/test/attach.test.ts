/**
 * Taking part in a pool: places for backends, closing, and a thread that must not sleep.
 */
import { describe, expect, test } from "vitest";

import { attachContext, detachContext } from "../src/backend-context.js";
import type { AttachOptions } from "../src/backend-context.js";
import { acquireHandle } from "../src/waiting.js";
import { BACKEND, readPoolLayout, SCRATCH_FRAMES } from "../src/layout.js";
import type { FileLayer } from "../src/file-layer.js";
import { checkPoolPanic, panicPool, scratchFrame } from "../src/pool-core.js";
import { BufferPool } from "../src/pool.js";
import { STATISTICS_DOUBLES } from "../src/statistics.js";

/** No test here does I/O. */
const options: AttachOptions = { files: () => ({}) as FileLayer, mayBlock: true };
const code = (code: string): unknown => expect.objectContaining({ code });

describe("a pool", () => {
  test("has as many backends as it was made with, and places that are left can be taken again", async () => {
    await using pool = BufferPool.create({ buffers: 16, backends: 2, aio: { method: "sync" } });
    const one = attachContext(pool.shared, options);
    const two = attachContext(pool.shared, options);
    expect([one.id, two.id]).toEqual([0, 1]);
    expect(() => attachContext(pool.shared, options)).toThrow(code("ERR_BUFFER_LIMIT"));
    one.aio.detach();
    detachContext(one);
    const three = attachContext(pool.shared, options);
    expect(three.id).toBe(0);
    expect(three.words[three.at + BACKEND.inUse]).not.toBe(0);
    expect(scratchFrame(three.layout, 1)).toBe(16 + SCRATCH_FRAMES);
    for (const context of [two, three]) {
      context.aio.detach();
      detachContext(context);
    }
  });

  test("that is closed or has stopped takes nobody in", async () => {
    const pool = BufferPool.create({ buffers: 16, aio: { method: "sync" } });
    await pool.close();
    expect(() => attachContext(pool.shared, options)).toThrow(code("ERR_BUFFER_CLOSED"));
    const other = BufferPool.create({ buffers: 16, aio: { method: "sync" } });
    const words = new Int32Array(other.shared.control.buffer);
    panicPool(words, readPoolLayout(words, STATISTICS_DOUBLES));
    expect(() => attachContext(other.shared, options)).toThrow(code("ERR_BUFFER_PANIC"));
    expect(() => checkPoolPanic(words)).toThrow(code("ERR_BUFFER_PANIC"));
    await other.close();
  });

  test("refuses settings that are out of range", () => {
    expect(() => BufferPool.create({ buffers: 15 })).toThrow(RangeError);
    expect(() => BufferPool.create({ buffers: 32, buffersMax: 31 })).toThrow(RangeError);
    expect(() => BufferPool.create({ combineLimit: 129 })).toThrow(RangeError);
  });
});

describe("waiting", () => {
  test("on a thread that must not sleep is refused in the flow, which can undo what it did", async () => {
    await using pool = BufferPool.create({ buffers: 16, aio: { method: "sync" } });
    const context = attachContext(pool.shared, { ...options, mayBlock: false });
    const undone: string[] = [];
    function* flow(): Generator<{ kind: "word"; at: number; value: number; event: "BufferIo" }, void> {
      try {
        yield { kind: "word", at: context.at + BACKEND.wake, value: 0, event: "BufferIo" };
      } finally {
        undone.push("undone");
      }
    }
    expect(() => context.waiter.run(flow())).toThrow(code("ERR_BUFFER_WOULD_BLOCK"));
    expect(undone).toEqual(["undone"]);
    const asleep = context.waiter.runAsync(flow());
    context.headers.wakeBackend(context.id);
    await asleep;
    expect(undone).toEqual(["undone", "undone"]);
    const slot = {
      result: { callback: 0, status: "unknown" as const, error: 0, result: 0 },
      target: new Int32Array(8),
    };
    const handle = await context.waiter.runAsync(acquireHandle(context.aio, context.ioScope, slot));
    handle.release();
    context.aio.detach();
    detachContext(context);
  });

  test("on a thread that may sleep ends with the time that was given", async () => {
    await using pool = BufferPool.create({ buffers: 16, aio: { method: "sync" } });
    const context = attachContext(pool.shared, options);
    function* flow(): Generator<
      { kind: "word"; at: number; value: number; event: "BufferIo"; timeoutMs: number },
      string
    > {
      yield { kind: "word", at: context.at + BACKEND.wake, value: 0, event: "BufferIo", timeoutMs: 1 };
      return "woken";
    }
    expect(context.waiter.run(flow())).toBe("woken");
    context.aio.detach();
    detachContext(context);
  });
});

/**
 * Streams that meet an error: of the callback, of a read, of the pool. The error comes out of the call in which it
 * happened, or of the one that needs the read; afterwards the stream has failed, and a reset makes it as good as new.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { describe, expect, test } from "vitest";
import { STREAM_CHANNEL } from "../src/diagnostics.js";
import { STREAM_FLAG } from "../src/options.js";
import { blocksFrom, cached, calls, FULL_SCAN, listed, observe, SCAN } from "./calls.js";
import { ModelError, ModelPool } from "./model-pool.js";
import { TestScope } from "./test-scope.js";

const failed = expect.objectContaining({ code: "ERR_STREAM_FAILED" });
const invalidPage = expect.objectContaining({ code: "ERR_MODEL_INVALID_PAGE" });

/** Collects what is published while `during` runs. */
function published(during: () => void): unknown[] {
  const messages: unknown[] = [];
  const listener = (message: unknown): void => void messages.push(message);
  subscribe(STREAM_CHANNEL, listener);
  try {
    during();
  } finally {
    unsubscribe(STREAM_CHANNEL, listener);
  }
  return messages;
}

describe("an exception of the callback", () => {
  const throwing = (at: number): (() => number) => {
    let asked = 0;
    return () => {
      asked += 1;
      if (asked === at) throw new Error("no tenth block");
      return (asked - 1) * 10;
    };
  };

  test("comes out of next; the batch is left, what was staged is submitted, a scope finds every pin", () => {
    const pool = new ModelPool();
    const scope = new TestScope(pool);
    const { stream } = observe([], { flags: STREAM_FLAG.useBatching, scope, next: throwing(10) }, pool);
    for (let index = 0; index < 2; index += 1) pool.release(stream.next());
    // The look-ahead of this call has staged reads when it asks for the tenth block.
    expect(() => stream.next()).toThrow("no tenth block");
    expect(pool.isInBatch).toBe(false);
    expect(pool.stagedCount).toBe(0);
    expect(pool.submissions.at(-1)).toBeGreaterThan(1);
    expect(() => stream.next()).toThrow(failed);
    scope.abort();
    expect(pool.pinsHeld).toBe(0);
  });

  test.each([1, 2, 3, 4, 5, 10])("at call %d leaves a stream that a reset mends", (at) => {
    for (const flags of [SCAN, FULL_SCAN, STREAM_FLAG.default]) {
      const observed = observe([], { flags, next: throwing(at) });
      const { pool, stream } = observed;
      expect(() => calls(observed)).toThrow("no tenth block");
      expect(() => stream.nextBlock()).toThrow(failed);
      stream.reset();
      expect(pool.pinsHeld).toBe(0);
      expect(pool.inFlight.size).toBe(0);
      expect(calls(observed, 3).map(({ block }) => block)).toEqual([at * 10, at * 10 + 10, at * 10 + 20]);
      stream.end();
      expect(pool.pinsHeld).toBe(0);
    }
  });

  test("on the fast path loses no buffer", () => {
    const observed = observe([], { next: throwing(7) }, { isCached: () => true });
    const { pool, stream } = observed;
    expect(() => calls(observed)).toThrow("no tenth block");
    expect(pool.pinsHeld).toBe(1);
    stream.end();
    expect(pool.pinsHeld).toBe(0);
  });

  test("out of nextBlock fails the stream as well", () => {
    const { stream } = observe([], { next: throwing(1) });
    expect(() => stream.nextBlock()).toThrow("no tenth block");
    expect(() => stream.next()).toThrow(failed);
    stream.end();
  });
});

describe("a page that cannot be read", () => {
  test("fails the call that needs its read, whichever of the read's blocks it is", () => {
    let next = listed(blocksFrom(0, 10));
    const observed = observe([], { flags: FULL_SCAN, next: () => next(undefined) });
    const { pool, stream } = observed;
    pool.corrupt.add(5);
    expect(() => stream.next()).toThrow(invalidPage);
    expect(() => stream.next()).toThrow(
      expect.objectContaining({ code: "ERR_STREAM_FAILED", cause: invalidPage }),
    );
    pool.corrupt.clear();
    // The read that has failed is over: nothing waits for it again, so nothing else can go wrong.
    expect(published(() => stream.reset())).toEqual([]);
    expect(pool.pinsHeld).toBe(0);
    next = listed(blocksFrom(0, 10));
    expect(calls(observed).map(({ block }) => block)).toEqual(blocksFrom(0, 10));
    expect(pool.pinsHeld).toBe(0);
  });

  test("is the last that is read: a reset starts nothing that was being prepared", () => {
    const { pool, stream } = observe(blocksFrom(0, 16), { flags: FULL_SCAN }, cached([3]));
    pool.corrupt.add(1);
    // The read ends before block 3; its pin is kept for the next read, which is not started before the first has been waited for.
    expect(() => stream.next()).toThrow(invalidPage);
    expect(stream.info).toMatchObject({ pinned: 3, pending: 13, forwarded: 1 });
    const reads = [...pool.log];
    stream.reset();
    expect(pool.log).toEqual(reads);
    expect(pool.pinsHeld).toBe(0);
  });

  test("leaves buffers alone that were returned before", () => {
    const { pool, stream } = observe(blocksFrom(0, 40), { flags: FULL_SCAN });
    pool.corrupt.add(20);
    const kept: number[] = [];
    for (let index = 0; index < 16; index += 1) kept.push(stream.next());
    expect(() => stream.next()).toThrow(invalidPage);
    stream.end();
    expect([...pool.pins.keys()]).toEqual(kept);
  });

  test("is nobody's error if the stream ends before its block was asked for; it is published", () => {
    const observed = observe(blocksFrom(0, 100), { flags: FULL_SCAN });
    const { pool, stream } = observed;
    pool.corrupt.add(20);
    calls(observed, 3);
    expect(published(() => stream.end())).toEqual([{ type: "discarded-error", error: invalidPage }]);
    expect(pool.pinsHeld).toBe(0);
  });

  test("fails method sync in the same way", () => {
    const observed = observe(blocksFrom(0, 100), { flags: FULL_SCAN }, { method: "sync" });
    const { pool, stream } = observed;
    pool.corrupt.add(20);
    expect(() => calls(observed)).toThrow(invalidPage);
    stream.end();
    expect(pool.pinsHeld).toBe(0);
  });
});

describe("a read that cannot be started", () => {
  const noBuffer = new ModelError("ERR_MODEL_NO_UNPINNED", "every buffer is pinned");

  test.each([1, 2, 3, 5, 8])("at start %d loses no buffer", (at) => {
    for (const isCached of [() => false, () => true]) {
      const pool = new ModelPool({ isCached });
      const observed = observe(blocksFrom(0, 100), {}, pool);
      let starts = 0;
      pool.onStart = () => {
        starts += 1;
        if (starts === at) throw noBuffer;
      };
      expect(() => calls(observed)).toThrow(noBuffer);
      observed.stream.reset();
      expect(pool.pinsHeld).toBe(0);
      expect(calls(observed, 1)).toHaveLength(1);
      observed.stream.end();
      expect(pool.pinsHeld).toBe(0);
    }
  });

  test("gives back the pins it had taken already", () => {
    const pool = new ModelPool();
    const { stream } = observe(blocksFrom(0, 100), { flags: FULL_SCAN }, pool);
    const startRead = pool.startRead.bind(pool);
    pool.startRead = (operation, buffers, at, ...rest) => {
      pool.pin(77);
      buffers[at] = 77;
      pool.startRead = startRead;
      expect(rest).toEqual([0, 16, 0]);
      expect(operation.needWait).toBe(false);
      throw noBuffer;
    };
    expect(() => stream.next()).toThrow(noBuffer);
    expect(pool.pinsHeld).toBe(1);
    stream.end();
    expect(pool.pinsHeld).toBe(0);
  });

  test("is no obstacle to an end, which does not need the read", () => {
    const observed = observe(blocksFrom(0, 100), { flags: FULL_SCAN });
    const { pool, stream } = observed;
    calls(observed, 3);
    pool.onStart = () => {
      throw noBuffer;
    };
    expect(published(() => stream.end())).toEqual([{ type: "discarded-error", error: noBuffer }]);
    expect(pool.pinsHeld).toBe(0);
  });
});

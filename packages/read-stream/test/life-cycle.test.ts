/**
 * The life of a stream besides `next`: reset, end, blocks taken out, rings cleared, loops left early, scopes that end.
 *
 * Every test ends with no pin held: what a stream has taken it gives back, whichever way it ends.
 */
import { describe, expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import { ReadStream } from "../src/read-stream.js";
import { blocksFrom, cached, calls, FULL_SCAN, line, listed, observe, SCAN } from "./calls.js";
import { LOCAL_RELATION, ModelPool, RELATION } from "./model-pool.js";
import { TestScope } from "./test-scope.js";

describe("end and reset", () => {
  test("end starts the pending read, waits for everything and lets go of everything", () => {
    const observed = observe(blocksFrom(0, 100), { flags: FULL_SCAN });
    const { pool, stream, takeEvents } = observed;
    expect(line(calls(observed, 3))).toBe("R0+16 W0+16 R16+16");
    expect(stream.info.pinned).toBe(29);
    stream.end();
    expect(takeEvents()).toBe("R32+3 W16+16 W32+3");
    expect(pool.pinsHeld).toBe(0);
    expect(pool.inFlight.size).toBe(0);
  });

  test("end lets go of a pin that was forwarded", () => {
    const observed = observe(blocksFrom(0, 16), { flags: FULL_SCAN }, cached([3]));
    const { pool, stream, takeEvents } = observed;
    calls(observed, 1);
    expect(takeEvents()).toBe("");
    stream.end();
    expect(takeEvents()).toBe("R4+12 W4+12");
    expect(pool.pinsHeld).toBe(0);
  });

  test("end right after begin does nothing, and a second end neither", () => {
    const { pool, stream } = observe(blocksFrom(0, 16));
    stream.end();
    stream.end();
    expect(pool.log).toEqual([]);
    expect(stream.next()).toBe(0);
  });

  test("reset begins anew, cautiously, even if the stream was to be read in full", () => {
    const sources = [blocksFrom(0, 16), blocksFrom(50, 60)];
    let next = listed(sources.shift() ?? []);
    const observed = observe(
      [],
      { flags: FULL_SCAN, next: () => next(undefined) },
      { ...cached([3, 4, 9, ...blocksFrom(50, 60)]), combineLimit: 8 },
    );
    const { pool, stream } = observed;
    calls(observed, 1);
    // Block 9 is pinned for a read that has not been started.
    expect(stream.info.forwarded).toBe(1);
    stream.reset();
    expect(pool.pinsHeld).toBe(0);
    expect(stream.info).toMatchObject({ distance: 1, pinned: 0, pending: 0, forwarded: 0, fastPath: false });
    observed.takeEvents();
    next = listed(sources.shift() ?? []);
    const made = calls(observed);
    expect(made.map(({ block }) => block)).toEqual(blocksFrom(50, 60));
    expect(line(made)).toMatch(/^H50 H51 \| H52 \| H53/);
    expect(pool.pinsHeld).toBe(0);
  });

  test("after the end of the stream the callback is left alone until a reset", () => {
    let asked = 0;
    const observed = observe([], {
      next: () => {
        asked += 1;
        return asked === 1 ? 7 : -1;
      },
    });
    const { stream } = observed;
    calls(observed);
    expect(asked).toBe(2);
    expect([stream.next(), stream.next(), stream.nextBlock().block]).toEqual([0, 0, -1]);
    expect(asked).toBe(2);
    stream.reset();
    expect(stream.next()).toBe(0);
    expect(asked).toBe(3);
  });

  test("a reset on the fast path lets go of the one buffer pinned", () => {
    const observed = observe(blocksFrom(0, 10), {}, { isCached: () => true });
    const { pool, stream } = observed;
    calls(observed, 4);
    expect(stream.info.fastPath).toBe(true);
    stream.reset();
    expect(pool.pinsHeld).toBe(0);
    // Blocks 0 to 4 were asked for.
    expect(calls(observed).map(({ block }) => block)).toEqual(blocksFrom(5, 10));
  });

  test("end, `using` and leaving a loop are the same", () => {
    const pool = new ModelPool();
    const options = { relation: RELATION, flags: SCAN, next: ReadStream.range(0, 100) };
    {
      using stream = ReadStream.begin(pool, options);
      pool.release(stream.next());
      expect(pool.pinsHeld).toBeGreaterThan(0);
    }
    expect(pool.pinsHeld).toBe(0);
  });
});

describe("loops", () => {
  test("leaving one early ends the stream, and lets go of the last buffer if the loop was to", () => {
    const pool = new ModelPool();
    const stream = ReadStream.begin(pool, {
      relation: RELATION,
      flags: FULL_SCAN,
      next: ReadStream.range(0, 100),
      autoRelease: true,
    });
    const seen: number[] = [];
    for (const { buffer } of stream) {
      seen.push(ModelPool.blockOf(buffer));
      if (seen.length === 20) break;
    }
    expect(seen).toEqual(blocksFrom(0, 20));
    expect(pool.inFlight.size).toBe(0);
    expect(pool.pinsHeld).toBe(0);
    expect(() => stream.reset()).toThrow(expect.objectContaining({ code: "ERR_STREAM_ENDED" }));
  });

  test("an exception in the body ends the stream too", () => {
    const pool = new ModelPool();
    const stream = ReadStream.begin(pool, {
      relation: RELATION,
      flags: FULL_SCAN,
      next: ReadStream.range(0, 100),
      autoRelease: true,
    });
    const loop = (): void => {
      for (const { buffer } of stream) if (ModelPool.blockOf(buffer) === 5) throw new Error("enough");
    };
    expect(loop).toThrow("enough");
    expect(pool.pinsHeld).toBe(0);
  });

  test("without autoRelease every buffer is the caller's, and a loop that comes to the end leaves a stream to be reset", () => {
    const pool = new ModelPool();
    let first = 0;
    const stream = ReadStream.begin(pool, {
      relation: RELATION,
      next: () => (first < 10 ? first++ : -1),
    });
    const buffers = [...stream].map(({ buffer }) => buffer);
    expect(pool.pinsHeld).toBe(10);
    for (const buffer of buffers) pool.release(buffer);
    first = 8;
    stream.reset();
    for (const { buffer } of stream) pool.release(buffer);
    expect(pool.pinsHeld).toBe(0);
  });

  test("`for await` does the same", async () => {
    const pool = new ModelPool();
    const stream = ReadStream.begin(pool, {
      relation: RELATION,
      flags: FULL_SCAN,
      next: ReadStream.range(0, 100),
      autoRelease: true,
    });
    const seen: number[] = [];
    for await (const { buffer } of stream) {
      seen.push(ModelPool.blockOf(buffer));
      if (seen.length === 20) break;
    }
    expect(seen).toEqual(blocksFrom(0, 20));
    expect(pool.inFlight.size).toBe(0);
    expect(pool.pinsHeld).toBe(0);
  });
});

describe("blocks and rings", () => {
  test("nextBlock takes the next block out of the stream", () => {
    const ring = { pinLimit: 20 };
    const observed = observe(blocksFrom(0, 5), { ring });
    expect(observed.stream.nextBlock()).toEqual({ block: 0, ring });
    expect(calls(observed).map(({ block }) => block)).toEqual([1, 2, 3, 4]);
  });

  test("nextBlock gives a block that was put back", () => {
    const observed = observe(
      blocksFrom(0, 100, 10),
      { flags: STREAM_FLAG.full },
      { effectiveConcurrency: 2, combineLimit: 4 },
    );
    const { pool, stream } = observed;
    const [first] = calls(observed, 1);
    // Blocks 10 and 20 are in progress, which is all that may be; 30 did not fit.
    expect(first?.events).toBe("R0+1 R10+1 W0+1 R20+1");
    expect(stream.nextBlock().block).toBe(30);
    expect(calls(observed).map(({ block }) => block)).toEqual([10, 20, ...blocksFrom(40, 100, 10)]);
    expect(pool.pinsHeld).toBe(0);
  });

  test("nextBlock at the end ends the stream", () => {
    let asked = 0;
    const observed = observe([], {
      next: () => {
        asked += 1;
        return -1;
      },
    });
    expect(observed.stream.nextBlock().block).toBe(-1);
    expect(observed.stream.next()).toBe(0);
    expect(asked).toBe(1);
  });

  test("clearRing leaves the ring alone from the next read on", () => {
    const ring = Object.freeze({ pinLimit: 20 });
    const observed = observe(blocksFrom(0, 100), { ring });
    const { pool, stream } = observed;
    calls(observed, 8);
    const started = pool.starts.length;
    expect(pool.starts.every((start) => start.ring === ring)).toBe(true);
    stream.clearRing();
    expect(stream.nextBlock().ring).toBeNull();
    calls(observed);
    expect(pool.starts.length).toBeGreaterThan(started);
    expect(pool.starts.slice(started).every((start) => start.ring === null)).toBe(true);
  });
});

describe("scopes", () => {
  test("a scope that ends with reads in flight leaves a dead stream, and blocks that become valid", () => {
    const pool = new ModelPool();
    const scope = new TestScope(pool);
    const observed = observe(blocksFrom(0, 100), { flags: FULL_SCAN, scope }, pool);
    calls(observed, 17);
    expect(observed.stream.info.inProgress).toBe(3);
    const inFlight = [...pool.inFlight.keys()];
    scope.abort();
    expect(pool.pinsHeld).toBe(0);
    for (const io of pool.submitted()) pool.complete(io);
    expect(inFlight.every((block) => pool.isValid(block))).toBe(true);
    const dead = expect.objectContaining({ code: "ERR_STREAM_DEAD" });
    expect(() => observed.stream.next()).toThrow(dead);
    expect(() => observed.stream.reset()).toThrow(dead);
    expect(() => observed.stream.nextBlock()).toThrow(dead);
    observed.stream.end();
    expect(pool.pinsHeld).toBe(0);
  });

  test.each([true, false])(
    "a scope that the callback ends ends the call, and the batch (left by the scope: %s)",
    (leavesBatch) => {
      const pool = new ModelPool();
      const scope = new TestScope(pool, leavesBatch);
      let at = 0;
      const { stream } = observe(
        [],
        {
          scope,
          flags: STREAM_FLAG.useBatching,
          next: () => {
            if (at === 50) scope.abort();
            return (at += 10);
          },
        },
        pool,
      );
      const scan = (): void => {
        for (;;) pool.release(stream.next());
      };
      expect(scan).toThrow(expect.objectContaining({ code: "ERR_STREAM_DEAD" }));
      expect(pool.isInBatch).toBe(false);
      expect(pool.stagedCount).toBe(0);
      stream.end();
    },
  );

  test("a scope that ends while the stream waits ends the wait with an error", async () => {
    const pool = new ModelPool({ mayBlock: false });
    const scope = new TestScope(pool);
    const { stream } = observe(blocksFrom(0, 100), { flags: FULL_SCAN, scope }, pool);
    const waiting = stream.nextAsync();
    scope.abort();
    for (const io of pool.submitted()) pool.complete(io);
    await expect(waiting).rejects.toThrow(expect.objectContaining({ code: "ERR_STREAM_DEAD" }));
    await stream.endAsync();
    expect(pool.pinsHeld).toBe(0);
  });
});

describe("refusals", () => {
  test("a temporary relation of another session", () => {
    const relation = { ...LOCAL_RELATION, owner: 3 };
    expect(() => ReadStream.begin(new ModelPool(), { relation, next: listed([]) })).toThrow(
      expect.objectContaining({ code: "ERR_STREAM_FOREIGN_TEMPORARY" }),
    );
  });

  test("arguments that make no sense", () => {
    const begin = (options: object, model = {}): unknown =>
      ReadStream.begin(new ModelPool(model), { relation: RELATION, next: listed([]), ...options });
    expect(() => begin({ fork: 4 })).toThrow(RangeError);
    expect(() => begin({ flags: 16 })).toThrow(RangeError);
    expect(() => begin({ lookahead: "pg17" })).toThrow(TypeError);
    expect(() => begin({}, { combineLimit: 129 })).toThrow(RangeError);
  });

  test.each([-2, 1.5, Number.NaN, 0xffff_ffff, 2 ** 40])("%d as a block number", (block) => {
    const { stream } = observe([], { next: () => block });
    expect(() => stream.next()).toThrow(RangeError);
    stream.end();
  });

  test("the stream's own methods within its callback", () => {
    const seen: unknown[] = [];
    const pool = new ModelPool();
    const stream: ReadStream = ReadStream.begin(pool, {
      relation: RELATION,
      next: () => {
        for (const call of [() => stream.next(), () => stream.reset(), () => stream.end()]) {
          try {
            call();
          } catch (error) {
            seen.push((error as { code?: unknown }).code);
          }
        }
        return -1;
      },
    });
    expect(stream.next()).toBe(0);
    expect(seen).toEqual(["ERR_STREAM_BUSY", "ERR_STREAM_BUSY", "ERR_STREAM_BUSY"]);
  });
});

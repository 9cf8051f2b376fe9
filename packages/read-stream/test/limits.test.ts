/**
 * What bounds a stream's reads: shares of the pool, rings, segments, the length of its queue, what others have pinned.
 *
 * Events and numbers are those of PostgreSQL 18.6 under the same settings.
 */
import { describe, expect, test } from "vitest";
import { STREAM_FLAG } from "../src/options.js";
import { blocksFrom, calls, everyCall, FULL_SCAN, line, observe, reads, run, SCAN } from "./calls.js";
import { ModelPool } from "./model-pool.js";

const { full, useBatching } = STREAM_FLAG;
const blocks100 = blocksFrom(0, 100);

describe("limits", () => {
  test("no share of the pool at all: block by block", () => {
    const single = blocksFrom(0, 20)
      .map((block) => `${block}+1`)
      .join(" ");
    for (const flags of [SCAN, FULL_SCAN]) {
      const observed = observe(blocksFrom(0, 20), { flags }, { pinLimit: 0 });
      expect(observed.stream.info).toMatchObject({ maxPinned: 1, queueSize: 2 });
      expect(reads(calls(observed))).toBe(single);
    }
  });

  test("a small share: reads of fifteen", () => {
    expect(reads(run(blocks100, {}, { pinLimit: 23 }))).toBe(
      "0+1 1+2 3+4 7+8 15+15 30+15 45+15 60+15 75+15 90+10",
    );
    expect(reads(run(blocks100, { flags: FULL_SCAN }, { pinLimit: 23 }))).toBe(
      "0+15 15+15 30+15 45+15 60+15 75+15 90+10",
    );
  });

  test("the end of a segment cuts a read", () => {
    expect(line(run(blocksFrom(5, 21), { flags: FULL_SCAN }, { segmentBlocks: 8 }))).toBe(
      "R5+3 W5+3 R8+8 | R16+5 | W8+8 | W16+5",
    );
  });

  test("a read that spills behind the queue's end is returned in order", () => {
    const observed = observe(blocksFrom(0, 21), {}, { effectiveConcurrency: 1, combineLimit: 4 });
    expect(observed.stream.info).toMatchObject({ maxPinned: 8, queueSize: 9 });
    const made = calls(observed);
    expect(line(made)).toBe(
      "R0+1 W0+1 R1+2 | W1+2 | R3+4 | W3+4 R7+4 | W7+4 R11+4 | W11+4 R15+4 | W15+4 R19+2 | W19+2",
    );
    expect(made.map(({ block }) => block)).toEqual(blocksFrom(0, 21));
    // distance, pinned, pending, in progress, oldest slot, next slot
    const expected: Readonly<Record<number, readonly number[]>> = {
      0: [2, 2, 0, 1, 1, 3],
      1: [4, 1, 3, 0, 2, 3],
      2: [4, 4, 0, 1, 3, 7],
      3: [8, 7, 0, 1, 4, 2],
      4: [8, 6, 0, 1, 5, 2],
      5: [8, 5, 0, 1, 6, 2],
      6: [8, 4, 0, 1, 7, 2],
      7: [8, 7, 0, 1, 8, 6],
      8: [8, 6, 0, 1, 0, 6],
      9: [8, 5, 0, 1, 1, 6],
      10: [8, 4, 0, 1, 2, 6],
      11: [8, 7, 0, 1, 3, 1],
      15: [0, 5, 0, 1, 7, 3],
      19: [0, 1, 0, 0, 2, 3],
    };
    for (const [index, row] of Object.entries(expected)) {
      const info = made[Number(index)]?.info;
      expect(
        [info?.distance, info?.pinned, info?.pending, info?.inProgress, info?.oldestSlot, info?.nextSlot],
        `after block ${index}`,
      ).toEqual(row);
    }
  });

  test("a spilled pin that becomes the fast path's buffer leaves no copy behind", () => {
    const blocks = [5, 100, 200, 201, ...blocksFrom(0, 4), 300, 310, 311, 312, 313, 314, 315];
    const observed = observe(blocks, { ring: { pinLimit: 2 } }, { isCached: (block) => block < 10 });
    expect(observed.stream.info.queueSize).toBe(3);
    // Another backend reads 200 and 201: the pin of 201 is forwarded, in the slot behind the queue's end.
    observed.pool.startForeign(200, 2);
    const made = calls(observed);
    expect(everyCall(made.slice(0, 3))).toBe("H5 R100+1|W100+1 H200|H201");
    expect(made[2]?.info).toMatchObject({ fastPath: true, oldestSlot: 0 });
    // Later a read spills there again. A copy left there would be taken for a pin forwarded.
    expect(made.map(({ block }) => block)).toEqual(blocks);
    expect(line(made.slice(7))).toContain("R314+2");
    expect(observed.pool.pinsHeld).toBe(0);
  });

  test("a ring's limit is the stream's", () => {
    const observed = observe(blocksFrom(0, 10), { ring: { pinLimit: 2 } });
    expect(observed.stream.info).toMatchObject({ maxPinned: 2, queueSize: 3 });
    expect(line(calls(observed))).toBe(
      "R0+1 W0+1 R1+2 | W1+2 | R3+2 | W3+2 | R5+2 | W5+2 | R7+2 | W7+2 | R9+1 | W9+1",
    );
  });

  test("a pool that always grants three pins gets reads of three", () => {
    const made = run(blocksFrom(0, 13), { flags: FULL_SCAN }, { additionalPins: 3 });
    expect(everyCall(made)).toBe("R0+3 W0+3||R3+3|W3+3||R6+3|W6+3||R9+3|W9+3 R12+1|||W12+1");
  });

  test("a pool that never grants one gets reads of one", () => {
    const made = run(blocksFrom(0, 6), { flags: FULL_SCAN }, { additionalPins: 0 });
    expect(everyCall(made)).toBe("R0+1 W0+1 R1+1|W1+1 R2+1|W2+1 R3+1|W3+1 R4+1|W4+1 R5+1|W5+1");
  });

  test("the largest settings stay within 16 bits, and such a stream keeps its order around its queue", () => {
    const blocks = blocksFrom(0, 100_000);
    const { pool, stream } = observe(
      blocks,
      { debug: false, flags: FULL_SCAN },
      { effectiveConcurrency: 1000, combineLimit: 128, buffersCount: 200_000, pinLimit: 100_000 },
    );
    expect(stream.info).toMatchObject({ maxIos: 1000, maxPinned: 32_639, queueSize: 32_640 });
    const seen: number[] = [];
    let distanceMax = 0;
    for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) {
      seen.push(ModelPool.blockOf(buffer));
      distanceMax = Math.max(distanceMax, stream.info.distance);
      pool.release(buffer);
    }
    expect(distanceMax).toBe(32_639);
    expect(seen).toEqual(blocks);
  });

  test.each([
    [128, 0, 1],
    [4096, 23, 23],
    [16_384, 94, 94],
    [32_768, 188, 188],
    [131_072, 753, 272],
  ])("a pool of %d buffers and a share of %d gives %d pins", (buffersCount, pinLimit, maxPinned) => {
    expect(observe([], {}, { buffersCount, pinLimit }).stream.info.maxPinned).toBe(maxPinned);
  });

  test("a backend's share is for all it pins: who keeps buffers gets smaller reads, and never none", () => {
    const observed = observe(blocks100, {}, { pinLimit: 23 });
    const { pool, stream, takeEvents } = observed;
    const kept: number[] = [];
    while (kept.length < 15) kept.push(stream.next());
    takeEvents();
    const sizes: number[] = [];
    for (let index = 0; index < 30; index += 1) {
      pool.release(stream.next());
      for (const event of takeEvents().split(" "))
        if (event.startsWith("R")) sizes.push(Number(event.split("+")[1]));
    }
    expect(sizes.length).toBeGreaterThan(2);
    expect(Math.max(...sizes.slice(1))).toBeLessThanOrEqual(8);
    for (const buffer of kept) pool.release(buffer);
    const rest = calls(observed);
    expect(reads(rest)).toContain("+15");
    expect(rest.at(-1)?.block).toBe(99);
  });

  test("batches are what a look-ahead starts", () => {
    const { pool, stream, takeEvents } = observe(blocks100, { flags: full | useBatching });
    calls({ pool, stream, takeEvents });
    expect(pool.submissions).toEqual([1, 1, 1, 2, 1, 1]);
    const unbatched = observe(blocks100, { flags: full });
    calls(unbatched);
    expect(unbatched.pool.submissions).toEqual([1, 1, 1, 1, 1, 1, 1]);
  });
});

/**
 * The rules of look-ahead by themselves: the decision table of version 18, and where version 19 departs from it.
 */
import { describe, expect, test } from "vitest";
import { LookAhead18 } from "../src/look-ahead-18.js";
import { LookAhead19 } from "../src/look-ahead-19.js";
import type { LookAhead } from "../src/look-ahead.js";
import { blocksFrom, calls, FULL_SCAN, line, observe, reads, SCAN } from "./calls.js";
import { ModelPool, RELATION } from "./model-pool.js";
import { ReadStream } from "../src/read-stream.js";

const bounds = { maxIos: 2, maxPinned: 20, combine: 8 };

/** Version 18's rules at a distance of 8. */
function at8(): LookAhead18 {
  return new LookAhead18(bounds, true);
}

describe("version 18", () => {
  test("the distance doubles with every wait, up to what may be pinned, and loses one with every hit, down to 1", () => {
    const rules = new LookAhead18(bounds, false);
    const seen: number[] = [];
    for (let index = 0; index < 6; index += 1) {
      rules.afterWait();
      seen.push(rules.distance);
    }
    expect(seen).toEqual([2, 4, 8, 16, 20, 20]);
    for (let index = 0; index < 30; index += 1) rules.afterHit();
    expect(rules.distance).toBe(1);
    expect(rules.isResting).toBe(true);
  });

  test("the end stays the end, whatever is waited for", () => {
    const rules = at8();
    rules.atEnd();
    rules.afterWait();
    rules.afterHit();
    expect(rules.distance).toBe(0);
    rules.restart();
    expect(rules.distance).toBe(1);
  });

  test.each([
    ["another block", 3, 4, 1, { block: true, start: false }],
    ["nothing: as many I/Os as may be", 3, 4, 2, { block: false, start: false }],
    [
      "nothing: the distance is reached, and the read may still grow",
      3,
      5,
      1,
      { block: false, start: false },
    ],
    ["a start: the read is complete", 3, 8, 1, { block: false, start: true }],
    ["a start: the distance is reached and nothing is pinned", 0, 8, 1, { block: false, start: true }],
    ["nothing: complete, but as many I/Os as may be", 3, 8, 2, { block: false, start: false }],
    ["nothing: no read is pending", 8, 0, 1, { block: false, start: false }],
  ])("wants %s", (_what, pinned, pending, inProgress, { block, start }) => {
    const rules = at8();
    expect(rules.wantsBlock(pinned, pending, inProgress)).toBe(block);
    expect(rules.mustStart(pinned, pending, inProgress)).toBe(start && !block);
  });

  test("a shortage brings the distance below what is pending; with nothing pinned it is started all the same", () => {
    const rules = at8();
    rules.shrinkTo(3);
    expect(rules.distance).toBe(3);
    rules.shrinkTo(5);
    expect(rules.distance).toBe(3);
    expect(rules.mustStart(0, 5, 0)).toBe(true);
    expect(rules.mustStart(1, 5, 0)).toBe(false);
  });

  test("after the end whatever is pending is started", () => {
    const rules = at8();
    rules.atEnd();
    expect(rules.mustStart(3, 1, 1)).toBe(true);
    expect(rules.mustStart(3, 1, 2)).toBe(false);
    expect(rules.mustStart(3, 0, 1)).toBe(false);
  });
});

describe("version 19", () => {
  /** A pool whose I/O is complete by the time it is waited for. */
  function quickPool(options: ConstructorParameters<typeof ModelPool>[0] = {}): ModelPool {
    const pool = new ModelPool(options);
    const startRead = pool.startRead.bind(pool);
    pool.startRead = (...args) => {
      const covered = startRead(...args);
      pool.submitStaged();
      for (const io of pool.submitted()) pool.complete(io);
      return covered;
    };
    return pool;
  }

  test("reads that are always there in time grow, but are not started further ahead", () => {
    const made = calls(observe(blocksFrom(0, 100), { lookahead: "pg19" }, quickPool()));
    expect(reads(made)).toBe("0+1 1+2 3+4 7+8 15+16 31+16 47+16 63+16 79+16 95+5");
    expect(made.slice(0, 90).every(({ info }) => info.distance === 1)).toBe(true);
    expect(Math.max(...made.map(({ info }) => info.inProgress))).toBe(1);
  });

  test("reads that are waited for are started further ahead, too", () => {
    const made = calls(observe(blocksFrom(0, 100), { lookahead: "pg19" }));
    expect(Math.max(...made.map(({ info }) => info.distance))).toBe(64);
    expect(Math.max(...made.map(({ info }) => info.inProgress))).toBeGreaterThan(2);
    expect(made.map(({ block }) => block)).toEqual(blocksFrom(0, 100));
  });

  test("synchronous reads count as waited for", () => {
    for (const model of [{ effectiveConcurrency: 0 }, { method: "sync" as const }]) {
      const made = calls(observe(blocksFrom(0, 100), { lookahead: "pg19" }, quickPool(model)));
      expect(Math.max(...made.map(({ info }) => info.distance))).toBeGreaterThan(8);
    }
  });

  test("hits take from both distances only after as many as may be pinned, and the fast path waits for that", () => {
    const observed = observe(
      blocksFrom(0, 200),
      { lookahead: "pg19" },
      quickPool({ isCached: (block) => block >= 7 }),
    );
    const { maxPinned } = observed.stream.info;
    expect(maxPinned).toBe(94);
    const made = calls(observed);
    // Reads of 1, 2 and 4 blocks, each of which doubled the size of the next; then hits only.
    expect(reads(made)).toBe("0+1 1+2 3+4");
    const fast = made.findIndex(({ info }) => info.fastPath);
    // 94 hits without effect, 7 that bring the size from 8 down to 1, and one that was asked for as half of a read of 2.
    const hits = made
      .slice(0, fast + 1)
      .reduce((sum, { events }) => sum + (events.match(/H/g) ?? []).length, 0);
    expect(hits).toBe(94 + 7 + 1);
  });

  test("hits take nothing while I/O is in progress", () => {
    const rules = new LookAhead19(bounds, true);
    for (let index = 0; index < 100; index += 1) rules.afterHit(1);
    expect([rules.distance, rules.combineDistance]).toEqual([8, 8]);
    rules.afterHit(0);
    expect([rules.distance, rules.combineDistance]).toEqual([7, 7]);
  });

  test("sparse misses among hits keep their distance", () => {
    const isCached = (block: number): boolean => block % 20 !== 0;
    const distances = (lookahead: "pg18" | "pg19"): number[] =>
      calls(observe(blocksFrom(0, 400), { lookahead }, { isCached }))
        .slice(0, 380)
        .map(({ info }) => info.distance);
    // The weakness of version 18 that its successor mends: hits between two misses use the distance up.
    expect(Math.max(...distances("pg18"))).toBe(1);
    expect(Math.max(...distances("pg19"))).toBeGreaterThan(32);
  });

  test("a miss on the fast path is read synchronously, and looks like a wait", () => {
    const pool = quickPool({ isCached: (block) => block < 5 });
    const made = calls(observe(blocksFrom(0, 7), { lookahead: "pg19" }, pool));
    expect(line(made)).toBe("H0 H1 | H2 | H3 | H4 | R5+1 | W5+1 R6+1 | W6+1");
    expect(pool.starts.map(({ flags }) => flags)).toEqual([0, 0, 8, 8, 8, 8, 0]);
    expect(made[5]?.info.distance).toBe(0);
  });

  test("a full scan begins with full reads", () => {
    expect(reads(calls(observe(blocksFrom(0, 40), { flags: FULL_SCAN, lookahead: "pg19" })))).toBe(
      "0+16 16+16 32+8",
    );
  });

  test("end forgets the pending read", () => {
    const observed = observe(blocksFrom(0, 100), { flags: FULL_SCAN, lookahead: "pg19" });
    calls(observed, 3);
    expect(observed.stream.info.pending).toBe(3);
    observed.stream.end();
    expect(observed.takeEvents()).toBe("W16+16");
    expect(observed.pool.pinsHeld).toBe(0);
  });

  test("a shortage of pins brings the distance down, and the stream still gets on", () => {
    for (const additionalPins of [0, 3]) {
      const made = calls(
        observe(blocksFrom(0, 30), { lookahead: "pg19", flags: FULL_SCAN }, { additionalPins }),
      );
      expect(made.map(({ block }) => block)).toEqual(blocksFrom(0, 30));
    }
  });
});

describe("pause and resume", () => {
  test.each(["pg18", "pg19"] as const)(
    "blocks that name their successors can be followed, with %s",
    (lookahead) => {
      const pool = new ModelPool();
      const known: number[] = [0];
      const stream: ReadStream = ReadStream.begin(pool, {
        relation: RELATION,
        flags: SCAN,
        lookahead,
        next: () => known.shift() ?? stream.pause(),
      });
      const seen: number[] = [];
      for (;;) {
        const buffer = stream.next();
        if (buffer === 0) break;
        const block = ModelPool.blockOf(buffer);
        seen.push(block);
        pool.release(buffer);
        // Each block names the next eight, from every eighth on.
        if (block % 8 === 0 && block < 32) {
          known.push(...blocksFrom(block + 1, block + 9));
          stream.resume();
        }
      }
      expect(seen).toEqual(blocksFrom(0, 33));
      expect(stream.info.distance).toBe(0);
      stream.resume();
      expect(stream.info.distance).toBeGreaterThan(1);
      stream.end();
      expect(pool.pinsHeld).toBe(0);
    },
  );

  test("pausing twice keeps what to go on with, and resuming without a pause changes nothing", () => {
    for (const rules of [at8(), new LookAhead19(bounds, true)] as LookAhead[]) {
      rules.pause();
      rules.pause();
      rules.resume();
      expect(rules.distance).toBe(8);
      rules.afterHit(0);
      rules.resume();
      expect(rules.distance).toBe(7);
    }
  });
});

/**
 * Replacement decides as PostgreSQL does: traces of its own replacement code, step by step.
 *
 * Aim of all: which buffer is taken, why, and where the clock and the usage counts stand afterwards. Method: the reads of the
 * trace against what happened in PostgreSQL 18.6.
 */
import { describe, expect, test } from "vitest";

import { ringBuffers, ringKib } from "../src/ring-sizes.js";
import type { RingKind } from "../src/ring-sizes.js";
import { ReplacementPool, TracedRing } from "./replacement.js";
import type { Replacer } from "./replacement.js";

const NOT_DURABLE = 2n;
const settings = { combineLimit: 16, pinBackends: 136 };

function ringOf(kind: RingKind, buffers: number): TracedRing {
  return new TracedRing(kind, ringBuffers(ringKib(kind, settings, buffers, 16), buffers));
}

/** Reads blocks one after the other. @returns what happened, in one line */
function trace(backend: Replacer, blocks: readonly number[], ring: TracedRing | null = null): string {
  return blocks.flatMap((block) => backend.read(block, ring)).join(" ");
}

describe("the clock", () => {
  test("spares what was used, once for each use, and takes what it finds unused", () => {
    const pool = new ReplacementPool(8);
    const backend = pool.backend();
    const { sweep } = backend.allocator;
    expect(trace(backend, [1, 2, 3, 4, 5, 6, 7, 8])).toBe("f0 f1 f2 f3 f4 f5 f6 f7");
    expect(trace(backend, [1, 1, 1, 3, 5, 5])).toBe("h0 h0 h0 h2 h4 h4");
    expect(trace(backend, [9, 10, 11])).toBe("e1(2) e3(4) e5(6)");
    expect(pool.usage()).toEqual([2, 1, 0, 1, 1, 1, 0, 0]);
    expect(trace(backend, [1, 12, 13, 14])).toBe("h0 e6(7) e7(8) e2(3)");
    expect(pool.usage()).toEqual([2, 0, 1, 1, 1, 1, 1, 1]);
    expect(trace(backend, [15, 16, 17])).toBe("e1(9) e3(10) e4(5)");
    expect(pool.usage()).toEqual([1, 1, 0, 1, 1, 0, 0, 0]);
    expect(sweep.syncStart()).toEqual({ hand: 5, passes: 3, allocations: 17 });
    expect(sweep.syncStart()).toEqual({ hand: 5, passes: 3, allocations: 0 });
  });

  test("goes round for one that was used often", () => {
    const pool = new ReplacementPool(4);
    const backend = pool.backend();
    trace(backend, [1, 1, 1, 1, 1, 1, 1, 2, 3, 4]);
    expect(pool.usage()).toEqual([5, 1, 1, 1]);
    expect(trace(backend, [5])).toBe("e1(2)");
    expect(pool.usage()).toEqual([3, 1, 0, 0]);
    expect(trace(backend, [6, 7, 8, 9, 10, 11])).toBe("e2(3) e3(4) e1(5) e2(6) e3(7) e0(1)");
    expect(backend.allocator.sweep.syncStart()).toEqual({ hand: 1, passes: 5, allocations: 11 });
  });

  test("gives up when a pass has met nothing but pinned buffers", () => {
    const pool = new ReplacementPool(4);
    const backend = pool.backend();
    for (const block of [1, 2, 3, 4]) backend.pin(block);
    expect(() => backend.read(5)).toThrow(expect.objectContaining({ code: "ERR_BUFFER_NO_UNPINNED" }));
    expect(backend.allocator.sweep.syncStart()).toMatchObject({ hand: 0, passes: 1 });
  });

  test("does not give up while it lowers the count of one that was used often", () => {
    const backend = new ReplacementPool(4).backend();
    for (const block of [1, 2, 3]) backend.pin(block);
    trace(backend, [4, 4, 4, 4, 4]);
    expect(trace(backend, [5])).toBe("e3(4)");
    expect(backend.allocator.sweep.syncStart()).toMatchObject({ hand: 0, passes: 6 });
  });
});

describe("a ring", () => {
  test("is reused, but for what others use, have pinned, or would have to wait for WAL to write", () => {
    const pool = new ReplacementPool(32);
    const backend = pool.backend();
    trace(
      backend,
      Array.from({ length: 32 }, (_, block) => 101 + block),
    );
    const ring = ringOf("bulkread", 32);
    expect(ring.size).toBe(4);
    expect(trace(backend, [1, 2, 3, 4, 5, 6], ring)).toBe("e0(101) e1(102) e2(103) e3(104) r0(1) r1(2)");
    expect(pool.usage().slice(4)).toEqual(Array.from({ length: 28 }, () => 0));
    expect(trace(backend, [6])).toBe("h1");
    expect(trace(backend, [7, 8, 9, 10], ring)).toBe("r2(3) r3(4) r0(5) e4(105)");
    backend.pin(8);
    expect(trace(backend, [11, 12, 13, 14], ring)).toBe("r2(7) e5(106) r0(9) r4(10)");
    backend.unpin(8);
    backend.dirty(13, NOT_DURABLE);
    expect(trace(backend, [15, 16, 17, 18, 19], ring)).toBe("r2(11) r5(12) x0 r4(14) r2(15) r5(16)");
    expect(backend.allocator.sweep.syncStart()).toMatchObject({ hand: 6, allocations: 38 });
  });

  test("of a vacuum writes what is dirty, and takes from the free list what a drop, not an eviction, put there", () => {
    const pool = new ReplacementPool(16);
    const backend = pool.backend();
    const ring = ringOf("vacuum", 16);
    expect([ring.size, ring.pinLimit]).toEqual([2, 1]);
    trace(backend, [1, 2, 3]);
    expect(trace(backend, [50, 51, 52, 53], ring)).toBe("f3 f4 r3(50) r4(51)");
    backend.dirty(53, NOT_DURABLE);
    expect(trace(backend, [54, 55], ring)).toBe("r3(52) w4 r4(53)");
    backend.drop(2);
    backend.evict(3);
    expect(trace(backend, [60, 61])).toBe("f1 f5");
  });
});

/** Steps of a long run by their code, as they go into the hash. */
const CODES = "hferwx";

/** A long run by a linear congruential generator. @returns hash and counts of what happened */
function longRun(
  seed: number,
  operations: number,
  tags: number,
): { hash: string; counts: string; pool: string } {
  const backend = new ReplacementPool(64).backend();
  const bulkread = ringOf("bulkread", 64);
  const vacuum = ringOf("vacuum", 64);
  let x = seed;
  const next = (): number => {
    x = Number((BigInt(x) * 1_103_515_245n + 12_345n) & 0x7fff_ffffn);
    return x >>> 8;
  };
  let hash = 0x811c_9dc5;
  const add = (byte: number): void => {
    hash = Math.imul(hash ^ byte, 0x0100_0193) >>> 0;
  };
  const counts = new Map(Array.from(CODES, (code) => [code, 0]));
  const note = (steps: readonly string[]): void => {
    for (const step of steps) {
      const code = step.charAt(0);
      counts.set(code, (counts.get(code) ?? 0) + 1);
      add(CODES.indexOf(code));
      add(Number.parseInt(step.slice(1), 10) & 255);
    }
  };
  let bulkreads = 0;
  let vacuums = 0;
  for (let operation = 0; operation < operations; operation++) {
    const what = next() % 100;
    const tag = next() % tags;
    if (what < 60) note(backend.read(tag));
    else if (what < 80) note(backend.read(1000 + (bulkreads++ % 300), bulkread));
    else if (what < 95) note(backend.read(2000 + (vacuums++ % 200), vacuum));
    else if (what < 98) {
      const lsn = next() % 2 === 1 ? NOT_DURABLE : 0n;
      backend.dirty(tag, lsn);
      backend.dirty(1000 + ((bulkreads + 299) % 300), lsn);
    } else backend.drop(tag);
  }
  const { hand, passes, allocations } = backend.allocator.sweep.syncStart();
  return {
    hash: hash.toString(16).padStart(8, "0"),
    counts: [...counts].map(([code, count]) => code + count).join(" "),
    pool: `hand ${hand} passes ${passes} allocations ${allocations}`,
  };
}

describe("a long random run of plain reads, a bulk read, a vacuum, dirtying and drops", () => {
  test("of 1000 steps ends as in PostgreSQL", () => {
    expect(longRun(1, 1000, 100)).toEqual({
      hash: "2711d5c2",
      counts: "h293 f77 e264 r313 w32 x10",
      pool: "hand 53 passes 15 allocations 341",
    });
  });

  test("of 100,000 steps ends as in PostgreSQL", () => {
    expect(longRun(7, 100_000, 128)).toEqual({
      hash: "c4a8c5a7",
      counts: "h23352 f859 e36997 r33738 w3721 x1141",
      pool: "hand 51 passes 1820 allocations 37855",
    });
  });
});

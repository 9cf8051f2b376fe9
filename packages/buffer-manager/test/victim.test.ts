/**
 * Victims that turn out to be in use are let go of, and nothing of theirs is lost.
 */
import { describe, expect, test } from "vitest";

import { refcountOf, STATE } from "../src/buffer-state.js";
import { hasFree } from "../src/free-list.js";
import type { PoolPoint } from "../src/points.js";
import { ReplacementPool, RELATION, runNow, TracedRing } from "./replacement.js";
import type { Replacer } from "./replacement.js";

/** A full pool of four pages that the clock takes in their order. */
function fullPool(): { pool: ReplacementPool; one: Replacer; two: Replacer } {
  const pool = new ReplacementPool(4);
  const [one, two] = [pool.backend(0), pool.backend(1)];
  for (const block of [1, 2, 3, 4]) one.read(block);
  return { pool, one, two };
}

/** Does something the first time that a backend comes to a point. */
function once(backend: Replacer, wanted: PoolPoint, what: (buffer: number) => void): void {
  let isDone = false;
  backend.hook = (point, _, buffer) => {
    if (isDone || point !== wanted) return;
    isDone = true;
    what(buffer);
  };
}

describe("a victim", () => {
  test("that somebody dirties again after its write is let go of, dirty as it is", () => {
    const { pool, one, two } = fullPool();
    one.dirty(1, 0n);
    once(one, "victim:before-invalidate", (buffer) => {
      expect(one.headers.state(buffer) & STATE.dirty).toBe(0);
      two.pin(1);
      two.dirty(1, 0n);
      two.unpin(1);
    });
    expect(one.read(5)).toEqual(["w0", "e1(2)"]);
    expect(one.find(1)).toBe(0);
    expect(two.headers.state(0) & STATE.dirty).not.toBe(0);
    expect(refcountOf(two.headers.state(0))).toBe(0);
    expect(pool.blocks.get(1)).toBe(5);
  });

  test("that somebody pins under its old tag keeps its page", () => {
    const { one, two } = fullPool();
    once(one, "victim:before-invalidate", () => void two.pin(1));
    expect(one.read(5)).toEqual(["e1(2)"]);
    expect(refcountOf(one.headers.state(0))).toBe(1);
    expect(one.read(1)).toEqual(["h0"]);
  });

  // Two flows of one thread share its pins, so that the shared count stays at one.
  test("that another flow of the same backend pins keeps its page too", () => {
    const { one } = fullPool();
    let isDone = false;
    one.hook = (point) => {
      if (isDone || point !== "victim:before-invalidate") return;
      isDone = true;
      one.pins.pin(0);
    };
    expect(one.read(5)).toEqual(["e1(2)"]);
    expect(one.find(1)).toBe(0);
    expect(refcountOf(one.headers.state(0))).toBe(1);
    one.pins.unpin(0);
  });

  test("that is locked for writing is passed over without waiting", () => {
    const { one, two } = fullPool();
    one.dirty(1, 0n);
    once(one, "victim:selected", (buffer) => {
      two.pin(1);
      expect(two.locks.tryLock(buffer, "exclusive")).toBe(true);
    });
    expect(one.read(5)).toEqual(["e1(2)"]);
    expect(one.headers.state(0) & STATE.dirty).not.toBe(0);
    expect(two.locks.modeOf(0)).toBe("exclusive");
  });

  test("is let go of when writing its page fails, and holds it still", () => {
    const { pool, one } = fullPool();
    one.dirty(1, 0n);
    pool.writeError = new Error("no space");
    expect(() => one.read(5)).toThrow("no space");
    expect(refcountOf(one.headers.state(0))).toBe(0);
    expect(one.headers.state(0) & STATE.dirty).not.toBe(0);
    expect([one.find(1), one.locks.heldCount, one.pins.pinnedCount]).toEqual([0, 0, 0]);
  });
});

describe("an allocation", () => {
  test("that somebody else was faster with gives its victim to the free list and takes the other's buffer", () => {
    const { pool, one, two } = fullPool();
    once(one, "alloc:before-insert", () => void two.pin(5));
    expect(hasFree(pool.words, pool.layout)).toBe(false);
    expect(one.pin(5)).toEqual(["h1"]);
    expect(refcountOf(one.headers.state(1))).toBe(2);
    expect(refcountOf(one.headers.state(0)), "the victim is not pinned").toBe(0);
    expect(hasFree(pool.words, pool.layout)).toBe(true);
    expect(one.pin(6), "the victim is taken next").toEqual(["f0"]);
  });

  test("that fails before it is known to others gives its victim back", () => {
    const { pool, one } = fullPool();
    once(one, "alloc:before-insert", () => {
      throw new Error("stopped");
    });
    expect(() => one.read(5)).toThrow("stopped");
    expect(one.pins.pinnedCount).toBe(0);
    expect(hasFree(pool.words, pool.layout)).toBe(true);
    expect(one.find(5)).toBe(-1);
    expect(one.read(5)).toEqual(["f0"]);
  });

  test("leaves a buffer pinned once, used once, neither valid nor dirty, and permanent if its relation is logged", () => {
    const pool = new ReplacementPool(16);
    const { allocator, headers } = pool.backend();
    const logged = runNow(allocator.allocate(RELATION, 0, 1, null, 0));
    expect(allocator.found).toBe(false);
    expect(headers.state(logged)).toBe((1 << 18) | 1 | STATE.tagValid | STATE.permanent);
    const unlogged = { ...RELATION, relation: 2, persistence: "unlogged" as const };
    const states = ([0, 3] as const).map((fork) => {
      return headers.state(runNow(allocator.allocate(unlogged, fork, 1, null, 0))) & STATE.permanent;
    });
    expect(states).toEqual([0, STATE.permanent]);
    expect(runNow(allocator.allocate(RELATION, 0, 1, null, 0))).toBe(logged);
    expect(allocator.found, "not read yet").toBe(false);
  });

  test("of a dropped ring's is as without a ring", () => {
    const { one } = fullPool();
    const ring = new TracedRing("vacuum", 2);
    expect([5, 6].flatMap((block) => one.read(block, ring))).toEqual(["e0(1)", "e1(2)"]);
    ring.drop();
    expect([7, 8].flatMap((block) => one.read(block, ring))).toEqual(["e2(3)", "e3(4)"]);
    expect(ring.buffers()).toEqual([1, 0]);
  });
});

describe("a bulk read over dirty pages", () => {
  const blocks = [0, 1, 2, 3, 4, 5, 6, 7];

  function scanDirtying(pool: ReplacementPool): string[] {
    const backend = pool.backend();
    const ring = new TracedRing("bulkread", 2);
    return blocks.flatMap((block) => {
      const steps = backend.read(block, ring);
      backend.dirty(block, 2n);
      return steps;
    });
  }

  test("whose WAL is not durable writes nothing and leaves its buffers behind", () => {
    const steps = scanDirtying(new ReplacementPool(16));
    expect(steps.filter((step) => step.startsWith("w"))).toEqual([]);
    expect(steps.join(" ")).toBe("f0 f1 x0 x1 f2 f3 x2 x3 f4 f5 x4 x5 f6 f7");
  });

  test("whose WAL is durable writes them and keeps its buffers", () => {
    const pool = new ReplacementPool(16);
    pool.durable = 2n;
    expect(scanDirtying(pool).join(" ")).toBe("f0 f1 w0 r0(0) w1 r1(1) w0 r0(2) w1 r1(3) w0 r0(4) w1 r1(5)");
  });

  test("of an unlogged relation writes them, whatever their LSN", () => {
    const pool = new ReplacementPool(16);
    const backend = pool.backend();
    const ring = new TracedRing("bulkread", 1);
    backend.read(1, ring);
    backend.dirty(1, 2n);
    pool.setFlags(0, 0, STATE.permanent);
    expect(backend.read(2, ring)).toEqual(["w0", "r0(1)"]);
  });
});

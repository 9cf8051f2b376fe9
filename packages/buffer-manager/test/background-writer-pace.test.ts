/**
 * How much the background writer cleans: traces of PostgreSQL 18.6's BgBufferSync, which an independent model of its rules
 * reproduced, and what must hold for any load.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { BackgroundWriterPace } from "../src/background-writer-pace.js";
import type { BackgroundWriterPaceOptions, BufferVerdict } from "../src/background-writer-pace.js";

/** Buffers of which some are dirty and some are in use; the hand is said, not moved. */
class Pool {
  readonly pace: BackgroundWriterPace;
  readonly buffers: number;
  readonly dirty = new Set<number>();
  isPinned = false;
  scanned: number[] = [];
  written = 0;
  mayHibernate = false;

  constructor(buffers: number, dirty: [from: number, to: number], options: BackgroundWriterPaceOptions = {}) {
    this.buffers = buffers;
    for (let buffer = dirty[0]; buffer <= dirty[1]; buffer++) this.dirty.add(buffer);
    this.pace = new BackgroundWriterPace(options);
  }

  #look(buffer: number): BufferVerdict {
    if (this.isPinned) return "busy";
    return this.dirty.delete(buffer) ? "written" : "reusable";
  }

  /** One round. @returns scanned, [first..last], written; as the traces say it */
  round(hand: number, passes: number, allocations: number): string {
    this.scanned = [];
    this.pace.begin(hand, passes, allocations, this.buffers);
    for (let buffer = this.pace.next; buffer >= 0; buffer = this.pace.next) {
      this.scanned.push(buffer);
      this.pace.found(this.#look(buffer));
    }
    this.mayHibernate = this.pace.end();
    this.written = this.pace.written;
    expect(this.pace.scanned).toBe(this.scanned.length);
    const range = this.scanned.length > 0 ? `[${this.scanned[0]}..${this.scanned.at(-1)}]` : "";
    return `${this.scanned.length}${range}w${this.written}`;
  }
}

describe("the background writer's pace", () => {
  test("follows PostgreSQL's through bursts, laps and an idle pool in use", () => {
    const pool = new Pool(1000, [0, 999]);
    const rounds: [number, number, number][] = [
      [0, 0, 0],
      [50, 0, 50],
      [150, 0, 100],
      [150, 0, 0],
      [150, 0, 0],
      [200, 0, 10],
    ];
    const hits: number[] = [];
    const seen = rounds.map((round) => {
      const before = pool.pace.hitMax;
      const line = pool.round(...round);
      hits.push(pool.pace.hitMax - before);
      return line;
    });
    expect(seen).toEqual([
      "1[0..0]w1",
      "100[50..149]w100",
      "100[150..249]w100",
      "100[250..349]w100",
      "100[350..449]w100",
      "100[450..549]w100",
    ]);
    expect(hits).toEqual([0, 1, 1, 1, 1, 1]);
    pool.pace.pagesMax = 1000;
    expect(pool.round(400, 0, 200)).toBe("375[550..924]w375");
    expect(pool.round(400, 0, 0)).toBe("282[925..206]w124");
    expect(pool.round(400, 0, 0)).toBe("193[207..399]w0");
    expect(pool.round(990, 0, 500)).toMatch(/^590\[/u);
    expect(pool.round(100, 1, 50)).toMatch(/^110\[990\.\.99\]/u);
    pool.isPinned = true;
    for (let time = 0; time < 2; time++) {
      expect(pool.round(100, 1, 0)).toBe("0w0");
      expect(pool.mayHibernate).toBe(true);
    }
  });

  test("follows PostgreSQL's through a large pool, and forgets its place when it is turned off", () => {
    const pool = new Pool(16_384, [100, 300]);
    expect(pool.round(0, 0, 0)).toBe("27[0..26]w0");
    expect(pool.round(0, 0, 0)).toBe("27[27..53]w0");
    expect(pool.round(64, 0, 64)).toBe("128[64..191]w92");
    expect(pool.round(128, 0, 32)).toBe("100[192..291]w100");
    expect(pool.pace.hitMax).toBe(1);
    expect(pool.round(128, 0, 0)).toBe("94[292..385]w9");
    expect(pool.mayHibernate).toBe(false);
    pool.pace.pagesMax = 0;
    expect(pool.round(128, 0, 0)).toBe("0w0");
    expect(pool.mayHibernate).toBe(true);
    pool.pace.pagesMax = 100;
    expect(pool.round(128, 0, 0)).toBe("108[128..235]w0");
  });

  test("of a pool too small for a whole buffer a round looks at nothing until something is allocated", () => {
    const pool = new Pool(100, [0, -1]);
    for (let time = 0; time < 5; time++) {
      expect(pool.round(0, 0, 0)).toBe("0w0");
      expect(pool.mayHibernate).toBe(false);
    }
    expect(pool.round(0, 0, 30)).toMatch(/^60\[/u);
    expect(pool.mayHibernate).toBe(false);
    expect(pool.round(0, 0, 0)).toMatch(/^40\[/u);
    expect(pool.round(0, 0, 0)).toBe("0w0");
    expect(pool.mayHibernate).toBe(true);
  });

  test("begins anew at the hand when the pool's size has changed", () => {
    const pace = new BackgroundWriterPace();
    pace.begin(20, 0, 0, 1000);
    for (let buffer = pace.next; buffer >= 0; buffer = pace.next) pace.found("reusable");
    pace.end();
    pace.begin(20, 0, 0, 1000);
    expect(pace.next).toBe(21);
    pace.end();
    pace.begin(20, 0, 0, 6000);
    expect(pace.next).toBe(20);
  });

  test("has PostgreSQL's limits", () => {
    for (const wrong of [{ delayMs: 9 }, { delayMs: 10_001 }, { multiplier: 10.1 }, { pagesMax: -1 }]) {
      expect(() => new BackgroundWriterPace(wrong)).toThrow(RangeError);
    }
    expect(() => new BackgroundWriterPace({ delayMs: 10, multiplier: 10, pagesMax: 0 })).not.toThrow();
  });

  // Aim: no load makes it look twice at a buffer in a lap, outside the pool, or write more than it may. Method: a hand that
  // moves at random, and buffers that are dirty, clean or busy at random.
  test("keeps inside the pool, its lap and its limit whatever the hand does", () => {
    const round = fc.record({ moved: fc.nat(300), allocations: fc.nat(400), seed: fc.nat() });
    fc.assert(
      fc.property(
        fc.integer({ min: 16, max: 200 }),
        fc.nat(40),
        fc.array(round, { maxLength: 60, size: "max" }),
        (buffers, pagesMax, rounds) => {
          const pace = new BackgroundWriterPace({ pagesMax });
          let hand = 0;
          for (const { moved, allocations, seed } of rounds) {
            hand += moved;
            pace.begin(hand % buffers, Math.floor(hand / buffers), allocations, buffers);
            let state = seed | 1;
            const seen = new Set<number>();
            for (let buffer = pace.next; buffer >= 0; buffer = pace.next) {
              expect(buffer).toBeLessThan(buffers);
              expect(seen.has(buffer)).toBe(false);
              seen.add(buffer);
              state = Math.imul(state, 1_103_515_245) + 12_345;
              pace.found((["written", "reusable", "busy"] as const)[(state >>> 9) % 3] ?? "busy");
            }
            pace.end();
            expect(pace.written).toBeLessThanOrEqual(pagesMax);
          }
        },
      ),
    );
  });
});

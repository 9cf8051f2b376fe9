/** The allocator's bookkeeping against a row of flags, one for each unit. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FreeRanges } from "../src/free-ranges.js";

/** The dumbest correct one: taken units are true, and the longest free run is counted every time. */
class Flags {
  readonly taken: boolean[];

  constructor(units: number) {
    this.taken = Array.from({ length: units }, () => false);
  }

  hasRoom(length: number, align: number): boolean {
    for (let start = 0; start + length <= this.taken.length; start += align) {
      if (this.isFree(start, length)) return true;
    }
    return false;
  }

  isFree(start: number, length: number): boolean {
    return this.taken.slice(start, start + length).every((unit) => !unit);
  }

  mark(start: number, length: number, taken: boolean): void {
    this.taken.fill(taken, start, start + length);
  }

  get free(): number {
    return this.taken.filter((unit) => !unit).length;
  }
}

/** `take` n units, aligned, or `give` back one of the ranges that are out. */
const step = fc.oneof(
  fc.record({ take: fc.integer({ min: 1, max: 90 }), align: fc.constantFrom(1, 1, 2, 8) }),
  fc.record({ give: fc.nat() }),
);

// Aim: ranges never overlap, a request fails only if there is no room, and everything merges again. Method: random
// takes and gives beside the flags; at the end everything is given back and taken in one piece.
test("ranges are disjoint, found whenever there is one, and whole again at the end", () => {
  const units = fc.integer({ min: 1, max: 300 });
  const steps = fc.array(step, { maxLength: 300, size: "max" });
  fc.assert(
    fc.property(units, steps, (units, steps) => {
      const ranges = new FreeRanges(units);
      const flags = new Flags(units);
      const out: { start: number; length: number }[] = [];
      for (const step of steps) {
        if ("take" in step) {
          const start = ranges.take(step.take, step.align);
          expect(start !== undefined).toBe(flags.hasRoom(step.take, step.align));
          if (start === undefined) continue;
          expect(start % step.align).toBe(0);
          expect(start + step.take).toBeLessThanOrEqual(units);
          expect(flags.isFree(start, step.take)).toBe(true);
          flags.mark(start, step.take, true);
          out.push({ start, length: step.take });
        } else if (out.length > 0) {
          const [range] = out.splice(step.give % out.length, 1);
          if (range === undefined) continue;
          ranges.give(range.start);
          flags.mark(range.start, range.length, false);
        }
        expect(ranges.freeUnits).toBe(flags.free);
      }
      for (const { start } of out) ranges.give(start);
      expect(ranges.freeUnits).toBe(units);
      expect(ranges.take(units)).toBe(0);
    }),
    { numRuns: 200 },
  );
});

// Aim: equal sizes leave no holes that they cannot use. Method: sizes of all kinds fill the units; give any back, take it.
test("equal sizes can always be taken again", () => {
  const size = fc.integer({ min: 1, max: 70 });
  fc.assert(
    fc.property(size, fc.array(fc.nat(), { maxLength: 200, size: "max" }), (size, gives) => {
      const ranges = new FreeRanges(size * 20);
      const out = Array.from({ length: 20 }, () => ranges.take(size));
      for (const give of gives) {
        const index = give % out.length;
        ranges.give(out[index] as number);
        out[index] = ranges.take(size);
        expect(out[index]).toBeDefined();
      }
      expect(new Set(out).size).toBe(20);
    }),
  );
});

// Aim: a request is not refused because a shorter range stands before the one that fits. Method: 33 and 32 units share a
// list; the shorter one is given back last and so stands first.
test("a range that fits is found behind shorter ones of its list", () => {
  const ranges = new FreeRanges(33 + 1 + 32 + 1);
  const [long, , short] = [33, 1, 32, 1].map((length) => ranges.take(length) as number);
  ranges.give(long as number);
  ranges.give(short as number);
  expect(ranges.take(34)).toBeUndefined();
  expect(ranges.take(33)).toBe(long);
});

test("a range is given back once", () => {
  const ranges = new FreeRanges(8);
  const start = ranges.take(3) as number;
  expect(() => ranges.give(start + 1)).toThrow("never taken");
  ranges.give(start);
  expect(() => ranges.give(start)).toThrow("given back twice");
});

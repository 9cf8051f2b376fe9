/**
 * Write-back hints: neighbours become one range, duplicates count once, and where there is nothing to hint at nothing is.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import type { FileLayer } from "../src/file-layer.js";
import { CONTEXT, COUNTED, Counters, STATISTICS_DOUBLES } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import type { Relation } from "../src/tag.js";
import { WRITE_BACK_MAX, WriteBack } from "../src/write-back.js";

const RELATION: Relation = { tablespace: 1663, database: 5, relation: 16_384 };

/** A list over files that record the hints. */
function createList(
  limit: number,
  isDirect = false,
): { list: WriteBack; hints: string[]; counted: () => number } {
  const hints: string[] = [];
  const files = {
    isDirect,
    writeBack: ({ relation }: Relation, fork: number, block: number, count: number) =>
      void hints.push(`${relation}/${fork}: ${block},${count}`),
  };
  const counters = new Counters(new Float64Array(STATISTICS_DOUBLES), 0);
  const list = new WriteBack(files as unknown as FileLayer, counters, limit);
  return { list, hints, counted: () => counters.get(COUNTED.writeback, CONTEXT.normal, false).count };
}

describe("write-back", () => {
  test("merges neighbours and skips duplicates when the list is full", () => {
    const { list, hints, counted } = createList(5);
    for (const block of [5, 3, 4, 4]) list.note(RELATION, FORK.main, block, 1, CONTEXT.normal);
    expect(hints).toEqual([]);
    list.note(RELATION, FORK.main, 9, 1, CONTEXT.normal);
    expect(hints).toEqual(["16384/0: 3,3", "16384/0: 9,1"]);
    expect(counted(), "all that was pending counts").toBe(5);
    list.issue(CONTEXT.normal);
    expect(hints).toHaveLength(2);
  });

  test("keeps forks and relations apart", () => {
    const { list, hints } = createList(10);
    list.note(RELATION, FORK.main, 1, 2, CONTEXT.normal);
    list.note(RELATION, FORK.fsm, 3, 1, CONTEXT.normal);
    list.note({ ...RELATION, relation: 7 }, FORK.main, 3, 1, CONTEXT.normal);
    list.issue(CONTEXT.normal);
    expect(hints).toEqual(["7/0: 3,1", "16384/0: 1,2", "16384/1: 3,1"]);
  });

  test("does nothing for direct I/O or a limit of nought", () => {
    for (const { list, hints, counted } of [createList(5, true), createList(0)]) {
      list.note(RELATION, FORK.main, 0, 20, CONTEXT.normal);
      list.issue(CONTEXT.normal);
      expect([hints, counted()]).toEqual([[], 0]);
    }
    expect(() => createList(WRITE_BACK_MAX + 1)).toThrow(RangeError);
  });

  // Aim: each block noted is hinted at once and no other is. Method: random runs against a set of blocks.
  test("covers exactly the blocks that were noted, in ranges that do not touch", () => {
    const runs = fc.array(fc.tuple(fc.nat(50), fc.integer({ min: 1, max: 5 })), {
      maxLength: 50,
      size: "max",
    });
    fc.assert(
      fc.property(runs, (runs) => {
        const { list, hints } = createList(WRITE_BACK_MAX);
        const noted = new Set<number>();
        for (const [block, count] of runs) {
          list.note(RELATION, FORK.main, block, count, CONTEXT.normal);
          for (let index = 0; index < count; index++) noted.add(block + index);
        }
        list.issue(CONTEXT.normal);
        const ranges = hints.map((hint) =>
          hint
            .slice(hint.indexOf(":") + 2)
            .split(",")
            .map(Number),
        );
        const hinted = ranges.flatMap(([block = 0, count = 0]) =>
          Array.from({ length: count }, (_, index) => block + index),
        );
        expect(hinted).toEqual([...noted].toSorted((a, b) => a - b));
        for (const [index, [block = 0]] of ranges.entries()) {
          const [before = 0, count = 0] = ranges[index - 1] ?? [-2, 0];
          expect(block).toBeGreaterThan(before + count);
        }
      }),
    );
  });
});

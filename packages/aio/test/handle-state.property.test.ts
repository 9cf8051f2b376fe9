/** The life of a handle as numbers: legal moves, and state and generation in their words. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import {
  generationHigh,
  HANDLE_STATE,
  isLegalMove,
  packStateGeneration,
  STATE_MASK,
  stateName,
  unpackGeneration,
} from "../src/handle-state.js";
import { HandleTable } from "../src/handle-table.js";
import { computeLayout, HANDLE } from "../src/layout.js";

const CARRY = 2 ** 28;

function createTable(): HandleTable {
  const layout = computeLayout({ backends: 1, concurrency: 2, combine: 1, files: 1 });
  const table = new HandleTable(new Int32Array(new SharedArrayBuffer(layout.words * 4)), layout);
  table.initialise();
  return table;
}

describe("moves", () => {
  // Aim: nothing but the documented moves is legal. Method: all pairs against a list in words.
  test("only the life's own order, release and the recovery of unsubmitted I/O are legal", () => {
    const legal = [
      "IDLE>HANDED_OUT",
      "HANDED_OUT>IDLE",
      "HANDED_OUT>DEFINED",
      "DEFINED>STAGED",
      "DEFINED>COMPLETED_IO",
      "STAGED>SUBMITTED",
      "STAGED>COMPLETED_IO",
      "SUBMITTED>COMPLETED_IO",
      "COMPLETED_IO>COMPLETED_SHARED",
      "COMPLETED_SHARED>COMPLETED_LOCAL",
      "COMPLETED_LOCAL>IDLE",
    ];
    const found: string[] = [];
    for (const from of Object.values(HANDLE_STATE)) {
      for (const to of Object.values(HANDLE_STATE)) {
        if (isLegalMove(from, to)) found.push(`${stateName(from)}>${stateName(to)}`);
      }
    }
    expect(found.sort()).toEqual(legal.sort());
    expect(() => stateName(8)).toThrow("no such handle state: 8");
  });

  // Aim: a handle that two owners believe to have is caught. Method: moves from a state it is not in, and illegal ones.
  test("a move from another state, or to one that may not follow, is refused and changes nothing", () => {
    const table = createTable();
    const { idle, handedOut, defined, submitted } = HANDLE_STATE;
    expect(() => table.move(0, handedOut, defined)).toThrow("it is IDLE");
    expect(() => table.move(0, idle, submitted)).toThrow("IDLE to SUBMITTED");
    expect(() => table.recycle(0, handedOut)).toThrow("it is IDLE");
    expect([table.state(0), table.generation(0)]).toEqual([idle, 1]);
    table.move(0, idle, handedOut);
    table.move(0, handedOut, defined);
    expect(() => table.recycle(0, defined)).toThrow("DEFINED to IDLE");
    expect([table.state(0), table.generation(0)]).toEqual([defined, 1]);
  });
});

describe("generations", () => {
  // Aim: both words together say state and generation, up to 2^53. Method: random ones, and those around each carry.
  test("survive their two words up to 2^53", () => {
    const state = fc.integer({ min: 0, max: 7 });
    const around = fc.tuple(fc.integer({ min: 1, max: 2 ** 25 - 1 }), fc.integer({ min: -2, max: 2 }));
    const generation = fc.oneof(
      fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      around.map(([carries, offset]) => carries * CARRY + offset),
      fc.constantFrom(1, CARRY - 1, CARRY, Number.MAX_SAFE_INTEGER),
    );
    fc.assert(
      fc.property(state, generation, (state, generation) => {
        const words = Int32Array.of(packStateGeneration(state, generation), generationHigh(generation));
        expect((words[0] as number) & STATE_MASK).toBe(state);
        expect(unpackGeneration(words[0] as number, words[1] as number)).toBe(generation);
      }),
      { numRuns: 2000 },
    );
  });

  // Aim: the upper word grows with the 2^28th use, and states do not leak into it. Method: lives across two carries.
  test.each([CARRY - 1, 3 * CARRY - 1, 2 ** 52 - 1])("go on across the carry after %i", (before) => {
    const table = createTable();
    table.setGeneration(1, before);
    for (const expected of [before + 1, before + 2]) {
      table.move(1, HANDLE_STATE.idle, HANDLE_STATE.handedOut);
      expect(table.generation(1)).toBe(expected - 1);
      table.recycle(1, HANDLE_STATE.handedOut);
      expect([table.generation(1), table.state(1)]).toEqual([expected, HANDLE_STATE.idle]);
    }
    expect(table.generation(0), "the neighbour").toBe(1);
  });

  // Aim: nothing of a life is taken for the next one's. Method: fill every word of a handle, recycle, look.
  test("a recycled handle has forgotten operation, target, flags, callbacks, data, pieces and results", () => {
    const table = createTable();
    table.move(0, HANDLE_STATE.idle, HANDLE_STATE.handedOut);
    const wiped = [HANDLE.meta, HANDLE.lengths];
    for (const word of wiped) table.words[table.at(0) + word] = 1;
    table.recycle(0, HANDLE_STATE.handedOut);
    expect(wiped.map((word) => table.get(0, word))).toEqual(wiped.map(() => 0));
    expect(table.get(0, HANDLE.owner)).toBe(0);
  });
});

// Aim: a position beyond 2^32 is kept. Method: random safe integers through the two words.
test("file offsets up to 2^53 survive their two words", () => {
  const table = createTable();
  fc.assert(
    fc.property(fc.oneof(fc.maxSafeNat(), fc.constantFrom(2 ** 31, 2 ** 32 - 1, 2 ** 32)), (offset) => {
      table.setOffsetBytes(1, offset);
      expect(table.offsetBytes(1)).toBe(offset);
    }),
    { numRuns: 1000 },
  );
});

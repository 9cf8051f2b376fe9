/**
 * The path of a hit in WebAssembly does what the JavaScript does, and leaves alone what it must not decide.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { refcountOf, STATE, usageOf } from "../src/buffer-state.js";
import type { BufferHeaders } from "../src/headers.js";
import { NOT_DONE, STRAYED } from "../src/hit-module.js";
import { BACKEND, DESCRIPTOR, HEADER } from "../src/layout.js";
import { MappingTable } from "../src/mapping.js";
import type { Pins } from "../src/pins.js";
import type { Fork, Relation } from "../src/tag.js";
import { createWords } from "./words.js";
import type { Words } from "./words.js";

const BUFFERS = 40;
const RELATIONS: readonly Relation[] = [
  { tablespace: 1663, database: 5, relation: 16_384 },
  { tablespace: 1663, database: 0xffff_fff0, relation: 16_384 },
  { tablespace: 0x8000_0001, database: 5, relation: 0xdead_beef },
];

interface World extends Words {
  readonly headers: BufferHeaders;
  readonly pins: Pins;
  readonly table: MappingTable;
}

/** Half of the buffers hold a block each; every third is not valid. */
function createWorld(isFast: boolean): World {
  const world = createWords(BUFFERS);
  const headers = world.headersOf(0);
  const hitCalls = world.callsOf(0);
  const pins = isFast ? world.pinsOf(0, hitCalls) : world.pinsOf(0);
  const table = new MappingTable({ ...world, headers, pins, ...(isFast ? { hitCalls } : {}) });
  for (let buffer = 0; buffer < BUFFERS / 2; buffer++) {
    const [relation, fork, block] = tagOf(buffer);
    pins.pin(buffer);
    table.insert(table.bucketOf(relation, fork, block), relation, fork, block, buffer);
    pins.unpin(buffer);
    if (buffer % 3 !== 0) headers.unlock(buffer, headers.lock(buffer) | STATE.valid);
  }
  return { ...world, headers, pins, table };
}

function tagOf(index: number): [Relation, Fork, number] {
  const block = index % 4 === 3 ? 0xffff_ff00 + index : index % 7;
  return [RELATIONS[index % 3] as Relation, (index % 4) as Fork, block];
}

function isSame(one: Int32Array, other: Int32Array): boolean {
  return Buffer.from(one.buffer, 0, one.byteLength).equals(Buffer.from(other.buffer, 0, other.byteLength));
}

describe("the path of a hit", () => {
  // Aim: with and without WebAssembly the same words come out. Method: the same random finds, pins and unpins of present and
  // absent blocks, by rings and without, on two pools; all words are compared after each step.
  test("leaves the same words behind as the JavaScript", () => {
    const step = fc.record({
      index: fc.nat(BUFFERS - 1),
      isRing: fc.boolean(),
      what: fc.constantFrom("find", "find", "find", "unpin", "use", "shrink"),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: "max" }), (steps) => {
        const [plain, fast] = [createWorld(false), createWorld(true)];
        for (const { index, isRing, what } of steps) {
          const outcomes = [plain, fast].map(({ table, pins, headers, words }) => {
            const [relation, fork, block] = tagOf(index);
            if (what === "find") {
              const buffer = table.lookupAndPin(relation, fork, block, isRing);
              return [buffer, buffer >= 0 && table.isValid, pins.count(index), pins.pinnedCount];
            }
            // The mark alone: the path of a hit looks at nothing else.
            if (what === "shrink") words[HEADER.low] = index;
            else if (what === "use") headers.unlock(index, headers.lock(index) ^ (3 << 18));
            else if (pins.count(index) > 0) pins.unpin(index);
            return [pins.count(index), pins.pinnedCount];
          });
          expect(outcomes[1]).toEqual(outcomes[0]);
          expect(isSame(fast.words, plain.words)).toBe(true);
        }
      }),
      { numRuns: 40 },
    );
  });

  test.each([true, false])(
    "makes no use of a buffer that is about to go count (WebAssembly: %s)",
    (isFast) => {
      const { table, pins, headers, words } = createWorld(isFast);
      const find = (index: number): number => table.lookupAndPin(...tagOf(index), false);
      words[HEADER.low] = 7;
      const usages = [6, 7].map((buffer) => {
        const before = usageOf(headers.state(buffer));
        expect(find(buffer)).toBe(buffer);
        expect(refcountOf(headers.state(buffer))).toBe(1);
        pins.unpin(buffer);
        return usageOf(headers.state(buffer)) - before;
      });
      expect(usages).toEqual([1, 0]);
    },
  );

  test("does nothing while a header is locked, and says so", () => {
    const world = createWorld(true);
    const calls = world.callsOf(0);
    const [{ tablespace, database, relation }, fork, block] = tagOf(1);
    const pin = (): number => calls.pin(tablespace, database, relation, fork, block, 0);
    expect(pin()).toBe(2);
    world.headersOf(1).lock(1);
    expect(pin(), "one that is pinned already needs no header").toBe(2);
    const before = world.words.slice();
    expect(calls.unpin(2)).toBe(NOT_DONE);
    expect(isSame(world.words, before)).toBe(true);
    world.headersOf(1).unlock(1, world.headers.state(1));
    expect(calls.unpin(2)).toBe(0);
    world.headersOf(1).lock(1);
    const locked = world.words.slice();
    expect(pin()).toBe(0);
    expect(isSame(world.words, locked)).toBe(true);
  });

  test("tells of a backend that waits for the only pin, which is then woken", () => {
    const world = createWorld(true);
    const waiter = world.pinsOf(1);
    waiter.pin(1);
    world.pins.pin(1);
    const state = world.headers.lock(1);
    world.words[world.headers.at(1) + DESCRIPTOR.pinWaiter] = 2;
    world.headers.unlock(1, state | STATE.pinCountWaiter);
    world.pins.unpin(1);
    const wakeAt = world.layout.backendsAt + world.layout.backendWords + BACKEND.wake;
    expect(world.words[wakeAt]).toBe(1);
    expect(world.headers.state(1) & STATE.pinCountWaiter).toBe(0);
  });

  // A tag that changes between the look and the pin cannot be had on purpose; what follows from it can.
  test("has a buffer that turned out to be another block's let go of", () => {
    const world = createWorld(true);
    world.headers.pin(7, false);
    const countAt = world.layout.backendsAt + world.layout.countsAt + 7;
    world.words[countAt] = 1;
    expect(world.table.adopt(STRAYED + 8)).toBe(-1);
    expect(world.table.isValid).toBe(false);
    expect(refcountOf(world.headers.state(7))).toBe(0);
    expect([world.pins.count(7), world.words[countAt]]).toEqual([0, 0]);
  });
});

/**
 * Contiguous victims: a combined read lands in one piece of memory where that can be had, and is as right where it cannot.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { packState, REFCOUNT_MASK, refcountOf, STATE, USAGE_MASK } from "../src/buffer-state.js";
import { Extents } from "../src/extents.js";
import { popFree } from "../src/free-list.js";
import { DESCRIPTOR } from "../src/layout.js";
import { READ_FLAG } from "../src/read-callbacks.js";
import { Ring } from "../src/ring.js";
import { blockOf, TABLE } from "./data-directory.js";
import { ReadWorld } from "./read-world.js";
import type { ReadingBackend } from "./read-world.js";
import { createWords } from "./words.js";
import type { Words } from "./words.js";

function setState(world: Words, buffer: number, state: number): void {
  world.words[world.headersOf(0).at(buffer) + DESCRIPTOR.state] = state;
}

/** Takes everything off the free list. @returns what was on it */
function emptyFreeList({ words, layout }: Pick<Words, "words" | "layout">): number[] {
  const free: number[] = [];
  for (let buffer = popFree(words, layout); buffer >= 0; buffer = popFree(words, layout)) free.push(buffer);
  return free;
}

/** Takes so many buffers of a run as a read does. */
function takeSome(extents: Extents, wanted: number): number[] {
  extents.begin(wanted);
  const taken: number[] = [];
  while (taken.length < wanted) {
    const buffer = extents.take();
    if (buffer < 0) break;
    taken.push(buffer);
  }
  extents.end();
  return taken;
}

describe("a run", () => {
  test("is aligned, in order, and let go of where it is not needed", () => {
    const world = createWords(128);
    const pins = world.pinsOf(0);
    const extents = new Extents(world.headersOf(0), pins, 16, 0);
    expect(takeSome(extents, 12)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    expect(pins.pinnedCount).toBe(12);
    expect(takeSome(extents, 16)).toEqual(Array.from({ length: 16 }, (_, index) => 16 + index));
    expect(takeSome(extents, 7), "not worth a run").toEqual([]);
    expect(pins.pinnedCount).toBe(28);
  });

  test("is of 32 buffers where reads are longer than 16, and other backends begin elsewhere", () => {
    const world = createWords(128);
    const extents = new Extents(world.headersOf(1), world.pinsOf(1), 32, 0.5);
    expect(takeSome(extents, 40), "40 need two").toEqual(
      Array.from({ length: 40 }, (_, index) => 64 + index),
    );
  });

  // Aim: only what nobody uses is taken. Method: random states of all buffers; what comes is checked against the rule, and
  // that nothing comes only if no run was fit.
  test("has no buffer that is pinned, used or dirty, and none that holds a page while there are free ones", () => {
    const kinds = ["free", "free", "free", "page", "used", "pinned", "dirty"] as const;
    const states = {
      free: 0,
      page: packState(0, 0, STATE.valid | STATE.tagValid),
      used: packState(0, 1, STATE.valid | STATE.tagValid),
      pinned: packState(1, 0, 0),
      dirty: packState(0, 0, STATE.valid | STATE.tagValid | STATE.dirty),
    };
    const odd = fc.record({ buffer: fc.nat(95), kind: fc.constantFrom(...kinds) });
    fc.assert(
      fc.property(fc.array(odd, { maxLength: 8 }), fc.boolean(), (odds, hasFree) => {
        const world = createWords(96);
        for (const { buffer, kind } of odds) setState(world, buffer, states[kind]);
        if (!hasFree) emptyFreeList(world);
        const before = Array.from({ length: 96 }, (_, buffer) => world.headersOf(0).state(buffer));
        const isFit = (state: number): boolean => {
          if ((state & (REFCOUNT_MASK | USAGE_MASK | STATE.dirty)) !== 0) return false;
          return !hasFree || (state & STATE.tagValid) === 0;
        };
        const fitRuns = [0, 16, 32, 48, 64, 80].filter((first) =>
          before.slice(first, first + 16).every(isFit),
        );
        const pins = world.pinsOf(0);
        const taken = takeSome(new Extents(world.headersOf(0), pins, 16, 0), 16);
        expect(taken).toEqual(
          fitRuns.length === 0 ? [] : Array.from({ length: 16 }, (_, i) => (fitRuns[0] ?? 0) + i),
        );
        for (let buffer = 0; buffer < 96; buffer++) {
          const state = world.headersOf(0).state(buffer);
          expect(state).toBe((before[buffer] ?? 0) + (taken.includes(buffer) ? 1 : 0));
        }
      }),
    );
  });
});

/** Puts the free buffers back in an order in which no two neighbours follow each other. */
function scatterFreeList({ allocator, context }: ReadingBackend): void {
  const free = emptyFreeList(context);
  for (const odd of [0, 1]) for (const buffer of free) if (buffer % 2 === odd) allocator.pushFree(buffer);
}

describe.each([true, false])("with the option %s", (contiguous) => {
  test("a combined read takes one piece of memory, or sixteen", async () => {
    await using world = new ReadWorld("manual", { contiguous });
    world.directory.writeBlocks(TABLE, 32);
    const backend = world.backend();
    scatterFreeList(backend);
    const operation = backend.operation();
    const buffers = new Int32Array(16);
    expect(
      await backend.reader.startReadAsync(operation.begin(buffers, 0, 3, 16, READ_FLAG.synchronously)),
    ).toBe(16);
    expect(operation.vectors.length).toBe(contiguous ? 1 : 16);
    await backend.reader.waitReadAsync(operation);
    expect([...buffers].map((buffer) => blockOf(backend.page(buffer)))).toEqual(
      Array.from({ length: 16 }, (_, index) => index + 3),
    );
    expect(backend.context.pins.pinnedCount).toBe(16);
  });

  test("a ring stays as it was filled, over many rounds", async () => {
    await using world = new ReadWorld("manual", { buffers: 256, contiguous });
    world.directory.writeBlocks(TABLE, 512);
    const backend = world.backend();
    scatterFreeList(backend);
    const ring = new Ring("bulkread", 32);
    const operation = backend.operation(TABLE, ring);
    const pieces: number[] = [];
    for (let block = 0; block < 512; block += 16) {
      const buffers = new Int32Array(16);
      await backend.reader.startReadAsync(operation.begin(buffers, 0, block, 16, READ_FLAG.synchronously));
      await backend.reader.waitReadAsync(operation);
      expect([...buffers].map((buffer) => blockOf(backend.page(buffer)) - block)).toEqual([
        ...buffers.keys(),
      ]);
      pieces.push(operation.vectors.length);
      backend.release(...buffers);
    }
    // Runs follow each other where they can, so that not even a read over the end of one is cut.
    expect(Math.max(...pieces)).toBe(contiguous ? 1 : 16);
    expect(backend.counted("reuse").count + backend.context.counters.get(3, 1, false).count).toBe(512 - 32);
  });

  test("a read where no run is to be had is as right", async () => {
    await using world = new ReadWorld("manual", { buffers: 64, contiguous });
    world.directory.writeBlocks(TABLE, 64);
    const backend = world.backend();
    scatterFreeList(backend);
    // One pinned page in each possible run.
    for (const buffer of [5, 17, 40, 63]) backend.context.pins.pin(buffer);
    const buffers = await backend.read(0, 48, READ_FLAG.synchronously);
    expect(buffers.map((buffer) => blockOf(backend.page(buffer)))).toEqual(
      Array.from({ length: 48 }, (_, i) => i),
    );
    expect(new Set(buffers).size).toBe(48);
    for (const buffer of buffers) expect(refcountOf(backend.state(buffer))).toBe(1);
  });
});

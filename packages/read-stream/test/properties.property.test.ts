/**
 * What holds of every stream: random flags, limits, cached sets, pressure on pins, and I/O that completes in any order.
 *
 * The invariants of the machine itself are checked after every call (`debug`); here are those seen from outside: nothing
 * is lost, doubled or reordered, every pin is accounted for, no block is read twice, no read is longer than allowed, and in
 * version 18's mode the events do not depend on when I/O completes.
 */
import assert from "node:assert/strict";
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { calls, observe } from "./calls.js";
import type { StreamOptions } from "./calls.js";
import { isCachedAtFirst } from "./golden-data.js";
import { ModelPool } from "./model-pool.js";
import type { ModelOptions } from "./model-pool.js";

const RUNS = 10_000;
const TIMING_RUNS = 3000;
const TEST_TIMEOUT_MS = 120_000;

/** Runs of neighbours, with jumps in between, and now and then a block again. */
function blocksOf(maxLength: number): fc.Arbitrary<number[]> {
  const step = fc.oneof(
    { weight: 8, arbitrary: fc.constant(1) },
    { weight: 1, arbitrary: fc.integer({ min: 2, max: 30 }) },
    { weight: 1, arbitrary: fc.integer({ min: -20, max: 0 }) },
  );
  return fc.tuple(fc.nat(60), fc.array(step, { maxLength, size: "max" })).map(([first, steps]) => {
    const blocks = [first];
    for (const each of steps) blocks.push(Math.max(0, (blocks.at(-1) ?? 0) + each));
    return blocks;
  });
}

/**
 * The same without a block twice. A read that meets an earlier one of the same block is cut either way, but whether the
 * rest of its pins were taken by then depends on whether the earlier one was complete.
 */
function distinctBlocksOf(maxLength: number): fc.Arbitrary<number[]> {
  return blocksOf(maxLength).map((blocks) => Array.from(new Set(blocks)));
}

const settings = fc.record({
  method: fc.constantFrom("worker" as const, "sync" as const),
  effectiveConcurrency: fc.integer({ min: 0, max: 6 }),
  maintenanceConcurrency: fc.integer({ min: 0, max: 3 }),
  combineLimit: fc.integer({ min: 1, max: 16 }),
  pinLimit: fc.integer({ min: 0, max: 40 }),
  segmentBlocks: fc.constantFrom(4, 16, 131_072),
  isDirect: fc.boolean(),
});
const streamOptions = fc.record({
  flags: fc.nat(15),
  ringPinLimit: fc.option(fc.integer({ min: 1, max: 20 })),
  hasRecords: fc.boolean(),
  lookahead: fc.constantFrom("pg18" as const, "pg19" as const),
});
type Wanted = typeof streamOptions extends fc.Arbitrary<infer T> ? T : never;

function optionsOf(wanted: Wanted): StreamOptions {
  return {
    flags: wanted.flags,
    lookahead: wanted.lookahead,
    ring: wanted.ringPinLimit === null ? null : { pinLimit: wanted.ringPinLimit },
    ...(wanted.hasRecords ? { perBuffer: () => ({}) } : {}),
  };
}

function modelOf(model: ModelOptions, percent: number): ModelOptions {
  return { ...model, isCached: (block) => isCachedAtFirst(block, percent) };
}

// Aim: whatever the settings, a stream returns what it was asked for and keeps its books. Method: the consumer keeps each
// buffer for a random number of calls, which is the pressure on pins; pins are counted after every call.
test(
  "every stream returns its blocks in order, and holds what it says",
  () => {
    const patience = fc.array(fc.nat(12), { minLength: 1, maxLength: 10 });
    fc.assert(
      fc.property(
        blocksOf(60),
        settings,
        streamOptions,
        fc.constantFrom(0, 30, 90, 100),
        patience,
        fc.option(fc.nat(60)),
        (blocks, model, wanted, percent, keepFor, endAfter) => {
          const pool = new ModelPool(modelOf(model, percent));
          const { stream } = observe(blocks, optionsOf(wanted), pool);
          const kept: { buffer: number; until: number }[] = [];
          const seen: number[] = [];
          let hasEnded = false;
          for (let call = 0; call !== endAfter; call += 1) {
            const buffer = stream.next();
            if (buffer === 0) break;
            seen.push(ModelPool.blockOf(buffer));
            kept.push({ buffer, until: call + (keepFor[call % keepFor.length] ?? 0) });
            for (let index = kept.length - 1; index >= 0; index -= 1) {
              if ((kept[index]?.until ?? 0) > call) continue;
              for (const done of kept.splice(index, 1)) pool.release(done.buffer);
            }
            const { pinned, forwarded, distance } = stream.info;
            assert.equal(pool.pinsHeld, pinned + forwarded + kept.length);
            assert(!hasEnded || distance === 0);
            hasEnded = distance === 0;
            assert(!pool.isInBatch);
          }
          assert.deepEqual(seen, blocks.slice(0, endAfter ?? undefined));
          stream.end();
          assert.equal(pool.pinsHeld, kept.length);
          assert.equal(pool.inFlight.size, 0);
          const missing = new Set(blocks.filter((block) => !modelOf(model, percent).isCached?.(block)));
          assert(pool.blocksRead <= missing.size);
          for (const token of pool.log) {
            const [block = 0, n = 0] = token.slice(1).split("+").map(Number);
            assert(n <= model.combineLimit);
            assert.equal(
              Math.floor(block / model.segmentBlocks),
              Math.floor((block + n - 1) / model.segmentBlocks),
            );
          }
        },
      ),
      { numRuns: RUNS },
    );
  },
  TEST_TIMEOUT_MS,
);

// Aim: with version 18's rules the events are the same whenever and in whatever order I/O completes. Method: once everything
// completes when it is waited for; once random reads complete at random moments, also while the callback runs.
test(
  "the events do not depend on when reads complete",
  () => {
    fc.assert(
      fc.property(
        distinctBlocksOf(80),
        settings,
        streamOptions,
        fc.constantFrom(0, 30, 90),
        fc.array(fc.nat(), { minLength: 1, maxLength: 50, size: "max" }),
        (blocks, model, wanted, percent, choices) => {
          const options = { ...optionsOf(wanted), lookahead: "pg18" as const };
          const expected = calls(observe(blocks, options, modelOf({ ...model, method: "worker" }, percent)));
          const pool = new ModelPool(modelOf({ ...model, method: "worker" }, percent));
          let turn = 0;
          const completeSome = (): void => {
            const choice = choices[turn++ % choices.length] ?? 0;
            const inFlight = pool.submitted();
            const io = inFlight[choice % (inFlight.length + 2)];
            if (io !== undefined) pool.complete(io);
          };
          let at = 0;
          const observed = observe(
            [],
            {
              ...options,
              next: () => {
                completeSome();
                return blocks[at++] ?? -1;
              },
            },
            pool,
          );
          pool.onStart = completeSome;
          expect(calls(observed)).toEqual(expected);
        },
      ),
      { numRuns: TIMING_RUNS },
    );
  },
  TEST_TIMEOUT_MS,
);

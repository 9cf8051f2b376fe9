/**
 * The mapping table and the replacement around it, against the dumbest model.
 */
import fc from "fast-check";
import { expect, test } from "vitest";

import { DESCRIPTOR, PARTITIONS } from "../src/layout.js";
import { MappingTable } from "../src/mapping.js";
import { hashTag, hashTagWords } from "../src/tag.js";
import type { Fork, Relation } from "../src/tag.js";
import { checkInvariants, violations } from "./invariants.js";
import { ReplacementPool, TracedRing } from "./replacement.js";
import { createWords } from "./words.js";

const BUFFERS = 24;
/** Numbers that need the top bit, or differ in it only. */
const numbers = fc.constantFrom(0, 1, 5, 1663, 16_384, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe);

// Aim: the table agrees with a map from tags to buffers. Method: entries come, go and are looked up at random, few enough
// buckets for them that chains have several entries; each tag is asked for after each step.
test("the table agrees with a map", () => {
  const tag = fc.record({
    relation: fc.record({
      tablespace: fc.constantFrom(1663, 0x8000_0000),
      database: fc.constantFrom(0, 5),
      relation: fc.constantFrom(1, 0x8000_0001),
    }),
    fork: fc.constantFrom<Fork>(0, 1, 2, 3),
    block: fc.constantFrom(0, 0xffff_fffe),
  });
  const steps = fc.array(fc.tuple(fc.nat(15), fc.boolean()), { maxLength: 150, size: "max" });
  fc.assert(
    fc.property(
      fc.uniqueArray(tag, { minLength: 16, maxLength: 16, selector: (tag) => JSON.stringify(tag) }),
      steps,
      (tags, steps) => {
        const { words, layout, headersOf, pinsOf } = createWords(BUFFERS);
        const [headers, pins] = [headersOf(0), pinsOf(0)];
        // All in eight buckets.
        const table = new MappingTable({ words, layout: { ...layout, bucketMask: 7 }, headers, pins });
        const model = new Map<number, number>();
        const free = Array.from({ length: BUFFERS }, (_, buffer) => buffer);
        for (const [index, isInsertion] of steps) {
          const { relation, fork, block } = tags[index] as (typeof tags)[number];
          const bucket = table.bucketOf(relation, fork, block);
          const known = model.get(index);
          if (isInsertion && known === undefined) {
            const buffer = free.shift() as number;
            pins.pin(buffer);
            table.insert(bucket, relation, fork, block, buffer);
            pins.unpin(buffer);
            model.set(index, buffer);
          } else if (!isInsertion && known !== undefined) {
            expect(table.bucketOfBuffer(known)).toBe(bucket);
            headers.lock(known);
            table.remove(bucket, known, 0);
            model.delete(index);
            free.push(known);
          }
          for (const [at, { relation, fork, block }] of tags.entries()) {
            const expected = model.get(at) ?? -1;
            expect(table.lookup(relation, fork, block)).toBe(expected);
            expect(table.find(table.bucketOf(relation, fork, block), relation, fork, block)).toBe(expected);
            expect(table.lookupAndPin(relation, fork, block, false)).toBe(expected);
            if (expected >= 0) pins.unpin(expected);
          }
        }
      },
    ),
    { numRuns: 50 },
  );
});

test("a tag hashes alike as numbers and as words, and blocks of a relation spread over the partitions", () => {
  const words = new Int32Array(5);
  fc.assert(
    fc.property(
      numbers,
      numbers,
      numbers,
      fc.nat(3),
      numbers,
      (tablespace, database, relation, fork, block) => {
        words.set([tablespace | 0, database | 0, relation | 0, fork, block | 0]);
        expect(hashTagWords(words, 0)).toBe(hashTag({ tablespace, database, relation }, fork, block));
      },
    ),
  );
  const relation: Relation = { tablespace: 1663, database: 5, relation: 16_384 };
  const counts = Array.from({ length: PARTITIONS }, () => 0);
  for (let block = 0; block < PARTITIONS * 100; block++) {
    const partition = hashTag(relation, 0, block) & (PARTITIONS - 1);
    counts[partition] = (counts[partition] ?? 0) + 1;
  }
  // A hundred each on average; far from uniform would be six standard deviations.
  expect(Math.min(...counts)).toBeGreaterThan(40);
  expect(Math.max(...counts)).toBeLessThan(160);
});

// Aim: whatever is read, dirtied, dropped and held, the pool's words stay consistent and no block is in two buffers. Method:
// random steps of two backends with rings on a small pool; the model is the set of blocks that are pinned, which must stay.
test("a pool stays consistent through any reads, drops and pins", () => {
  const step = fc.record({
    backend: fc.nat(1),
    block: fc.nat(40),
    what: fc.constantFrom("read", "read", "bulkread", "vacuum", "pin", "unpin", "dirty", "drop", "evict"),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300, size: "max" }), (steps) => {
      const pool = new ReplacementPool(BUFFERS);
      const backends = [0, 1].map((id) => ({
        id,
        replacer: pool.backend(id),
        bulkread: new TracedRing("bulkread", 3),
        vacuum: new TracedRing("vacuum", 2),
        pinned: new Set<number>(),
      }));
      const isPinned = (block: number): boolean => backends.some(({ pinned }) => pinned.has(block));
      for (const { backend, block, what } of steps) {
        const { replacer, pinned, ...rings } = backends[backend] as (typeof backends)[number];
        if (what === "read") replacer.read(block);
        else if (what === "bulkread" || what === "vacuum") replacer.read(block, rings[what]);
        else if (what === "dirty") replacer.dirty(block, BigInt(block % 2) * 2n);
        else if (what === "pin" && !pinned.has(block) && pinned.size < 10) {
          replacer.pin(block);
          pinned.add(block);
        } else if (what === "unpin" && pinned.delete(block)) replacer.unpin(block);
        else if (what === "drop" && !isPinned(block)) replacer.drop(block);
        else if (what === "evict" && !isPinned(block)) replacer.evict(block);
        for (const held of pinned) expect(replacer.find(held), "what is pinned stays").not.toBe(-1);
      }
      checkInvariants(pool);
    }),
    { numRuns: 100 },
  );
});

test("the check of a pool's words sees what is wrong", () => {
  const { words, layout, headersOf } = createWords(16);
  const headers = headersOf(0);
  expect(violations({ words, layout })).toEqual([]);
  headers.pin(3, true);
  headers.lock(4);
  words[headers.at(5) + DESCRIPTOR.freeNext] = -1;
  words[layout.bucketsAt] = 7;
  expect(violations({ words, layout }).join()).toMatch(
    /buffer 3: P1.*buffer 4: header locked.*P3.*buffer 6.*P7/s,
  );
});

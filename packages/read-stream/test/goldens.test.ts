/**
 * The recorded streams on the model pool, whose log has what was really read: with method sync that is less than what the
 * stream asked for, when a block has become valid in between.
 */
import { expect, test } from "vitest";
import { ReadStream } from "../src/read-stream.js";
import { fnv1a, goldens, isCachedAtFirst, lcgBlocks } from "./golden-data.js";
import { ModelPool, RELATION } from "./model-pool.js";

// Aim: a long mixed stream does exactly what PostgreSQL does. Method: the pool's log of reads and advice, with returns in
// between, is hashed; the counts say roughly where to look when the hash differs.
test.each(goldens)("stream $stream with $method, flags $flags, limits $limits", (golden) => {
  const [seed, count, percent] = golden.stream;
  const [concurrency, combineLimit, pinLimit] = golden.limits;
  const pool = new ModelPool({
    method: golden.method,
    combineLimit,
    pinLimit,
    effectiveConcurrency: concurrency,
    maintenanceConcurrency: concurrency,
    isDirect: golden.isDirect ?? false,
    segmentBlocks: golden.segmentBlocks ?? 131_072,
    isCached: (block) => isCachedAtFirst(block, percent),
  });
  const blocks = lcgBlocks(seed, count);
  let at = 0;
  const stream = ReadStream.begin<object>(pool, {
    relation: RELATION,
    flags: golden.flags,
    ring: golden.ringPinLimit === undefined ? null : { pinLimit: golden.ringPinLimit },
    next: () => blocks[at++] ?? -1,
    ...(golden.hasRecords === true ? { perBuffer: () => ({}) } : {}),
    debug: true,
  });
  const returned: number[] = [];
  for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) {
    const block = ModelPool.blockOf(buffer);
    returned.push(block);
    pool.log.push(`>${block}`);
    pool.release(buffer);
  }
  expect(returned).toEqual(blocks);
  const counts = [
    pool.log.filter((token) => token.startsWith("R")).length,
    pool.blocksRead,
    pool.log.filter((token) => token.startsWith("A")).length,
  ];
  expect(counts).toEqual(golden.counts);
  expect(fnv1a(pool.log.join(" "))).toBe(golden.hash);
  expect(pool.pinsHeld).toBe(0);
});

/** Vectored reads against the dumbest correct thing: chunk by chunk, with a table of which chunks are where. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { readVectored } from "../src/index.js";
import type { ByteRange } from "../src/index.js";
import { createArena, FakeSource } from "./fake-source.js";

const CHUNK = 512;

interface Case {
  readonly fileBytes: number;
  readonly ranges: readonly ByteRange[];
  readonly batchChunks: number;
  readonly inFlightMax: number;
  /** Which of the reads fail, by their number in the file. */
  readonly failing: readonly number[];
}

const range: fc.Arbitrary<ByteRange> = fc.record({
  // Borders of chunks, and so of batches, are where mistakes are.
  offsetBytes: fc.oneof(
    fc.nat(40 * CHUNK),
    fc.nat(40).map((chunk) => chunk * CHUNK),
  ),
  lengthBytes: fc.oneof(fc.nat(3), fc.nat(CHUNK), fc.nat(10 * CHUNK)),
});
const cases: fc.Arbitrary<Case> = fc.record({
  fileBytes: fc.nat(45 * CHUNK),
  ranges: fc.array(range, { maxLength: 20, size: "max" }),
  batchChunks: fc.integer({ min: 1, max: 8 }),
  inFlightMax: fc.integer({ min: 1, max: 4 }),
  failing: fc.array(fc.nat(6), { maxLength: 2, size: "max" }),
});

function chunksOf({ offsetBytes, lengthBytes }: ByteRange): number[] {
  if (lengthBytes === 0) return [];
  const [first, last] = [
    Math.floor(offsetBytes / CHUNK),
    Math.floor((offsetBytes + lengthBytes - 1) / CHUNK),
  ];
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

/** Chunks that anybody wants, in runs of at most so many. */
function batchesOf(ranges: readonly ByteRange[], batchChunks: number): number[][] {
  const chunks = [...new Set(ranges.flatMap(chunksOf))].sort((a, b) => a - b);
  const batches: number[][] = [];
  for (const chunk of chunks) {
    const last = batches.at(-1);
    if (last?.at(-1) === chunk - 1 && last.length < batchChunks) last.push(chunk);
    else batches.push([chunk]);
  }
  return batches;
}

// Aim: every range gets its bytes, or fails for a reason of its own. Method: a plan of single chunks says which reads there may be
// and which of them fail; completions come in any order.
test("vectored reads agree with a plan of single chunks", async () => {
  const property = fc.asyncProperty(cases, fc.scheduler(), async (input, scheduler) => {
    const { fileBytes, ranges, batchChunks, inFlightMax, failing } = input;
    const source = new FakeSource(fileBytes);
    source.before = () => scheduler.schedule(Promise.resolve());
    const batches = batchesOf(ranges, batchChunks);
    const failed = new Set(failing.flatMap((index) => batches[index] ?? []));
    for (const index of failing) source.failing.set((batches[index]?.[0] ?? -1) * CHUNK, new Error("foo"));
    const arena = createArena();
    const options = { batchBytesMax: batchChunks * CHUNK, inFlightMax };
    const results = await scheduler.waitFor(readVectored(source, arena, ranges, options));

    for (const [index, wanted] of ranges.entries()) {
      const { offsetBytes, lengthBytes } = wanted;
      const end = offsetBytes + lengthBytes;
      const isTouched = chunksOf(wanted).some((chunk) => failed.has(chunk));
      const isBeyond = lengthBytes > 0 && end > fileBytes;
      const result = results[index];
      expect(result?.ok).toBe(!isTouched && !isBeyond);
      if (result?.ok === true)
        expect(Buffer.compare(result.bytes, source.content.subarray(offsetBytes, end))).toBe(0);
      else if (!isBeyond) expect(result?.error.message).toBe("foo");
      else if (!isTouched)
        expect(result?.error).toMatchObject({ code: "ERR_FILE_UNEXPECTED_EOF", wantedBytes: lengthBytes });
    }
    const planned = batches.map((chunks): [number, number] => [
      (chunks[0] ?? 0) * CHUNK,
      chunks.length * CHUNK,
    ]);
    const isNeeded = (read: [number, number]): boolean =>
      source.reads.some(([offset, length]) => offset === read[0] && length === read[1]);
    // None that is not in the plan, none twice, none left out whose ranges have succeeded.
    for (const read of source.reads) expect(planned).toContainEqual(read);
    expect(new Set(source.reads.map(String)).size).toBe(source.reads.length);
    if (results.every(({ ok }) => ok)) expect(planned.every(isNeeded)).toBe(true);
    if (inFlightMax === 1) expect(source.reads).toEqual([...source.reads].sort(([a], [b]) => a - b));
    expect(source.inFlightMax).toBeLessThanOrEqual(inFlightMax);
    expect(arena.stats.liveBuffers).toBe(0);
  });
  await fc.assert(property, { numRuns: 150 });
});

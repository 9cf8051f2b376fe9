/** Pieces of memory: merged and cut without gaining or losing a byte. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { mergeVectors, remainingVectors, totalBytes } from "../src/io-vector.js";
import type { IoVector } from "../src/io-vector.js";

const PAGE = 8192;

/** Pages of segment 0 by number. */
function pages(...numbers: number[]): IoVector[] {
  return numbers.map((number) => ({ segment: 0, offsetBytes: number * PAGE, lengthBytes: PAGE }));
}

/** The dumbest correct thing: every byte by name, in the order in which the kernel moves it. */
function bytesOf(vectors: readonly IoVector[]): string[] {
  return vectors.flatMap(({ segment, offsetBytes, lengthBytes }) =>
    Array.from({ length: lengthBytes }, (_, index) => `${segment}:${offsetBytes + index}`),
  );
}

const piece: fc.Arbitrary<IoVector> = fc.record({
  segment: fc.nat(1),
  offsetBytes: fc.nat(12),
  lengthBytes: fc.nat(5),
});
const vectors = fc.array(piece, { maxLength: 40, size: "max" });

describe("merging", () => {
  // Aim: neighbours become one vector, others stay. Method: the cases of a buffer pool, counted.
  test("joins neighbouring pages only", () => {
    const all = Array.from({ length: 16 }, (_, index) => index);
    expect(mergeVectors(pages(...all))).toEqual([{ segment: 0, offsetBytes: 0, lengthBytes: 16 * PAGE }]);
    expect(mergeVectors(pages(...all.map((index) => 2 * index)))).toHaveLength(16);
    expect(mergeVectors(pages(0, 1, 3, 4))).toEqual([
      { segment: 0, offsetBytes: 0, lengthBytes: 2 * PAGE },
      { segment: 0, offsetBytes: 3 * PAGE, lengthBytes: 2 * PAGE },
    ]);
    expect(mergeVectors(pages(1, 0)), "the order of bytes stays").toHaveLength(2);
    const segments = [0, 1].map((segment) => ({ segment, offsetBytes: segment * PAGE, lengthBytes: PAGE }));
    expect(mergeVectors(segments), "never across segments").toHaveLength(2);
    expect(mergeVectors([])).toEqual([]);
  });

  // Aim: the same bytes in the same order, in as few pieces as possible. Method: random pieces against all bytes named.
  test("keeps every byte in its place and leaves no neighbours", () => {
    fc.assert(
      fc.property(vectors, (vectors) => {
        const merged = mergeVectors(vectors);
        expect(bytesOf(merged)).toEqual(bytesOf(vectors));
        for (const [index, vector] of merged.entries()) {
          const before = merged[index - 1];
          expect(vector.lengthBytes).toBeGreaterThan(0);
          const isNeighbour =
            before?.segment === vector.segment &&
            before.offsetBytes + before.lengthBytes === vector.offsetBytes;
          expect(isNeighbour).toBe(false);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

// Aim: a short transfer can be continued exactly where it stopped. Method: every cut of random pieces, bytes named.
test("what remains after some bytes is exactly the rest of them", () => {
  fc.assert(
    fc.property(vectors, fc.double({ min: 0, max: 1, noNaN: true }), (vectors, part) => {
      const total = totalBytes(vectors);
      expect(total).toBe(bytesOf(vectors).length);
      const done = Math.floor(part * total);
      const before = JSON.stringify(vectors);
      const rest = remainingVectors(vectors, done);
      expect(bytesOf(rest)).toEqual(bytesOf(vectors).slice(done));
      expect(JSON.stringify(vectors), "the caller's pieces are not changed").toBe(before);
    }),
    { numRuns: 1000 },
  );
  expect(remainingVectors(pages(0, 4), PAGE + 100)).toEqual([
    { segment: 0, offsetBytes: 4 * PAGE + 100, lengthBytes: PAGE - 100 },
  ]);
  expect(remainingVectors(pages(0, 4), 2 * PAGE)).toEqual([]);
});

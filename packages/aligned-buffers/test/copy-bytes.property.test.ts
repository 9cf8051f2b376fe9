/** Copies in shared memory against a copy of everything. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { copyBytes } from "../src/copy-bytes.js";
import { createMemorySegment } from "../src/index.js";
import { noise } from "./noise.js";

// Aim: the bytes arrive, nothing else changes, and ranges may overlap. Method: random ranges of one segment, some at its
// end, some longer than what fits, on both sides of the length where the way of copying changes.
test("a copy is the same as one by way of a third place", () => {
  const bytes = createMemorySegment(8192).bytes;
  const length = fc.oneof(fc.nat(3000), fc.integer({ min: 1020, max: 1030 }));
  const at = fc.oneof(fc.nat(8192), fc.integer({ min: 2000, max: 2010 }));
  fc.assert(
    fc.property(length, fc.nat(5000), at, fc.integer({ min: 1 }), (length, from, at, seed) => {
      const before = noise(8192, seed);
      bytes.set(before);
      const fitting = Math.min(length, 8192 - at);
      expect(copyBytes(bytes.subarray(from, from + length), bytes, at)).toBe(fitting);
      const expected = before.slice();
      expected.set(before.slice(from, from + fitting), at);
      expect(Buffer.compare(bytes, expected)).toBe(0);
    }),
    {
      numRuns: 500,
      examples: [
        [2000, 0, 1, 1],
        [2000, 1, 0, 1],
      ],
    },
  );
});

test("what is not an array of bytes is refused, long or short", () => {
  const bytes = createMemorySegment(8192).bytes;
  for (const source of [
    new Uint16Array(2000),
    new Uint16Array(2),
    "text".repeat(1000),
    new ArrayBuffer(2000),
  ]) {
    expect(() => copyBytes(source as unknown as Uint8Array, bytes, 0)).toThrow(TypeError);
    expect(() => copyBytes(bytes, source as unknown as Uint8Array, 0)).toThrow(TypeError);
  }
});

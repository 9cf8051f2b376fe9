/**
 * Positions: text form against PostgreSQL's own spellings, range checks, and arithmetic against plain bigints.
 * Expected texts come from pg_lsn regression tests and from pg_waldump output of real clusters.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  addBytes,
  alignLsn,
  BLOCK_BYTES,
  blockOffset,
  blockStart,
  distanceBytes,
  formatLsn,
  INVALID_LSN,
  LsnError,
  MAX_LSN,
  maxLsn,
  minLsn,
  parseLsn,
  toLsn,
  tryParseLsn,
} from "../src/index.js";

const U64 = 2n ** 64n;
const anyLsn = fc.bigInt({ min: 0n, max: U64 - 1n }).map(toLsn);

// Aim: the text form is PostgreSQL's. Method: known pairs, both ways.
test.each([
  ["0/0", 0n],
  ["0/A16440", 0xa16440n],
  ["0/1000000", 0x1000000n],
  ["16/B374D848", 0x16b374d848n],
  ["1/0", 0x100000000n],
  ["FFFFFFFF/FFFFFFFF", U64 - 1n],
])("%s is read and written", (text, value) => {
  expect(parseLsn(text)).toBe(value);
  expect(formatLsn(toLsn(value))).toBe(text);
});

// Aim: what pg_lsn accepts beyond its own output is accepted. Method: padded and lower-case spellings.
test("padded and lower-case halves are read", () => {
  expect(parseLsn("00000016/b374d848")).toBe(0x16b374d848n);
  expect(parseLsn("0/00000028")).toBe(0x28n);
});

// Aim: nothing else passes. Method: the rejects of pg_lsn's regression tests and near misses.
test.each([
  "",
  "/",
  "G/0",
  "-1/0",
  " 0/12345678",
  "0/12345678 ",
  "ABCD/",
  "/ABCD",
  "0",
  "0/0/0",
  "000000001/0",
  "0/000000001",
  "0x1/0",
  "0/1\n",
  "٣/0",
])("%j is not an LSN", (text) => {
  expect(tryParseLsn(text)).toBeUndefined();
  expect(() => parseLsn(text)).toThrow(expect.objectContaining({ name: "LsnError", code: "ERR_LSN_SYNTAX" }));
});

// Aim: an error about a huge text stays small. Method: a megabyte of digits.
test("a rejected text is quoted only in part", () => {
  expect(() => parseLsn("0".repeat(2 ** 20))).toThrow(
    expect.objectContaining({ message: expect.stringMatching(/^.{1,200}$/) }),
  );
  expect(() => parseLsn("?")).toThrow(LsnError);
});

// Aim: every position survives its text. Method: random positions, either case, padded or not.
test("any position is read back from its text", () => {
  fc.assert(
    fc.property(anyLsn, (lsn) => {
      const text = formatLsn(lsn);
      expect(text).toMatch(/^(0|[1-9A-F][0-9A-F]*)\/(0|[1-9A-F][0-9A-F]*)$/);
      expect(parseLsn(text)).toBe(lsn);
      expect(parseLsn(text.toLowerCase())).toBe(lsn);
      const padded = text.split("/").map((half) => half.padStart(8, "0"));
      expect(parseLsn(padded.join("/"))).toBe(lsn);
      expect(BigInt(`0x${padded.join("")}`)).toBe(lsn);
    }),
  );
});

// Aim: a brand is only given to values in range. Method: the borders.
test("values outside 64 bits are refused", () => {
  expect(toLsn(0n)).toBe(INVALID_LSN);
  expect(toLsn(U64 - 1n)).toBe(MAX_LSN);
  expect(() => toLsn(-1n)).toThrow(RangeError);
  expect(() => toLsn(U64)).toThrow(RangeError);
});

// Aim: addition never wraps and never rounds. Method: random pairs against bigint addition, then bad counts.
test("adding bytes is exact or refused", () => {
  fc.assert(
    fc.property(anyLsn, fc.oneof(fc.maxSafeInteger(), fc.bigInt({ min: -U64, max: U64 })), (lsn, bytes) => {
      const sum = lsn + BigInt(bytes);
      if (sum < 0n || sum >= U64) expect(() => addBytes(lsn, bytes)).toThrow(RangeError);
      else {
        expect(addBytes(lsn, bytes)).toBe(sum);
        expect(distanceBytes(lsn, addBytes(lsn, bytes))).toBe(BigInt(bytes));
      }
    }),
  );
  expect(() => addBytes(MAX_LSN, 1)).toThrow(RangeError);
  for (const bytes of [0.5, Number.NaN, Infinity, 2 ** 53]) {
    expect(() => addBytes(INVALID_LSN, bytes)).toThrow(RangeError);
  }
});

// Aim: the extremes are found wherever they stand. Method: random lists against a sorted copy.
test("least and greatest agree with sorting", () => {
  fc.assert(
    fc.property(fc.array(anyLsn, { minLength: 1, maxLength: 30, size: "max" }), (lsns) => {
      const sorted = lsns.toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
      const [first, ...others] = lsns;
      if (first === undefined) throw new Error("the list has at least one element");
      expect(minLsn(first, ...others)).toBe(sorted[0]);
      expect(maxLsn(first, ...others)).toBe(sorted.at(-1));
    }),
  );
});

// Aim: alignment goes up to the next multiple of 8 and no further. Method: definition, plus the end of the space.
test("alignment is the least multiple of eight that is not earlier", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: U64 - 8n }).map(toLsn), (lsn) => {
      const aligned = alignLsn(lsn);
      expect(aligned % 8n).toBe(0n);
      expect(aligned - lsn).toBeGreaterThanOrEqual(0n);
      expect(aligned - lsn).toBeLessThan(8n);
    }),
  );
  expect(() => alignLsn(MAX_LSN)).toThrow(RangeError);
});

// Aim: block arithmetic splits a position without remainder. Method: definition by division.
test("a position is its block's start plus its offset", () => {
  fc.assert(
    fc.property(anyLsn, (lsn) => {
      expect(blockStart(lsn)).toBe((lsn / 8192n) * 8192n);
      expect(BigInt(blockOffset(lsn))).toBe(lsn % 8192n);
      expect(blockStart(lsn) + BigInt(blockOffset(lsn))).toBe(lsn);
    }),
  );
  expect(BLOCK_BYTES).toBe(8192);
});

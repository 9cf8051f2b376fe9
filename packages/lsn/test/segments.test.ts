/**
 * Segments: names that PostgreSQL gave to real files, and the arithmetic against division on plain bigints.
 */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  checkSegmentBytes,
  isSegmentBytes,
  MAX_LSN,
  parseLsn,
  parseSegmentFileName,
  PARTIAL_SUFFIX,
  SEGMENT_BYTES_DEFAULT,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
  segmentFileName,
  segmentNumber,
  segmentOffset,
  segmentStart,
  toLsn,
} from "../src/index.js";

const MIB = 2 ** 20;
const SIZES = Array.from({ length: 11 }, (_, power) => MIB * 2 ** power);
const anySize = fc.constantFrom(...SIZES);
const anyLsn = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(toLsn);
const anyTimeline = fc.integer({ min: 1, max: 2 ** 32 - 1 });

// Aim: names are PostgreSQL's. Method: position, timeline and size beside the name that pg_walfile_name gives.
test.each([
  ["0/1000000", 1, 16 * MIB, "000000010000000000000001"],
  ["0/1FFFFFF", 1, 16 * MIB, "000000010000000000000001"],
  ["0/FFFFFFFF", 1, 16 * MIB, "0000000100000000000000FF"],
  ["1/0", 1, 16 * MIB, "000000010000000100000000"],
  ["16/B374D848", 1, 16 * MIB, "0000000100000016000000B3"],
  ["16/B374D848", 2, MIB, "000000020000001600000B37"],
  ["0/FFFFFFFF", 1, MIB, "000000010000000000000FFF"],
  ["3/C0000000", 10, 1024 * MIB, "0000000A0000000300000003"],
  ["FFFFFFFF/FFFFFFFF", 0xffffffff, 64 * MIB, "FFFFFFFFFFFFFFFF0000003F"],
])("the segment of %s on timeline %i with %i bytes is %s", (text, timelineId, segmentBytes, name) => {
  const lsn = parseLsn(text);
  const segno = segmentNumber(lsn, segmentBytes);
  expect(segmentFileName(timelineId, segno, segmentBytes)).toBe(name);
  expect(parseSegmentFileName(name, segmentBytes)).toEqual({
    timelineId,
    segmentNumber: segno,
    partial: false,
  });
});

// Aim: exactly the sizes initdb takes. Method: all powers of two, their neighbours, and values that are no sizes.
test("segment sizes are the powers of two from 1 MiB to 1 GiB", () => {
  for (const size of SIZES) {
    expect(isSegmentBytes(size)).toBe(true);
    expect(isSegmentBytes(size + 1)).toBe(false);
    expect(isSegmentBytes(size - 1)).toBe(false);
    expect(isSegmentBytes(size + 0.5)).toBe(false);
    expect(isSegmentBytes(-size)).toBe(false);
    checkSegmentBytes(size);
  }
  for (const size of [0, 1, MIB / 2, 2 ** 31, 2 ** 32 + MIB, Number.NaN, Infinity, -Infinity]) {
    expect(isSegmentBytes(size)).toBe(false);
    expect(() => checkSegmentBytes(size)).toThrow(RangeError);
  }
  expect([SEGMENT_BYTES_MIN, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX]).toEqual([MIB, 16 * MIB, 1024 * MIB]);
});

// Aim: number, offset and start are one division. Method: bigint division as the model, every size.
test("a position is its segment's start plus its offset", () => {
  fc.assert(
    fc.property(anyLsn, anySize, (lsn, segmentBytes) => {
      const size = BigInt(segmentBytes);
      expect(segmentNumber(lsn, segmentBytes)).toBe(lsn / size);
      expect(BigInt(segmentOffset(lsn, segmentBytes))).toBe(lsn % size);
      expect(segmentStart(lsn / size, segmentBytes)).toBe(lsn - (lsn % size));
    }),
  );
});

// Aim: a name tells timeline and segment without loss. Method: random segments, complete and partial, both ways.
test("any segment is read back from its name", () => {
  fc.assert(
    fc.property(anyTimeline, anyLsn, anySize, fc.boolean(), (timelineId, lsn, segmentBytes, partial) => {
      const segno = segmentNumber(lsn, segmentBytes);
      const name = segmentFileName(timelineId, segno, segmentBytes) + (partial ? PARTIAL_SUFFIX : "");
      expect(parseSegmentFileName(name, segmentBytes)).toEqual({ timelineId, segmentNumber: segno, partial });
    }),
  );
});

// Aim: names sort as positions do, which directory scans rely on. Method: random pairs on one timeline.
test("names on one timeline sort by position", () => {
  fc.assert(
    fc.property(anyLsn, anyLsn, anySize, (a, b, segmentBytes) => {
      const [segnoA, segnoB] = [segmentNumber(a, segmentBytes), segmentNumber(b, segmentBytes)];
      const [nameA, nameB] = [
        segmentFileName(7, segnoA, segmentBytes),
        segmentFileName(7, segnoB, segmentBytes),
      ];
      expect(nameA < nameB).toBe(segnoA < segnoB);
    }),
  );
});

// Aim: a parsed name is always one that formats back. Method: names near the real alphabet, mostly wrong.
test("what parses is exactly what formats", () => {
  const digits = fc.string({
    unit: fc.constantFrom(...Array.from("0123456789ABCDEFabG.")),
    minLength: 23,
    maxLength: 25,
    size: "max",
  });
  const plausible = fc
    .tuple(fc.nat(2), fc.nat(3), fc.nat(5000))
    .map((groups) => groups.map((group) => group.toString(16).toUpperCase().padStart(8, "0")).join(""));
  fc.assert(
    fc.property(fc.oneof(digits, plausible), anySize, (name, segmentBytes) => {
      const file = parseSegmentFileName(name, segmentBytes);
      if (file === undefined) {
        const legal = /^[0-9A-F]{24}$/.test(name) && !name.startsWith("00000000");
        expect(legal && Number.parseInt(name.slice(16), 16) < 2 ** 32 / segmentBytes).toBe(false);
      } else expect(segmentFileName(file.timelineId, file.segmentNumber, segmentBytes)).toBe(name);
    }),
  );
});

// Aim: files of other kinds are passed over. Method: every kind found in pg_wal, and near misses.
test.each([
  "00000002.history",
  "000000010000000000000001.00000028.backup",
  "000000010000000000000001.gz",
  "000000010000000000000001.partial.partial",
  "00000001000000000000000a",
  "000000000000000000000001",
  "000000010000000000000100",
  "00000001000000000000001",
  " 000000010000000000000001",
  "000000010000000000000001\n",
  "archive_status",
  "waltmp",
  "",
])("%j is no segment of 16 MiB", (name) => {
  expect(parseSegmentFileName(name, SEGMENT_BYTES_DEFAULT)).toBeUndefined();
});

// Aim: arguments out of range do not become plausible names. Method: one bad argument at a time.
test("arguments out of range are refused", () => {
  const last = segmentNumber(MAX_LSN, MIB);
  expect(segmentFileName(1, last, MIB)).toBe("00000001FFFFFFFF00000FFF");
  for (const segno of [-1n, last + 1n]) {
    expect(() => segmentFileName(1, segno, MIB)).toThrow(RangeError);
    expect(() => segmentStart(segno, MIB)).toThrow(RangeError);
  }
  for (const timelineId of [0, -1, 1.5, 2 ** 32, Number.NaN]) {
    expect(() => segmentFileName(timelineId, 1n, MIB)).toThrow(RangeError);
  }
  expect(() => segmentNumber(MAX_LSN, 1000)).toThrow(RangeError);
  expect(() => segmentOffset(MAX_LSN, 1000)).toThrow(RangeError);
  expect(() => segmentStart(1n, 1000)).toThrow(RangeError);
  expect(() => segmentFileName(1, 1n, 1000)).toThrow(RangeError);
  expect(() => parseSegmentFileName("000000010000000000000001", 1000)).toThrow(RangeError);
});

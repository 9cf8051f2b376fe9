/**
 * What a segment says of itself, and what is no segment.
 */
import { expect, test } from "vitest";
import { readSegmentHeader } from "../src/index.js";
import { MIB, WalBuilder } from "./wal-builder.js";
import { failureOf } from "./wal-reading.js";

const START = 3n * BigInt(MIB);

test.each([15, 16, 17, 18] as const)("a segment of PostgreSQL %i says what it is", (pgMajor) => {
  const wal = new WalBuilder({ startLsn: START, pgMajor, timelineId: 7 });
  wal.record();
  expect(readSegmentHeader(wal.bytes)).toEqual({
    pgMajor,
    startLsn: START,
    timelineId: 7,
    systemId: wal.systemId,
    segmentBytes: MIB,
  });
});

// Aim: nothing else is taken for a segment. Method: one field wrong at a time; a page from the middle.
test.each([
  ["another magic", 0, 0x0d, "ERR_WAL_PAGE_MAGIC"],
  ["the flags of another page", 2, 0x04, "ERR_WAL_PAGE_INFO"],
  ["a segment size that is none", 32, 1, "ERR_WAL_PAGE_SIZES"],
  ["another block size", 37, 0x40, "ERR_WAL_PAGE_SIZES"],
] as const)("a page with %s is refused", (_what, at, value, code) => {
  const wal = new WalBuilder({ startLsn: START });
  wal.record();
  const bytes = Uint8Array.from(wal.bytes);
  bytes[at] = value;
  const error = failureOf(() => void readSegmentHeader(bytes));
  expect([error.code, error.lsn]).toEqual([code, START]);
});

test("fewer bytes than a header has are the caller's mistake", () => {
  expect(() => readSegmentHeader(new Uint8Array(39))).toThrow(RangeError);
});

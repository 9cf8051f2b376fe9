/**
 * The byte comparison of WAL: equal means equal, and every kind of difference is found and located.
 */
import { mkdtempSync, mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { randomFillSync } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import fc from "fast-check";

import { addBytes, segmentFileName, segmentStart, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

import { flipByte } from "../src/demo/corruption.js";
import { compareWal } from "../src/demo/wal-comparison.js";
import type { WalComparison, WalDirectory } from "../src/demo/wal-comparison.js";

const SEGMENT_BYTES = 1024 * 1024;
const FIRST = 3n;
const SEGMENTS = 3;
const START: Lsn = segmentStart(FIRST, SEGMENT_BYTES);

let root: string;
let reference: WalDirectory;
let other: WalDirectory;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "millrace-compare-"));
  reference = { name: "PostgreSQL", directory: join(root, "pg"), timelineId: 2, partial: false };
  other = { name: "acceptor 1", directory: join(root, "acceptor"), timelineId: 1, partial: true };
  mkdirSync(reference.directory);
  mkdirSync(other.directory);
  for (let index = 0; index < SEGMENTS; index += 1) {
    const bytes = randomFillSync(Buffer.alloc(SEGMENT_BYTES));
    writeFileSync(file(reference, index), bytes);
    writeFileSync(file(other, index), bytes);
  }
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

function file(side: WalDirectory, index: number): string {
  const name = segmentFileName(side.timelineId, FIRST + BigInt(index), SEGMENT_BYTES);
  return join(side.directory, side.partial && index === SEGMENTS - 1 ? `${name}.partial` : name);
}

function compare(bytes: number, start: Lsn = START): Promise<WalComparison> {
  return compareWal(reference, other, start, addBytes(START, bytes), SEGMENT_BYTES);
}

// Aim: equal files are equal over any range, and all bytes are counted. Method: whole, to mid-segment, from mid-segment.
test("equal WAL is equal over the whole range, whatever the timeline is called", async () => {
  expect(await compare(SEGMENTS * SEGMENT_BYTES)).toEqual({
    equal: true,
    bytes: SEGMENTS * SEGMENT_BYTES,
    segments: 3,
  });
  expect(await compare(SEGMENT_BYTES + 10)).toEqual({ equal: true, bytes: SEGMENT_BYTES + 10, segments: 2 });
  const from = await compare(2 * SEGMENT_BYTES, addBytes(START, 100));
  expect(from).toEqual({ equal: true, bytes: 2 * SEGMENT_BYTES - 100, segments: 2 });
  expect(await compare(0)).toEqual({ equal: true, bytes: 0, segments: 0 });
});

// Aim: one flipped byte anywhere within the range is found at its exact place, and one outside of it is not looked at.
// Method: random ranges and random places of damage; the comparison must agree with arithmetic.
test("one damaged byte is found exactly where it is", async () => {
  const place = fc.nat(SEGMENTS * SEGMENT_BYTES - 1);
  await fc.assert(
    fc.asyncProperty(place, place, fc.boolean(), async (damagedAt, endsAt, inReference) => {
      const side = inReference ? reference : other;
      const path = file(side, Math.floor(damagedAt / SEGMENT_BYTES));
      await flipByte(path, damagedAt % SEGMENT_BYTES);
      const found = await compare(endsAt);
      await flipByte(path, damagedAt % SEGMENT_BYTES);
      if (damagedAt >= endsAt) expect(found).toMatchObject({ equal: true, bytes: endsAt });
      else
        expect(found).toMatchObject({
          equal: false,
          bytes: damagedAt,
          differsAt: addBytes(START, damagedAt),
        });
    }),
    {
      numRuns: 60,
      examples: [
        [0, 1, true],
        [SEGMENT_BYTES - 1, SEGMENT_BYTES, false],
        [SEGMENT_BYTES, 2 * SEGMENT_BYTES, false],
      ],
    },
  );
});

// Aim: what is missing counts as different, on both sides. Method: remove a segment, cut a segment.
test("a missing segment and a short segment are differences", async () => {
  truncateSync(file(other, 1), 5000);
  const short = await compare(SEGMENTS * SEGMENT_BYTES);
  expect(short).toMatchObject({ equal: false, differsAt: addBytes(START, SEGMENT_BYTES + 5000) });
  expect(short).toHaveProperty("reason", expect.stringContaining("acceptor 1"));
  rmSync(file(reference, 0));
  const missing = await compare(SEGMENTS * SEGMENT_BYTES);
  expect(missing).toMatchObject({ equal: false, bytes: 0, differsAt: START });
  expect(missing).toHaveProperty("reason", expect.stringContaining("PostgreSQL has no segment"));
});

// Aim: the file that is being written wins over an older full one. Method: both exist, only the partial is right.
test("a partial segment is preferred where both exist", async () => {
  const name = segmentFileName(1, FIRST + 2n, SEGMENT_BYTES);
  writeFileSync(join(other.directory, name), Buffer.alloc(SEGMENT_BYTES));
  expect(await compare(SEGMENTS * SEGMENT_BYTES)).toMatchObject({ equal: true });
  expect(toLsn(START)).toBe(START);
});

/**
 * Page images: holes, and the three ways to compress, of which two are ours. The compressors here are the dumbest that
 * reach every part of the formats; what PostgreSQL compresses is in describe.pg.test.ts.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import * as zlib from "node:zlib";
import { restoreImage, WalDecodeError, WalRecord } from "../src/index.js";
import { lz4Decompress } from "../src/lz4.js";
import { pglzDecompress } from "../src/pglz.js";
import { WalBuilder } from "./wal-builder.js";
import { failureOf, lsn } from "./wal-reading.js";

/** How far back the compressors look: near all the time, and at a few places far away. */
const NEAR = 60;
const FAR_STEP = 509;

/** The longest earlier occurrence that is found of what follows at `at`: its distance and length. */
function longestMatch(bytes: Uint8Array, at: number, distanceMax: number, lengthMax: number) {
  let best = { distance: 0, length: 0 };
  for (let from = at - 1; from >= Math.max(0, at - distanceMax); from -= at - from < NEAR ? 1 : FAR_STEP) {
    let length = 0;
    while (length < lengthMax && at + length < bytes.length && bytes[from + length] === bytes[at + length])
      length += 1;
    if (length > best.length) best = { distance: at - from, length };
  }
  return best;
}

function pglz(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  let control = 0;
  let items = 8;
  for (let at = 0; at < bytes.length;) {
    if (items === 8) {
      control = out.push(0) - 1;
      items = 0;
    }
    const { distance, length } = longestMatch(bytes, at, 4095, 273);
    if (length >= 3) {
      out[control] = (out[control] ?? 0) | (1 << items);
      out.push(((distance >> 4) & 0xf0) | Math.min(length - 3, 15), distance & 255);
      if (length >= 18) out.push(length - 18);
      at += length;
    } else out.push(bytes[at++] ?? 0);
    items += 1;
  }
  return Uint8Array.from(out);
}

function lz4(bytes: Uint8Array): Uint8Array {
  const out: number[] = [];
  const lengthBytes = (value: number): void => {
    for (let left = value - 15; left >= 0; left -= 255) out.push(Math.min(left, 255));
  };
  let literals = 0;
  const emit = (from: number, length: number, distance: number): void => {
    out.push((Math.min(literals, 15) << 4) | (distance === 0 ? 0 : Math.min(length - 4, 15)));
    lengthBytes(literals);
    out.push(...bytes.subarray(from, from + literals));
    if (distance > 0) {
      out.push(distance & 255, distance >> 8);
      lengthBytes(length - 4);
    }
    literals = 0;
  };
  let at = 0;
  while (at < bytes.length) {
    const { distance, length } = longestMatch(bytes, at, 65_535, 4000);
    if (length >= 4 && at + length < bytes.length) {
      emit(at - literals, length, distance);
      at += length;
    } else {
      literals += 1;
      at += 1;
    }
  }
  emit(at - literals, 0, 0);
  return Uint8Array.from(out);
}

/** Bytes that repeat themselves near and far, with lengths around each format's borders. */
const repetitive = fc
  .array(
    fc.tuple(
      fc.uint8Array({ minLength: 1, maxLength: 20 }),
      fc.oneof(fc.nat(4), fc.constantFrom(17, 18, 19, 270, 600)),
    ),
    { minLength: 1, maxLength: 12, size: "max" },
  )
  .map((parts) =>
    Buffer.concat(parts.flatMap(([bytes, times]) => Array.from({ length: times + 1 }, () => bytes))).subarray(
      0,
      3000,
    ),
  );

describe.each([
  ["pglz", pglz, pglzDecompress],
  ["lz4", lz4, lz4Decompress],
] as const)("%s", (_name, compress, decompress) => {
  // Aim: what was compressed comes back. Method: repetitive bytes through a compressor that shares no code.
  test("gives back what was compressed", () => {
    fc.assert(
      fc.property(repetitive, (bytes) => {
        const target = new Uint8Array(bytes.length);
        expect(decompress(compress(bytes), target)).toBe(true);
        expect(Buffer.compare(target, bytes)).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  // Aim: both must end together. Method: a byte more or less on either side.
  test("refuses what is too short or too long", () => {
    fc.assert(
      fc.property(repetitive, (bytes) => {
        const compressed = compress(bytes);
        const shorter = new Uint8Array(bytes.length - 1);
        const longer = new Uint8Array(bytes.length + 1);
        expect(decompress(compressed, longer)).toBe(false);
        expect(decompress(compressed.subarray(0, -1), new Uint8Array(bytes.length))).toBe(false);
        // PostgreSQL's format cuts a copy off that is longer than the rest, and a last one may be just that.
        if (decompress(compressed, shorter)) expect(Buffer.compare(shorter, bytes.subarray(0, -1))).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  // Aim: no bytes make it read or write beyond its arrays. Method: random ones; typed arrays would hide a write, so the
  // target is a part of a larger array whose rest must stay.
  test("takes any bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400, size: "max" }), fc.nat(500), (bytes, length) => {
        const all = new Uint8Array(length + 64).fill(0xaa);
        decompress(bytes, all.subarray(0, length));
        expect(all.subarray(length).every((byte) => byte === 0xaa)).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});

// Aim: a copy begins among what was written. Method: one byte, then a copy from a byte before it, and from itself.
test.each([
  ["pglz, before the start", pglzDecompress, [0x02, 0x61, 0x01, 0x02]],
  ["pglz, from itself", pglzDecompress, [0x02, 0x61, 0x01, 0x00]],
  ["lz4, before the start", lz4Decompress, [0x10, 0x61, 0x02, 0x00, 0x00]],
  ["lz4, from itself", lz4Decompress, [0x10, 0x61, 0x00, 0x00, 0x00]],
] as const)("a copy of %s is refused", (name, decompress, bytes) => {
  const target = new Uint8Array(5);
  expect(decompress(Uint8Array.from(bytes), target)).toBe(false);
  // The same with the distance 1 is right.
  const right = bytes.map((byte, index) => (index === (name.startsWith("pglz") ? 3 : 2) ? 1 : byte));
  expect(decompress(Uint8Array.from(right), target)).toBe(true);
  expect([...target]).toEqual([0x61, 0x61, 0x61, 0x61, 0x61]);
});

/** A record with one image, its parts as the header has them. */
function recordWith(stored: Uint8Array, flags: number, holeOffset: number, holeBytes: number): WalRecord {
  const compressed = (flags & 0x1c) !== 0;
  const head = Buffer.alloc(compressed && (flags & 1) !== 0 ? 27 : 25);
  head[1] = 0x10;
  head.writeUInt16LE(stored.byteLength, 4);
  head.writeUInt16LE(holeOffset, 6);
  head[8] = flags;
  let at = 9;
  if (head.byteLength === 27) at = head.writeUInt16LE(holeBytes, 9);
  for (const value of [1663, 5, 16_384, 3]) at = head.writeUInt32LE(value, at);
  const bytes = new WalBuilder({ startLsn: 4096n }).encode({ body: Buffer.concat([head, stored]) });
  return new WalRecord(18).decodeBytes(bytes, { startLsn: lsn(4096), endLsn: lsn(16_384) });
}

function restored(record: WalRecord): Uint8Array {
  const page = new Uint8Array(8192).fill(0xee);
  const [ref] = record.refs;
  if (ref === undefined) throw new Error("no block");
  restoreImage(record, ref, page);
  return page;
}

/** A page with a hole of zeros. */
function pageWithHole(holeOffset: number, holeBytes: number): Buffer {
  const page = Buffer.alloc(8192, "some bytes of a page, over and over. ");
  page.fill(0, holeOffset, holeOffset + holeBytes);
  return page;
}

const { zstdCompressSync } = zlib as { readonly zstdCompressSync?: (bytes: Uint8Array) => Uint8Array };

describe.each([
  ["as it is", 0, (bytes: Uint8Array) => bytes],
  ["compressed with pglz", 4, pglz],
  ["compressed with lz4", 8, lz4],
  ["compressed with zstd", 16, zstdCompressSync],
] as const)("an image %s", (_how, flag, compress) => {
  test.skipIf(compress === undefined)(
    `becomes the page, with a hole and without${compress === undefined ? " (this Node has no zstd)" : ""}`,
    () => {
      if (compress === undefined) return;
      for (const [offset, bytes] of [
        [0, 0],
        [24, 8168],
        [100, 1],
        [8191, 1],
        [300, 7000],
      ] as const) {
        const page = pageWithHole(offset, bytes);
        const dense = Buffer.concat([page.subarray(0, offset), page.subarray(offset + bytes)]);
        const record = recordWith(compress(dense), flag | (bytes > 0 ? 1 : 0), offset, bytes);
        expect(Buffer.compare(restored(record), page)).toBe(0);
      }
    },
  );
});

// Aim: an image that is no page is refused with where it was. Method: one byte too few of each kind.
test.each([
  ["pglz", 4, pglz(pageWithHole(0, 0).subarray(1))],
  ["lz4", 8, lz4(pageWithHole(0, 0).subarray(1))],
  ["zstd", 16, zstdCompressSync?.(pageWithHole(0, 0).subarray(1)) ?? Uint8Array.of(1, 2, 3)],
  ["zstd that is none", 16, Uint8Array.of(9, 9, 9, 9)],
] as const)("an image of %s that is too short is refused", (_name, flag, stored) => {
  const error = failureOf(() => restored(recordWith(stored, flag, 0, 0)));
  expect(error).toBeInstanceOf(WalDecodeError);
  expect(error.code).toBe(
    flag === 16 && zstdCompressSync === undefined ? "ERR_WAL_COMPRESSION" : "ERR_WAL_IMAGE",
  );
  expect(error.lsn).toBe(4096n);
});

// Aim: a mistake of the program's is told from a bad image. Method: no image, a target of another size.
test("restoring into a wrong target, or what is not there, is a RangeError", () => {
  const record = recordWith(pageWithHole(0, 0), 0, 0, 0);
  const [ref] = record.refs;
  if (ref === undefined) throw new Error("no block");
  expect(() => restoreImage(record, ref, new Uint8Array(8191))).toThrow(RangeError);
  ref.flags = 0;
  expect(() => restoreImage(record, ref, new Uint8Array(8192))).toThrow(RangeError);
});

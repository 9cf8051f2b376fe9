// The ring of recent WAL against the dumbest thing that can keep it: one long byte string and a start.
import { addBytes, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import fc from "fast-check";
import { expect, test } from "vitest";
import { WalRing } from "../src/index.js";

const BASE = toLsn(0x1_0000_0028n);

/** `length` bytes that depend on their position in the log, so that a shifted view is noticed. */
function walAt(offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i += 1) bytes[i] = ((offset + i) * 2_654_435_761) >>> 13;
  return bytes;
}

function joined(views: readonly Uint8Array[]): Buffer {
  return Buffer.concat(views);
}

function at(offset: number): Lsn {
  return addBytes(BASE, offset);
}

// Aim: the ring holds exactly the last `capacity` bytes, and any range of them reads back as it was appended.
// Method: random payload sizes around the copy limit and the slab size, a random range read after each append.
test("any range inside the ring reads back as appended, and the ring is exactly as long as it may be", () => {
  const size = fc.oneof(
    fc.nat(40),
    fc.integer({ min: 4090, max: 4100 }),
    fc.integer({ min: 60_000, max: 131_072 }),
  );
  const step = fc.tuple(size, fc.nat(1000), fc.nat(1000));
  const capacity = fc.oneof(
    fc.integer({ min: 1, max: 300 }),
    fc.integer({ min: 4000, max: 9000 }),
    fc.integer({ min: 100_000, max: 400_000 }),
  );
  fc.assert(
    fc.property(capacity, fc.array(step, { maxLength: 60, size: "max" }), (capacityBytes, steps) => {
      const ring = new WalRing({ startLsn: BASE, capacityBytes });
      let end = 0;
      for (const [length, from, upTo] of steps) {
        ring.append(walAt(end, length));
        end += length;
        const start = Math.max(0, end - capacityBytes);
        expect(ring.startLsn).toBe(at(start));
        expect(ring.endLsn).toBe(at(end));
        const begin = start + Math.floor(((end - start) * from) / 1000);
        const stop = begin + Math.floor(((end - begin) * upTo) / 1000);
        expect(joined(ring.views(at(begin), at(stop))).equals(walAt(begin, stop - begin))).toBe(true);
      }
    }),
    { numRuns: 150 },
  );
});

// Aim: a view that was handed out never changes, however much is appended afterwards; a socket may still hold it.
// Method: keep the views of every range ever read, append many ring capacities more, compare them at the end.
test("views stay as they were while the ring moves on", () => {
  const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 4096, max: 9000 })), {
    minLength: 20,
    maxLength: 200,
    size: "max",
  });
  fc.assert(
    fc.property(lengths, (sizes) => {
      const ring = new WalRing({ startLsn: BASE, capacityBytes: 10_000 });
      const kept: { readonly begin: number; readonly views: Uint8Array[] }[] = [];
      let end = 0;
      for (const length of sizes) {
        ring.append(walAt(end, length));
        end += length;
        const begin = Number(ring.startLsn - BASE);
        kept.push({ begin, views: ring.views(ring.startLsn, ring.endLsn) });
      }
      for (const { begin, views } of kept) {
        const bytes = joined(views);
        expect(bytes.equals(walAt(begin, bytes.length))).toBe(true);
      }
    }),
    { numRuns: 100 },
  );
});

// Aim: large payloads are not copied, short ones do not pin the chunk they came in. Method: look at the buffers.
test("large payloads are kept as they are and short ones are copied", () => {
  const ring = new WalRing({ startLsn: BASE, capacityBytes: 100_000 });
  const chunk = walAt(0, 20_000);
  ring.append(chunk.subarray(0, 10_000));
  ring.append(chunk.subarray(10_000, 10_100));
  ring.append(chunk.subarray(10_100, 10_200));
  const views = ring.views(BASE, at(10_200));
  expect(views.map((view) => view.byteLength)).toEqual([10_000, 200]);
  expect(views[0]?.buffer).toBe(chunk.buffer);
  expect(views[1]?.buffer).not.toBe(chunk.buffer);
});

// Aim: a range outside the ring is a caller's mistake, never a short or wrong answer. Method: one byte off, each side.
test("a range that is not wholly inside is refused", () => {
  const ring = new WalRing({ startLsn: BASE, capacityBytes: 100 });
  ring.append(walAt(0, 250));
  expect(ring.contains(at(149))).toBe(false);
  expect(ring.contains(at(150))).toBe(true);
  expect(ring.contains(at(250))).toBe(true);
  expect(ring.contains(at(251))).toBe(false);
  expect(() => ring.views(at(149), at(200))).toThrow(RangeError);
  expect(() => ring.views(at(200), at(251))).toThrow(RangeError);
  expect(() => ring.views(at(200), at(199))).toThrow(RangeError);
  expect(ring.views(at(250), at(250))).toEqual([]);
  expect(() => new WalRing({ startLsn: BASE, capacityBytes: 0 })).toThrow(RangeError);
});

// Aim: a payload that is a small part of a huge buffer must not make the ring retain gigabytes. Method: payloads in
// buffers of random size; the buffers behind all readable views stay within three capacities and a slab, and what
// the ring says it retains is at least what they come to.
test("retained buffers are bounded however badly they are filled", () => {
  const payload = fc.tuple(fc.integer({ min: 1, max: 9000 }), fc.nat(60_000));
  const payloads = fc.array(payload, { minLength: 50, maxLength: 300, size: "max" });
  fc.assert(
    fc.property(payloads, fc.integer({ min: 1, max: 5 }), (sizes, perBuffer) => {
      const capacityBytes = 100_000;
      const ring = new WalRing({ startLsn: BASE, capacityBytes });
      let end = 0;
      for (const [length, unusedBytes] of sizes) {
        const buffer = new Uint8Array(perBuffer * length + unusedBytes);
        for (let i = 0; i < perBuffer; i += 1) {
          buffer.set(walAt(end, length), i * length);
          ring.append(buffer.subarray(i * length, (i + 1) * length));
          end += length;
        }
        const buffers = new Set(ring.views(ring.startLsn, ring.endLsn).map((view) => view.buffer));
        let retained = 0;
        for (const { byteLength } of buffers) retained += byteLength;
        expect(ring.retainedBytes).toBeGreaterThanOrEqual(retained);
        expect(ring.retainedBytes).toBeLessThanOrEqual(3 * capacityBytes + 65_536 + 9000);
      }
      const bytes = joined(ring.views(ring.startLsn, ring.endLsn));
      expect(bytes.equals(walAt(end - bytes.length, bytes.length))).toBe(true);
    }),
    { numRuns: 60 },
  );
});

/**
 * What holds for arbitrary WAL: the decoder agrees with the builder at every chunk, a damaged bit is never accepted,
 * and no bytes at all make it fail in another way than it says.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { WalDecodeError, WalDecoder } from "../src/index.js";
import { MIB, PAGE, WalBuilder } from "./wal-builder.js";
import { collecting, feedInChunks, lsn, withoutDataEnd } from "./wal-reading.js";

type Step =
  | { readonly kind: "record"; readonly body: number; readonly rmid: number; readonly info: number }
  | { readonly kind: "page"; readonly before: number; readonly body: number }
  | { readonly kind: "long"; readonly pages: number; readonly around: number }
  | { readonly kind: "abort"; readonly pages: number }
  | { readonly kind: "switch" }
  | { readonly kind: "late-switch"; readonly before: number };

/** Rmid 1 to 21: not 0, whose switches and replacements are steps of their own. */
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("record" as const),
      body: fc.oneof(fc.nat(200), fc.nat(3 * PAGE)),
      rmid: fc.integer({ min: 1, max: 21 }),
      info: fc.nat(255),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("page" as const),
      before: fc.integer({ min: 1, max: 10 }).map((eights) => 8 * eights),
      body: fc.nat(100),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant("long" as const),
      pages: fc.nat(20),
      around: fc.integer({ min: -50, max: 50 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("abort" as const), pages: fc.integer({ min: 1, max: 4 }) }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "switch" as const }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("late-switch" as const),
      before: fc.constantFrom(8, 16, 24, 32, 40),
    }),
  },
);

const FIRST_SEGMENT = 7n * BigInt(MIB);

/** WAL that starts some pages before the end of a segment, so that few steps reach the next one. */
function build(pagesBefore: number, steps: readonly Step[]): WalBuilder {
  const wal = new WalBuilder({ startLsn: FIRST_SEGMENT - BigInt(pagesBefore * PAGE) });
  let switches = 0;
  for (const each of steps) {
    if (each.kind === "record") wal.record(each);
    else if (each.kind === "page") {
      wal.fillPageUpTo(each.before);
      wal.record({ body: each.body, xid: each.before });
    } else if (each.kind === "long") {
      wal.pageHeaderIfDue(0);
      wal.record({ body: Math.max(0, wal.leftOnPage - 24 + each.pages * (PAGE - 24) + each.around) });
    } else if (each.kind === "abort") wal.abortedRecord(each.pages);
    else if (switches < 2) {
      // A switch costs up to a segment of filler, and two of them show what there is to see.
      switches += 1;
      if (each.kind === "late-switch") wal.fillSegmentUpTo(each.before);
      wal.switchSegment(switches);
    }
  }
  return wal;
}

const wals = fc
  .tuple(fc.integer({ min: 0, max: 20 }), fc.array(step, { maxLength: 30, size: "max" }))
  .map(([pagesBefore, steps]) => build(pagesBefore, steps));

const chunkSizes = fc.array(
  fc.oneof(
    fc.integer({ min: 1, max: 64 }),
    fc.integer({ min: 1, max: 40_000 }),
    fc.constantFrom(PAGE, PAGE - 1),
  ),
  { minLength: 1, maxLength: 20, size: "max" },
);

// Aim: the end that is reported is at every moment exactly the last record whose bytes are all there. Method: random
// WAL in random chunks; after each chunk the position is looked up in the builder's list; at the end all records.
test("after every chunk the end is that of the last record that is complete", () => {
  fc.assert(
    fc.property(wals, chunkSizes, (wal, sizes) => {
      const { decoder, seen } = collecting(wal.options);
      let complete = 0;
      feedInChunks(decoder, wal.bytes, sizes, () => {
        const next = decoder.nextLsn;
        for (;;) {
          const record = wal.records[complete];
          if (record === undefined || record.dataEndLsn > next) break;
          complete += 1;
        }
        const last = wal.records[complete - 1];
        // A chunk may be a byte: compared first, so that millions of expectations are not built.
        if (seen.length === complete && decoder.recordEndLsn === (last?.endLsn ?? wal.startLsn)) return;
        expect({ seen: seen.length, end: decoder.recordEndLsn }).toEqual({
          seen: complete,
          end: last?.endLsn,
        });
      });
      expect(decoder.nextLsn).toBe(wal.lsn);
      expect(seen).toEqual(wal.records.map(withoutDataEnd));
    }),
    { numRuns: 50 },
  );
});

// Aim: reading may begin at any record. Method: random WAL, a decoder from each of some records' starts and ends.
test("reading from any record's end sees the records behind it", () => {
  fc.assert(
    fc.property(wals, fc.array(fc.nat(), { minLength: 1, maxLength: 5 }), chunkSizes, (wal, picks, sizes) => {
      for (const pick of picks) {
        if (wal.records.length === 0) return;
        const index = pick % wal.records.length;
        for (const at of [wal.records[index]?.startLsn ?? 0n, wal.records[index]?.endLsn ?? 0n]) {
          const { decoder, seen } = collecting({ ...wal.options, startLsn: lsn(at) });
          feedInChunks(decoder, wal.bytes.subarray(Number(at - wal.startLsn)), sizes);
          expect(seen).toEqual(wal.records.filter((record) => record.startLsn >= at).map(withoutDataEnd));
        }
      }
    }),
    { numRuns: 30 },
  );
});

// Aim: no damaged record is accepted, nor anything behind it. Method: every single bit of a record's bytes is flipped,
// for records in one page, over a page's border with a torn header, and with a full page inside.
test.each([
  ["in one page", 200, 90],
  ["with a torn header", 16, 90],
  ["with nearly no page left", 8, 20],
])("every flipped bit of a record %s is found", (_where, before, body) => {
  const wal = new WalBuilder({ startLsn: FIRST_SEGMENT });
  wal.fillPageUpTo(before);
  const good = wal.lsn;
  const at = wal.bytes.byteLength;
  const target = wal.record({ body });
  const end = Number(target.dataEndLsn - wal.startLsn);
  for (let i = 0; i < 3; i += 1) wal.record({ body: 5000 });
  const headerAt = PAGE;
  for (let index = at; index < end; index += 1) {
    if (index >= headerAt && index < headerAt + 24) continue; // the page's, not the record's
    for (let bit = 0; bit < 8; bit += 1) {
      const bytes = wal.bytes.slice();
      bytes[index] = (bytes[index] ?? 0) ^ (1 << bit);
      for (const sizes of [[bytes.byteLength], [37]]) {
        const decoder = new WalDecoder(wal.options);
        let refused = false;
        try {
          feedInChunks(decoder, bytes, sizes);
        } catch (error) {
          expect(error).toBeInstanceOf(WalDecodeError);
          refused = true;
        }
        expect(decoder.recordEndLsn).toBe(good);
        // Only a length can make it wait for more, and then only until the next page disagrees.
        expect(refused).toBe(true);
      }
    }
  }
});

// Aim: damage anywhere in random WAL never moves the end beyond it. Method: one random bit flipped; records that end
// before it are all seen, and none that begins behind it unless the bit was outside of all checks (padding, the rest of
// a switched segment, an ignored flag), in which case all are.
test("a flipped bit anywhere ends the WAL there or changes nothing", () => {
  fc.assert(
    fc.property(wals, fc.nat(), fc.nat(7), chunkSizes, (wal, pick, bit, sizes) => {
      if (wal.bytes.byteLength === 0) return;
      const index = pick % wal.bytes.byteLength;
      const bytes = wal.bytes.slice();
      bytes[index] = (bytes[index] ?? 0) ^ (1 << bit);
      const { decoder, seen } = collecting(wal.options);
      try {
        feedInChunks(decoder, bytes, sizes);
      } catch (error) {
        expect(error).toBeInstanceOf(WalDecodeError);
      }
      const damaged = wal.startLsn + BigInt(index);
      const before = wal.records.filter((record) => record.dataEndLsn <= damaged).length;
      const inside = wal.records[before];
      const expected = wal.records.map(withoutDataEnd);
      expect(seen).toEqual(expected.slice(0, seen.length));
      expect(seen.length).toBeGreaterThanOrEqual(before);
      const inPage = Number(damaged % BigInt(PAGE));
      const inHeader = inPage < (damaged % BigInt(MIB) < BigInt(PAGE) ? 40 : 24);
      if (inside !== undefined && damaged >= inside.startLsn && !inHeader) expect(seen.length).toBe(before);
    }),
    { numRuns: 80 },
  );
});

// Aim: a stream that stops gives its complete records and no error. Method: random WAL cut anywhere.
test("a prefix of valid WAL is valid", () => {
  fc.assert(
    fc.property(wals, fc.nat(), chunkSizes, (wal, pick, sizes) => {
      const length = pick % (wal.bytes.byteLength + 1);
      const { decoder, seen } = collecting(wal.options);
      feedInChunks(decoder, wal.bytes.subarray(0, length), sizes);
      const cut = wal.startLsn + BigInt(length);
      expect(seen.length).toBe(wal.records.filter((record) => record.dataEndLsn <= cut).length);
    }),
    { numRuns: 50 },
  );
});

// Aim: no input breaks the decoder. Method: valid WAL, then random bytes, and random bytes from the start, in both
// start modes; only WalDecodeError may come out, and never a record that was not there.
test("random bytes are refused with a WalDecodeError", () => {
  const garbage = fc.uint8Array({ minLength: 1, maxLength: 20_000, size: "max" });
  const starts = fc.constantFrom("record" as const, "anywhere" as const);
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 4 }),
      garbage,
      chunkSizes,
      starts,
      (steps, tail, sizes, start) => {
        const wal = build(3, steps);
        const valid = wal.records.length;
        const end = wal.lsn;
        wal.raw(tail);
        const { decoder, seen } = collecting({ ...wal.options, start });
        try {
          feedInChunks(decoder, wal.bytes, sizes);
        } catch (error) {
          expect(error).toBeInstanceOf(WalDecodeError);
          expect((error as WalDecodeError).lsn).toBeGreaterThanOrEqual(wal.startLsn);
          expect(() => decoder.feed(tail)).toThrow(WalDecodeError);
        }
        expect(seen.length).toBe(valid);
        expect(decoder.recordEndLsn).toBe(valid === 0 ? wal.startLsn : wal.records.at(-1)?.endLsn);
        expect(decoder.recordEndLsn).toBeLessThanOrEqual(end);
      },
    ),
    { numRuns: 200 },
  );
});

/**
 * Examples of every structure the WAL has: each rule once, at its border, in the smallest WAL that shows it. What
 * holds for arbitrary WAL is in decoder.property.test.ts, what PostgreSQL writes in decoder.pg.test.ts.
 */
import { expect, test } from "vitest";
import { WalDecoder } from "../src/index.js";
import { MIB, PAGE, WalBuilder } from "./wal-builder.js";
import { collecting, copyOf, expectFailure, feedInChunks, lsn, withoutDataEnd } from "./wal-reading.js";

const START = 5n * BigInt(MIB);

function build(startLsn: bigint = START): WalBuilder {
  return new WalBuilder({ startLsn });
}

function decode(wal: WalBuilder, sizes: readonly number[] = [wal.bytes.byteLength]) {
  const { decoder, seen } = collecting(wal.options);
  feedInChunks(decoder, wal.bytes, sizes);
  expect(seen).toEqual(wal.records.map(withoutDataEnd));
  expect(decoder.nextLsn).toBe(wal.lsn);
  expect(decoder.recordEndLsn).toBe(wal.records.at(-1)?.endLsn ?? wal.startLsn);
  return decoder;
}

// Aim: each of the four known formats is read, and no other. Method: pages with the version's own magic, a decoder for
// each version.
test.each([15, 16, 17, 18] as const)("WAL of PostgreSQL %i is read by its own version only", (pgMajor) => {
  const wal = new WalBuilder({ startLsn: START, pgMajor });
  wal.record({ body: 10 });
  for (const major of [15, 16, 17, 18]) {
    const decoder = new WalDecoder({ ...wal.options, pgMajor: major });
    if (major === pgMajor) decoder.feed(wal.bytes);
    else expectFailure(() => decoder.feed(wal.bytes), "ERR_WAL_PAGE_MAGIC", START);
  }
  for (const major of [14, 19, 15.5, NaN]) {
    expectFailure(() => new WalDecoder({ ...wal.options, pgMajor: major }), "ERR_WAL_VERSION", 0n);
  }
});

// Aim: a record header may be torn by a page at each place where alignment allows it, and by a chunk anywhere.
// Method: a record that starts 8, 16 or 24 bytes before the page's end, cut at every byte of header and page header.
test.each([8, 16, 24, 32])("a record that starts %i bytes before the end of its page is read", (before) => {
  const wal = build();
  wal.fillPageUpTo(before);
  const at = wal.bytes.byteLength;
  wal.record({ body: 100, xid: 77, rmid: 200, info: 0x31 });
  wal.record();
  for (let cut = at; cut < at + 80; cut += 1) {
    decode(wal, [cut, 1, wal.bytes.byteLength]);
  }
  decode(wal, [1]);
});

// Aim: a record of many pages across a segment's border comes out whole. Method: 60 pages around a border, with
// chunk sizes just below, at and above a page.
test.each([1, 7, PAGE - 1, PAGE, PAGE + 1, 100_000])(
  "a record over 60 pages and a segment border is read in chunks of %i bytes",
  (size) => {
    const wal = build(START - 30n * BigInt(PAGE));
    wal.record({ body: 60 * PAGE, rmid: 21 });
    wal.record({ body: 1 });
    const decoder = decode(wal, [size]);
    expect(decoder.lastRecordLsn).toBe(wal.records[1]?.startLsn);
    expect(decoder.recordCount).toBe(2);
  },
);

// Aim: the end that is reported is a record's end, before padding and behind none of the next page's header. Method:
// one byte at a time, the record's end looked at around its last byte.
test("an end becomes known with a record's last byte, and at a page's border is the border", () => {
  const wal = build();
  const first = wal.record({ body: 11 });
  wal.fillPageUpTo(0);
  const decoder = new WalDecoder(wal.options);
  const head = Number(first.dataEndLsn - START);
  decoder.feed(wal.bytes.subarray(0, head - 1));
  expect(decoder.recordEndLsn).toBe(START);
  expect(decoder.partialRecordLsn).toBe(START + 40n);
  expect(decoder.lastRecordLsn).toBeUndefined();
  decoder.feed(wal.bytes.subarray(head - 1, head));
  expect(decoder.recordEndLsn).toBe(first.endLsn);
  expect(decoder.nextLsn).toBe(first.dataEndLsn);
  expect(decoder.partialRecordLsn).toBeUndefined();
  decoder.feed(wal.bytes.subarray(head));
  expect(decoder.recordEndLsn).toBe(START + BigInt(PAGE));
  wal.record();
  decoder.feed(wal.bytes.subarray(PAGE));
  expect(decoder.lastRecordLsn).toBe(START + BigInt(PAGE) + 24n);
});

// Aim: a segment switch ends with its segment at once, and nothing of the rest is looked at. Method: switches in the
// middle and at each of the last places of a segment, rests of zeros and of garbage.
test.each([
  ["the middle", undefined, 0],
  ["the middle, with garbage behind it", undefined, 0x5a],
  ["its last 32 bytes", 32, 0xff],
  ["its last 24 bytes, without a rest", 24, 0],
  ["its last 16 bytes, the header torn by the border", 16, 0x11],
  ["its last 8 bytes, the header torn by the border", 8, 0],
] as const)("a switch that starts in a segment at %s ends it", (_where, before, filler) => {
  const wal = build();
  wal.record({ body: 50 });
  if (before !== undefined) wal.fillSegmentUpTo(before);
  const ended = wal.switchSegment(filler);
  expect(ended.endLsn % BigInt(MIB)).toBe(0n);
  const decoder = new WalDecoder(wal.options);
  const behind = Number(ended.dataEndLsn - START);
  decoder.feed(wal.bytes.subarray(0, behind));
  expect(decoder.recordEndLsn).toBe(ended.endLsn);
  wal.record({ body: 70 });
  decode(wal);
  decode(wal, [4095, 1]);
  decode(wal, [behind, 1]);
});

// Aim: even a perfect record in a switched segment's rest is not one. Method: a valid successor of the switch behind it,
// in the same chunk, as a recycled buffer could have it.
test("a record behind a switch in the same segment is not seen", () => {
  const wal = build();
  wal.record({ body: 8 });
  const ended = wal.switchSegment();
  wal.bytes.set(wal.encode({ body: 16 }), Number(ended.dataEndLsn - START));
  wal.record({ body: 24 });
  decode(wal);
  decode(wal, [1000]);
});

// Aim: a switch's rest can be jumped over, as a file reader does. Method: jump after the switch, then go on.
test("the rest of a switched segment can be skipped without its bytes", () => {
  const wal = build();
  wal.record();
  const { decoder, seen } = collecting(wal.options);
  decoder.feed(wal.bytes);
  decoder.skipToRecordEnd();
  expect(decoder.nextLsn).toBe(wal.lsn);
  const before = wal.bytes.byteLength;
  const ended = wal.switchSegment();
  decoder.feed(wal.bytes.subarray(before, before + 24));
  decoder.skipToRecordEnd();
  expect(decoder.nextLsn).toBe(ended.endLsn);
  const at = wal.bytes.byteLength;
  wal.record({ body: 9 });
  decoder.feed(wal.bytes.subarray(at));
  expect(seen).toEqual(wal.records.map(withoutDataEnd));
});

// Aim: a record lost in a crash is dropped and what replaces it is taken. Method: records aborted after one and
// several pages, inside a segment and with the segment border as the page that replaces them.
test.each([
  ["one page", START, 1],
  ["five pages", START, 5],
  ["a segment", START - 3n * BigInt(PAGE), 3],
])("a record aborted after %s is replaced", (_what, startLsn, pages) => {
  const wal = build(startLsn);
  wal.record({ body: 30 });
  const replaced = wal.abortedRecord(pages);
  expect(replaced.prevLsn).toBe(wal.records[0]?.startLsn);
  wal.record({ body: 3 });
  decode(wal);
  decode(wal, [1]);
});

// Aim: aborted in the middle of a record header, which is the least that can survive. Method: it starts 8 bytes before
// the page's end.
test("a record aborted within its header is replaced", () => {
  const wal = build();
  wal.fillPageUpTo(8);
  wal.abortedRecord(1);
  decode(wal, [PAGE - 4, 1]);
});

// Aim: the flag and the record that replaces must come together and name the dropped record. Method: each of them
// alone, and a wrong name.
test("what replaces an aborted record must name it", () => {
  const wrong = build();
  wrong.record({ body: 30 });
  const named = wrong.abortedRecord(1, START + 40n);
  expectFailure(() => decode(wrong), "ERR_WAL_OVERWRITE", named.startLsn);

  const other = build();
  other.abortedStart(1);
  other.flagNextPage(0x08);
  const first = other.record({ body: 18, rmid: 0, info: 0xd0 });
  expectFailure(() => decode(other), "ERR_WAL_OVERWRITE", first.startLsn);

  for (const spec of [{ body: 18 }, { body: 18, rmid: 0 }, { body: 18, rmid: 1 }]) {
    const ordinary = build();
    ordinary.abortedStart(1);
    ordinary.flagNextPage(0x08);
    const refused = ordinary.record(spec);
    expectFailure(() => decode(ordinary), "ERR_WAL_OVERWRITE", refused.startLsn);
  }

  // The right operation and length, but not the one block of main data that this record is.
  for (const [id, length] of [
    [254, 16],
    [255, 15],
  ] as const) {
    const shapeless = build();
    shapeless.abortedStart(1);
    shapeless.flagNextPage(0x08);
    const body = new Uint8Array(18);
    body.set([id, length]);
    new DataView(body.buffer).setBigUint64(2, shapeless.lastAbortedLsn, true);
    const refused = shapeless.record({ rmid: 0, info: 0xd0, body });
    expectFailure(() => decode(shapeless), "ERR_WAL_OVERWRITE", refused.startLsn);
  }

  const unflagged = build();
  unflagged.abortedStart(1);
  unflagged.overwriteRecord(unflagged.lastAbortedLsn);
  expectFailure(() => decode(unflagged), "ERR_WAL_CONTRECORD", START + BigInt(PAGE));

  const stray = build();
  stray.record();
  const record = stray.overwriteRecord(START);
  expectFailure(() => decode(stray), "ERR_WAL_OVERWRITE", record.startLsn);

  const complete = build();
  complete.fillPageUpTo(0);
  complete.flagNextPage(0x08);
  complete.overwriteRecord(START + 40n);
  expectFailure(() => decode(complete), "ERR_WAL_OVERWRITE", START + BigInt(PAGE));
});

// Aim: reading may begin right at a page that replaces a record, which was begun where the reader never was. Method:
// start there in both modes, and right behind its header; the name must still lie before.
test("reading can start at a page that replaces an aborted record", () => {
  const wal = build();
  wal.record({ body: 30 });
  const replaced = wal.abortedRecord(2);
  const page = START + 2n * BigInt(PAGE);
  expect(replaced.startLsn).toBe(page + 24n);
  const bytes = wal.bytes.subarray(2 * PAGE);
  for (const start of ["record", "anywhere"] as const) {
    const { decoder, seen } = collecting({ ...wal.options, startLsn: lsn(page), start });
    decoder.feed(bytes);
    expect(seen).toEqual([withoutDataEnd(replaced)]);
  }
  const { decoder, seen } = collecting({ ...wal.options, startLsn: lsn(page + 24n) });
  decoder.feed(bytes.subarray(24));
  expect(seen).toEqual([withoutDataEnd(replaced)]);

  const future = new WalBuilder({ startLsn: page });
  future.flagNextPage(0x08);
  const refused = future.overwriteRecord(page + 24n);
  const strict = new WalDecoder(future.options);
  expectFailure(() => strict.feed(future.bytes), "ERR_WAL_OVERWRITE", refused.startLsn);
});

// Aim: reading may begin at any page. Method: a record over several pages, a start at each page, the first record seen
// is the first that begins there.
test("reading that starts anywhere skips the rest of a record", () => {
  const wal = build(START - 2n * BigInt(PAGE));
  wal.record({ body: 5 * PAGE + 3 });
  wal.record({ body: 40 });
  wal.fillPageUpTo(0);
  wal.record({ body: 2 });
  for (let page = 0; page * PAGE < wal.bytes.byteLength; page += 1) {
    const startLsn = wal.startLsn + BigInt(page * PAGE);
    for (const size of [1, 5000, wal.bytes.byteLength]) {
      const { decoder, seen } = collecting({ ...wal.options, startLsn: lsn(startLsn), start: "anywhere" });
      expect(decoder.recordEndLsn).toBe(startLsn);
      feedInChunks(decoder, wal.bytes.subarray(page * PAGE), [size]);
      expect(seen).toEqual(wal.records.filter((record) => record.startLsn >= startLsn).map(withoutDataEnd));
    }
  }
});

// Aim: a rest that is being skipped may turn out to be aborted. Method: start on the second of three surviving pages.
test("reading that starts inside an aborted record goes on where it is replaced", () => {
  const wal = build();
  wal.abortedRecord(3);
  wal.record({ body: 6 });
  const startLsn = lsn(START + BigInt(PAGE));
  for (const size of [1, wal.bytes.byteLength]) {
    const { decoder, seen } = collecting({ ...wal.options, startLsn, start: "anywhere" });
    feedInChunks(decoder, wal.bytes.subarray(PAGE), [size]);
    expect(seen).toEqual(wal.records.map(withoutDataEnd));
  }
});

// Aim: a reset forgets everything. Method: reset within a record, a padding, a page header, a skipped rest and right
// behind the mark of a replaced record; ordinary WAL must be read from its start each time.
test("a decoder that was reset anywhere reads as a new one", () => {
  const torn = build();
  torn.record({ body: 11 });
  torn.abortedRecord(2);
  torn.switchSegment();
  torn.record({ body: 2 * PAGE });
  const plain = build();
  plain.record({ body: 9000 });
  plain.record();
  const cuts = [
    10,
    50,
    40 + 35 + 2,
    PAGE + 12,
    2 * PAGE + 24,
    2 * PAGE + 40,
    2 * PAGE + 200,
    MIB + 30,
    MIB + 500,
  ];
  for (const cut of cuts) {
    const { decoder, seen } = collecting(torn.options);
    decoder.feed(torn.bytes.subarray(0, cut));
    decoder.reset(lsn(START));
    seen.length = 0;
    decoder.feed(plain.bytes);
    expect(seen).toEqual(plain.records.map(withoutDataEnd));
    expect(decoder.recordEndLsn).toBe(plain.lsn);
    expect(decoder.recordCount).toBe(2);
  }
});

// Aim: in the middle of a record nothing may be taken for a boundary. Method: start in mode "record" on a page that
// continues one; and a skipped rest whose next page disagrees.
test("a page that continues a record is refused where a record should begin", () => {
  const wal = build();
  wal.record({ body: 3 * PAGE });
  const page = START + BigInt(PAGE);
  const decoder = new WalDecoder({ ...wal.options, startLsn: lsn(page) });
  expectFailure(() => decoder.feed(wal.bytes.subarray(PAGE)), "ERR_WAL_CONTRECORD", page);

  const skipping = new WalDecoder({ ...wal.options, startLsn: lsn(page), start: "anywhere" });
  const bytes = wal.bytes.slice(PAGE);
  bytes[PAGE + 16] = (bytes[PAGE + 16] ?? 0) ^ 1;
  expectFailure(() => skipping.feed(bytes), "ERR_WAL_CONTRECORD", page + BigInt(PAGE));
});

// Aim: no position is taken where nothing can start. Method: positions inside page headers, off alignment, and in the
// last segment; a refused reset leaves the decoder as it was.
test("reading starts at a page, or aligned and behind its header, and not in the last segment", () => {
  const wal = build();
  wal.record({ body: 100 });
  const decoder = new WalDecoder(wal.options);
  decoder.feed(wal.bytes.subarray(0, 60));
  for (const offset of [8, 24, 32, PAGE + 8, PAGE + 16, 44, PAGE + 25]) {
    expectFailure(() => decoder.reset(lsn(START + BigInt(offset))), "ERR_WAL_START", START + BigInt(offset));
  }
  expectFailure(() => decoder.reset(lsn(START + 40n), "anywhere"), "ERR_WAL_START", START + 40n);
  const last = 2n ** 64n - BigInt(MIB);
  expectFailure(() => decoder.reset(lsn(last)), "ERR_WAL_LSN_LIMIT", last);
  decoder.feed(wal.bytes.subarray(60));
  expect(decoder.recordEndLsn).toBe(wal.lsn);
  for (const offset of [0, 40, PAGE, PAGE + 24]) decoder.reset(lsn(START + BigInt(offset)));
  expect(() => new WalDecoder({ ...wal.options, segmentBytes: 3 * MIB })).toThrow(RangeError);
});

// Aim: positions beyond 2^32 and up to the end of the address space are exact. Method: WAL across a 4 GiB border, and
// WAL that runs into the last segment, where the end of the one before is still reported.
test("positions are exact across 4 GiB and up to the last segment", () => {
  const wal = build(0xff_ffff_f000_0000n + BigInt(0x1000_0000 - 2 * PAGE));
  expect((wal.startLsn + BigInt(2 * PAGE)) & 0xffff_ffffn).toBe(0n);
  wal.record({ body: 4 * PAGE });
  wal.record();
  decode(wal, [777]);

  // The first record's predecessor lies below 2^31, the record itself above.
  const signed = build(0x8000_0000n);
  signed.record({ body: 5 });
  decode(signed);

  const last = build(2n ** 64n - BigInt(MIB + PAGE));
  last.fillPageUpTo(0);
  const decoder = decode(last);
  expect(decoder.recordEndLsn).toBe(2n ** 64n - BigInt(MIB));
  expectFailure(() => decoder.feed(Uint8Array.of(0)), "ERR_WAL_LSN_LIMIT", 2n ** 64n - BigInt(MIB));
});

interface Damage {
  readonly what: string;
  readonly code: Parameters<typeof expectFailure>[1];
  /** Byte index in the WAL, value to write. */
  readonly at: number;
  readonly to: number;
  /** Page or record that is to be named, counted from the start. */
  readonly lsn: number;
}

// Aim: every rule about a header has its own code and names the page or record. Method: one byte changed in WAL of
// two segments and the cut in two ways; records before the damage are still seen.
test.each<Damage>([
  { what: "magic", code: "ERR_WAL_PAGE_MAGIC", at: PAGE, to: 0x0d, lsn: PAGE },
  { what: "unknown flag", code: "ERR_WAL_PAGE_INFO", at: PAGE + 2, to: 0x14, lsn: PAGE },
  { what: "unknown high flag", code: "ERR_WAL_PAGE_INFO", at: PAGE + 3, to: 0x01, lsn: PAGE },
  { what: "long header inside a segment", code: "ERR_WAL_PAGE_INFO", at: PAGE + 2, to: 0x06, lsn: PAGE },
  { what: "short header at a segment's start", code: "ERR_WAL_PAGE_INFO", at: 2, to: 0x04, lsn: 0 },
  { what: "replaces and continues", code: "ERR_WAL_PAGE_INFO", at: PAGE + 2, to: 0x0d, lsn: PAGE },
  { what: "address", code: "ERR_WAL_PAGE_ADDRESS", at: PAGE + 9, to: 0, lsn: PAGE },
  { what: "address, high half", code: "ERR_WAL_PAGE_ADDRESS", at: PAGE + 15, to: 1, lsn: PAGE },
  { what: "timeline that falls", code: "ERR_WAL_TIMELINE", at: PAGE + 4, to: 2, lsn: PAGE },
  { what: "timeline 0", code: "ERR_WAL_TIMELINE", at: 4, to: 0, lsn: 0 },
  { what: "cluster", code: "ERR_WAL_SYSTEM_ID", at: 24, to: 0, lsn: 0 },
  { what: "cluster, high half", code: "ERR_WAL_SYSTEM_ID", at: 31, to: 0, lsn: 0 },
  { what: "segment size", code: "ERR_WAL_PAGE_SIZES", at: 34, to: 0x20, lsn: 0 },
  { what: "block size", code: "ERR_WAL_PAGE_SIZES", at: 37, to: 0x40, lsn: 0 },
  { what: "missing bytes", code: "ERR_WAL_CONTRECORD", at: PAGE + 16, to: 0xff, lsn: PAGE },
  { what: "continuation flag", code: "ERR_WAL_CONTRECORD", at: PAGE + 2, to: 0x04, lsn: PAGE },
  { what: "continuation without a record", code: "ERR_WAL_CONTRECORD", at: 2, to: 0x07, lsn: 0 },
  { what: "missing bytes of no record", code: "ERR_WAL_CONTRECORD", at: 16, to: 8, lsn: 0 },
  { what: "length below a header", code: "ERR_WAL_RECORD_LENGTH", at: 40, to: 23, lsn: 40 },
  { what: "length above the limit", code: "ERR_WAL_RECORD_LENGTH", at: 43, to: 0x3f + 1, lsn: 40 },
  { what: "first predecessor not before it", code: "ERR_WAL_RECORD_PREV", at: 40 + 15, to: 1, lsn: 40 },
  { what: "predecessor", code: "ERR_WAL_RECORD_PREV", at: 72 + 8, to: 0, lsn: 72 },
  { what: "predecessor, high half", code: "ERR_WAL_RECORD_PREV", at: 72 + 15, to: 1, lsn: 72 },
  { what: "resource manager 22", code: "ERR_WAL_RECORD_RMID", at: 72 + 17, to: 22, lsn: 72 },
  { what: "resource manager 127", code: "ERR_WAL_RECORD_RMID", at: 72 + 17, to: 127, lsn: 72 },
  { what: "checksum", code: "ERR_WAL_RECORD_CRC", at: 72 + 20, to: 0, lsn: 72 },
])("a wrong $what is refused", ({ code, at, to, lsn: refused }) => {
  const wal = new WalBuilder({ startLsn: START, timelineId: 3 });
  wal.record({ body: 8 }); // at 40
  wal.record({ body: 2 * PAGE, rmid: 21 }); // at 72, to the third page
  wal.bytes[at] = to;
  for (const size of [1, 3 * PAGE]) {
    const { decoder, seen } = collecting(wal.options);
    const feed = (): void => {
      feedInChunks(decoder, wal.bytes, [size]);
    };
    expectFailure(feed, code, START + BigInt(refused));
    expect(seen.length).toBe(refused >= 72 ? 1 : 0);
    expect(decoder.recordEndLsn).toBe(refused >= 72 ? START + 72n : START);
    // The failure stays, even if what comes now would be right.
    expectFailure(() => decoder.feed(new Uint8Array(1)), code, START + BigInt(refused));
    expect(decoder.error?.code).toBe(code);
    decoder.reset(lsn(START));
    expect(decoder.error).toBeUndefined();
  }
});

// Aim: the largest allowed record is waited for, the smallest forbidden refused. Method: lengths at the limit.
test("a record may have 1020 MiB and no byte more", () => {
  const limit = 1_069_547_520;
  for (const [totalBytes, accepted] of [
    [limit, true],
    [limit + 1, false],
  ] as const) {
    const wal = build();
    wal.pageHeaderIfDue(0);
    const record = wal.encode({ body: 8 });
    new DataView(record.buffer).setUint32(0, totalBytes, true);
    wal.raw(record);
    const decoder = new WalDecoder(wal.options);
    if (accepted) decoder.feed(wal.bytes);
    else expectFailure(() => decoder.feed(wal.bytes), "ERR_WAL_RECORD_LENGTH", START + 40n);
    expect(decoder.recordEndLsn).toBe(START);
  }
});

// Aim: without being told the cluster, a decoder stays with the first it meets. Method: a second segment of another.
test("without a system id all segments must belong to the first one's cluster", () => {
  const wal = build();
  wal.record();
  wal.switchSegment();
  wal.record();
  const { systemId: _unused, ...options } = wal.options;
  const decoder = new WalDecoder(options);
  decoder.feed(wal.bytes);
  decoder.reset(lsn(START));
  wal.bytes[MIB + 24] = (wal.bytes[MIB + 24] ?? 0) ^ 1;
  expectFailure(() => decoder.feed(wal.bytes), "ERR_WAL_SYSTEM_ID", START + BigInt(MIB));
});

// Aim: a promotion is followed, a timeline that nobody announced is not. Method: a page of timeline 2 after timeline 1,
// with and without it in the set, which grows while the decoder runs.
test("a page's timeline may rise, if it is among the allowed ones", () => {
  const wal = build();
  wal.fillPageUpTo(0);
  wal.timelineId = 2;
  wal.record();
  const decoder = decode(wal);
  expect(decoder.timelineId).toBe(2);
  const timelines = new Set([1]);
  const strict = new WalDecoder({ ...wal.options, timelines });
  expectFailure(() => strict.feed(wal.bytes), "ERR_WAL_TIMELINE", START + BigInt(PAGE));
  strict.reset(lsn(START));
  timelines.add(2);
  strict.feed(wal.bytes);
  expect(strict.recordEndLsn).toBe(wal.lsn);
});

// Aim: whoever waits for a commit is told. Method: every operation of the transaction manager, and the same info of
// another manager.
test.each([
  [0x00, true],
  [0x10, true],
  [0x20, true],
  [0x30, true],
  [0x40, true],
  [0x50, false],
  [0x60, false],
  [0x80, true],
  [0xb5, true],
  [0xe0, false],
])("a transaction record with info %i is an end: %s", (info, ends) => {
  const wal = build();
  wal.record({ rmid: 10, info });
  const decoder = new WalDecoder(wal.options);
  decoder.feed(wal.bytes);
  expect(decoder.takeTransactionEnd()).toBe(false);
  const at = wal.bytes.byteLength;
  wal.record({ rmid: 1, info, body: 20 });
  const bytes = wal.bytes.subarray(at);
  decoder.feed(bytes.subarray(0, 43));
  expect(decoder.takeTransactionEnd()).toBe(false);
  decoder.feed(bytes.subarray(43));
  expect(decoder.takeTransactionEnd()).toBe(ends);
  expect(decoder.takeTransactionEnd()).toBe(false);
});

// Aim: a visitor sees the record's first bytes in one piece, however it came. Method: records short and long, torn by a
// page, whole and byte by byte, heads compared with what was encoded.
test("a visitor sees the head of a record", () => {
  const wal = build();
  wal.fillPageUpTo(16);
  const specs = [{ body: 5 }, { body: 40 }, { body: 41 }, { body: 9000 }];
  const records = specs.map((spec) => wal.record(spec));
  for (const size of [1, wal.bytes.byteLength]) {
    const heads: Uint8Array[] = [];
    const decoder = new WalDecoder({ ...wal.options, onRecord: ({ head }) => heads.push(head.slice()) });
    feedInChunks(decoder, wal.bytes, [size]);
    for (const [index, record] of records.entries()) {
      const head = heads.at(index - records.length) ?? new Uint8Array(0);
      expect(head.byteLength).toBe(Math.min(64, record.totalBytes));
      expect(new DataView(head.buffer, head.byteOffset).getUint32(0, true)).toBe(record.totalBytes);
      expect(head[16]).toBe(record.info);
      // Whatever the rest is, it must be what lies in the WAL behind the page header in between.
      if (index === 1) {
        const at = Number(record.startLsn - START);
        expect(head).toEqual(wal.bytes.slice(at, at + 64));
      }
    }
    // The first record's header is torn after 16 bytes by a short page header.
    const torn = heads.at(-records.length);
    const expected = Buffer.concat([
      wal.bytes.subarray(PAGE - 16, PAGE),
      wal.bytes.subarray(PAGE + 24, PAGE + 24 + 13),
    ]);
    expect(Buffer.from(torn ?? [])).toEqual(expected);
  }
});

// Aim: a visitor that throws loses nothing. Method: throw at the first record, go on from the position that is told.
test("a visitor's error leaves the decoder behind the record", () => {
  const wal = build();
  wal.record({ body: 3 });
  wal.fillPageUpTo(0);
  wal.record();
  const starts: bigint[] = [];
  const boom = new Error("visitor");
  const decoder = new WalDecoder({
    ...wal.options,
    onRecord: (record) => {
      starts.push(copyOf(record).startLsn);
      throw boom;
    },
  });
  let at = 0;
  for (let i = 0; i < wal.records.length; i += 1) {
    expect(() => decoder.feed(wal.bytes.subarray(at))).toThrow(boom);
    expect(decoder.recordEndLsn).toBe(wal.records[i]?.endLsn);
    at = Number(decoder.nextLsn - START);
  }
  decoder.feed(wal.bytes.subarray(at));
  expect(starts).toEqual(wal.records.map((record) => record.startLsn));
});

// Aim: a record costs no memory, however long it says it is. Method: 300 MB of one record, the heap and buffers
// measured around it; and a length near the limit that never comes.
test("memory does not grow with a record", () => {
  const pages = 37_000;
  const wal = build();
  wal.pageHeaderIfDue(0);
  const record = wal.encode({ body: 100, rmid: 21 });
  const total = 40 + pages * (PAGE - 24);
  new DataView(record.buffer).setUint32(0, total, true);
  wal.raw(record);
  wal.raw(new Uint8Array(PAGE - wal.bytes.byteLength));
  const decoder = new WalDecoder(wal.options);
  decoder.feed(wal.bytes);
  let remaining = total - (PAGE - 40);
  const page = Buffer.alloc(PAGE);
  const before = process.memoryUsage();
  for (let i = 1; remaining > PAGE; i += 1) {
    const address = START + BigInt(i * PAGE);
    const long = address % BigInt(MIB) === 0n;
    page.fill(0, 0, 40);
    page.writeUInt16LE(0xd110, 0);
    page.writeUInt16LE(long ? 3 : 1, 2);
    page.writeUInt32LE(1, 4);
    page.writeBigUInt64LE(address, 8);
    page.writeUInt32LE(remaining, 16);
    if (long) {
      page.writeBigUInt64LE(wal.systemId, 24);
      page.writeUInt32LE(MIB, 32);
      page.writeUInt32LE(PAGE, 36);
    }
    decoder.feed(page);
    remaining -= PAGE - (long ? 40 : 24);
  }
  const after = process.memoryUsage();
  expect(decoder.nextLsn - START).toBeGreaterThan(300_000_000n);
  expect(decoder.partialRecordLsn).toBe(START + 40n);
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(1 << 20);
  expect(after.heapUsed - before.heapUsed).toBeLessThan(64 << 20);
});

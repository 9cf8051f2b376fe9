/** Page headers that are written for others to read, and the search for a page's first record. */
import { expect, test } from "vitest";
import {
  encodeFirstSegmentHeaders,
  encodePageHeader,
  findFirstRecordLsn,
  LONG_HEADER_BYTES,
  pageMagic,
  pgMajorOfMagic,
  SHORT_HEADER_BYTES,
} from "../src/index.js";
import { MIB, PAGE, WalBuilder } from "./wal-builder.js";
import { collecting, expectFailure, lsn, withoutDataEnd } from "./wal-reading.js";

const START = 3n * BigInt(MIB);
const STREAM = { pgMajor: 17, segmentBytes: MIB, systemId: 0x0102_0304_0506_0708n, timelineId: 9 };

// Aim: the numbers are PostgreSQL's. Method: the four magics written out, both ways, and their neighbours.
test("each known version has its magic, and no other number is one", () => {
  const magics = [15, 16, 17, 18].map((major) => pageMagic(major));
  expect(magics).toEqual([0xd110, 0xd113, 0xd116, 0xd118]);
  expect(magics.map((magic) => pgMajorOfMagic(magic))).toEqual([15, 16, 17, 18]);
  for (const magic of [0xd10d, 0xd111, 0xd119, 0]) expect(pgMajorOfMagic(magic)).toBeUndefined();
  for (const major of [14, 19]) expectFailure(() => pageMagic(major), "ERR_WAL_VERSION", 0n);
});

// Aim: headers have PostgreSQL's layout. Method: a long and a short one, byte for byte.
test("headers are laid out as PostgreSQL does", () => {
  const long = encodePageHeader({ ...STREAM, pageLsn: lsn(START), remainingBytes: 0x11223344 });
  expect(long.byteLength).toBe(LONG_HEADER_BYTES);
  // Magic, flags, timeline, address, remaining bytes and padding; system id, segment and block size.
  expect(Buffer.from(long).toString("hex")).toBe(
    "16d10300090000000000300000000000443322110000000008070605040302010000100000200000",
  );
  const short = encodePageHeader({ ...STREAM, pageLsn: lsn(START + BigInt(PAGE)), remainingBytes: 0 });
  expect(short.byteLength).toBe(SHORT_HEADER_BYTES);
  expect(Buffer.from(short).toString("hex")).toBe("16d100000900000000203000000000000000000000000000");
});

// Aim: nothing is written that could not be read back. Method: each field outside of its range.
test("a header field out of range is refused", () => {
  const good = { ...STREAM, pageLsn: lsn(START), remainingBytes: 0 };
  for (const bad of [
    { pageLsn: lsn(START + 8n) },
    { timelineId: 0 },
    { timelineId: 2 ** 32 },
    { remainingBytes: -1 },
    { remainingBytes: 2 ** 32 },
    { systemId: -1n },
    { systemId: 2n ** 64n },
    { segmentBytes: MIB + 1 },
  ]) {
    expect(() => encodePageHeader({ ...good, ...bad })).toThrow(RangeError);
  }
  expectFailure(() => encodePageHeader({ ...good, pgMajor: 14 }), "ERR_WAL_VERSION", 0n);
});

// Aim: WAL that begins in the middle of a segment is readable from the segment's start of its page on. Method: a first
// record at each kind of place, the made headers in front of it, then the search and a decoder from the page on.
test.each([
  ["behind the segment's header", 40, [0]],
  ["in the first page", 400, [0]],
  ["at a page's start", 3 * PAGE, [0]],
  ["behind a page's header", 3 * PAGE + 24, [0, 3 * PAGE]],
  ["in a later page", 3 * PAGE + 1024, [0, 3 * PAGE]],
  ["at a segment's start", 0, []],
] as const)("headers for WAL that begins %s lead to it", (_where, offset, places) => {
  const startLsn = lsn(START + BigInt(offset));
  const headers = encodeFirstSegmentHeaders(startLsn, STREAM);
  expect(headers.map(({ lsn: at }) => Number(at - START))).toEqual(places);
  const wal = new WalBuilder({ ...STREAM, pgMajor: 17, startLsn });
  wal.record({ body: 70, prevLsn: 8n });
  const file = new Uint8Array(MIB);
  file.set(wal.bytes, offset);
  for (const { lsn: at, header } of headers) file.set(header, Number(at - START));

  const page = offset - (offset % PAGE);
  const query = { ...STREAM, pageLsn: lsn(START + BigInt(page)) };
  expect(findFirstRecordLsn(query, file.subarray(page))).toBe(wal.records[0]?.startLsn);
  const { decoder, seen } = collecting({ ...query, startLsn: query.pageLsn, start: "anywhere" });
  decoder.feed(file.subarray(page, offset + wal.bytes.byteLength));
  expect(seen).toEqual(wal.records.map(withoutDataEnd));
  // Only a page that pretends to continue a record has the flag: without bytes PostgreSQL would refuse it.
  for (const { header } of headers)
    expect((header[2] ?? 0) & 1).toBe(header[16] === 0 && header[17] === 0 ? 0 : 1);
});

// Aim: no headers for a place where no record can start. Method: inside headers and off alignment.
test("headers are not made for a place inside a page header", () => {
  for (const offset of [8, 32, 44, PAGE + 8, PAGE + 16]) {
    expect(() => encodeFirstSegmentHeaders(lsn(START + BigInt(offset)), STREAM)).toThrow(RangeError);
  }
});

// Aim: the first record is found over any number of pages, or said to lie further on. Method: a record whose rest ends
// at, just before and just behind a page's end, as many pages given as needed and fewer.
test.each([-9, -8, -7, -1, 0, 1, 8, 9])(
  "the first record is found where a rest ends %i bytes off a page",
  (off) => {
    const wal = new WalBuilder({ startLsn: START });
    wal.pageHeaderIfDue(0);
    wal.record({ body: PAGE - 40 - 24 + 3 * (PAGE - 24) + off });
    const next = wal.record({ body: 5 });
    wal.fillPageUpTo(0);
    const query = { ...wal.options, pageLsn: lsn(START + BigInt(PAGE)) };
    const needed = Math.floor(Number(next.startLsn - START) / PAGE);
    expect(findFirstRecordLsn(query, wal.bytes.subarray(PAGE))).toBe(next.startLsn);
    expect(findFirstRecordLsn(query, wal.bytes.subarray(PAGE, (needed + 1) * PAGE))).toBe(next.startLsn);
    expect(findFirstRecordLsn(query, wal.bytes.subarray(PAGE, needed * PAGE))).toBeUndefined();
    expect(findFirstRecordLsn(query, wal.bytes.subarray(PAGE, PAGE + 20))).toBeUndefined();
  },
);

// Aim: an aborted record's rest ends where it is replaced. Method: three pages of it, then what replaces it.
test("the search ends at a page that replaces a record", () => {
  const wal = new WalBuilder({ startLsn: START });
  const replaced = wal.abortedRecord(3);
  const query = { ...wal.options, pageLsn: lsn(START + BigInt(PAGE)) };
  wal.fillPageUpTo(0);
  expect(findFirstRecordLsn(query, wal.bytes.subarray(PAGE))).toBe(replaced.startLsn);
});

// Aim: the search believes no header that a decoder would refuse. Method: a position inside a page, another page's
// bytes, another cluster, bytes missing of no record.
test("the search refuses pages that are not this WAL's", () => {
  const wal = new WalBuilder({ startLsn: START });
  wal.record({ body: 2 * PAGE });
  const query = { ...wal.options, pageLsn: lsn(START) };
  const find = (more: Partial<typeof query>): (() => void) => {
    return () => {
      findFirstRecordLsn({ ...query, ...more }, wal.bytes);
    };
  };
  expectFailure(find({ pageLsn: lsn(START + 8n) }), "ERR_WAL_START", START + 8n);
  expectFailure(find({ pageLsn: lsn(START + BigInt(MIB)) }), "ERR_WAL_PAGE_ADDRESS", START + BigInt(MIB));
  expectFailure(find({ systemId: 5n }), "ERR_WAL_SYSTEM_ID", START);
  expectFailure(find({ pgMajor: 18 }), "ERR_WAL_PAGE_MAGIC", START);
  wal.bytes[16] = 8;
  expectFailure(find({}), "ERR_WAL_CONTRECORD", START);
});

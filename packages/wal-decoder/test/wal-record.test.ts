/**
 * Structure of records: every kind of header item, every rule that a header can break, at its border. The checksums are
 * right throughout, as forged records' would be.
 */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RECORD_BYTES_MAX, WalDecodeError, WalDecoder, WalRecord } from "../src/index.js";
import { MIB, PAGE, WalBuilder } from "./wal-builder.js";
import { failureOf, feedInChunks, lsn } from "./wal-reading.js";

const START = 5n * BigInt(MIB);

/** What a test says of a block reference; what is left out is as PostgreSQL would have it. */
interface BlockSpec {
  readonly id: number;
  readonly flags?: number;
  readonly data?: Uint8Array;
  readonly dataBytes?: number;
  readonly relation?: readonly [number, number, number];
  readonly block?: number;
  readonly image?: {
    readonly bytes: Uint8Array;
    readonly holeOffset?: number;
    readonly flags: number;
    readonly holeBytes?: number;
  };
}

interface BodySpec {
  readonly blocks?: readonly BlockSpec[];
  readonly origin?: number;
  readonly topXid?: number;
  readonly main?: Uint8Array;
  readonly longMain?: boolean;
  readonly tail?: Uint8Array;
}

class Bytes {
  readonly list: number[] = [];

  u8(value: number): this {
    this.list.push(value & 255);
    return this;
  }

  u16(value: number): this {
    return this.u8(value).u8(value >> 8);
  }

  u32(value: number): this {
    return this.u16(value).u16(value >>> 16);
  }
}

/** A record's body, encoded without the decoder's help. */
function body(spec: BodySpec): Uint8Array {
  const head = new Bytes();
  const parts: Uint8Array[] = [];
  for (const [index, block] of (spec.blocks ?? []).entries()) {
    const { id, data, image, relation } = block;
    const flags = block.flags ?? (data === undefined ? 0 : 0x20) | (image === undefined ? 0 : 0x10);
    const same = relation === undefined && index > 0 && block.flags === undefined ? 0x80 : 0;
    head.u8(id).u8(flags | same);
    head.u16(block.dataBytes ?? data?.byteLength ?? 0);
    if (image !== undefined) {
      head
        .u16(image.bytes.byteLength)
        .u16(image.holeOffset ?? 0)
        .u8(image.flags);
      if (image.holeBytes !== undefined) head.u16(image.holeBytes);
      parts.push(image.bytes);
    }
    if ((flags & 0x80) === 0 && same === 0) for (const part of relation ?? [1663, 5, 16_384]) head.u32(part);
    head.u32(block.block ?? 7);
    if (data !== undefined) parts.push(data);
  }
  if (spec.origin !== undefined) head.u8(253).u16(spec.origin);
  if (spec.topXid !== undefined) head.u8(252).u32(spec.topXid);
  if (spec.main !== undefined) {
    if (spec.longMain ?? spec.main.byteLength > 255) head.u8(254).u32(spec.main.byteLength);
    else head.u8(255).u8(spec.main.byteLength);
    parts.push(spec.main);
  }
  return Buffer.concat([Uint8Array.from(head.list), ...parts, spec.tail ?? new Uint8Array(0)]);
}

/** Decodes one record with this body, as a decoder of the stream shows it. */
function decoded(bytes: Uint8Array, use: (record: WalRecord) => void): void {
  const wal = new WalBuilder({ startLsn: START });
  wal.record({ body: bytes, rmid: 10, xid: 77 });
  const record = new WalRecord(15);
  const decoder = new WalDecoder({
    ...wal.options,
    wholeRecords: true,
    onRecord: (visit) => use(record.decode(visit)),
  });
  decoder.feed(wal.bytes);
  expect(decoder.recordCount).toBe(1);
}

const noise = (count: number): Uint8Array => new WalBuilder({ startLsn: START }).noise(count);

// Aim: every item of a header is read, and the parts behind it are told apart. Method: one record with all of them.
test("references, origin, top-level transaction and main data are found", () => {
  const data = noise(9);
  const image = { bytes: noise(8092), holeOffset: 4000, flags: 0x03 };
  const main = noise(255);
  const spec: BodySpec = {
    blocks: [
      { id: 0, data, relation: [1663, 5, 16_400], block: 0xffff_fffe },
      { id: 2, flags: 0x10 | 0x80 | 2, image },
      { id: 32, flags: 0x40, relation: [1664, 0, 1262] },
    ],
    origin: 513,
    topXid: 0xdead_beef,
    main,
  };
  decoded(body(spec), (record) => {
    expect([record.xid, record.rmid, record.originId, record.topXid]).toEqual([77, 10, 513, 0xdead_beef]);
    expect(record.refs.map(({ id, fork, spc, db, rel, block }) => [id, fork, spc, db, rel, block])).toEqual([
      [0, 0, 1663, 5, 16_400, 0xffff_fffe],
      [2, 2, 1663, 5, 16_400, 7],
      [32, 0, 1664, 0, 1262, 7],
    ]);
    const [first, second, third] = record.refs;
    if (first === undefined || second === undefined || third === undefined) throw new Error("unreachable");
    expect(Buffer.from(record.dataOf(first))).toEqual(Buffer.from(data));
    expect(Buffer.from(record.imageOf(second))).toEqual(Buffer.from(image.bytes));
    expect([second.holeOffset, second.holeBytes, second.imageApplies, second.compression]).toEqual([
      4000,
      100,
      true,
      "none",
    ]);
    expect([first.willInit, third.willInit, third.hasImage]).toEqual([false, true, false]);
    expect(Buffer.from(record.main)).toEqual(Buffer.from(main));
    expect(record.ref(2)).toBe(second);
    expect(record.ref(1)).toBeUndefined();
    const end = START + 40n + BigInt(record.totalBytes) + 24n;
    expect([record.startLsn, record.endLsn]).toEqual([START + 40n, end + (-end & 7n)]);
  });
});

// Aim: the borders of what a header can say. Method: none, the shortest and the longest of each.
test.each([
  ["nothing at all", {}, 0, 0],
  ["main data of no bytes", { main: new Uint8Array(0) }, 0, 0],
  ["main data of 255 bytes, short", { main: noise(255) }, 0, 255],
  ["main data of 256 bytes, long", { main: noise(256) }, 0, 256],
  ["main data of 3 bytes, long all the same", { main: noise(3), longMain: true }, 0, 3],
  ["33 blocks", { blocks: Array.from({ length: 33 }, (_, id) => ({ id, data: noise(id + 1) })) }, 33, 0],
] as const)("a record with %s is decoded", (_what, spec, refs, main) => {
  decoded(body(spec), (record) => {
    expect([record.refs.length, record.mainBytes]).toEqual([refs, main]);
    for (const ref of record.refs) expect(ref.dataBytes).toBe(ref.id + 1);
  });
});

const plain = (bytes: number, holeOffset: number, flags: number, holeBytes?: number) => ({
  bytes: noise(bytes),
  holeOffset,
  flags,
  ...(holeBytes === undefined ? {} : { holeBytes }),
});

// Aim: a header that contradicts itself is refused, and with it the record. Method: each rule broken once.
test.each<[string, BodySpec]>([
  ["ids that repeat", { blocks: [{ id: 3 }, { id: 3 }] }],
  ["ids that descend", { blocks: [{ id: 3 }, { id: 2 }] }],
  ["an id between blocks and items", { blocks: [{ id: 33 }] }],
  ["another unknown item", { blocks: [{ id: 251 }] }],
  ["a fork that does not exist", { blocks: [{ id: 0, flags: 4 }] }],
  ["data and no flag for it", { blocks: [{ id: 0, flags: 0, data: noise(4) }] }],
  ["a flag for data and none", { blocks: [{ id: 0, flags: 0x20 }] }],
  ["the first block of the same relation", { blocks: [{ id: 0, flags: 0x80 }] }],
  ["a hole at offset 0", { blocks: [{ id: 0, image: plain(8000, 0, 1) }] }],
  ["a hole flag and a whole page", { blocks: [{ id: 0, image: plain(8192, 100, 1) }] }],
  ["a whole page with a hole's offset", { blocks: [{ id: 0, image: plain(8192, 100, 0) }] }],
  ["a short page without a hole", { blocks: [{ id: 0, image: plain(8000, 0, 0) }] }],
  ["a compressed hole of no bytes", { blocks: [{ id: 0, image: plain(50, 100, 5, 0) }] }],
  ["a compressed page as long as a page", { blocks: [{ id: 0, image: plain(8192, 0, 4) }] }],
  ["an image longer than a page", { blocks: [{ id: 0, image: plain(8200, 100, 1) }] }],
  ["an image of no bytes", { blocks: [{ id: 0, image: plain(0, 24, 1) }] }],
  ["a hole that ends beyond the page", { blocks: [{ id: 0, image: plain(50, 8000, 5, 300) }] }],
  ["data that end early", { blocks: [{ id: 0, flags: 0x20, dataBytes: 9, data: noise(3) }] }],
  ["bytes left over behind main data", { main: noise(4), tail: noise(1) }],
  ["a header that is cut off", { tail: Uint8Array.of(0, 0x20) }],
  ["main data longer than the record", { tail: Uint8Array.of(255, 200, 1) }],
])("a record with %s is refused", (_what, spec) => {
  const error = failureOf(() => decoded(body(spec), () => undefined));
  expect([error.code, error.lsn]).toEqual(["ERR_WAL_RECORD_STRUCTURE", START + 40n]);
});

// Aim: whole records do not depend on how the stream was cut. Method: records of any length over pages and segments, in
// chunks of any size; the bytes that a visitor sees against those that were built.
test("a visitor sees all bytes of a record however it came", () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.nat(300), fc.nat(3 * PAGE), fc.nat(40 * PAGE)), { minLength: 1, maxLength: 20 }),
      fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 2 * MIB })), {
        minLength: 1,
      }),
      fc.nat(20),
      (lengths, sizes, pagesBefore) => {
        const wal = new WalBuilder({ startLsn: START - BigInt(pagesBefore * PAGE) });
        const wanted: string[] = [];
        const copied: Uint8Array[] = [];
        for (const length of lengths) {
          const content = wal.noise(length);
          wal.record({ body: content });
          wanted.push(Buffer.from(content).toString("latin1"));
        }
        const decoder = new WalDecoder({
          ...wal.options,
          wholeRecords: true,
          onRecord: (visit) => {
            expect(visit.bytes.byteLength).toBe(visit.totalBytes);
            copied.push(Uint8Array.from(visit.bytes));
          },
        });
        feedInChunks(decoder, wal.bytes, sizes.length > 3 ? sizes : [...sizes, wal.bytes.byteLength]);
        expect(copied.map((bytes) => Buffer.from(bytes.subarray(24)).toString("latin1"))).toEqual(wanted);
      },
    ),
    { numRuns: 60 },
  );
});

// Aim: a length that lies costs no memory. Method: a record that claims a gigabyte, of which a few pages come.
test("memory follows what has arrived, not what a record claims", () => {
  const wal = new WalBuilder({ startLsn: START });
  wal.record({ body: 10 });
  const claimed = Buffer.alloc(24 + 3 * PAGE);
  claimed.writeUInt32LE(RECORD_BYTES_MAX, 0);
  claimed.writeBigUInt64LE(wal.records[0]?.startLsn ?? 0n, 8);
  claimed[17] = 10;
  const decoder = new WalDecoder({ ...wal.options, wholeRecords: true, onRecord: () => undefined });
  decoder.feed(wal.bytes);
  const before = process.memoryUsage().arrayBuffers;
  decoder.feed(claimed.subarray(0, wal.leftOnPage));
  expect(decoder.partialRecordLsn).toBe(wal.lsn);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1024 * 1024);
});

describe("a record that was copied", () => {
  // Aim: redo on another thread sees what a visitor sees. Method: the same record both ways.
  test("decodes to the same", () => {
    const bytes = body({ blocks: [{ id: 1, data: noise(50) }], main: noise(20) });
    decoded(bytes, (record) => {
      const copy = new WalRecord(15).decodeBytes(Uint8Array.from(record.bytes), record);
      expect(copy.refs).toEqual(
        record.refs.map((ref) =>
          Object.assign(Object.create(Object.getPrototypeOf(ref) as object) as object, ref, {
            dataAt: ref.dataAt - record.at,
            imageAt: ref.imageAt - record.at,
          }),
        ),
      );
      expect(Buffer.from(copy.main)).toEqual(Buffer.from(record.main));
      expect([copy.startLsn, copy.endLsn, copy.prevLsn]).toEqual([
        record.startLsn,
        record.endLsn,
        record.prevLsn,
      ]);
    });
  });

  test("of another length than it says is refused", () => {
    const position = { startLsn: lsn(START), endLsn: lsn(START + 64n) };
    const bytes = new WalBuilder({ startLsn: START }).encode({ body: 9 });
    for (const wrong of [
      new Uint8Array(0),
      bytes.subarray(0, 23),
      bytes.subarray(0, 32),
      Buffer.concat([bytes, bytes]),
    ]) {
      const error = failureOf(() => new WalRecord(15).decodeBytes(wrong, position));
      expect([error.code, error.lsn]).toEqual(["ERR_WAL_RECORD_LENGTH", START]);
    }
  });

  test("of an unknown version is refused", () => {
    expect(failureOf(() => new WalRecord(19)).code).toBe("ERR_WAL_VERSION");
  });
});

// Aim: without `wholeRecords` nobody takes the first 64 bytes for all. Method: ask.
test("bytes of a record that was not kept are not given", () => {
  const wal = new WalBuilder({ startLsn: START });
  wal.record({ body: 100 });
  const decoder = new WalDecoder({ ...wal.options, onRecord: (visit) => void visit.bytes });
  expect(() => decoder.feed(wal.bytes)).toThrow(RangeError);
});

// Aim: bytes from outside cause no other exception than WalDecodeError. Method: random bodies with right checksums.
test("random bodies are decoded or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200, size: "max" }), (bytes) => {
      try {
        decoded(bytes, (record) => {
          for (const ref of record.refs) expect(ref.imageAt + ref.imageBytes).toBeLessThanOrEqual(ref.dataAt);
          expect(record.mainAt + record.mainBytes).toBe(record.at + record.totalBytes);
        });
      } catch (error) {
        expect(error).toBeInstanceOf(WalDecodeError);
      }
    }),
    { numRuns: 3000 },
  );
});

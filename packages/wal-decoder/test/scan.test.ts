/**
 * The scanner finds the end that crash recovery needs, whatever state the files are in, and says why it is the end.
 */
import { expect, test } from "vitest";
import { SCAN_BLOCK_BYTES, scanWal } from "../src/index.js";
import type { WalEnd, WalScanOptions } from "../src/index.js";
import type { Lsn } from "@millrace/lsn";
import { MIB, PAGE, WalBuilder } from "./wal-builder.js";
import { copyOf, lsn, withoutDataEnd } from "./wal-reading.js";
import type { SeenRecord } from "./wal-reading.js";

const START = 9n * BigInt(MIB);

/** Segments in memory, each a buffer that may be short; reads are recorded. */
class Files {
  readonly segments = new Map<bigint, Uint8Array>();
  readonly reads: { readonly lsn: bigint; readonly bytes: number }[] = [];

  /** The builder's bytes, cut into segments of full size with zeros behind the end. */
  static of(wal: WalBuilder): Files {
    const files = new Files();
    for (let at = wal.startLsn; at < wal.lsn; at = (at / BigInt(MIB) + 1n) * BigInt(MIB)) {
      const segment = new Uint8Array(MIB);
      const from = Number(at - wal.startLsn);
      const inSegment = Number(at % BigInt(MIB));
      segment.set(wal.bytes.subarray(from, from + MIB - inSegment), inSegment);
      files.segments.set(at / BigInt(MIB), segment);
    }
    return files;
  }

  segmentOf(at: bigint): Uint8Array {
    const segment = this.segments.get(at / BigInt(MIB));
    if (segment === undefined) throw new Error("no such segment");
    return segment;
  }

  readonly read = (at: Lsn, target: Uint8Array): Promise<number> => {
    this.reads.push({ lsn: at, bytes: target.byteLength });
    const segment = this.segments.get(at / BigInt(MIB));
    if (segment === undefined) return Promise.resolve(0);
    const from = Number(at % BigInt(MIB));
    const part = segment.subarray(from, from + target.byteLength);
    target.set(part);
    return Promise.resolve(part.byteLength);
  };
}

async function scan(wal: WalBuilder, files: Files, more: Partial<WalScanOptions> = {}) {
  const seen: SeenRecord[] = [];
  const end: WalEnd = await scanWal({
    ...wal.options,
    read: files.read,
    onRecord: (record) => {
      seen.push(copyOf(record));
    },
    ...more,
  });
  expect(end.recordCount).toBe(seen.length);
  expect(seen).toEqual(wal.records.slice(0, seen.length).map(withoutDataEnd));
  expect(end.endLsn).toBe(seen.at(-1)?.endLsn ?? wal.startLsn);
  expect(end.lastRecordLsn).toBe(seen.at(-1)?.startLsn);
  return end;
}

/** Two and a half segments of records, the last of them behind a switch. */
function build(startLsn: bigint = START): WalBuilder {
  const wal = new WalBuilder({ startLsn });
  for (let i = 0; wal.lsn < startLsn + BigInt(MIB + 300_000); i += 1)
    wal.record({ body: (i * 997) % 20_000 });
  wal.switchSegment(0xee);
  for (let i = 0; i < 30; i += 1) wal.record({ body: (i * 997) % 20_000 });
  return wal;
}

// Aim: the whole of intact WAL is found, and reads are what direct I/O allows. Method: segments with zeros behind the
// end, a start inside a block; every read's place and size is looked at.
test.each([SCAN_BLOCK_BYTES, MIB])(
  "WAL is read to its end in aligned blocks of %i bytes",
  async (blockBytes) => {
    const wal = build(START + 40n);
    // The page header that a start behind it never sees.
    const files = Files.of(wal);
    const end = await scan(wal, files, { buffer: new Uint8Array(blockBytes) });
    expect(end).toMatchObject({ endLsn: wal.lsn, reason: "zeros", timelineId: 1 });
    expect(end.recordCount).toBe(wal.records.length);
    for (const read of files.reads) {
      expect(read.bytes).toBe(blockBytes);
      expect(read.lsn % BigInt(blockBytes)).toBe(0n);
    }
    // Behind the switch nothing was read up to the next segment.
    const switched = wal.records.find(({ info, rmid }) => rmid === 0 && info === 0x40);
    const skipped = files.reads.filter(
      ({ lsn: at }) => at > (switched?.dataEndLsn ?? 0n) && at < (switched?.endLsn ?? 0n),
    );
    expect(skipped).toEqual([]);
  },
);

// Aim: a missing or short file is an end and no error. Method: segments taken away or cut at several places; the end is
// the last record that lies wholly before the cut.
test.each([0, 1, 39, 40, 41, PAGE, 100_000, SCAN_BLOCK_BYTES, SCAN_BLOCK_BYTES + 77, 700_001])(
  "a segment that is cut after %i bytes ends the WAL",
  async (bytes) => {
    const wal = build();
    const files = Files.of(wal);
    const cut = START + BigInt(MIB + bytes);
    if (bytes === 0) files.segments.delete(cut / BigInt(MIB));
    else files.segments.set(cut / BigInt(MIB), files.segmentOf(cut).slice(0, bytes));
    const whole = wal.records.filter(({ dataEndLsn }) => dataEndLsn <= cut).length;
    const end = await scan(wal, files);
    if (bytes < 300_000) {
      expect(end).toMatchObject({ recordCount: whole, reason: "end-of-data", error: undefined });
    } else {
      // The switch was read, so that the rest of its segment is not missed.
      expect(end).toMatchObject({ endLsn: wal.lsn, recordCount: wal.records.length, reason: "zeros" });
    }
  },
);

// Aim: old WAL of a recycled segment is not taken for new. Method: the last segments hold the first one's bytes; a page
// inside a segment holds an older page.
test("pages of another position end the WAL as recycled", async () => {
  const wal = build();
  const files = Files.of(wal);
  const old = files.segmentOf(START);
  files.segments.set((START + BigInt(MIB)) / BigInt(MIB), old);
  const end = await scan(wal, files);
  expect(end.reason).toBe("recycled");
  expect(end.error?.lsn).toBe(START + BigInt(MIB));
  expect(end.recordCount).toBe(
    wal.records.filter(({ dataEndLsn }) => dataEndLsn <= START + BigInt(MIB)).length,
  );

  const inside = Files.of(wal);
  const page = 50 * PAGE;
  const segment = inside.segmentOf(START);
  segment.set(segment.slice(PAGE, 2 * PAGE), page);
  expect(await scan(wal, inside)).toMatchObject({
    reason: "recycled",
    recordCount: wal.records.filter(({ dataEndLsn }) => dataEndLsn <= START + BigInt(page)).length,
  });
});

// Aim: what was never written is told from what is damaged. Method: zeros from a record's start, from inside a record
// and from a page's start on; a flipped bit.
test("zeros where something should begin are zeros, and anything else is invalid", async () => {
  const wal = build();
  const index = wal.records.findIndex(({ startLsn }) => startLsn > START + 400_000n);
  const target = wal.records[index];
  if (target === undefined) throw new Error("too little WAL");
  const at = Number(target.startLsn - START);

  const hole = Files.of(wal);
  hole.segmentOf(START).fill(0, at);
  expect(await scan(wal, hole)).toMatchObject({ reason: "zeros", recordCount: index });

  const torn = Files.of(wal);
  const nextPage = (Math.floor(at / PAGE) + 1) * PAGE;
  torn.segmentOf(START).fill(0, nextPage);
  expect(await scan(wal, torn)).toMatchObject({ reason: "zeros" });

  const damaged = Files.of(wal);
  const segment = damaged.segmentOf(START);
  segment[at + 21] = (segment[at + 21] ?? 0) ^ 4;
  const end = await scan(wal, damaged);
  expect(end).toMatchObject({ reason: "invalid", recordCount: index });
  expect(end.error).toMatchObject({ code: "ERR_WAL_RECORD_CRC", lsn: target.startLsn });

  const short = Files.of(wal);
  short.segmentOf(START).set([23, 0, 0, 0], at);
  expect(await scan(wal, short)).toMatchObject({ reason: "invalid", recordCount: index });
});

// Aim: a switch at the end of what exists leads into a segment that does not. Method: WAL that ends with a switch, the
// rest of its file missing.
test("after a switch the end is the next segment's start, even if nothing is there", async () => {
  const wal = new WalBuilder({ startLsn: START });
  wal.record({ body: 10 });
  const switched = wal.switchSegment();
  const files = Files.of(wal);
  const bytes = Number(switched.dataEndLsn - START);
  files.segments.set(START / BigInt(MIB), files.segmentOf(START).slice(0, bytes));
  const end = await scan(wal, files);
  expect(end).toMatchObject({ endLsn: START + BigInt(MIB), reason: "end-of-data", error: undefined });
});

// Aim: nothing at all gives the start. Method: no files; and a start in the middle of a segment of zeros.
test("without a record the end is the start", async () => {
  const wal = new WalBuilder({ startLsn: START });
  expect(await scan(wal, new Files())).toMatchObject({ endLsn: START, reason: "end-of-data", timelineId: 0 });
  const files = new Files();
  files.segments.set(START / BigInt(MIB), new Uint8Array(MIB));
  const startLsn = lsn(START + 80_000n);
  const end = await scanWal({ ...wal.options, startLsn, read: files.read });
  expect(end).toMatchObject({ endLsn: startLsn, reason: "zeros", recordCount: 0 });
});

// Aim: failures that are not about the WAL pass through, arguments are checked before anything is read. Method: a read
// that rejects or lies, an aborted signal, a visitor that throws, bad buffers and starts.
test("errors of the caller's functions and arguments are thrown", async () => {
  const wal = build();
  const files = Files.of(wal);
  const broken = new Error("EIO");
  const scanWith = (more: Partial<WalScanOptions>): Promise<WalEnd> =>
    scanWal({ ...wal.options, read: files.read, ...more });
  await expect(scanWith({ read: () => Promise.reject(broken) })).rejects.toBe(broken);
  await expect(scanWith({ onRecord: () => { throw broken; } })).rejects.toBe(broken); // prettier-ignore
  await expect(scanWith({ signal: AbortSignal.abort(broken) })).rejects.toBe(broken);
  for (const count of [-1, 1.5, SCAN_BLOCK_BYTES + 1, NaN]) {
    await expect(scanWith({ read: () => Promise.resolve(count) })).rejects.toThrow(RangeError);
  }
  files.reads.length = 0;
  for (const bytes of [0, SCAN_BLOCK_BYTES / 2, SCAN_BLOCK_BYTES + PAGE, 2 * MIB]) {
    await expect(scanWith({ buffer: new Uint8Array(bytes) })).rejects.toThrow(RangeError);
  }
  await expect(scanWith({ startLsn: lsn(START + 8n) })).rejects.toMatchObject({ code: "ERR_WAL_START" });
  await expect(scanWith({ pgMajor: 14 })).rejects.toMatchObject({ code: "ERR_WAL_VERSION" });
  expect(files.reads).toEqual([]);
});

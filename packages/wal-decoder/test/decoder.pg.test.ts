/**
 * Agreement with PostgreSQL itself: WAL that real servers wrote under a mixed workload, compared record by record with
 * what pg_walinspect and pg_waldump see in it.
 */
import { mkdir, open, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  blockOffset,
  formatLsn,
  segmentFileName,
  segmentNumber,
  segmentOffset,
  segmentStart,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { temporaryDirectory } from "@millrace/postgres-process";
import { describe, expect, test } from "vitest";
import { encodeFirstSegmentHeaders, findFirstRecordLsn, scanWal } from "../src/index.js";
import type { WalDecoderOptions } from "../src/index.js";
import { MIB, PAGE } from "./wal-builder.js";
import { collecting, feedInChunks, lsn } from "./wal-reading.js";
import type { SeenRecord } from "./wal-reading.js";
import { WalSource } from "./postgres-wal.js";

const kinds = [
  ["system", "1 MiB", MIB],
  ["system", "16 MiB", 16 * MIB],
  ["embedded", "1 MiB", MIB],
  ["embedded", "16 MiB", 16 * MIB],
] as const;

/** A byte at a time takes long; a few segments of it show what there is to see. */
const SINGLE_BYTES = 2 * MIB;

function inspected({ info: _info, ...record }: SeenRecord): Omit<SeenRecord, "info"> {
  return record;
}

function dumped({
  info: _info,
  endLsn: _endLsn,
  ...record
}: SeenRecord): Omit<SeenRecord, "info" | "endLsn"> {
  return record;
}

/** The system id that a segment's first page has. */
function systemIdOf(bytes: Uint8Array): bigint {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).readBigUInt64LE(24);
}

/** Reads segment files as crash recovery would. */
function fileReader(source: WalSource): (at: Lsn, target: Uint8Array) => Promise<number> {
  return async (at, target) => {
    const name = segmentFileName(1, segmentNumber(at, source.segmentBytes), source.segmentBytes);
    try {
      await using file = await openForReading(join(source.walDirectory, name));
      return await file.read(target, segmentOffset(at, source.segmentBytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return 0;
      throw error;
    }
  };
}

async function openForReading(path: string) {
  const handle = await open(path, "r");
  return {
    read: async (target: Uint8Array, offset: number): Promise<number> =>
      (await handle.read(target, 0, target.byteLength, offset)).bytesRead,
    [Symbol.asyncDispose]: async (): Promise<void> => {
      await handle.close();
    },
  };
}

// Aim: boundaries are PostgreSQL's. Method: a mixed workload; every record with its start, end, predecessor,
// transaction, manager and length against pg_walinspect and pg_waldump, in several chunkings, and through the scanner.
describe.each(kinds)("WAL of the %s PostgreSQL in segments of %s", (which, _size, segmentBytes) => {
  const reason = WalSource.whyNot(which);
  test.skipIf(reason !== "")(
    `agrees record by record with PostgreSQL's readers${reason === "" ? "" : ` (${reason})`}`,
    async () => {
      await using source = await WalSource.open(which, segmentBytes);
      await source.sql("CREATE EXTENSION pg_walinspect");
      await source.runMixedWorkload();
      const endLsn = await source.flushLsn();
      const { startLsn, bytes } = await source.wal(endLsn);
      const { pgMajor } = source;
      const systemId = systemIdOf(bytes);
      const options: WalDecoderOptions = { startLsn, segmentBytes, pgMajor, systemId, start: "anywhere" };

      const truth = await source.inspect(formatLsn(startLsn), formatLsn(endLsn));
      const { decoder, seen } = collecting(options);
      feedInChunks(decoder, bytes, [131_072]);
      expect(seen.map(inspected)).toEqual(truth);
      expect(decoder.recordEndLsn).toBe(endLsn);
      expect(decoder.takeTransactionEnd()).toBe(true);

      // The workload did what it is for: long records, switches, all the managers that decide something.
      expect(truth.some(({ totalBytes }) => totalBytes > 3_000_000)).toBe(true);
      expect(seen.filter(({ rmid, info }) => rmid === 0 && info === 0x40).length).toBeGreaterThanOrEqual(2);
      expect(truth.length).toBeGreaterThan(3000);

      for (const sizes of [[PAGE - 1, 1, 24], [PAGE], [100_000, 3], [bytes.byteLength]]) {
        const again = collecting(options);
        feedInChunks(again.decoder, bytes, sizes);
        expect(again.seen).toEqual(seen);
      }
      const single = collecting(options);
      feedInChunks(single.decoder, bytes.subarray(0, SINGLE_BYTES), [1]);
      feedInChunks(single.decoder, bytes.subarray(SINGLE_BYTES), [bytes.byteLength]);
      expect(single.seen).toEqual(seen);

      const scanned = await scanWal({ ...options, read: fileReader(source) });
      expect(scanned.endLsn).toBeGreaterThanOrEqual(endLsn);
      expect(["zeros", "recycled", "end-of-data"]).toContain(scanned.reason);

      const pages = { pageLsn: startLsn, segmentBytes, pgMajor, systemId };
      const first = formatLsn(findFirstRecordLsn(pages, bytes) ?? startLsn);
      const dump = await source.dump("-p", source.walDirectory, "-s", first, "-e", formatLsn(endLsn));
      if (dump !== undefined) expect(seen.map(dumped)).toEqual(dump);
      expectEveryPageToFindItsFirstRecord(source, seen, bytes, startLsn);
    },
    60_000,
  );
});

// Every page of some segments, also those in the middle of a long record: the first record at or after it.
function expectEveryPageToFindItsFirstRecord(
  source: WalSource,
  seen: readonly SeenRecord[],
  bytes: Uint8Array,
  startLsn: Lsn,
): void {
  const { pgMajor, segmentBytes } = source;
  const switched = seen.find(({ rmid, info }) => rmid === 0 && info === 0x40);
  const stop = Math.min(bytes.byteLength - PAGE, Number((switched?.startLsn ?? startLsn) - startLsn) - PAGE);
  let index = 0;
  for (let at = 0; at < stop; at += PAGE) {
    const pageLsn = lsn(startLsn + BigInt(at));
    while ((seen[index]?.startLsn ?? 2n ** 64n) < pageLsn) index += 1;
    const found = findFirstRecordLsn({ pageLsn, segmentBytes, pgMajor }, bytes.subarray(at));
    if (found !== seen[index]?.startLsn)
      expect({ pageLsn, found }).toEqual({ pageLsn, found: seen[index]?.startLsn });
  }
  expect(index).toBeGreaterThan(100);
}

// Aim: a record that a crash cut off is replaced as PostgreSQL does it. Method: a message of several segments, an
// immediate stop, the later segments deleted, restart; the WAL then goes on in the page that was to continue it.
describe.each(kinds.filter(([, , segmentBytes]) => segmentBytes === MIB))(
  "WAL of the %s PostgreSQL in segments of %s after a crash",
  (which, _size, segmentBytes) => {
    const reason = WalSource.whyNot(which);
    test.skipIf(reason !== "")(
      `with a record cut off is read through${reason === "" ? "" : ` (${reason})`}`,
      async () => {
        await using source = await WalSource.open(which, segmentBytes);
        await source.sql("CREATE EXTENSION pg_walinspect", "CHECKPOINT", "SELECT pg_switch_wal()");
        await source.sql("CREATE TABLE before_crash ()");
        const text = await source.sql("SELECT pg_current_wal_insert_lsn()");
        const [high = "", low = ""] = text.trim().split("/");
        const aborted = (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
        await source.sql("SELECT pg_logical_emit_message(true, 'test', repeat('c', 2500000))");
        await source.cluster.stop("immediate");
        for (const name of await source.segments()) {
          if (source.startOf(name) > aborted) await rm(join(source.walDirectory, name));
        }
        await source.cluster.start();
        await source.sql("CREATE TABLE after_crash AS SELECT generate_series(1, 100) AS n");
        const endLsn = await source.flushLsn();
        const { startLsn, bytes } = await source.wal(endLsn);
        const { pgMajor } = source;
        const options: WalDecoderOptions = { startLsn, segmentBytes, pgMajor, start: "anywhere" };
        const truth = await source.inspect(formatLsn(startLsn), formatLsn(endLsn));
        for (const sizes of [[bytes.byteLength], [4099]]) {
          const { decoder, seen } = collecting(options);
          feedInChunks(decoder, bytes, sizes);
          expect(seen.map(inspected)).toEqual(truth);
          expect(decoder.recordEndLsn).toBe(endLsn);
          const replaced = seen.filter(({ rmid, info }) => rmid === 0 && info === 0xd0);
          expect(replaced.length).toBe(1);
          // It stands at the start of the first segment that was lost, and the message is in no list.
          const [{ startLsn: at, prevLsn } = { startLsn: 0n, prevLsn: 0n }] = replaced;
          const lost = segmentNumber(lsn(aborted), segmentBytes) + 1n;
          expect(at).toBe(segmentStart(lost, segmentBytes) + 40n);
          expect(prevLsn).toBeLessThan(aborted);
          expect(seen.some(({ totalBytes }) => totalBytes > 2_000_000)).toBe(false);
        }
      },
      60_000,
    );
  },
);

// Aim: a segment whose WAL begins in the middle is readable by PostgreSQL's tools. Method: real segments with everything
// before a record wiped out and the made headers put in its place; pg_waldump must begin at that record.
describe.each(kinds.filter(([which]) => which === "system"))(
  "with made headers, WAL of the %s PostgreSQL in a first segment of %s",
  (which, _size, segmentBytes) => {
    const reason = WalSource.whyNot(which);
    test.skipIf(reason !== "")(
      `is read by pg_waldump from its first record on${reason === "" ? "" : ` (${reason})`}`,
      async () => {
        await using source = await WalSource.open(which, segmentBytes);
        await source.sql(
          "CREATE TABLE t AS SELECT generate_series(1, 3000) AS n, repeat('x', 50) AS text",
          "SELECT pg_switch_wal()",
          "INSERT INTO t SELECT * FROM t",
        );
        const endLsn = await source.flushLsn();
        const segmentLsn = segmentStart(segmentNumber(endLsn, segmentBytes), segmentBytes);
        const name = segmentFileName(1, segmentNumber(endLsn, segmentBytes), segmentBytes);
        const whole = await readFile(join(source.walDirectory, name));
        const { pgMajor } = source;
        const { decoder, seen } = collecting({
          startLsn: segmentLsn,
          segmentBytes,
          pgMajor,
          start: "anywhere",
        });
        decoder.feed(whole.subarray(0, Number(endLsn - segmentLsn)));
        const inFirstPage = seen.filter(({ startLsn }) => startLsn < segmentLsn + BigInt(PAGE))[3];
        const later = seen.find(
          ({ startLsn }) => startLsn > segmentLsn + BigInt(3 * PAGE) && blockOffset(lsn(startLsn)) > 500,
        );
        const behindHeader = seen.find(
          ({ startLsn }) => startLsn > segmentLsn + 40n && blockOffset(lsn(startLsn)) === 24,
        );
        const chosen = [seen[0], inFirstPage, later, behindHeader].filter((record) => record !== undefined);
        expect(chosen.length).toBeGreaterThanOrEqual(3);
        await using directory = await temporaryDirectory("millrace-wal-");
        for (const [index, record] of chosen.entries()) {
          const at = Number(record.startLsn - segmentLsn);
          const made = Buffer.from(whole);
          made.fill(0, 0, at);
          const stream = { pgMajor, segmentBytes, systemId: systemIdOf(whole), timelineId: 1 };
          for (const { lsn: where, header } of encodeFirstSegmentHeaders(lsn(record.startLsn), stream)) {
            made.set(header, Number(where - segmentLsn));
          }
          const path = join(directory.path, String(index));
          await mkdir(path, { mode: 0o755 });
          await writeFile(join(path, name), made, { mode: 0o644 });
          const dump = await source.dump(
            "-p",
            path,
            "-s",
            formatLsn(lsn(record.startLsn)),
            "-e",
            formatLsn(endLsn),
          );
          expect(dump).toEqual(seen.filter(({ startLsn }) => startLsn >= record.startLsn).map(dumped));
        }
      },
      60_000,
    );
  },
);

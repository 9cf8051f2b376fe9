/**
 * WAL in which a crash of PostgreSQL cut a record off: the server comes back, writes over the page that was to continue
 * it and says so there. An acceptor that followed has the beginning of a record that will never be whole.
 */
import { crc32c } from "@millrace/checksums";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";

import { openDiskWalStore } from "../src/disk-wal-store.js";
import { createMemoryControlStore } from "../src/memory-control-store.js";
import { MemoryWalDisk } from "../src/memory-wal-disk.js";
import { createMemoryWalStore } from "../src/memory-wal-store.js";
import type { WalStore } from "../src/wal-store.js";
import { at, codeOf, expectSameBytes, freshState, SYSTEM_ID } from "./fixtures.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { MIB, PAGE, WalStream } from "./wal-stream.js";

const DIRECTORY = "/data/timeline";
const BASE = 0x3000000n;
const RECORD_BYTES = 24 + 18;
const PADDED_BYTES = 48;

interface Aborted {
  readonly startLsn: Lsn;
  /** Start of the last record before the one that was cut off. */
  readonly prevLsn: Lsn;
  /** Its end, where the one that was cut off begins. */
  readonly goodLsn: Lsn;
  /** The page where the record should have gone on. */
  readonly pageLsn: Lsn;
  /** End of the record that takes its place. */
  readonly endLsn: Lsn;
  readonly bytes: Uint8Array;
}

/** The record that PostgreSQL writes in place of an aborted one (info 0xD0): it names the start of that one. */
function replacement(abortedLsn: bigint, prevLsn: bigint): Uint8Array {
  const record = new Uint8Array(PADDED_BYTES);
  const view = new DataView(record.buffer);
  view.setUint32(0, RECORD_BYTES, true);
  view.setBigUint64(8, prevLsn, true);
  record[16] = 0xd0;
  record.set([255, 16], 24); // main data of 16 bytes
  view.setBigUint64(26, abortedLsn, true);
  const whole = record.subarray(0, RECORD_BYTES);
  view.setUint32(20, crc32c(whole.subarray(0, 20), crc32c(whole.subarray(24))), true);
  return record;
}

/** Its page: the flag for it beside the one that is set nearly everywhere, and nothing that continues. */
function overwrittenPage(pageLsn: bigint): Uint8Array {
  const first = pageLsn % BigInt(MIB) === 0n;
  const page = new Uint8Array(first ? 40 : 24);
  const view = new DataView(page.buffer);
  view.setUint16(0, 0xd110, true);
  view.setUint16(2, 0x0c | (first ? 2 : 0), true);
  view.setUint32(4, 1, true);
  view.setBigUint64(8, pageLsn, true);
  if (first) {
    view.setBigUint64(24, SYSTEM_ID, true);
    view.setUint32(32, MIB, true);
    view.setUint32(36, PAGE, true);
  }
  return page;
}

/** Two records, and the surviving pages of a third; then its replacement. */
function aborted(startLsn: bigint, survivingPages: number): Aborted {
  const stream = new WalStream({ startLsn }).record(100).record(200);
  const [, second, goodLsn] = stream.boundaries as [Lsn, Lsn, Lsn];
  stream.record(survivingPages * PAGE + 3 * PAGE);
  const pageLsn = at(goodLsn - (goodLsn % BigInt(PAGE)) + BigInt(survivingPages * PAGE));
  const header = overwrittenPage(pageLsn);
  const bytes = Buffer.concat([stream.slice(startLsn, pageLsn), header, replacement(goodLsn, second)]);
  const endLsn = at(pageLsn + BigInt(header.byteLength + PADDED_BYTES));
  return { startLsn: stream.startLsn, prevLsn: second, goodLsn, pageLsn, endLsn, bytes };
}

interface Node {
  open(): Promise<WalStore>;
}

function diskNode(startLsn: Lsn): Node {
  const fileSystem = new MemoryFileSystem(DIRECTORY);
  const control = createMemoryControlStore(freshState({ startLsn }));
  return {
    open: () => {
      fileSystem.crash(() => 0);
      return openDiskWalStore({ directory: DIRECTORY, fileSystem: fileSystem.face, control });
    },
  };
}

function memoryNode(startLsn: Lsn): Node {
  const disk = new MemoryWalDisk();
  const control = createMemoryControlStore(freshState({ startLsn }));
  return {
    open: () => {
      disk.crash(() => 0);
      return Promise.resolve(createMemoryWalStore({ control, disk }));
    },
  };
}

const stores = [
  ["disk", diskNode],
  ["memory", memoryNode],
] as const;
const places = [
  ["inside a segment", BASE + 0x88n, 1],
  ["after several pages", BASE + 0x88n, 5],
  ["at a segment's border", BASE + BigInt(MIB - 2 * PAGE) + 0x88n, 2],
] as const;
const cases = stores.flatMap(([store, make]) =>
  places.map(([where, startLsn, pages]) => ({ store, make, where, startLsn, pages })),
);

// Aim: what was cut off is never acknowledged, what replaces it is, and the end jumps over the rest. Method: the WAL in
// pieces of several sizes, synced after the part that survived and at the end; then a power cut and a recovery.
test.each(cases)("$store: a record cut off $where is jumped over", async ({ make, startLsn, pages }) => {
  const wal = aborted(startLsn, pages);
  for (const size of [wal.bytes.byteLength, 4099, 8]) {
    const node = make(wal.startLsn);
    const store = await node.open();
    await store.initFirstSegment(wal.startLsn);
    await store.truncate(wal.startLsn);
    const write = async (untilLsn: Lsn): Promise<void> => {
      while (store.writeLsn < untilLsn) {
        const from = Number(store.writeLsn - wal.startLsn);
        const until = Math.min(from + size, Number(untilLsn - wal.startLsn));
        await store.write(store.writeLsn, [wal.bytes.subarray(from, until)]);
      }
    };
    await write(wal.pageLsn);
    await store.flush();
    expect([store.writeRecordLsn, store.flushLsn]).toEqual([wal.goodLsn, wal.goodLsn]);
    await write(wal.endLsn);
    await store.flush();
    expect([store.writeLsn, store.writeRecordLsn, store.flushLsn]).toEqual([
      wal.endLsn,
      wal.endLsn,
      wal.endLsn,
    ]);
    const found = await node.open();
    expect(found.flushLsn).toBe(wal.endLsn);
    await using reader = found.openReader(wal.startLsn);
    const stored = new Uint8Array(wal.bytes.byteLength);
    for (let filled = 0; filled < stored.byteLength;) {
      const count = await reader.read(stored.subarray(filled));
      expect(count).toBeGreaterThan(0);
      filled += count;
    }
    expectSameBytes(stored, wal.bytes);
  }
});

// Aim: only the aborted record may be written over. Method: the replacement names another position, or the page goes on
// with a record as if nothing had been begun; neither may move the end.
test.each(stores)("%s: a page that drops a record without naming it is refused", async (_store, make) => {
  const wal = aborted(BASE + 0x88n, 1);
  const at0 = Number(wal.pageLsn - wal.startLsn);
  const wrongName = wal.bytes.slice();
  wrongName.set(replacement(wal.goodLsn + 8n, wal.prevLsn), at0 + 24);
  const silent = wal.bytes.slice();
  silent[at0 + 2] = 0x04;
  for (const bytes of [wrongName, silent]) {
    const store = await make(wal.startLsn).open();
    await store.initFirstSegment(wal.startLsn);
    await store.truncate(wal.startLsn);
    expect(await codeOf(store.write(wal.startLsn, [bytes]))).toBe("ERR_ACCEPTOR_WAL_INVALID");
    await store.flush();
    expect(store.flushLsn <= wal.goodLsn).toBe(true);
  }
});

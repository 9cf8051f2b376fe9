import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { constants } from "node:fs";
import { expect, test } from "vitest";
import type { ControlStore } from "../src/control-store.js";
import { createDiskControlFile, openDiskControlStore } from "../src/disk-control-store.js";
import { openDiskWalStore } from "../src/disk-wal-store.js";
import type { WalStore } from "../src/wal-store.js";
import { at, codeOf, freshState, seededRandom } from "./fixtures.js";
import { MemoryFileSystem, systemError } from "./memory-file-system.js";
import type { Call } from "./memory-file-system.js";
import { MIB, WalStream } from "./wal-stream.js";

const DIRECTORY = "/data/timeline";
const BASE = 0x3000000n;

interface Life {
  readonly control: ControlStore;
  readonly wal: WalStore;
}

async function openNode(fileSystem: MemoryFileSystem): Promise<Life> {
  const options = { directory: DIRECTORY, fileSystem: fileSystem.face };
  const control = await openDiskControlStore(options);
  return { control, wal: await openDiskWalStore({ ...options, control }) };
}

async function newNode(startLsn: Lsn): Promise<MemoryFileSystem> {
  const fileSystem = new MemoryFileSystem(DIRECTORY);
  const state = freshState({ startLsn });
  await createDiskControlFile({ directory: DIRECTORY, fileSystem: fileSystem.face, state });
  return fileSystem;
}

async function contents(wal: WalStore, from: Lsn, to: Lsn): Promise<Uint8Array> {
  await using reader = wal.openReader(from);
  const bytes = new Uint8Array(Number(to - from));
  for (let filled = 0; filled < bytes.byteLength;) filled += await reader.read(bytes.subarray(filled));
  return bytes;
}

/** Resolves when nothing is done in the background any more: so long a removal waits, even one of nothing. */
async function settled(wal: WalStore): Promise<void> {
  await wal.removeUpTo(0n);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** What may be found after the crash of a node. */
interface Expected {
  /** The log must reach at least here. */
  acked: Lsn;
  /** And be a prefix of one of these. */
  streams: readonly WalStream[];
}

async function checkRecovered(wal: WalStore, expected: Expected, where: string): Promise<WalStream> {
  const end = wal.flushLsn;
  if (end < expected.acked)
    throw new Error(`${where}: acked ${formatLsn(expected.acked)}, found ${formatLsn(end)}`);
  const start = expected.streams[0]?.startLsn ?? end;
  const found = await contents(wal, start, end);
  for (const stream of expected.streams) {
    if (stream.endLsn >= end && sameBytes(found, stream.slice(start, end))) return stream;
  }
  throw new Error(`${where}: the log up to ${formatLsn(end)} is nobody's`);
}

/** One life of a node: truncate as an election would, then write, flush and commit until it is killed or done. */
async function live(
  life: Life,
  stream: WalStream,
  expected: Expected,
  random: () => number,
  mark: number,
): Promise<void> {
  const { wal, control } = life;
  const commitLsn = control.get().commitLsn;
  const candidates = stream.boundaries.filter((lsn) => lsn >= commitLsn && lsn <= wal.flushLsn);
  const cut =
    (random() < 0.5 ? candidates.at(-1) : candidates[Math.floor(random() * candidates.length)]) ?? commitLsn;
  const next = stream.fork(cut, mark);
  expected.acked = cut < expected.acked ? cut : expected.acked;
  expected.streams = [next, stream];
  if (cut === next.startLsn) await wal.initFirstSegment(cut);
  await wal.truncate(cut);
  expected.acked = wal.flushLsn;
  expected.streams = [next];
  for (let step = 0; step < 12; step += 1) {
    const draw = random();
    if (draw < 0.55) {
      if (random() < 0.06) next.switchSegment();
      while (next.endLsn < wal.writeLsn + 30_000n) next.record(Math.floor(random() ** 4 * 250_000));
      // Most are collected until a flush; the long ones go out before.
      const bytesMax = random() < 0.4 ? 6000 : 400_000;
      const bytes = Math.min(Number(next.endLsn - wal.writeLsn), Math.floor(random() * bytesMax));
      const end = at(wal.writeLsn + BigInt(bytes));
      const all = next.slice(wal.writeLsn, end);
      const half = Math.floor(random() * all.byteLength);
      await wal.write(wal.writeLsn, [all.subarray(0, half), all.subarray(half)]);
    } else if (draw < 0.9) {
      await wal.flush();
    } else {
      await control.persist({ ...control.get(), commitLsn: next.boundaryBefore(wal.flushLsn) });
    }
    expected.acked = wal.flushLsn;
  }
}

// Aim: whatever was acknowledged survives any power cut, and nothing is found that was not written there. Method:
// nodes that are killed at a random system call, lose a random subset of what was unsynced, restart and go on,
// some hundred seeds, on disks with and without O_DSYNC and direct I/O; every truncation is followed by different WAL.
test("a flushed position is never lost over power cuts at random calls", { timeout: 240_000 }, async () => {
  let crashedInTruncation = 0;
  for (let seed = 0; seed < 250; seed += 1) {
    const random = seededRandom(seed);
    let stream = new WalStream({ startLsn: at(BASE + BigInt(MIB) - 0x20000n + 0x100n) });
    const fileSystem = await newNode(stream.startLsn);
    fileSystem.refusedFlags = [0, constants.O_DSYNC, constants.O_DIRECT][seed % 3] ?? 0;
    const expected: Expected = { acked: stream.startLsn, streams: [stream] };
    for (let round = 1; round <= 4; round += 1) {
      const life = await openNode(fileSystem);
      stream = await checkRecovered(life.wal, expected, `seed ${String(seed)}, life ${String(round)}`);
      const end = life.wal.flushLsn;
      expect(end % 8n).toBe(0n);
      // Most kills come early, when the truncation has just been done and nothing was synced since.
      const killAt = fileSystem.calls + Math.floor(random() ** 2 * 40);
      fileSystem.onCall = (call) => {
        if (call.index === killAt) fileSystem.kill();
      };
      await live(life, stream, expected, random, round + 1).catch((error: unknown) => {
        if (fileSystem.calls <= killAt) throw error;
      });
      if (expected.streams.length > 1) crashedInTruncation += 1;
      fileSystem.onCall = undefined;
      if (random() < 0.2) fileSystem.restart();
      else fileSystem.crash(random);
    }
  }
  // The hard case did occur.
  expect(crashedInTruncation).toBeGreaterThan(50);
});

// Aim: a truncation can stop anywhere. Method: die before each of its calls in turn; the log is then the old one, a
// prefix of it, or cut; writes are refused until a truncation succeeds; afterwards nothing of the old tail is left.
test(
  "a truncation that dies at any call leaves a prefix, and the next one finishes",
  { timeout: 120_000 },
  async () => {
    const stream = new WalStream({ startLsn: at(BASE + 0x88n) });
    while (stream.endLsn < BASE + BigInt(3 * MIB + MIB / 4)) stream.record(60_000);
    const cut = stream.boundaryBefore(BASE + BigInt(MIB + MIB / 2));
    let steps = Infinity;
    for (let step = 0; step < steps; step += 1) {
      for (const seed of [1, 2, 3]) {
        const fileSystem = await newNode(stream.startLsn);
        const { wal } = await openNode(fileSystem);
        await wal.initFirstSegment(stream.startLsn);
        await wal.truncate(stream.startLsn);
        await wal.write(stream.startLsn, [stream.slice(stream.startLsn, stream.endLsn)]);
        await wal.flush();
        await settled(wal);
        const first = fileSystem.calls;
        fileSystem.onCall = (call) => {
          if (call.index === first + step) fileSystem.kill();
        };
        const outcome = await codeOf(wal.truncate(cut));
        fileSystem.onCall = undefined;
        steps = Math.min(steps, outcome === "resolved" ? step + 1 : Infinity);
        fileSystem.crash(seededRandom(seed * 100 + step));
        const again = await openNode(fileSystem);
        await checkRecovered(again.wal, { acked: cut, streams: [stream] }, `step ${String(step)}`);
        const after = stream.fork(cut, 8).record(90_000).record(50);
        const bytes = after.slice(cut, after.endLsn);
        expect(await codeOf(again.wal.write(again.wal.writeLsn, [bytes]))).toBe(
          "ERR_ACCEPTOR_TRUNCATE_FIRST",
        );
        await again.wal.truncate(cut);
        await again.wal.write(cut, [bytes]);
        await again.wal.flush();
        fileSystem.crash(seededRandom(step));
        const last = await openNode(fileSystem);
        expect(formatLsn(last.wal.flushLsn)).toBe(formatLsn(after.endLsn));
        await checkRecovered(
          last.wal,
          { acked: after.endLsn, streams: [after] },
          `step ${String(step)}, rewritten`,
        );
      }
    }
    expect(steps).toBeGreaterThan(8);
  },
);

// Aim: a truncation that fails without a crash can be repeated, in place. Method: one failing call after the other.
test("a truncation that fails can be repeated until it succeeds", async () => {
  const stream = new WalStream({ startLsn: at(BASE + 0x88n) });
  while (stream.endLsn < BASE + BigInt(2 * MIB + MIB / 4)) stream.record(60_000);
  const cut = stream.boundaryBefore(BASE + 500_000n);
  const fileSystem = await newNode(stream.startLsn);
  const { wal } = await openNode(fileSystem);
  await wal.initFirstSegment(stream.startLsn);
  await wal.truncate(stream.startLsn);
  await wal.write(stream.startLsn, [stream.slice(stream.startLsn, stream.endLsn)]);
  await wal.flush();
  await settled(wal);
  for (const name of ["unlink", "rename", "open", "pread", "pwrite"] as const) {
    fileSystem.onCall = (call) => {
      if (call.name === name) throw systemError("EIO");
    };
    expect(await codeOf(wal.truncate(cut))).toBe("ERR_ACCEPTOR_IO");
    expect(wal.needsTruncation).toBe(true);
    expect(wal.flushLsn).toBe(cut);
    // A vote's flush has nothing to do and works.
    await wal.flush();
  }
  fileSystem.onCall = undefined;
  await wal.truncate(cut);
  expect(wal.needsTruncation).toBe(false);
  const more = stream.fork(cut, 4).record(100);
  await wal.write(cut, [more.slice(cut, more.endLsn)]);
  await wal.flush();
  fileSystem.crash(() => 0);
  expect((await openNode(fileSystem)).wal.flushLsn).toBe(more.endLsn);
});

const TEMPORARY = `${DIRECTORY}/waltmp`;

// Aim: a full disk at each place where WAL needs room. Method: fail creation, filling and renaming of a segment, a write, and
// the sync inside of a write that is durable by itself; then give space back and go on without a restart.
test.each<[string, (call: Call) => boolean]>([
  ["creating a segment", ({ name }) => name === "open"],
  ["filling a segment", ({ name, path }) => name === "pwrite" && path === TEMPORARY],
  ["renaming a segment", ({ name, path }) => name === "rename" && path === TEMPORARY],
  ["giving a segment its full name", ({ name, path }) => name === "rename" && path !== TEMPORARY],
  ["writing", ({ name }) => name === "pwrite"],
  ["making a write durable", ({ name }) => name === "fdatasync"],
])("after a full disk while %s the store works again once there is space", async (_, fails) => {
  const stream = new WalStream({ startLsn: at(BASE + BigInt(MIB) - 0x8000n) });
  const fileSystem = await newNode(stream.startLsn);
  const { wal } = await openNode(fileSystem);
  await wal.initFirstSegment(stream.startLsn);
  await wal.truncate(stream.startLsn);
  stream.record(3000);
  await wal.write(stream.startLsn, [stream.slice(stream.startLsn, stream.endLsn)]);
  await wal.flush();
  const flushed = wal.flushLsn;
  while (stream.endLsn < BASE + BigInt(MIB) + 60_000n) stream.record(9000);
  fileSystem.onCall = (call) => {
    if (fails(call)) throw systemError("ENOSPC");
  };
  const bytes = stream.slice(flushed, stream.endLsn);
  let outcome: unknown = await codeOf(wal.write(flushed, [bytes]));
  // What fails in the background is told to whoever writes next.
  while (outcome === "resolved") {
    stream.record(64);
    outcome = await codeOf(wal.write(wal.writeLsn, [stream.slice(wal.writeLsn, stream.endLsn)]));
  }
  expect(outcome).toBe("ERR_ACCEPTOR_NO_SPACE");
  expect(wal.poisoned).toBe(false);
  expect(fileSystem.names(DIRECTORY)).not.toContain("waltmp");
  const end = wal.flushLsn;
  expect(end >= flushed).toBe(true);
  expect([wal.writeLsn, wal.writeRecordLsn]).toEqual([end, end]);
  await wal.flush();
  expect(await codeOf(wal.write(end, [bytes]))).toBe("ERR_ACCEPTOR_TRUNCATE_FIRST");
  fileSystem.onCall = undefined;
  await wal.truncate(end);
  await wal.write(end, [stream.slice(end, stream.endLsn)]);
  await wal.flush();
  expect(wal.flushLsn).toBe(stream.endLsn);
  fileSystem.crash(() => 0);
  const again = await openNode(fileSystem);
  await checkRecovered(again.wal, { acked: stream.endLsn, streams: [stream] }, "after the full disk");
});

// Aim: an election needs no room, even if the segment has holes because somebody else made it. Method: a file that is all
// hole behind its WAL, a disk that has no room for zeros, a truncation.
test("a full disk does not stop a truncation", async () => {
  const stream = new WalStream({ startLsn: at(BASE + 0x88n) }).record(3000).record(5000);
  const [, first] = stream.boundaries as [Lsn, Lsn];
  const fileSystem = await newNode(stream.startLsn);
  const life = await openNode(fileSystem);
  await life.wal.initFirstSegment(stream.startLsn);
  await life.wal.truncate(stream.startLsn);
  await life.wal.write(stream.startLsn, [stream.slice(stream.startLsn, stream.endLsn)]);
  await life.wal.flush();
  fileSystem.restart();
  const { wal } = await openNode(fileSystem);
  fileSystem.onCall = ({ name, bytes }) => {
    if (name === "pwrite" && bytes > 4096) throw systemError("ENOSPC");
  };
  await wal.truncate(first);
  fileSystem.onCall = undefined;
  const other = stream.fork(first, 5).record(100);
  await wal.write(first, [other.slice(first, other.endLsn)]);
  await wal.flush();
  fileSystem.crash(() => 0);
  const again = await openNode(fileSystem);
  await checkRecovered(again.wal, { acked: other.endLsn, streams: [other] }, "after the full disk");
});

// Aim: every sync that an acknowledgement rests on is fatal when it fails. Method: fail each kind during a write over a
// border, a flush and a truncation; nothing acknowledged is lost afterwards.
test.each(["fdatasync", "fsync", "fsyncDirectory"] as const)("a failing %s is final", async (name) => {
  const stream = new WalStream({ startLsn: at(BASE + BigInt(MIB) - 0x8000n) });
  const fileSystem = await newNode(stream.startLsn);
  const control = await openDiskControlStore({ directory: DIRECTORY, fileSystem: fileSystem.face });
  const fatal: string[] = [];
  const wal = await openDiskWalStore({
    directory: DIRECTORY,
    fileSystem: fileSystem.face,
    control,
    onFatal: (error) => fatal.push(error.code),
  });
  await wal.initFirstSegment(stream.startLsn);
  await wal.truncate(stream.startLsn);
  stream.record(3000);
  await wal.write(stream.startLsn, [stream.slice(stream.startLsn, stream.endLsn)]);
  await wal.flush();
  const acked = wal.flushLsn;
  while (stream.endLsn < BASE + BigInt(2 * MIB) + 60_000n) stream.record(9000);
  fileSystem.onCall = (call) => {
    if (call.name === name) throw systemError("EIO");
  };
  expect(await codeOf(wal.write(acked, [stream.slice(acked, stream.endLsn)]))).toBe("ERR_ACCEPTOR_POISONED");
  fileSystem.onCall = undefined;
  expect(fatal).toEqual(["ERR_ACCEPTOR_POISONED"]);
  const reported = wal.flushLsn;
  for (const call of [wal.flush(), wal.truncate(acked), wal.removeUpTo(0n), wal.initFirstSegment(acked)]) {
    expect(await codeOf(call)).toBe("ERR_ACCEPTOR_POISONED");
  }
  fileSystem.crash(seededRandom(3));
  const again = await openNode(fileSystem);
  await checkRecovered(again.wal, { acked: reported, streams: [stream] }, name);
});

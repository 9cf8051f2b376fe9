import { formatLsn, segmentFileName } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import type { ControlStore } from "../src/control-store.js";
import { openDiskWalStore } from "../src/disk-wal-store.js";
import type { AcceptorError } from "../src/errors.js";
import { createMemoryControlStore } from "../src/memory-control-store.js";
import type { PersistentState } from "../src/persistent-state.js";
import type { WalStore } from "../src/wal-store.js";
import { at, codeOf, expectSameBytes, freshState } from "./fixtures.js";
import { MemoryFileSystem, systemError } from "./memory-file-system.js";
import type { Call } from "./memory-file-system.js";
import { MIB, WalStream } from "./wal-stream.js";

const DIRECTORY = "/data/timeline";
/** Segment 0x30 starts here. */
const BASE = 0x3000000n;
const START = at(BASE + 0x88n);

function name(segno: number, suffix = ""): string {
  return segmentFileName(1, BigInt(segno), MIB) + suffix;
}

function path(segno: number, suffix = ""): string {
  return `${DIRECTORY}/${name(segno, suffix)}`;
}

interface Disk {
  readonly fileSystem: MemoryFileSystem;
  readonly control: ControlStore;
  wal: WalStore;
}

async function open(
  fileSystem: MemoryFileSystem,
  control: ControlStore,
  onFatal?: (error: AcceptorError) => void,
): Promise<WalStore> {
  return openDiskWalStore({
    directory: DIRECTORY,
    fileSystem: fileSystem.face,
    control,
    ...(onFatal === undefined ? {} : { onFatal }),
  });
}

/** A timeline that took its first election at the stream's start. */
async function elected(stream: WalStream, change: Partial<PersistentState> = {}): Promise<Disk> {
  const fileSystem = new MemoryFileSystem(DIRECTORY);
  const control = createMemoryControlStore({ ...freshState({ startLsn: stream.startLsn }), ...change });
  const wal = await open(fileSystem, control);
  await wal.initFirstSegment(stream.startLsn);
  await wal.truncate(stream.startLsn);
  return { fileSystem, control, wal };
}

async function append(wal: WalStore, stream: WalStream, to: Lsn): Promise<void> {
  await wal.write(wal.writeLsn, [stream.slice(wal.writeLsn, to)]);
}

/** Resolves when nothing is done in the background any more: so long a removal waits, even one of nothing. */
async function settled(wal: WalStore): Promise<void> {
  expect(await wal.removeUpTo(0n)).toBe(0);
}

/** Two and a half segments of WAL, written and flushed. */
async function filled(): Promise<Disk & { stream: WalStream }> {
  const stream = new WalStream({ startLsn: START });
  while (stream.endLsn < BASE + BigInt(2 * MIB + MIB / 2)) stream.record(40_000);
  const disk = await elected(stream);
  await append(disk.wal, stream, stream.endLsn);
  await disk.wal.flush();
  await settled(disk.wal);
  return { ...disk, stream };
}

async function reopened(disk: Disk): Promise<WalStore> {
  disk.fileSystem.restart();
  disk.wal = await open(disk.fileSystem, disk.control);
  return disk.wal;
}

/** Where decoding must end when WAL stops at `lsn`. */
function endBefore(stream: WalStream, lsn: bigint): string {
  return formatLsn(stream.boundaryBefore(lsn));
}

// Aim: names say which segments are complete, and every file has its full size. Method: look at the directory.
test("complete segments have their full name, the last one and the one behind it are partial", async () => {
  const { fileSystem } = await filled();
  expect(fileSystem.names(DIRECTORY)).toEqual([
    name(0x30),
    name(0x31),
    name(0x32, ".partial"),
    name(0x33, ".partial"),
  ]);
  for (const file of fileSystem.names(DIRECTORY)) {
    expect(fileSystem.bytes(`${DIRECTORY}/${file}`).byteLength).toBe(MIB);
  }
});

// Aim: what makes a segment's life crash-safe, and what a commit does not wait for. Method: the trace of one border crossing;
// the renaming of the full segment is held, and the next one is written to and flushed meanwhile.
test("a segment is there before it is needed, and gets its full name beside the writing", async () => {
  const { fileSystem, wal, stream } = await filled();
  while (stream.endLsn < BASE + BigInt(3 * MIB + MIB / 4)) stream.record(40_000);
  const calls: string[] = [];
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  fileSystem.onCall = (call) => {
    calls.push(`${call.name} ${call.path}`);
    return call.name === "rename" ? held : undefined;
  };
  await append(wal, stream, stream.endLsn);
  await wal.flush();
  expect(wal.flushLsn).toBe(stream.endLsn);
  const old = path(0x32, ".partial");
  const next = path(0x33, ".partial");
  const expected = [
    ...["pwrite", "fdatasync", "close", "rename"].map((call) => `${call} ${old}`),
    ...["open", "pwrite", "fdatasync"].map((call) => `${call} ${next}`),
  ];
  expect(new Set(calls)).toEqual(new Set(expected));
  expect(calls.indexOf(`rename ${old}`)).toBeGreaterThan(calls.lastIndexOf(`fdatasync ${old}`));
  calls.length = 0;
  release();
  await settled(wal);
  expect(calls).toEqual([`fsyncDirectory ${DIRECTORY}`]);
  expect(fileSystem.names(DIRECTORY)).toEqual([name(0x30), name(0x31), name(0x32), name(0x33, ".partial")]);
});

// Aim: a segment that is made beforehand is durable as a whole, its name included. Method: the trace of its making.
test("a segment is filled with zeros, synced, renamed and its directory synced", async () => {
  const stream = new WalStream({ startLsn: START });
  while (stream.endLsn < BASE + BigInt(MIB / 2) + 50_000n) stream.record(40_000);
  const { fileSystem, wal } = await elected(stream);
  const calls: string[] = [];
  fileSystem.onCall = ({ name: call, path: file }) => void calls.push(`${call} ${file}`);
  await append(wal, stream, stream.endLsn);
  await settled(wal);
  const temporary = `${DIRECTORY}/waltmp`;
  const made = ["open", "pwrite", "fsync", "close", "rename"].map((call) => `${call} ${temporary}`);
  expect(calls.filter((call) => call.endsWith("waltmp") || call.startsWith("fsyncDirectory"))).toEqual([
    ...made,
    `fsyncDirectory ${DIRECTORY}`,
  ]);
});

// Aim: many small appends cost one durable write, and a flush without news nothing. Method: count system calls.
test("what was appended goes out in one durable write, and an idle flush makes none", async () => {
  const stream = new WalStream({ startLsn: START });
  while (stream.boundaries.length < 700) stream.record(100);
  const { fileSystem, wal } = await elected(stream);
  const calls: Call[] = [];
  fileSystem.onCall = (call) => void calls.push(call);
  for (const end of stream.boundaries.slice(1)) await append(wal, stream, end);
  expect(calls).toEqual([]);
  await wal.flush();
  await wal.flush();
  // One call of the real disk: the test's counts a write with O_DSYNC as a write and a sync.
  expect(calls.map((call) => call.name)).toEqual(["pwrite", "fdatasync"]);
  expect(calls[0]?.bytes).toBe(Math.ceil(Number(stream.endLsn - BASE) / 4096) * 4096);
});

// Aim: group commit. Method: while the first flush is held on the disk, others are asked for behind further writes; all of
// them go out together, and no two writes are under way at once.
test("flushes that are asked for while one is under way share the next write", async () => {
  const stream = new WalStream({ startLsn: START });
  while (stream.boundaries.length < 12) stream.record(3000);
  const { fileSystem, wal } = await elected(stream);
  let writes = 0;
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  fileSystem.onCall = ({ name: call }) => {
    if (call !== "pwrite") return undefined;
    writes += 1;
    return writes === 1 ? held : undefined;
  };
  const done: number[] = [];
  const flushes: Promise<void>[] = [];
  for (const [index, end] of stream.boundaries.slice(1).entries()) {
    await append(wal, stream, end);
    flushes.push(wal.flush().then(() => void done.push(index)));
  }
  expect([writes, done.length]).toEqual([1, 0]);
  release();
  await Promise.all(flushes);
  expect(writes).toBe(2);
  expect(wal.flushLsn).toBe(stream.endLsn);
});

// Aim: a batch that is longer than what is collected goes out while the rest comes, without being asked for. Method: three
// megabytes in one append, of which the kernel has most before the flush.
test("a long batch is on its way before its flush", async () => {
  const segmentBytes = 16 * MIB;
  const stream = new WalStream({ startLsn: at(0x8000088n), segmentBytes });
  while (stream.endLsn < stream.startLsn + BigInt(3 * MIB)) stream.record(90_000);
  const fileSystem = new MemoryFileSystem(DIRECTORY);
  const server = { ...freshState().server, segmentBytes };
  const control = createMemoryControlStore({ ...freshState({ startLsn: stream.startLsn }), server });
  const wal = await open(fileSystem, control);
  await wal.initFirstSegment(stream.startLsn);
  await wal.truncate(stream.startLsn);
  let bytes = 0;
  fileSystem.onCall = (call) => void (bytes += call.bytes);
  await append(wal, stream, stream.endLsn);
  expect(bytes).toBeGreaterThan(2 * MIB);
  expect(wal.flushLsn).toBe(stream.startLsn);
  await wal.flush();
  expect(wal.flushLsn).toBe(stream.endLsn);
});

// Aim: the kernel may take less than given. Method: writes of at most 5000 bytes, which are continued from a whole block.
test("short writes are continued where they stopped", async () => {
  const stream = new WalStream({ startLsn: START }).record(5000).record(20);
  const disk = await elected(stream);
  disk.fileSystem.shortWrite = (bytes) => Math.min(bytes, 5000);
  const cut = Number(stream.endLsn - START) - 1501;
  const all = stream.slice(START, stream.endLsn);
  await disk.wal.write(START, [all.subarray(0, 10), all.subarray(10, cut), all.subarray(cut)]);
  await disk.wal.flush();
  expect(disk.wal.flushLsn).toBe(stream.endLsn);
  expect((await reopened(disk)).flushLsn).toBe(stream.endLsn);
});

// Aim: garbage behind the end is not WAL. Method: random-looking bytes, an old record of another life, zeros.
test.each(["noise", "another record", "a torn record"])("recovery stops before %s", async (what) => {
  const stream = new WalStream({ startLsn: START }).record(100).record(300);
  const disk = await elected(stream);
  await append(disk.wal, stream, stream.endLsn);
  await disk.wal.flush();
  const bytes = disk.fileSystem.bytes(path(0x30, ".partial"));
  const end = Number(stream.endLsn - BASE);
  if (what === "noise") for (let i = end; i < end + 9000; i += 1) bytes[i] = (i * 37) & 0xff;
  if (what === "another record") {
    const foreign = new WalStream({ startLsn: stream.endLsn, mark: 9, prevLsn: START }).record(80);
    bytes.set(foreign.slice(stream.endLsn, foreign.endLsn), end);
  }
  if (what === "a torn record") {
    const next = stream.fork(stream.endLsn, 1).record(900);
    bytes.set(next.slice(stream.endLsn, next.endLsn - 512n), end);
  }
  disk.fileSystem.setBytes(path(0x30, ".partial"), bytes);
  const wal = await reopened(disk);
  expect(formatLsn(wal.flushLsn)).toBe(formatLsn(stream.endLsn));
  // The next truncation clears it, so that it can never be taken for WAL again.
  await wal.truncate(wal.flushLsn);
  expect(
    disk.fileSystem
      .bytes(path(0x30, ".partial"))
      .subarray(end)
      .some((byte) => byte !== 0),
  ).toBe(false);
});

// Aim: a stale later segment does not extend the log over a hole. Method: remove the middle segment's file.
test("recovery stops at a missing middle segment, and the stale one behind it goes", async () => {
  const disk = await filled();
  disk.fileSystem.removeFile(path(0x31));
  const wal = await reopened(disk);
  expect(formatLsn(wal.flushLsn)).toBe(endBefore(disk.stream, BASE + BigInt(MIB)));
  await wal.truncate(wal.flushLsn);
  expect(disk.fileSystem.names(DIRECTORY)).toEqual([name(0x30, ".partial")]);
});

// Aim: a reused file is recognised. Method: another segment's bytes under the next segment's name.
test("recovery stops at a recycled later segment", async () => {
  const disk = await filled();
  disk.fileSystem.setBytes(path(0x33), disk.fileSystem.bytes(path(0x31)));
  disk.fileSystem.setBytes(path(0x32, ".partial"), disk.fileSystem.bytes(path(0x30)));
  const wal = await reopened(disk);
  expect(formatLsn(wal.flushLsn)).toBe(endBefore(disk.stream, BASE + BigInt(2 * MIB)));
});

// Aim: both names of a segment. Method: the partial one has the WAL, the full one is stale; after a truncation there
// is one name again.
test("of both names the partial one counts, and a truncation leaves one", async () => {
  const disk = await filled();
  const good = disk.fileSystem.bytes(path(0x32, ".partial"));
  disk.fileSystem.setBytes(path(0x32), good.slice().fill(0, 100));
  const wal = await reopened(disk);
  expect(wal.flushLsn).toBe(disk.stream.endLsn);
  await wal.truncate(wal.flushLsn);
  expect(disk.fileSystem.names(DIRECTORY)).toEqual([name(0x30), name(0x31), name(0x32, ".partial")]);
  await append(wal, disk.stream, disk.stream.record(70).endLsn);
  await wal.flush();
  expect((await reopened(disk)).flushLsn).toBe(disk.stream.endLsn);
});

// Aim: a segment that was filled but not yet renamed. Method: give it its partial name back.
test("a full segment under its partial name is complete, and gets its name at the next truncation", async () => {
  const stream = new WalStream({ startLsn: START });
  while (stream.endLsn < BASE + BigInt(MIB) - 50_000n) stream.record(40_000);
  stream.record(Number(BASE + BigInt(MIB) - stream.endLsn) - 24 - 24 * 8);
  const last = Number(BASE + BigInt(MIB) - stream.endLsn);
  stream.record(last - 24);
  expect(stream.endLsn).toBe(BASE + BigInt(MIB));
  const disk = await elected(stream);
  await append(disk.wal, stream, stream.endLsn);
  expect(disk.wal.flushLsn).toBe(stream.endLsn);
  await settled(disk.wal);
  disk.fileSystem.setBytes(path(0x30, ".partial"), disk.fileSystem.bytes(path(0x30)));
  disk.fileSystem.removeFile(path(0x30));
  const wal = await reopened(disk);
  expect(wal.flushLsn).toBe(stream.endLsn);
  await wal.truncate(stream.endLsn);
  expect(disk.fileSystem.names(DIRECTORY)).toEqual([name(0x30)]);
});

// Aim: a switched-off segment is completed with zeros although its rest never came. Method: junk behind the switch
// record, then reconnect: at once, after a restart, after a write that failed.
test.each(["reconnect", "restart", "failed write"])(
  "a segment switch completes its segment (%s)",
  async (how) => {
    const stream = new WalStream({ startLsn: START }).record(100);
    const dataEnd = stream.switchSegment();
    const disk = await elected(stream);
    await append(disk.wal, stream, dataEnd);
    await disk.wal.write(dataEnd, [new Uint8Array(3000).fill(7)]);
    await disk.wal.flush();
    expect(disk.wal.flushLsn).toBe(BASE + BigInt(MIB));
    if (how === "failed write") {
      let failed = (): void => undefined;
      const failing = new Promise<void>((resolve) => (failed = resolve));
      disk.fileSystem.onCall = (call) => {
        if (call.name !== "pwrite") return;
        failed();
        throw systemError("ENOSPC");
      };
      // So much is written without being asked for; there is no record in it that a flush would be about.
      await disk.wal.write(disk.wal.writeLsn, [new Uint8Array(300_000)]);
      await failing;
      let outcome: unknown = "resolved";
      while (outcome === "resolved")
        outcome = await codeOf(disk.wal.write(disk.wal.writeLsn, [new Uint8Array(8)]));
      expect(outcome).toBe("ERR_ACCEPTOR_NO_SPACE");
      disk.fileSystem.onCall = undefined;
    }
    const wal = how === "restart" ? await reopened(disk) : disk.wal;
    expect(wal.flushLsn).toBe(BASE + BigInt(MIB));
    await wal.truncate(wal.flushLsn);
    expect(disk.fileSystem.names(DIRECTORY)).toEqual([name(0x30)]);
    const bytes = disk.fileSystem.bytes(path(0x30));
    expect(bytes.byteLength).toBe(MIB);
    expectSameBytes(bytes.subarray(0x88), stream.slice(START, stream.endLsn));
    await append(wal, stream, stream.record(100).endLsn);
    await wal.flush();
    expect(disk.fileSystem.names(DIRECTORY)).toEqual([name(0x30), name(0x31, ".partial")]);
  },
);

// Aim: the switch at every place where its record can end, page ends included. Method: records of growing size before
// it, the last ones ending with the segment.
test("a segment switch counts wherever its record lies", async () => {
  for (const gap of [24, 32, 48, 8192, 8192 + 16, 8192 + 24, 8192 * 2 - 8]) {
    const stream = new WalStream({ startLsn: at(BASE + BigInt(MIB) - 0x10000n) });
    while (Number(BASE + BigInt(MIB) - stream.endLsn) > gap + 9000) stream.record(4000);
    const free = Number(BASE + BigInt(MIB) - stream.endLsn) - gap;
    const pages = Math.floor(Number((stream.endLsn % 8192n) + BigInt(free) - 1n) / 8192);
    stream.record(free - 24 - pages * 24);
    const dataEnd = stream.switchSegment();
    const disk = await elected(stream);
    await append(disk.wal, stream, dataEnd);
    await disk.wal.flush();
    expect(disk.wal.flushLsn).toBe(BASE + BigInt(MIB));
    const wal = await reopened(disk);
    expect(wal.flushLsn).toBe(BASE + BigInt(MIB));
    await wal.truncate(wal.flushLsn);
    const stored = disk.fileSystem.bytes(path(0x30)).subarray(MIB - 0x10000);
    expectSameBytes(stored, stream.slice(stream.startLsn, stream.endLsn));
  }
});

// Aim: a process that dies while it removes segments leaves no hole. Method: the order of removals in a truncation.
test("a truncation removes segments from the end", async () => {
  const { fileSystem, wal, stream } = await filled();
  const removed: string[] = [];
  fileSystem.onCall = (call) => {
    if (call.name === "unlink") removed.push(call.path);
  };
  await wal.truncate(stream.boundaryBefore(BASE + 500_000n));
  expect(removed).toEqual([path(0x33, ".partial"), path(0x32, ".partial"), path(0x31)]);
});

// Aim: lost WAL is noticed instead of being voted away. Method: the commit segment's file is gone, or too short.
test("opening fails when committed WAL is not there", async () => {
  const stream = new WalStream({ startLsn: START }).record(100).record(300);
  const disk = await elected(stream);
  await append(disk.wal, stream, stream.endLsn);
  await disk.wal.flush();
  await disk.control.persist({
    ...disk.control.get(),
    commitLsn: stream.endLsn,
    termHistory: [
      { term: 0n, lsn: START },
      { term: 1n, lsn: START },
    ],
  });
  const file = path(0x30, ".partial");
  const bytes = disk.fileSystem.bytes(file);
  disk.fileSystem.setBytes(file, bytes.subarray(0, 0x90));
  expect(await codeOf(reopened(disk))).toBe("ERR_ACCEPTOR_WAL_MISSING");
  disk.fileSystem.removeFile(file);
  expect(await codeOf(reopened(disk))).toBe("ERR_ACCEPTOR_WAL_MISSING");
  disk.fileSystem.setBytes(file, bytes);
  expect((await reopened(disk)).flushLsn).toBe(stream.endLsn);
});

// Aim: no position is reported before the files it rests on were synced. Method: the trace of an opening after a
// process kill, and a sync that fails during it.
test("opening syncs the WAL from the commit position on, and the directory, before reading", async () => {
  const disk = await filled();
  const calls: Call[] = [];
  disk.fileSystem.onCall = (call) => void calls.push(call);
  await reopened(disk);
  const synced = calls.filter((call) => call.name === "fsync").map((call) => call.path);
  expect(synced).toEqual([path(0x30), path(0x31), path(0x32, ".partial"), path(0x33, ".partial")]);
  const directory = calls.findIndex((call) => call.name === "fsyncDirectory");
  expect(directory).toBeGreaterThan(calls.findLastIndex((call) => call.name === "fsync"));
  expect(calls.findIndex((call) => call.name === "pread")).toBeGreaterThan(directory);

  const fatal: string[] = [];
  disk.fileSystem.restart();
  disk.fileSystem.onCall = (call) => {
    if (call.name === "fsync") throw systemError("EIO");
  };
  const opening = open(disk.fileSystem, disk.control, (error) => fatal.push(error.code));
  expect(await codeOf(opening)).toBe("ERR_ACCEPTOR_POISONED");
  expect(fatal).toEqual(["ERR_ACCEPTOR_POISONED"]);
});

// Aim: an interrupted creation leaves nothing behind. Method: a stray temporary segment and unrelated files.
test("a left-over temporary segment is removed, files of others stay", async () => {
  const disk = await filled();
  disk.fileSystem.setBytes(`${DIRECTORY}/waltmp`, new Uint8Array(5));
  disk.fileSystem.setBytes(`${DIRECTORY}/notes.txt`, new Uint8Array(1));
  await reopened(disk);
  expect(disk.fileSystem.names(DIRECTORY)).toEqual([
    name(0x30),
    name(0x31),
    name(0x32, ".partial"),
    name(0x33, ".partial"),
    "notes.txt",
  ]);
});

// Aim: an election that got as far as the first segment and no further. Method: begin at one place, then, without
// WAL, at another page, then in another segment.
test("a start that never reached the control file leaves no trace in a later one", async () => {
  const fileSystem = new MemoryFileSystem(DIRECTORY);
  const control = createMemoryControlStore(freshState());
  const first = await open(fileSystem, control);
  await first.initFirstSegment(START);
  await first.truncate(START);
  const second = await open(fileSystem, control);
  expect(second.flushLsn).toBe(0n);
  const other = at(BASE + 0x4100n);
  await second.initFirstSegment(other);
  await second.truncate(other);
  const clean = new MemoryFileSystem(DIRECTORY);
  const untouched = await open(clean, createMemoryControlStore(freshState()));
  await untouched.initFirstSegment(other);
  await untouched.truncate(other);
  expectSameBytes(fileSystem.bytes(path(0x30, ".partial")), clean.bytes(path(0x30, ".partial")));

  const third = await open(fileSystem, control);
  const later = at(BASE + BigInt(2 * MIB) + 0x2100n);
  await third.initFirstSegment(later);
  await third.truncate(later);
  expect(fileSystem.names(DIRECTORY)).toEqual([name(0x32, ".partial")]);
});

// Aim: page headers that came with real WAL are not replaced by made-up ones. Method: a file with WAL from before the
// timeline's start, as an operator may put it in place; then the first election.
test("a segment that was put in place before the first election keeps its bytes", async () => {
  const before = new WalStream({ startLsn: at(BASE) }).record(9000).record(50);
  const fileSystem = new MemoryFileSystem(DIRECTORY);
  const bytes = new Uint8Array(MIB);
  bytes.set(before.slice(BASE, before.endLsn));
  fileSystem.setBytes(path(0x30, ".partial"), bytes);
  const wal = await open(fileSystem, createMemoryControlStore(freshState({ startLsn: before.endLsn })));
  await wal.initFirstSegment(before.endLsn);
  await wal.truncate(before.endLsn);
  expectSameBytes(fileSystem.bytes(path(0x30, ".partial")), bytes);
});

// Aim: descriptors are not leaked. Method: count open files over a life with readers and a failed write.
test("closing the store closes its files", async () => {
  const disk = await filled();
  const reader = disk.wal.openReader(START);
  await reader.read(new Uint8Array(100));
  expect(disk.fileSystem.openFiles).toBe(2);
  await reader.close();
  disk.fileSystem.onCall = (call) => {
    if (call.name === "pwrite") throw systemError("ENOSPC");
  };
  await append(disk.wal, disk.stream, disk.stream.record(10).endLsn);
  expect(await codeOf(disk.wal.flush())).toBe("ERR_ACCEPTOR_NO_SPACE");
  await disk.wal.close();
  expect(disk.fileSystem.openFiles).toBe(0);
});

// Aim: a reader never returns bytes of a file that a truncation replaced. Method: hold the read in the kernel, cut and
// rewrite meanwhile.
test("a read that overlaps a truncation returns the new bytes", async () => {
  const disk = await filled();
  const from = disk.stream.boundaryBefore(BASE + BigInt(2 * MIB) + 200_000n);
  await using reader = disk.wal.openReader(from);
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  let arrived: () => void = () => undefined;
  const reading = new Promise<void>((resolve) => (arrived = resolve));
  disk.fileSystem.onCall = (call) => {
    if (call.name !== "pread") return undefined;
    arrived();
    return held;
  };
  const target = new Uint8Array(64);
  const result = reader.read(target);
  await reading;
  disk.fileSystem.onCall = undefined;
  const cut = disk.stream.boundaryBefore(BASE + BigInt(MIB) + 100n);
  await disk.wal.truncate(cut);
  const other = disk.stream.fork(cut, 3);
  while (other.endLsn < from + 100n) other.record(33_000);
  await append(disk.wal, other, other.endLsn);
  await disk.wal.flush();
  release();
  expect(await result).toBe(64);
  expect(target).toEqual(other.slice(from, from + 64n));
});

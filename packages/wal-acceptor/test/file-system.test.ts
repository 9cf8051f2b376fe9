import { constants } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IoEngine } from "@millrace/aio";
import type { IoEngineOptions } from "@millrace/aio";
import { syncDirectory, VirtualFile } from "@millrace/virtual-file";
import { expect, test } from "vitest";
import { createDiskControlFile, openDiskControlStore } from "../src/disk-control-store.js";
import { openDiskWalStore } from "../src/disk-wal-store.js";
import { createFileSystem, environmentOf, withoutSync } from "../src/file-system.js";
import type { FileSystem } from "../src/file-system.js";
import { AcceptorMeasures } from "../src/measures.js";
import { at, codeOf, expectSameBytes, freshState } from "./fixtures.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { MIB, WalStream } from "./wal-stream.js";

const READ: number = constants.O_RDONLY;
const WRITE: number = constants.O_RDWR;
const CREATE: number = constants.O_RDWR | constants.O_CREAT;

interface Place extends AsyncDisposable {
  readonly fileSystem: FileSystem;
  readonly directory: string;
}

async function machine(options: IoEngineOptions = {}): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-acceptor-"));
  const engine = IoEngine.create({ fixBuffers: false, ...options });
  return {
    fileSystem: createFileSystem(engine),
    directory,
    async [Symbol.asyncDispose]() {
      await engine.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function memory(): Promise<Place> {
  return Promise.resolve({
    fileSystem: new MemoryFileSystem("/data").face,
    directory: "/data",
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
}

const places: readonly (readonly [string, () => Promise<Place>])[] = [
  ["machine", () => machine()],
  ["machine, worker threads", () => machine({ method: "worker" })],
  ["memory", memory],
];

for (const [name, make] of places) {
  // Aim: the fake that the fault tests trust behaves like the machine. Method: every call, its edges and its errors.
  test(`${name}: files are written, read, cut and named as POSIX has it`, async () => {
    await using place = await make();
    const { fileSystem, directory } = place;
    const file = join(directory, "a");
    expect(await fileSystem.stat(file)).toBeUndefined();
    expect(await codeOf(fileSystem.open(file, READ, 0, 1))).toBe("ENOENT");
    expect(await codeOf(fileSystem.open(file, WRITE, 0, 1))).toBe("ENOENT");
    expect(await codeOf(fileSystem.unlink(file))).toBe("ENOENT");
    expect(await codeOf(fileSystem.rename(file, join(directory, "b")))).toBe("ENOENT");

    const made = await fileSystem.open(file, CREATE, 0o600, 1);
    expect(await codeOf(fileSystem.open(file, CREATE | constants.O_EXCL, 0o600, 1))).toBe("EEXIST");
    using source = fileSystem.arena.copyFrom(Buffer.from("abcdefgX"));
    expect(await made.write(source.view().subarray(0, 7), 2)).toBe(7);
    expect(await made.write(source.view().subarray(7), 3)).toBe(1);
    expect(await made.size()).toBe(9);
    using target = fileSystem.arena.alloc(20, { zeroed: true });
    target.setLength(20);
    expect(await made.read(target.view(), 0)).toBe(9);
    expect(Buffer.from(target.view()).toString("latin1", 0, 9)).toBe("\0\0aXcdefg");
    expect(await made.read(target.view(), 9)).toBe(0);
    await made.truncate(4);
    await made.truncate(8);
    await made.sync(true);
    await made.sync(false);
    expect(await made.read(target.view(), 0)).toBe(8);
    expect(Buffer.from(target.view()).toString("latin1", 0, 8)).toBe("\0\0aX\0\0\0\0");
    await made.close();

    expect(await fileSystem.stat(file)).toEqual({ sizeBytes: 8, isDirectory: false });
    await fileSystem.rename(file, join(directory, "b"));
    await (await fileSystem.open(join(directory, "c"), CREATE, 0o600, 1)).close();
    await fileSystem.rename(join(directory, "b"), join(directory, "c"));
    await syncDirectory(directory, { engine: fileSystem });
    expect(await fileSystem.readdir(directory)).toEqual(["c"]);
    const again = await fileSystem.open(join(directory, "c"), CREATE | constants.O_TRUNC, 0o600, 1);
    expect(await again.size()).toBe(0);
    await again.close();
    await fileSystem.unlink(join(directory, "c"));
    expect(await fileSystem.readdir(directory)).toEqual([]);
  });

  // Aim: direct I/O of whole blocks, durable by itself. Method: a block, and half of one, through the checks of the package
  // above, and past them.
  test(`${name}: O_DIRECT takes blocks and nothing else`, async () => {
    await using place = await make();
    const { fileSystem, directory } = place;
    const options = { read: true, write: true, create: true, direct: "require", dataSync: true } as const;
    await using file = await VirtualFile.open(join(directory, "a"), options, environmentOf(fileSystem));
    expect([file.isDirect, file.isDataSync, file.alignmentBytes]).toEqual([true, true, 4096]);
    using block = fileSystem.arena.copyFrom(new Uint8Array(8192).fill(7)).freeze();
    await file.writeAllAt(block, 4096);
    using half = block.slice(0, 100);
    expect(await codeOf(file.writeAllAt(half, 0))).toBe("ERR_FILE_ALIGNMENT");
    expect(await file.size()).toBe(12_288);
    using found = fileSystem.arena.alloc(16_384);
    expect(await file.readAt(found, 0, 16_384)).toBe(12_288);
    expect([found.view()[4095], found.view()[4096]]).toEqual([0, 7]);
  });

  // Aim: directories, the same way. Method: make, refuse to make again, look, remove.
  test(`${name}: directories are made once and removed`, async () => {
    await using place = await make();
    const { fileSystem, directory } = place;
    const inner = join(directory, "inner");
    await fileSystem.mkdir(inner);
    expect(await codeOf(fileSystem.mkdir(inner))).toBe("EEXIST");
    expect((await fileSystem.stat(inner))?.isDirectory).toBe(true);
    await syncDirectory(inner, { engine: fileSystem });
    await fileSystem.rmdir(inner);
    expect(await fileSystem.stat(inner)).toBeUndefined();
  });

  // Aim: the stores work on it from creation over several segments to recovery. Method: one short life, then another.
  test(`${name}: a timeline's WAL and state are found again`, async () => {
    await using place = await make();
    const stream = new WalStream({ startLsn: at(0x30f0088n) });
    while (stream.endLsn < 0x3000000n + BigInt(3 * MIB)) stream.record(50_000);
    const state = freshState({ startLsn: stream.startLsn });
    await createDiskControlFile({ ...place, state });
    const control = await openDiskControlStore(place);
    const measures = new AcceptorMeasures();
    await using first = await openDiskWalStore({ ...place, control, measures });
    await first.initFirstSegment(stream.startLsn);
    await first.truncate(stream.startLsn);
    const bytes = stream.slice(stream.startLsn, stream.endLsn);
    const buffers: Uint8Array[] = [];
    for (let i = 0; i < bytes.byteLength; i += 777) buffers.push(bytes.subarray(i, i + 777));
    await first.write(stream.startLsn, buffers);
    await first.flush();
    expect(measures.durableWalWrites).toBeGreaterThan(0);
    await control.persist({ ...state, term: 3n, commitLsn: stream.boundaryBefore(0x3180000n) });
    await first.close();

    const found = await openDiskControlStore(place);
    expect(found.get().term).toBe(3n);
    await using second = await openDiskWalStore({ ...place, control: found });
    expect(second.flushLsn).toBe(stream.endLsn);
    await using reader = second.openReader(stream.startLsn);
    const read = new Uint8Array(bytes.byteLength);
    for (let filled = 0; filled < read.byteLength;) filled += await reader.read(read.subarray(filled));
    expectSameBytes(read, bytes);
  });
}

// Aim: withoutSync changes nothing but the syncs. Method: the calls that arrive below it.
test("withoutSync passes everything on except syncs", async () => {
  const below = new MemoryFileSystem("/data");
  const names: string[] = [];
  below.onCall = (call) => void names.push(call.name);
  const fileSystem = withoutSync(below.face);
  const file = await fileSystem.open("/data/a", CREATE | constants.O_DSYNC, 0o600, 1);
  await file.write(new Uint8Array(3), 0);
  await file.truncate(5);
  await file.sync(true);
  await file.sync(false);
  expect(await file.size()).toBe(5);
  expect(await file.read(new Uint8Array(9), 0)).toBe(5);
  await file.close();
  await syncDirectory("/data", { engine: fileSystem });
  await fileSystem.rename("/data/a", "/data/b");
  expect(await fileSystem.readdir("/data")).toEqual(["b"]);
  await fileSystem.unlink("/data/b");
  expect(await fileSystem.stat("/data/b")).toBeUndefined();
  await fileSystem.mkdir("/data/c");
  await fileSystem.rmdir("/data/c");
  expect(names).toEqual([
    "open",
    "pwrite",
    "ftruncate",
    "size",
    "pread",
    "close",
    "rename",
    "readdir",
    "unlink",
    "stat",
    "mkdir",
    "rmdir",
  ]);
});

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createDiskControlFile, openDiskControlStore } from "../src/disk-control-store.js";
import { openDiskWalStore } from "../src/disk-wal-store.js";
import { nodeFileSystem, withoutSync } from "../src/file-system.js";
import type { FileSystem } from "../src/file-system.js";
import { at, codeOf, expectSameBytes, freshState } from "./fixtures.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { MIB, WalStream } from "./wal-stream.js";

interface Place extends AsyncDisposable {
  readonly fileSystem: FileSystem;
  readonly directory: string;
}

async function machine(): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), "millrace-acceptor-"));
  return {
    fileSystem: nodeFileSystem,
    directory,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

const places: readonly (readonly [string, () => Promise<Place>])[] = [
  ["machine", machine],
  [
    "memory",
    () => {
      const fileSystem = new MemoryFileSystem("/data");
      fileSystem.writesNow = true;
      return Promise.resolve({
        fileSystem,
        directory: "/data",
        [Symbol.asyncDispose]: () => Promise.resolve(),
      });
    },
  ],
];

for (const [name, make] of places) {
  // Aim: the fake that the fault tests trust behaves like the machine. Method: every call, its edges and its errors.
  test(`${name}: files are written, read, cut and named as POSIX has it`, async () => {
    await using place = await make();
    const { fileSystem, directory } = place;
    const file = join(directory, "a");
    expect(await fileSystem.stat(file)).toBeUndefined();
    expect(await codeOf(fileSystem.open(file, "read"))).toBe("ENOENT");
    expect(await codeOf(fileSystem.open(file, "write"))).toBe("ENOENT");
    expect(await codeOf(fileSystem.unlink(file))).toBe("ENOENT");
    expect(await codeOf(fileSystem.rename(file, join(directory, "b")))).toBe("ENOENT");

    const made = await fileSystem.open(file, "create");
    expect(await made.pwritev([Buffer.from("abc"), Buffer.from("defg")], 2)).toBe(7);
    expect(await made.pwritev([Buffer.from("X")], 3)).toBe(1);
    expect(await made.size()).toBe(9);
    const target = new Uint8Array(20);
    expect(await made.pread(target, 0)).toBe(9);
    expect(Buffer.from(target).toString("latin1", 0, 9)).toBe("\0\0aXcdefg");
    expect(await made.pread(target, 9)).toBe(0);
    if (made.writeNow !== undefined) {
      expect(made.writeNow([Buffer.from("12")], 20)).toBe(2);
      expect(made.writeNow([Buffer.from("3"), Buffer.from("45")], 22)).toBe(3);
      expect(await made.pread(target, 20)).toBe(5);
      expect(Buffer.from(target).toString("latin1", 0, 5)).toBe("12345");
    }
    await made.ftruncate(4);
    await made.ftruncate(8);
    await made.fdatasync();
    await made.fsync();
    expect(await made.pread(target, 0)).toBe(8);
    expect(Buffer.from(target).toString("latin1", 0, 8)).toBe("\0\0aX\0\0\0\0");
    await made.close();

    expect(await fileSystem.stat(file)).toEqual({ sizeBytes: 8, isDirectory: false });
    await fileSystem.rename(file, join(directory, "b"));
    await (await fileSystem.open(join(directory, "c"), "create")).close();
    await fileSystem.rename(join(directory, "b"), join(directory, "c"));
    await fileSystem.fsyncDirectory(directory);
    expect(await fileSystem.readdir(directory)).toEqual(["c"]);
    const again = await fileSystem.open(join(directory, "c"), "create");
    expect(await again.size()).toBe(0);
    await again.close();
    await fileSystem.unlink(join(directory, "c"));
    expect(await fileSystem.readdir(directory)).toEqual([]);
  });

  // Aim: directories, the same way. Method: make, refuse to make again, look, remove.
  test(`${name}: directories are made once and removed`, async () => {
    await using place = await make();
    const { fileSystem, directory } = place;
    const inner = join(directory, "inner");
    await fileSystem.mkdir(inner);
    expect(await codeOf(fileSystem.mkdir(inner))).toBe("EEXIST");
    expect((await fileSystem.stat(inner))?.isDirectory).toBe(true);
    await fileSystem.fsyncDirectory(inner);
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
    await using first = await openDiskWalStore({ ...place, control });
    await first.initFirstSegment(stream.startLsn);
    await first.truncate(stream.startLsn);
    const bytes = stream.slice(stream.startLsn, stream.endLsn);
    const buffers: Uint8Array[] = [];
    for (let i = 0; i < bytes.byteLength; i += 777) buffers.push(bytes.subarray(i, i + 777));
    await first.write(stream.startLsn, buffers);
    await first.flush();
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

test("the machine's files write at once, also without syncs", async () => {
  await using place = await machine();
  for (const fileSystem of [nodeFileSystem, withoutSync(nodeFileSystem)]) {
    const file = await fileSystem.open(join(place.directory, "now"), "create");
    expect(file.writeNow?.([Buffer.from("abc")], 1)).toBe(3);
    expect(await file.size()).toBe(4);
    await file.close();
  }
});

// Aim: withoutSync changes nothing but the syncs. Method: the calls that arrive below it.
test("withoutSync passes everything on except syncs", async () => {
  const below = new MemoryFileSystem("/data");
  const names: string[] = [];
  below.onCall = (call) => void names.push(call.name);
  const fileSystem = withoutSync(below);
  const file = await fileSystem.open("/data/a", "create");
  expect("writeNow" in file).toBe(false);
  await file.pwritev([new Uint8Array(3)], 0);
  await file.ftruncate(5);
  await file.fdatasync();
  await file.fsync();
  expect(await file.size()).toBe(5);
  expect(await file.pread(new Uint8Array(9), 0)).toBe(5);
  await file.close();
  await fileSystem.fsyncDirectory("/data");
  await fileSystem.rename("/data/a", "/data/b");
  expect(await fileSystem.readdir("/data")).toEqual(["b"]);
  await fileSystem.unlink("/data/b");
  expect(await fileSystem.stat("/data/b")).toBeUndefined();
  await fileSystem.mkdir("/data/c");
  await fileSystem.rmdir("/data/c");
  expect(names.filter((name) => /sync/.test(name))).toEqual([]);
  expect(names).toEqual([
    "open",
    "pwritev",
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

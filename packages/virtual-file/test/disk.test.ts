/** On a real file system, through @millrace/aio. What needs direct I/O is skipped, with the reason, where there is none. */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IoEngine } from "@millrace/aio";
import { expect, test } from "vitest";
import {
  crashsafeOverwrite,
  createFileEngine,
  createTempFile,
  FdCache,
  probeAlignment,
  VirtualFile,
} from "../src/index.js";
import type { FileEnvironment } from "../src/index.js";
import { frozen } from "./fake-engine.js";

const MiB: number = 1024 * 1024;

interface Disk extends AsyncDisposable {
  readonly io: IoEngine;
  readonly directory: string;
  readonly environment: FileEnvironment;
}

function openDisk(slots: number, alignment: number, parent: string = tmpdir()): Disk {
  const directory = mkdtempSync(join(parent, "millrace-virtual-file-"));
  const engine = IoEngine.create({ arenaBytes: 8 * MiB });
  const environment = {
    engine: createFileEngine(engine),
    arena: engine.arena,
    descriptors: new FdCache(slots),
    alignment,
  };
  return {
    io: engine,
    directory,
    environment,
    [Symbol.asyncDispose]: async () => {
      expect([environment.descriptors.stats.open, engine.arena.stats.liveBuffers]).toEqual([0, 0]);
      await engine.close();
      rmSync(directory, { recursive: true });
    },
  };
}

async function probe(): Promise<number | null> {
  await using disk = openDisk(1, 4096);
  const alignment = await probeAlignment(disk.directory, disk.environment);
  expect(readdirSync(disk.directory)).toEqual([]);
  return alignment;
}

const alignment = await probe();
const WRITE = { read: true, write: true, create: true, truncate: true } as const;

// Aim: direct I/O from a buffer to the disk and back. Method: random bytes at an offset, and the tail of a cut file.
test.skipIf(alignment === null)("direct I/O writes and reads what it should", async () => {
  const block = alignment ?? 0;
  await using disk = openDisk(10, block);
  const path = join(disk.directory, "file");
  await using file = await VirtualFile.open(path, { ...WRITE, direct: "require" }, disk.environment);
  expect([file.isDirect, file.alignmentBytes]).toEqual([true, block]);
  const content = crypto.getRandomValues(new Uint8Array(16 * block));
  using source = frozen(disk.environment.arena, content);
  await file.writeAllAt(source, 2 * block);
  expect(await file.size()).toBe(18 * block);
  using target = disk.environment.arena.alloc(16 * block);
  await file.readExactAt(target, 2 * block, 16 * block);
  expect(Buffer.from(target.view()).equals(content)).toBe(true);
  await file.setLength(2 * block + 100);
  await file.sync();
  using tail = disk.environment.arena.alloc(4 * block);
  expect(await file.readAt(tail, block, 4 * block)).toBe(block + 100);
  expect(Buffer.from(tail.view().subarray(block)).equals(content.subarray(0, 100))).toBe(true);
  using behind = disk.environment.arena.alloc(block);
  expect(await file.readAt(behind, 4 * block, block)).toBe(0);
  expect(
    readFileSync(path)
      .subarray(2 * block)
      .equals(content.subarray(0, 100)),
  ).toBe(true);
});

/** Descriptors of this process on files in a directory, as the kernel counts them. */
function descriptorsIn(directory: string): number {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ""; // the one that was used to list them
    }
  });
  return links.filter((link) => link.startsWith(directory)).length;
}

// Aim: many files through few descriptors, on a disk. Method: one that was made and emptied, a hundred that are only read.
test("a hundred files are read through ten descriptors", async () => {
  await using disk = openDisk(10, 4096);
  const { arena, descriptors } = disk.environment;
  const [written, other] = [join(disk.directory, "a"), join(disk.directory, "b")];
  writeFileSync(written, "must go");
  writeFileSync(other, Buffer.alloc(4096, "b"));
  const first = await VirtualFile.open(written, { ...WRITE, direct: "off" }, disk.environment);
  using content = frozen(arena, "content");
  await first.writeAllAt(content, 0);
  const readers: VirtualFile[] = [];
  for (let index = 0; index < 100; index++) readers.push(await VirtualFile.open(other, {}, disk.environment));
  expect(descriptors.stats.open).toBe(10);
  const sums = await Promise.all(
    readers.map(async (reader) => {
      using target = arena.alloc(4096);
      await reader.readExactAt(target, 0, 4096);
      return target.view().every((byte) => byte === 0x62);
    }),
  );
  expect(sums).toEqual(readers.map(() => true));
  expect(descriptors.stats.open).toBe(10);
  if (process.platform === "linux") expect(descriptorsIn(disk.directory)).toBe(10);
  using back = arena.alloc(100);
  expect(await first.readAt(back, 0, 100)).toBe(7);
  expect(Buffer.from(back.view()).toString()).toBe("content");
  await Promise.all([first, ...readers].map((file) => file.close()));
});

// Aim: replacement and temporary files on a disk. Method: names and contents as the file system has them.
test("files are replaced, and temporary ones go", async () => {
  await using disk = openDisk(2, 4096);
  const final = join(disk.directory, "final");
  for (const content of ["foo", "bar"])
    await crashsafeOverwrite(final, `${final}.new`, Buffer.from(content), disk.environment);
  expect(readFileSync(final, "utf8")).toBe("bar");
  const missing = crashsafeOverwrite("/nowhere/final", `${final}.new`, Buffer.from("x"), disk.environment);
  await expect(missing).rejects.toMatchObject({
    code: "ERR_FILE_IO",
    errnoCode: "ENOENT",
    syscall: "rename",
  });
  const temporary = await createTempFile(disk.directory, "tmp-", disk.environment);
  expect(readdirSync(disk.directory)).toHaveLength(3);
  await temporary[Symbol.asyncDispose]();
  expect(readdirSync(disk.directory).sort()).toEqual(["final", "final.new"]);
});

// Aim: what the kernel says is told with its name. Method: a directory, a missing file, one that is there already.
test("failures to open are told with their errno", async () => {
  await using disk = openDisk(2, 4096);
  const path = join(disk.directory, "there");
  writeFileSync(path, "");
  const open = (name: string, options: object): Promise<VirtualFile> =>
    VirtualFile.open(join(disk.directory, name), options, disk.environment);
  const failed = (errnoCode: string): object => ({ code: "ERR_FILE_IO", errnoCode, syscall: "open" });
  await expect(open("missing", {})).rejects.toMatchObject(failed("ENOENT"));
  await expect(open("there", { write: true, createNew: true })).rejects.toMatchObject(failed("EEXIST"));
  await expect(open("", { write: true })).rejects.toMatchObject(failed("EISDIR"));
});

/** What no direct file takes: memory, offset and length that are no multiples, to be written and to be read. */
async function expectMisalignedRefused(file: VirtualFile, { io, environment }: Disk): Promise<void> {
  const { arena } = environment;
  const block = file.alignmentBytes;
  using source = frozen(arena, Buffer.alloc(2 * block));
  using shifted = source.slice(1, 1 + block);
  using short = source.slice(0, 100);
  using whole = source.slice(0, block);
  using target = arena.alloc(2 * block);
  using behind = arena.alloc(2 * block);
  behind.fill(0, 1);
  const before = io.statistics().io;
  const wrong: readonly [string, () => Promise<unknown>][] = [
    ["address", () => file.writeAllAt(shifted, 0)],
    ["offset", () => file.writeAllAt(whole, 100)],
    ["length", () => file.writeAllAt(short, 0)],
    ["address", () => file.readAt(behind, 0, block)],
    ["offset", () => file.readAt(target, 100, block)],
    ["length", () => file.readAt(target, 0, 100)],
  ];
  for (const [what, call] of wrong)
    await expect(call()).rejects.toMatchObject({ code: "ERR_FILE_ALIGNMENT", what });
  expect(io.statistics().io, "nothing was issued").toEqual(before);
}

// Aim: what the kernel does not notice at holes is noticed. Method: a file that is nothing but a hole, and the end of it.
test.skipIf(alignment === null)("alignment is checked at holes, too", async () => {
  await using disk = openDisk(2, alignment ?? 0);
  const path = join(disk.directory, "file");
  await using file = await VirtualFile.open(path, { ...WRITE, direct: "require" }, disk.environment);
  await file.setLength(MiB);
  await expectMisalignedRefused(file, disk);
  await file.setLength(0);
  await expectMisalignedRefused(file, disk);
  expect(await file.size()).toBe(0);
});

// Aim: a file system that would take everything gets nothing misaligned. Method: tmpfs.
test.skipIf(!existsSync("/dev/shm"))("alignment is checked on tmpfs, too", async () => {
  await using disk = openDisk(2, 4096, "/dev/shm");
  const path = join(disk.directory, "file");
  await using file = await VirtualFile.open(path, { ...WRITE, direct: "prefer" }, disk.environment);
  if (file.isDirect) await expectMisalignedRefused(file, disk);
  else {
    using short = frozen(disk.environment.arena, Buffer.alloc(100));
    await file.writeAllAt(short, 0);
  }
  expect(readFileSync(path).length).toBe(file.isDirect ? 0 : 100);
});

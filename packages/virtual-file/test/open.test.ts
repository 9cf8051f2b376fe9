/** Opening: which flags, what happens where direct I/O is refused, and what a second open of the same file does. */
import { expect, test } from "vitest";
import { FdCache, VirtualFile } from "../src/index.js";
import type { IoMode, OpenOptions } from "../src/index.js";
import { createWorld } from "./fake-engine.js";

const PATH = "/d/file";
const READ: OpenOptions = {};
const WRITE: OpenOptions = { read: true, write: true };

// Aim: the table of modes. Method: every mode with a file that is kept off direct I/O, is read, and is written.
test.each<[IoMode, OpenOptions, string]>([
  ["buffered", { direct: "off" }, "O_RDONLY"],
  ["direct", { direct: "off" }, "O_RDONLY"],
  ["direct-rw", { direct: "off" }, "O_RDONLY"],
  ["buffered", READ, "O_RDONLY"],
  ["direct", READ, "O_RDONLY|O_DIRECT"],
  ["direct-rw", READ, "O_RDONLY|O_DIRECT"],
  ["buffered", WRITE, "O_RDWR"],
  ["direct", WRITE, "O_RDWR"],
  ["direct-rw", WRITE, "O_RDWR|O_DIRECT"],
  ["direct-rw", { ...WRITE, direct: "off" }, "O_RDWR"],
  ["direct-rw", { write: true, direct: "require" }, "O_WRONLY|O_DIRECT"],
  ["buffered", { write: true, direct: "require" }, "O_WRONLY"],
])("mode %s opens with %o as %s", async (ioMode, options, flags) => {
  const { engine, environment } = createWorld({ ioMode });
  engine.put(PATH, "");
  await using file = await VirtualFile.open(PATH, options, environment);
  expect(engine.log).toEqual([`open ${PATH} ${flags}`]);
  expect(file.isDirect).toBe(flags.endsWith("O_DIRECT"));
  expect(file.alignmentBytes).toBe(file.isDirect ? 512 : 1);
});

// Aim: creation. Method: the three ways to make or empty a file; direct by default.
test.each<[OpenOptions, string]>([
  [{ write: true, create: true }, "O_WRONLY|O_CREAT|O_DIRECT"],
  [{ ...WRITE, create: true, truncate: true }, "O_RDWR|O_CREAT|O_TRUNC|O_DIRECT"],
  [{ write: true, create: true, dataSync: true }, "O_WRONLY|O_CREAT|O_DIRECT|O_DSYNC"],
  [{ write: true, createNew: true, create: true, truncate: true }, "O_WRONLY|O_CREAT|O_EXCL|O_DIRECT"],
])("%o makes a file with %s", async (options, flags) => {
  const { engine, environment } = createWorld({ ioMode: "direct-rw" });
  await using file = await VirtualFile.open(PATH, options, environment);
  expect(engine.log).toEqual([`open ${PATH} ${flags}`]);
  expect(await file.size()).toBe(0);
});

// Aim: options that contradict each other, or append, are refused before anything is opened. Method: all of them.
test.each([
  { append: true, write: true },
  { read: false },
  { create: true },
  { createNew: true },
  { truncate: true },
  { dataSync: true },
])("%o is refused", async (options) => {
  const { engine, environment } = createWorld();
  await expect(VirtualFile.open(PATH, options, environment)).rejects.toThrow(TypeError);
  expect(engine.log).toEqual([]);
  expect(environment.descriptors.stats.open).toBe(0);
});

// Aim: a file system without direct I/O. Method: the engine refuses it once; "require" fails, "prefer" does without.
test.each(["EINVAL", "EOPNOTSUPP"])("direct I/O that is refused with %s", async (code) => {
  const { engine, arena, environment } = createWorld({ ioMode: "direct-rw" });
  engine.plan("open", code, code);
  const required = VirtualFile.open(PATH, { ...WRITE, createNew: true, direct: "require" }, environment);
  await expect(required).rejects.toMatchObject({ code: "ERR_FILE_IO", errnoCode: code, syscall: "open" });
  expect(environment.descriptors.stats.open).toBe(0);
  engine.log.length = 0;
  await using file = await VirtualFile.open(PATH, { ...WRITE, createNew: true }, environment);
  // The kernel has made the file already when it refuses O_DIRECT: asking for a new one again would fail.
  expect(engine.log).toEqual([`open ${PATH} O_RDWR|O_CREAT|O_EXCL|O_DIRECT`, `open ${PATH} O_RDWR|O_CREAT`]);
  expect(file.isDirect).toBe(false);
  using buffer = arena.alloc(100);
  buffer.fill(1, 3);
  expect(await file.readAt(buffer, 1, 5)).toBe(0);
});

// Aim: other failures are not taken for a refusal. Method: an engine that has too many files open.
test("an open that fails otherwise is not repeated", async () => {
  const { engine, environment } = createWorld({ ioMode: "direct-rw" });
  engine.plan("open", "EMFILE");
  await expect(VirtualFile.open(PATH, READ, environment)).rejects.toMatchObject({ errnoCode: "EMFILE" });
  await expect(VirtualFile.open(PATH, READ, environment)).rejects.toMatchObject({ errnoCode: "ENOENT" });
  expect(engine.log).toHaveLength(2);
});

// Aim: a descriptor that is opened again neither makes, nor empties, nor wants a new file. Method: one slot, two files.
test("re-opening keeps what is there", async () => {
  const { engine, environment } = createWorld({ ioMode: "direct-rw", descriptors: new FdCache(1) });
  await using first = await VirtualFile.open(PATH, { ...WRITE, create: true, truncate: true }, environment);
  await using other = await VirtualFile.open("/d/new", { ...WRITE, createNew: true }, environment);
  await first.setLength(512);
  await other.setLength(1024);
  expect([await first.size(), await other.size()]).toEqual([512, 1024]);
  expect(engine.log.filter((line) => line.startsWith("open")).slice(2)).toEqual([
    `open ${PATH} O_RDWR|O_DIRECT`,
    "open /d/new O_RDWR|O_DIRECT",
    `open ${PATH} O_RDWR|O_DIRECT`,
    "open /d/new O_RDWR|O_DIRECT",
  ]);
});

// Aim: an alignment that is none is refused. Method: not a power of two.
test("an environment's alignment must be a power of two", async () => {
  const { engine, environment } = createWorld({ ioMode: "direct-rw", alignment: 1000 });
  engine.put(PATH, "");
  await expect(VirtualFile.open(PATH, READ, environment)).rejects.toThrow(RangeError);
});

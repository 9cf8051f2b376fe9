/** Reads and writes: short ones, interrupted ones, ends of files, alignment; syncs that fail; closing and ownership. */
import type { IoBuffer, IoBufferMut } from "@millrace/aligned-buffers";
import { expect, test } from "vitest";
import { VirtualFile } from "../src/index.js";
import type { FileEnvironment, OpenOptions } from "../src/index.js";
import { createWorld, frozen, gate } from "./fake-engine.js";
import type { World } from "./fake-engine.js";

const PATH = "/d/file";
const WRITE = { read: true, write: true, create: true };

async function open(
  options: Partial<FileEnvironment> = {},
  more: OpenOptions = {},
): Promise<World & { readonly file: VirtualFile }> {
  const world = createWorld(options);
  const file = await VirtualFile.open(PATH, { ...WRITE, ...more }, world.environment);
  world.engine.log.length = 0;
  return { ...world, file };
}

const DIRECT = { ioMode: "direct-rw" } as const;

// Aim: what is written is read back. Method: a block behind a hole, on a direct file.
test("a block is read back where it was written", async () => {
  const { file, arena, engine } = await open(DIRECT);
  using buffer = frozen(arena, Buffer.alloc(4096, "x"));
  await file.writeAllAt(buffer, 8192);
  expect(await file.size()).toBe(12_288);
  using target = arena.alloc(8192);
  await file.readExactAt(target, 8192, 4096);
  await file.readExactAt(target, 0, 512);
  expect(Buffer.from(target.view())).toEqual(Buffer.concat([Buffer.alloc(4096, "x"), Buffer.alloc(512)]));
  expect(engine.log).toEqual([
    `write ${PATH} 8192+4096`,
    `size ${PATH}`,
    `read ${PATH} 8192+4096`,
    `read ${PATH} 0+512`,
  ]);
  await file.close();
  expect(arena.stats.liveBuffers).toBe(2);
});

// Aim: a write goes on until all is written. Method: two of four bytes, an interrupt, then nothing three times.
test("a short write is continued, an interrupted one repeated, an idle one given up", async () => {
  const { file, arena, engine } = await open();
  using buffer = frozen(arena, "abcd");
  engine.plan("write", 2, "EINTR");
  await file.writeAllAt(buffer, 10);
  expect(engine.log).toEqual([`write ${PATH} 10+4`, `write ${PATH} 12+2`, `write ${PATH} 12+2`]);
  expect(engine.text(PATH)?.slice(10)).toBe("abcd");
  engine.log.length = 0;
  engine.plan("write", 0, 0, 1, 0, 0, 0);
  await expect(file.writeAllAt(buffer, 0)).rejects.toMatchObject({
    name: "WriteZeroError",
    code: "ERR_FILE_WRITE_ZERO",
  });
  expect(engine.log).toHaveLength(6);
  engine.plan("write", ...Array.from({ length: 101 }, () => "EINTR"));
  await expect(file.writeAllAt(buffer, 0)).rejects.toMatchObject({ errnoCode: "EINTR", syscall: "write" });
  await file.close();
});

// Aim: a direct write stays aligned. Method: 1000 of 2048 bytes, then 100, then the rest.
test("a short direct write is continued from the last aligned byte", async () => {
  const { file, arena, engine } = await open(DIRECT);
  using buffer = frozen(arena, Buffer.alloc(2048, "x"));
  engine.plan("write", 1000, 100, 100);
  await file.writeAllAt(buffer, 512);
  expect(engine.log).toEqual([
    `write ${PATH} 512+2048`,
    `write ${PATH} 1024+1536`,
    `write ${PATH} 1024+1536`,
    `write ${PATH} 1024+1536`,
  ]);
  engine.plan("write", 511, 511, 511);
  await expect(file.writeAllAt(buffer, 0)).rejects.toMatchObject({ code: "ERR_FILE_WRITE_ZERO" });
  await file.close();
});

// Aim: reads go on until the end of the file. Method: parts that fill the target, and parts that do not.
test("partial reads fill the target or meet the end of the file", async () => {
  const { file, arena, engine } = await open();
  engine.put(PATH, "");
  using content = frozen(arena, "abcdef");
  await file.writeAllAt(content, 0);
  engine.log.length = 0;
  using target = arena.alloc(16);
  target.append(Buffer.from(">"));
  engine.plan("read", 1, "EINTR", 2);
  await file.readExactAt(target, 0, 3);
  expect(Buffer.from(target.view()).toString()).toBe(">abc");
  expect(engine.log).toEqual([`read ${PATH} 0+3`, `read ${PATH} 1+2`, `read ${PATH} 1+2`]);
  engine.plan("read", 1, 1, 0);
  const ended = file.readExactAt(target, 0, 3);
  await expect(ended).rejects.toMatchObject({
    code: "ERR_FILE_UNEXPECTED_EOF",
    offsetBytes: 0,
    wantedBytes: 3,
    gotBytes: 2,
  });
  expect(Buffer.from(target.view()).toString()).toBe(">abcab");
  engine.log.length = 0;
  await file.readExactAt(target, 99, 0);
  using empty = frozen(arena, "");
  await file.writeAllAt(empty, 99);
  expect(engine.log).toEqual([]);
  await expect(file.readAt(target, 0, 12)).rejects.toThrow(RangeError);
  await expect(file.readAt(target, -1, 1)).rejects.toThrow(RangeError);
  await expect(file.readAt(target, 2 ** 53, 1)).rejects.toThrow(RangeError);
  await expect(file.setLength(1.5)).rejects.toThrow(RangeError);
  engine.plan("read", "EIO");
  await expect(file.readAt(target, 0, 1)).rejects.toMatchObject({
    code: "ERR_FILE_IO",
    errnoCode: "EIO",
    syscall: "read",
  });
  expect(target.length).toBe(6);
  await file.close();
});

// Aim: a direct read that ends inside of a block is the end. Method: 1000 bytes, read whole, from the middle, from behind.
test("a direct read never goes on from an unaligned place", async () => {
  const { file, arena, engine } = await open(DIRECT);
  await file.setLength(1000);
  engine.log.length = 0;
  const got: number[] = [];
  for (const [offset, length] of [
    [0, 1024],
    [512, 512],
    [1024, 512],
  ] as const) {
    using target = arena.alloc(length);
    got.push(await file.readAt(target, offset, length));
    expect(target.length).toBe(got.at(-1));
  }
  expect(got).toEqual([1000, 488, 0]);
  expect(engine.log).toEqual([`read ${PATH} 0+1024`, `read ${PATH} 512+512`, `read ${PATH} 1024+512`]);
  await file.close();
});

// Aim: misaligned direct I/O is told from here, not by the kernel. Method: one of the three wrong, for reads and for writes.
test("alignment is checked before anything is issued", async () => {
  const { file, arena, engine } = await open(DIRECT);
  using whole = frozen(arena, Buffer.alloc(2048));
  const slice = (begin: number, end: number): IoBuffer => whole.slice(begin, end);
  const wrong = (what: string) => ({ code: "ERR_FILE_ALIGNMENT", what });
  using shifted = slice(1, 513);
  using short = slice(0, 100);
  using block = slice(512, 1024);
  await expect(file.writeAllAt(shifted, 0)).rejects.toMatchObject(wrong("address"));
  await expect(file.writeAllAt(block, 100)).rejects.toMatchObject(wrong("offset"));
  await expect(file.writeAllAt(short, 0)).rejects.toMatchObject(wrong("length"));
  using target: IoBufferMut = arena.alloc(2048);
  await expect(file.readAt(target, 100, 512)).rejects.toMatchObject(wrong("offset"));
  await expect(file.readAt(target, 0, 100)).rejects.toMatchObject(wrong("length"));
  target.fill(0, 1);
  await expect(file.readAt(target, 0, 512)).rejects.toMatchObject(wrong("address"));
  expect(engine.log).toEqual([]);
  await file.writeAllAt(block, 512);
  await file.close();
});

// Aim: syncs are what was asked for. Method: both kinds, and an environment without.
test("sync is fdatasync, fsync, or nothing where that was asked for", async () => {
  const { file, engine } = await open();
  await file.sync();
  await file.sync("all");
  expect(engine.log).toEqual([`fdatasync ${PATH}`, `fsync ${PATH}`]);
  await file.close();
  const unsafe = await open({ sync: "unsafe-none" });
  await unsafe.file.sync("all");
  await unsafe.file.close();
  expect(unsafe.engine.log).toEqual([`close ${PATH}`]);
});

// Aim: a write that was to be durable is as final as a sync, and a full disk is not. Method: a file with O_DSYNC runs out of
// room three ways, then meets an error; the same error on a file without.
test("a failed write poisons a file with dataSync unless there was no room", async () => {
  const { file, arena, engine } = await open(DIRECT, { dataSync: true });
  expect(file.isDataSync).toBe(true);
  using buffer = frozen(arena, Buffer.alloc(512, "x"));
  for (const code of ["ENOSPC", "EDQUOT", "EFBIG"]) {
    engine.plan("write", code);
    await expect(file.writeAllAt(buffer, 0)).rejects.toMatchObject({ errnoCode: code });
    await file.writeAllAt(buffer, 0);
  }
  engine.plan("write", "EIO");
  await expect(file.writeAllAt(buffer, 0)).rejects.toMatchObject({ code: "ERR_FILE_IO", errnoCode: "EIO" });
  await expect(file.writeAllAt(buffer, 0)).rejects.toMatchObject({ code: "ERR_FILE_POISONED" });
  await file.close();

  const other = await open(DIRECT);
  expect(other.file.isDataSync).toBe(false);
  using same = frozen(other.arena, Buffer.alloc(512, "x"));
  other.engine.plan("write", "EIO");
  await expect(other.file.writeAllAt(same, 0)).rejects.toMatchObject({ errnoCode: "EIO" });
  await other.file.writeAllAt(same, 0);
  await other.file.close();
});

// Aim: a failed sync is final. Method: one fails, then every call; one that was waiting at the same time, too.
test("a failed sync poisons the file", async () => {
  const { file, arena, engine } = await open();
  using buffer = frozen(arena, "x");
  using target = arena.alloc(1);
  const held = gate();
  engine.plan("fdatasync", held.opened, "EIO");
  const [first, second] = [file.sync(), file.sync()];
  await expect(second).rejects.toMatchObject({ code: "ERR_FILE_IO", errnoCode: "EIO", syscall: "fdatasync" });
  held.open();
  await expect(first, "it may have been told what belongs to the other").rejects.toMatchObject({
    code: "ERR_FILE_POISONED",
    cause: { errnoCode: "EIO" },
  });
  const calls = [
    () => file.sync("all"),
    () => file.writeAllAt(buffer, 0),
    () => file.readAt(target, 0, 1),
    () => file.setLength(0),
    () => file.size(),
  ];
  for (const call of calls) await expect(call()).rejects.toMatchObject({ code: "ERR_FILE_POISONED" });
  expect(engine.log).toHaveLength(2);
  await file.close();
});

// Aim: closing waits, ends, and may be repeated; its failure is the first closer's. Method: close while a read is held.
test("closing waits for I/O in flight and refuses more", async () => {
  const { file, arena, engine, environment } = await open();
  using target = arena.alloc(4);
  const held = gate();
  engine.plan("read", held.opened);
  engine.plan("close", "EIO");
  const reading = file.readAt(target, 0, 4);
  const closing = file.close();
  await expect(file.size()).rejects.toMatchObject({ code: "ERR_FILE_CLOSED" });
  expect(engine.log).toEqual([`read ${PATH} 0+4`]);
  held.open();
  expect(await reading).toBe(0);
  await expect(closing).rejects.toMatchObject({ code: "ERR_FILE_IO", syscall: "close" });
  await expect(file.close()).rejects.toMatchObject({ syscall: "close" });
  expect([engine.openNow, environment.descriptors.stats.open]).toEqual([0, 0]);
});

// Aim: memory that is being written is not given to others. Method: dispose of the buffer while the write is held.
test("a buffer that is disposed of during its write stays until the write has ended", async () => {
  const { file, arena, engine } = await open();
  const held = gate();
  engine.plan("write", held.opened);
  const buffer = frozen(arena, "abcd");
  const writing = file.writeAllAt(buffer, 0);
  buffer[Symbol.dispose]();
  expect(arena.stats.liveBuffers).toBe(1);
  held.open();
  await writing;
  expect(arena.stats.liveBuffers).toBe(0);
  expect(engine.text(PATH)).toBe("abcd");
  await file.close();
});

// Aim: bytes that change during their write are noticed, in debug mode. Method: write through a raw view while it is held.
test("a write of bytes that were tampered with fails", async () => {
  const { file, arena, engine } = await open();
  const held = gate();
  engine.plan("write", held.opened);
  using buffer = frozen(arena, "abcd");
  const writing = file.writeAllAt(buffer, 0);
  buffer.unsafeView()[0] = 0;
  held.open();
  await expect(writing).rejects.toMatchObject({ code: "ERR_BUFFER_TAMPERED" });
  await file.close();
});

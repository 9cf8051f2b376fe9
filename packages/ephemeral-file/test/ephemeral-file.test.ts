/** The life of a file: what is appended is read back, also after the writer has ended; and it is gone with its object. */
import { FlushProbe } from "@millrace/buffered-writer";
import { Gate } from "@millrace/duplex";
import { FdCache } from "@millrace/virtual-file";
import { expect, test, vi } from "vitest";
import { EphemeralFile } from "../src/index.js";
import { fail, stop } from "./test-engine.js";
import {
  diskWorld,
  expectSame,
  isPending,
  memoryWorld,
  noise,
  probe,
  readBytes,
  rejection,
  settle,
} from "./world.js";
import type { World } from "./world.js";

const CAPACITY = 65_536;
const probed = await probe();
const ALIGNMENT: number = probed ?? 512;

function create(
  world: World,
  options: Parameters<typeof EphemeralFile.create>[2] = {},
): Promise<EphemeralFile> {
  return EphemeralFile.create(world.directory, world.environment, options);
}

// Aim: pieces come back from where they were put, and the file has all full buffers. Method: two and a half of them in blocks.
test("blocks are read back from the offsets of their appends", async () => {
  await using world = diskWorld({ alignment: ALIGNMENT });
  const flush = new FlushProbe();
  await using file = await create(world, { probe: flush });
  const content = noise(2.5 * CAPACITY);
  for (let offset = 0; offset < content.length; offset += ALIGNMENT)
    expect(await file.append(content.subarray(offset, offset + ALIGNMENT))).toBe(offset);
  expect(file.length).toBe(content.length);
  for (let offset = 0; offset < content.length; offset += ALIGNMENT)
    expectSame(
      await readBytes(file, offset, ALIGNMENT),
      content.subarray(offset, offset + ALIGNMENT),
      String(offset),
    );
  await flush.reached("confirmed", 1);
  expectSame(world.onDisk(file), content.subarray(0, 2 * CAPACITY), "on the disk");
  expect(file.stats).toMatchObject({ flushes: 2, bytesCopied: content.length, replacedBuffers: 0 });
});

// Aim: reads end where the file does. Method: around the end, far beyond, and with numbers that are no offsets.
test("a read is short at the end, empty behind it, and refuses what is no offset", async () => {
  await using world = diskWorld({ alignment: ALIGNMENT });
  await using file = await create(world);
  const content = noise(2.5 * CAPACITY);
  await file.append(content);
  const { length } = content;
  expectSame(await readBytes(file, length - 10, 100), content.subarray(-10), "at the end");
  for (const offset of [length, length + 1, 2 ** 40, Number.MAX_SAFE_INTEGER]) {
    expect(await readBytes(file, offset, 1)).toHaveLength(0);
    expect(file.tryRead(offset, new Uint8Array(1))).toBe(0);
  }
  expect(await file.read(0, new Uint8Array(0))).toBe(0);
  expect(file.tryRead(0, new Uint8Array(0))).toBe(0);
  for (const offset of [-1, 0.5, Number.NaN, 2 ** 53]) {
    await expect(file.read(offset, new Uint8Array(1))).rejects.toThrow(RangeError);
    expect(() => file.tryRead(offset, new Uint8Array(1))).toThrow(RangeError);
  }
});

// Aim: everything is everything. Method: lengths around all borders.
test.each([0, 1, ALIGNMENT - 1, ALIGNMENT, CAPACITY, CAPACITY + 1, 2.5 * CAPACITY])(
  "readAll gives exactly %d bytes",
  async (length) => {
    await using world = diskWorld({ alignment: ALIGNMENT });
    await using file = await create(world);
    const content = noise(length);
    await file.append(content);
    using whole = await file.readAll();
    expect(whole.length).toBe(length);
    expectSame(whole.unsafeView(), content, "everything");
  },
);

// Aim: what a caller asks for need not be aligned, what the disk is asked for is. Method: 200 reads anywhere, seeded.
test.skipIf(probed === null)("unaligned reads with direct I/O are what was appended", async () => {
  await using world = diskWorld({ alignment: ALIGNMENT });
  const flush = new FlushProbe();
  flush.hold("started", ({ index }) => index === 3);
  await using file = await create(world, { probe: flush });
  expect(file.isDirect).toBe(true);
  const content = noise(4.5 * CAPACITY + 77);
  await file.append(content);
  world.engine.log.length = 0;
  const random = new Uint32Array(noise(1600).slice().buffer);
  for (let index = 0; index < 200; index++) {
    const from = (random[2 * index] as number) % content.length;
    const length = (random[2 * index + 1] as number) % (index % 2 === 0 ? 1000 : 2 * CAPACITY);
    expectSame(
      await readBytes(file, from, length),
      content.subarray(from, from + length),
      `${String(length)} bytes at ${String(from)}`,
    );
  }
  const reads = world.engine.of("read").map((read) => read.split("+").map(Number));
  expect(reads.length).toBeGreaterThan(100);
  expect(reads.every((numbers) => numbers.every((number) => number % ALIGNMENT === 0))).toBe(true);
  flush.release(3);
});

// Aim: reading from memory costs no promise. Method: in the tail, in a segment, and where a byte is in the file.
test("tryRead reads what is in memory", async () => {
  await using world = memoryWorld();
  const flush = new FlushProbe();
  flush.hold("started", ({ index }) => index === 1);
  await using file = await create(world, { capacity: 512, probe: flush });
  const content = noise(1200);
  await file.append(content);
  const target = new Uint8Array(600);
  expect(file.tryRead(600, target)).toBe(600);
  expectSame(target, content.subarray(600), "segment and tail");
  expect(file.tryRead(512, target.subarray(0, 88))).toBe(88);
  target.fill(1);
  expect(file.tryRead(511, target)).toBeUndefined();
  expect(target.every((byte) => byte === 1)).toBe(true);
  flush.release(1);
  await flush.reached("confirmed", 1);
  expect(file.tryRead(600, target)).toBeUndefined();
});

test("tryAppend appends what needs no wait", async () => {
  await using world = memoryWorld();
  const flush = new FlushProbe();
  flush.hold("started");
  await using file = await create(world, { capacity: 512, probe: flush });
  expect([file.tryAppend(noise(512)), file.tryAppend(noise(511)), file.tryAppend(noise(1))]).toEqual([
    0,
    512,
    undefined,
  ]);
  expect(file.length).toBe(1023);
  flush.release(0);
});

// Aim: a cancelled writer takes no reads with it. Method: cancel with everything in the file, and with a segment on its way.
test.each([false, true])(
  "when appends are cancelled reads go on (a segment on its way: %s)",
  async (isHeld) => {
    await using world = diskWorld({ alignment: ALIGNMENT });
    const flush = new FlushProbe();
    if (isHeld) flush.hold("started", ({ index }) => index === 1);
    const aborting = new AbortController();
    await using file = await create(world, { probe: flush, signal: aborting.signal });
    const content = noise(2.25 * CAPACITY);
    await file.append(content);
    if (!isHeld) await flush.reached("confirmed", 1);
    aborting.abort("enough");
    flush.release(1);
    await expect(file.append(noise(1))).rejects.toMatchObject({
      code: "ERR_FLUSH_CANCELLED",
      cause: "enough",
    });
    expect(() => file.tryAppend(noise(1))).toThrow(expect.objectContaining({ code: "ERR_FLUSH_CANCELLED" }));
    expect(file.state).toBe("cancelled");
    expectSame(await readBytes(file, 0, content.length + 1), content, "after a cancellation");
    using whole = await file.readAll();
    expectSame(whole.unsafeView(), content, "everything");
  },
);

test("when the disk has failed an append reads go on", async () => {
  await using world = diskWorld({ alignment: ALIGNMENT });
  const onFatal = vi.fn();
  await using file = await create(world, { onFatal });
  world.engine.plan("write", (make) => make(), fail("EIO"));
  const content = noise(2.25 * CAPACITY);
  await file.append(content);
  await settle();
  await expect(file.append(noise(1))).rejects.toMatchObject({
    code: "ERR_WRITER_POISONED",
    cause: { code: "ERR_FILE_IO", errnoCode: "EIO" },
  });
  expect([file.state, file.length, onFatal.mock.calls.length]).toEqual(["poisoned", content.length, 1]);
  expectSame(await readBytes(file, 0, content.length), content, "after a failure");
  const [one] = await file.readVectored([{ offsetBytes: CAPACITY - 1, lengthBytes: CAPACITY }]);
  expect(
    one?.ok === true && Buffer.compare(one.bytes, content.subarray(CAPACITY - 1, 2 * CAPACITY - 1)),
  ).toBe(0);
});

// Aim: a gate waits for the name to be gone. Method: close the gate first; look into the directory at its end.
test("the gate is released when the file is gone", async () => {
  await using world = diskWorld({ alignment: ALIGNMENT });
  const gate = new Gate();
  const file = await create(world, { gate: gate.enter() });
  await file.append(noise(3 * CAPACITY));
  const closing = gate.close();
  expect(await isPending(closing)).toBe(true);
  expect(world.names()).toEqual([file.path.slice(world.directory.length + 1)]);
  const namesAtTheEnd = closing.then(() => world.names());
  await file[Symbol.asyncDispose]();
  await file[Symbol.asyncDispose]();
  expect(await namesAtTheEnd).toEqual([]);
  expect(file.state).toBe("closed");
});

// Aim: the end is the end. Method: every call afterwards.
test("calls after disposal are refused", async () => {
  await using world = memoryWorld();
  const file = await create(world);
  await file.append(noise(10));
  await file[Symbol.asyncDispose]();
  const closed = { name: "EphemeralFileError", code: "ERR_EPHEMERAL_CLOSED" };
  const calls = [
    () => file.append(noise(1)),
    () => file.read(0, new Uint8Array(1)),
    () => file.readAll(),
    () => file.readVectored([]),
  ];
  for (const call of calls) await expect(call()).rejects.toMatchObject(closed);
  expect(() => file.tryAppend(noise(1))).toThrow(expect.objectContaining(closed));
  expect(() => file.tryRead(0, new Uint8Array(1))).toThrow(expect.objectContaining(closed));
  expect(file.length).toBe(10);
});

// Aim: disposal waits for the kernel and for nothing else. Method: a read, a write and an append are under way, each of them held;
// a second read waits for memory that never comes.
test("disposal ends what is under way", async () => {
  await using world = memoryWorld({ arenaBytes: 16 * 512 });
  const file = await create(world, { capacity: 512 });
  const [reading, readingAll, writing] = [stop(), stop(), stop()];
  const content = noise(512);
  await file.append(content);
  await settle();
  world.engine.plan("write", writing.act);
  world.engine.plan("read", reading.act, readingAll.act);
  await file.append(content);
  const appending = rejection(file.append(noise(1000)));
  const read = rejection(file.read(0, new Uint8Array(10)));
  await reading.arrived;
  const everything = rejection(file.readAll());
  await Promise.all([readingAll.arrived, writing.arrived]);
  const taken = [];
  for (;;) {
    const buffer = world.arena.tryAlloc(512);
    if (buffer === undefined) break;
    taken.push(buffer);
  }
  const starved = rejection(file.read(0, new Uint8Array(10)));
  await settle();
  const disposing = file[Symbol.asyncDispose]();
  const closed = { code: "ERR_EPHEMERAL_CLOSED" };
  expect(await starved).toMatchObject(closed);
  expect(await appending).toMatchObject({ code: "ERR_WRITER_CLOSED" });
  writing.release();
  expect(await isPending(disposing)).toBe(true);
  expect(world.names()).toHaveLength(1);
  reading.release();
  expect(await read).toMatchObject(closed);
  expect(await isPending(disposing)).toBe(true);
  readingAll.release();
  await disposing;
  expect(await everything).toMatchObject(closed);
  expect(world.arena.stats.liveBuffers).toBe(taken.length);
  for (const buffer of taken) buffer[Symbol.dispose]();
});

// Aim: files need no descriptors of their own. Method: three files through one slot, read and written in turn.
test("many files share few descriptors", async () => {
  await using world = diskWorld({ alignment: ALIGNMENT, slots: 1 });
  const contents = [1, 2, 3].map((seed) => noise(1.5 * CAPACITY, seed));
  const files: EphemeralFile[] = [];
  for (const _ of contents) files.push(await create(world));
  for (const half of [0, 1]) {
    for (const [index, content] of contents.entries()) {
      const middle = content.length / 2;
      await files[index]?.append(half === 0 ? content.subarray(0, middle) : content.subarray(middle));
    }
  }
  for (const [index, content] of contents.entries())
    expectSame(await readBytes(files[index] as EphemeralFile, 0, content.length), content, String(index));
  const { descriptors } = world.environment as { readonly descriptors: FdCache };
  expect(descriptors.stats.open).toBe(1);
  expect(descriptors.stats.reopens).toBeGreaterThanOrEqual(2);
  await Promise.all(files.map((file) => file[Symbol.asyncDispose]()));
});

// Aim: memory is as aligned as the file needs it, whatever the arena would do. Method: an arena of 512 bytes under a file of 4096,
// with small buffers in between; the file system refuses what is misaligned.
test("memory for reads has the alignment of the file", async () => {
  await using world = memoryWorld({ alignment: 4096 });
  const flush = new FlushProbe();
  await using file = await create(world, { capacity: 4096, probe: flush });
  expect(file.isDirect).toBe(true);
  const content = noise(3 * 4096 + 5);
  await file.append(content);
  await flush.reached("confirmed", 2);
  for (let count = 0; count < 3; count++) {
    using _ = world.arena.alloc(512);
    expectSame(await readBytes(file, 4000, 200), content.subarray(4000, 4200), "a read");
    using whole = await file.readAll();
    expectSame(whole.unsafeView(), content, "everything");
    const [one] = await file.readVectored([{ offsetBytes: 100, lengthBytes: 9000 }]);
    expectSame(one?.ok === true ? one.bytes : new Uint8Array(0), content.subarray(100, 9100), "a range");
  }
});

// Aim: an append that is given up before its turn was never made. Method: abort one in line behind a held segment.
test("an append can be aborted while it waits for its turn", async () => {
  await using world = memoryWorld();
  const flush = new FlushProbe();
  flush.hold("started");
  await using file = await create(world, { capacity: 512, probe: flush });
  const first = file.append(noise(1100));
  const aborting = new AbortController();
  const second = rejection(file.append(noise(10), { signal: aborting.signal }));
  await settle();
  aborting.abort("no more");
  expect(await second).toBe("no more");
  flush.release(0);
  flush.release(1);
  expect(await first).toBe(0);
  expect(await file.append(noise(10))).toBe(1100);
  flush.release(2);
});

// Aim: what cannot be made leaves nothing behind. Method: no room in the arena, a bad number, a directory that is none.
test("a file that cannot be made leaves nothing", async () => {
  await using world = memoryWorld({ arenaBytes: 1024 });
  const release = vi.fn();
  const gate = { release };
  await expect(create(world, { gate })).rejects.toThrow(RangeError);
  using taken = world.arena.alloc(512);
  await expect(create(world, { gate, capacity: 512 })).rejects.toMatchObject({ code: "ERR_ARENA_EXHAUSTED" });
  taken[Symbol.dispose]();
  await expect(create(world, { gate, capacity: 100 })).rejects.toThrow(RangeError);
  expect(world.names()).toEqual([]);
  world.engine.plan("open", fail("ENOTDIR"));
  await expect(create(world, { gate, capacity: 512 })).rejects.toMatchObject({ errnoCode: "ENOTDIR" });
  expect(release).toHaveBeenCalledTimes(4);
});

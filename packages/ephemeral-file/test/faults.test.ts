/** Every call to the system fails once, falls short once, or is given up in the middle. */
import { FlushProbe } from "@millrace/buffered-writer";
import { expect, test } from "vitest";
import { EphemeralFile } from "../src/index.js";
import type { EphemeralFileOptions } from "../src/index.js";
import { fail, pass, short, stop } from "./test-engine.js";
import type { Act } from "./test-engine.js";
import { diskWorld, expectSame, memoryWorld, noise, readBytes, rejection, settle } from "./world.js";
import type { World } from "./world.js";

const CAPACITY = 1024;
const CONTENT: Uint8Array = noise(3 * CAPACITY + 100);

/** A file with three buffers on the disk, and a tail in memory. */
async function filled(world: World, options: EphemeralFileOptions = {}): Promise<EphemeralFile> {
  const flush = new FlushProbe();
  const file = await EphemeralFile.create(world.directory, world.environment, {
    capacity: CAPACITY,
    probe: flush,
    clock: { sleep: () => Promise.resolve() },
    ...options,
  });
  await file.append(CONTENT);
  if (options.probe === undefined) await flush.reached("confirmed", 2);
  world.engine.log.length = 0;
  return file;
}

// Aim: a read that the disk refuses is told, with the disk's word, and the next one works. Method: each kind of read, each error.
test.each(["EIO", "ENOMEM", "EBADF"])("reads that fail with %s are told", async (errnoCode) => {
  await using world = memoryWorld();
  await using file = await filled(world);
  const failed = { code: "ERR_FILE_IO", errnoCode, syscall: "read" };
  world.engine.plan("read", fail(errnoCode), fail(errnoCode), fail(errnoCode));
  await expect(file.read(0, new Uint8Array(10))).rejects.toMatchObject(failed);
  await expect(file.readAll()).rejects.toMatchObject(failed);
  const [first, second, third] = await file.readVectored([
    { offsetBytes: 0, lengthBytes: 10 },
    { offsetBytes: 3 * CAPACITY, lengthBytes: 100 },
    { offsetBytes: 1, lengthBytes: 0 },
  ]);
  expect(first).toMatchObject({ ok: false, error: failed });
  expect([second?.ok, third?.ok]).toEqual([true, true]);
  expectSame(await readBytes(file, 0, CONTENT.length), CONTENT, "afterwards");
});

// Aim: short and interrupted transfers are finished. Method: reads of a part, of nothing that is aligned, and a signal in between.
test("short and interrupted reads are continued", async () => {
  await using world = memoryWorld();
  await using file = await filled(world);
  const interrupted: Act[] = [short(512), fail("EINTR"), short(1024), fail("EINTR")];
  world.engine.plan("read", ...interrupted);
  expectSame(await readBytes(file, 3, 2500), CONTENT.subarray(3, 2503), "read");
  expect(world.engine.of("read")).toEqual(["0+2560", "512+2048", "512+2048", "1536+1024", "1536+1024"]);
  world.engine.plan("read", ...interrupted);
  using whole = await file.readAll();
  expectSame(whole.unsafeView(), CONTENT, "everything");
});

// Aim: a file that was cut by others gives no wrong bytes. Method: reads that end before what was confirmed.
test("a file that is shorter than what was written to it is noticed", async () => {
  await using world = memoryWorld();
  await using file = await filled(world);
  const nothing: Act = () => Promise.resolve(0);
  const odd: Act = async (make) => {
    await make();
    return 100;
  };
  const eof = { code: "ERR_FILE_UNEXPECTED_EOF", path: file.path };
  world.engine.plan("read", short(512), nothing, odd, nothing);
  await expect(file.read(0, new Uint8Array(1000))).rejects.toMatchObject({ ...eof, gotBytes: 512 });
  await expect(file.readAll()).rejects.toMatchObject(eof);
  const [cut] = await file.readVectored([{ offsetBytes: 600, lengthBytes: 10 }]);
  expect(cut).toMatchObject({ ok: false, error: { ...eof, gotBytes: 0 } });
  expectSame(await readBytes(file, 0, CONTENT.length), CONTENT, "afterwards");
});

// Aim: what may pass is waited for, and meanwhile everything can be read. Method: a full disk, a short write, a signal.
test("writes that may pass are repeated while reads go on", async () => {
  await using world = memoryWorld();
  const flush = new FlushProbe();
  await using file = await EphemeralFile.create(world.directory, world.environment, {
    capacity: CAPACITY,
    probe: flush,
    clock: { sleep: () => Promise.resolve() },
  });
  const held = stop();
  world.engine.plan("write", fail("ENOSPC"), short(512), fail("EINTR"), held.act);
  await file.append(CONTENT.subarray(0, 1500));
  await held.arrived;
  expectSame(await readBytes(file, 0, CONTENT.length), CONTENT.subarray(0, 1500), "while it is repeated");
  held.release();
  await flush.reached("confirmed", 0);
  await file.append(CONTENT.subarray(1500));
  expect(world.engine.of("write").slice(0, 4)).toEqual(["0+1024", "0+1024", "512+512", "512+512"]);
  expect(file.stats.retries).toBe(1);
  expectSame(await readBytes(file, 0, CONTENT.length), CONTENT, "everything");
});

// Aim: what does not pass ends appends, and every acknowledged byte stays. Method: each write of three fails for good, after half of
// its bytes have reached the disk.
test.each([0, 1, 2])("when write %d fails for good, all that was acknowledged can be read", async (index) => {
  await using world = memoryWorld();
  const broken: Act = async (make, bytes) => {
    await make(bytes.subarray(0, 512));
    return await fail("EIO")(make, bytes);
  };
  world.engine.plan("write", ...Array.from({ length: index }, () => pass), broken);
  await using file = await EphemeralFile.create(world.directory, world.environment, { capacity: CAPACITY });
  for (let offset = 0; offset < CONTENT.length; offset += 100) {
    const error = await rejection(file.append(CONTENT.subarray(offset, offset + 100)));
    if (error !== undefined) expect(error).toMatchObject({ code: "ERR_WRITER_POISONED" });
    expectSame(await readBytes(file, 0, CONTENT.length), CONTENT.subarray(0, file.length), "so far");
  }
  expect(file.state).toBe("poisoned");
  expect(file.length).toBeGreaterThanOrEqual((index + 1) * CAPACITY - 100);
  expect(file.length).toBeLessThan((index + 2) * CAPACITY + 100);
});

// Aim: a descriptor that cannot be had again fails the read that needs it. Method: one slot, two files, and a failing open.
test("a descriptor that cannot be opened again is told", async () => {
  await using world = memoryWorld({ slots: 1 });
  await using first = await filled(world);
  await using second = await filled(world);
  world.engine.plan("open", fail("EMFILE"), fail("ENOENT"));
  const refused = { code: "ERR_FILE_IO", syscall: "open" };
  await expect(first.read(0, new Uint8Array(10))).rejects.toMatchObject({ ...refused, errnoCode: "EMFILE" });
  await expect(first.readAll()).rejects.toMatchObject({ ...refused, errnoCode: "ENOENT" });
  expectSame(await readBytes(first, 0, 10), CONTENT.subarray(0, 10), "afterwards");
  expectSame(await readBytes(second, 0, 10), CONTENT.subarray(0, 10), "the other one");
});

// Aim: a file that could not be closed or removed is told once, and nothing stays open. Method: each of the two fails.
test.each(["close", "unlink"] as const)("a failed %s is the disposer's", async (syscall) => {
  await using world = memoryWorld();
  const file = await filled(world);
  world.engine.plan(syscall, async (make) => {
    await make();
    return await fail("EIO")(make, new Uint8Array(0));
  });
  const failed = { code: "ERR_FILE_IO", errnoCode: "EIO", syscall };
  await expect(file[Symbol.asyncDispose]()).rejects.toMatchObject(failed);
  await expect(file[Symbol.asyncDispose]()).rejects.toMatchObject(failed);
});

// Aim: giving up a read gives up nothing else, and its memory is the kernel's until that is done. Method: all three kinds are
// aborted while the disk holds them; one more read is under way.
test("an aborted read rejects at once and keeps its memory until the disk is done", async () => {
  await using world = memoryWorld();
  await using file = await filled(world);
  const before = world.arena.stats.liveBuffers;
  const stops = [stop(), stop(), stop(), stop()];
  world.engine.plan("read", ...stops.map(({ act }) => act));
  const aborting = new AbortController();
  const { signal } = aborting;
  const target = Buffer.alloc(1000, 0xee);
  const aborted = [
    rejection(file.read(0, target, { signal })),
    rejection(file.readAll({ signal })),
    rejection(file.readVectored([{ offsetBytes: 5, lengthBytes: 10 }], { signal })),
  ];
  const other = readBytes(file, 100, 2000);
  await Promise.all(stops.map(({ arrived }) => arrived));
  expect(world.arena.stats.liveBuffers).toBe(before + 4);
  aborting.abort("enough");
  for (const call of aborted) expect(await call).toBe("enough");
  expect(world.arena.stats.liveBuffers).toBe(before + 4);
  for (const held of stops) held.release();
  expectSame(await other, CONTENT.subarray(100, 2100), "the other one");
  await settle();
  expect(world.arena.stats.liveBuffers).toBe(before);
  expect(
    target.every((byte) => byte === 0xee),
    "the target is the caller's again",
  ).toBe(true);
  for (const call of [
    file.read(0, target, { signal }),
    file.readAll({ signal }),
    file.readVectored([], { signal }),
  ])
    await expect(call).rejects.toBe("enough");
});

// Aim: a result that comes with the abort is not lost memory. Method: abort in the very moment when a held readAll ends.
test("an abort at the end of readAll leaks nothing", async () => {
  await using world = memoryWorld();
  await using file = await filled(world);
  const before = world.arena.stats.liveBuffers;
  for (let steps = 0; steps < 30; steps++) {
    const aborting = new AbortController();
    const held = stop();
    world.engine.plan("read", held.act);
    const reading = file.readAll({ signal: aborting.signal });
    const outcome = rejection(reading);
    await held.arrived;
    held.release();
    for (let step = 0; step < steps; step++) await Promise.resolve();
    aborting.abort("enough");
    if ((await outcome) === undefined) (await reading)[Symbol.dispose]();
    await settle();
    expect(world.arena.stats.liveBuffers, `after ${String(steps)} steps`).toBe(before);
  }
});

// Aim: readAll takes its memory at once or not at all: nobody else waits behind it. Method: too little room, and a file that is
// larger than the arena.
test("readAll without room says so", async () => {
  await using world = memoryWorld({ arenaBytes: 7 * 1024 });
  await using file = await filled(world);
  {
    using _ = world.arena.alloc(2048);
    await expect(file.readAll()).rejects.toMatchObject({ code: "ERR_ARENA_EXHAUSTED" });
    expectSame(await readBytes(file, 0, CONTENT.length), CONTENT, "in parts");
  }
  using whole = await file.readAll();
  expectSame(whole.unsafeView(), CONTENT, "everything");
  await file.append(noise(5000));
  await expect(file.readAll()).rejects.toThrow(RangeError);
});

// Aim: the same over the real thing. Method: the fault hook of the I/O engine, under reads and writes of direct files on a disk.
test("faults of the I/O engine are told, and leave what was acknowledged", async () => {
  await using world = diskWorld({ alignment: 4096 });
  const flush = new FlushProbe();
  const content = noise(200_000);
  await using file = await EphemeralFile.create(world.directory, world.environment, {
    probe: flush,
    clock: { sleep: () => Promise.resolve() },
  });
  {
    // The disk is full twice, and takes only a part of the third write.
    using full = world.io.faults.arm({ point: "instead", operation: "writev", times: 2, result: -28 });
    using part = world.io.faults.arm({ point: "afterwards", operation: "writev", times: 1, result: 8192 });
    await file.append(content);
    await flush.reached("confirmed", 2);
    expect([full.hits >= 2, part.hits >= 1, file.stats.retries]).toEqual([true, true, 2]);
  }
  expectSame(await readBytes(file, 0, content.length), content, "after a full disk");
  {
    using broken = world.io.faults.arm({ point: "instead", operation: "readv", times: 1, result: -5 });
    const [first, second] = await file.readVectored(
      [
        { offsetBytes: 0, lengthBytes: 10 },
        { offsetBytes: 100_000, lengthBytes: 10 },
      ],
      { inFlightMax: 1 },
    );
    expect(first).toMatchObject({ ok: false, error: { code: "ERR_FILE_IO", errnoCode: "EIO" } });
    expect([second?.ok, broken.hits]).toEqual([true, 2]);
  }
  {
    using _ = world.io.faults.arm({ point: "afterwards", operation: "readv", times: 1, result: 4096 });
    expectSame(await readBytes(file, 0, content.length), content, "after a short read");
  }
  using _ = world.io.faults.arm({ point: "instead", operation: "writev", times: 1, result: -5 });
  const failed = { code: "ERR_WRITER_POISONED", cause: { code: "ERR_FILE_IO", errnoCode: "EIO" } };
  await expect(file.append(content)).rejects.toMatchObject(failed);
  await expect(file.append(content)).rejects.toMatchObject(failed);
  expect(file.length).toBe(content.length);
  expectSame(await readBytes(file, 0, 400_000), content, "after a broken disk");
});

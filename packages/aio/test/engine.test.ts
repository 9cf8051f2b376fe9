/** The promise face: files, positions, durability, back-pressure and the end, with every method that runs here. */
import { constants as openFlags, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { constants } from "node:os";
import { describe, expect, test } from "vitest";

import { IoEngine } from "../src/engine.js";
import type { IoEngineOptions } from "../src/engine.js";
import { AioError } from "../src/errors.js";
import { BLOCK_BYTES, BlockFile, BLOCKS, METHODS } from "./fixture.js";

function engineFor(method: (typeof METHODS)[number], options: IoEngineOptions = {}): IoEngine {
  return IoEngine.create({ method, required: true, arenaBytes: 4 * 1024 * 1024, ...options });
}

/** `bytes` of arena memory, all of them visible. */
function room(engine: IoEngine, bytes: number): Uint8Array {
  return engine.arena.alloc(bytes, { zeroed: true }).view();
}

const firstWord = (view: Uint8Array): number => new DataView(view.buffer, view.byteOffset).getUint32(0, true);

describe.each(METHODS)("method %s", (method) => {
  // Aim: positional reads, more at once than there are handles. Method: every block of the file with queue depth 4.
  test("reads at any position, however many at once", async () => {
    using blocks = new BlockFile();
    await using engine = engineFor(method, { queueDepth: 4 });
    await using file = await engine.open(blocks.path);
    const views = Array.from({ length: BLOCKS }, () => room(engine, BLOCK_BYTES));
    const sizes = await Promise.all(views.map((view, block) => file.read(view, block * BLOCK_BYTES)));
    expect(new Set(sizes)).toEqual(new Set([BLOCK_BYTES]));
    expect(views.map(firstWord)).toEqual(Array.from({ length: BLOCKS }, (_, block) => block));
    expect(engine.rows()).toEqual([]);
  });

  // Aim: the end of a file. Method: read across it, at it and beyond it.
  test("a read is short only at the end of the file", async () => {
    using blocks = new BlockFile(2);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path);
    const view = room(engine, 2 * BLOCK_BYTES);
    expect(await file.read(view, BLOCK_BYTES)).toBe(BLOCK_BYTES);
    expect(await file.read(view, 2 * BLOCK_BYTES)).toBe(0);
    expect(await file.read(view, 100 * BLOCK_BYTES)).toBe(0);
    expect(await file.read(view.subarray(0, 0), 0)).toBe(0);
  });

  // Aim: what is written is there, whole, and durable when asked. Method: write all ways, then read with node:fs.
  test("writes one piece, several pieces and with a sync", async () => {
    using blocks = new BlockFile(4);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path, { flags: "r+" });
    const [a, b] = [room(engine, 512).fill(1), room(engine, 512).fill(2)];
    expect(await file.write(a, 100)).toBe(512);
    expect(await file.writev([b, a, b], 1000, { sync: "data" })).toBe(3 * 512);
    expect(await file.write(b, 5000, { sync: "full" })).toBe(512);
    await file.sync();
    await file.sync(false);
    const bytes = readFileSync(blocks.path);
    expect(new Set(bytes.subarray(100, 612))).toEqual(new Set([1]));
    const pieces = [1000, 1512, 2024].map((at) => new Set(bytes.subarray(at, at + 512)));
    expect(pieces).toEqual([new Set([2]), new Set([1]), new Set([2])]);
    expect(bytes[5000]).toBe(2);
    expect(await file.readv([a, b], 1000)).toBe(1024);
    expect([a[0], b[0]]).toEqual([2, 1]);
  });

  // Aim: short transfers are continued. Method: the first transfers are cut by a fault; all bytes arrive all the same.
  test("a short transfer is continued where it ended", async () => {
    using blocks = new BlockFile(4);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path, { flags: "r+" });
    const view = room(engine, 3 * BLOCK_BYTES);
    {
      using fault = engine.faults.arm({ point: "afterwards", operation: "readv", times: 2, result: 5000 });
      expect(await file.read(view, 0)).toBe(3 * BLOCK_BYTES);
      expect(fault.hits).toBe(3);
    }
    expect([0, 1, 2].map((block) => firstWord(view.subarray(block * BLOCK_BYTES)))).toEqual([0, 1, 2]);
    using fault = engine.faults.arm({ point: "afterwards", operation: "writev", times: 2, result: 5000 });
    view.fill(9);
    expect(await file.writev([view.subarray(0, 6000), view.subarray(8192)], 0)).toBe(6000 + 2 * BLOCK_BYTES);
    expect(
      readFileSync(blocks.path)
        .subarray(0, 6000 + 2 * BLOCK_BYTES)
        .every((byte) => byte === 9),
    ).toBe(true);
    expect(fault.hits).toBe(3);
  });

  // Aim: a file that takes nothing is an error, not an endless loop. Method: every write is reported to move nothing.
  test("a write that gets nowhere fails with what was written", async () => {
    using blocks = new BlockFile(1);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path, { flags: "r+" });
    using fault = engine.faults.arm({ point: "instead", operation: "writev", result: 0 });
    await expect(file.write(room(engine, 512), 0)).rejects.toMatchObject({ code: "ERR_AIO_SHORT" });
    expect(fault.hits).toBe(3);
  });

  // Aim: an error of the kernel reaches the caller with its number, and only that caller. Method: EIO on the 2nd read.
  test("an error belongs to the call that had it", async () => {
    using blocks = new BlockFile(4);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path);
    const fault = engine.faults.arm({ point: "instead", skip: 1, times: 1, result: -constants.errno.EIO });
    const reads = [0, 1, 2].map((block) => file.read(room(engine, BLOCK_BYTES), block * BLOCK_BYTES));
    const outcomes = await Promise.allSettled(reads);
    fault[Symbol.dispose]();
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(2);
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    expect(failed?.reason).toMatchObject({
      code: "ERR_AIO_IO",
      errnoName: "EIO",
      errno: constants.errno.EIO,
    });
  });

  // Aim: nothing is claimed durable after a failed sync. Method: one fdatasync fails; everything after is refused.
  test("a failed sync poisons the file for good", async () => {
    using blocks = new BlockFile(1);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path, { flags: "r+" });
    const view = room(engine, 512);
    {
      using fault = engine.faults.arm({
        point: "instead",
        operation: "fdatasync",
        result: -constants.errno.EIO,
      });
      await expect(file.sync()).rejects.toMatchObject({ code: "ERR_AIO_IO" });
      expect(fault.hits).toBe(1);
    }
    for (const call of [() => file.sync(), () => file.write(view, 0), () => file.read(view, 0)]) {
      await expect(async () => await call()).rejects.toMatchObject({ code: "ERR_AIO_POISONED" });
    }
  });

  // Aim: direct I/O with its rules checked here. Method: an aligned read and write, then each rule broken in turn.
  test("direct files check alignment before the kernel does", async ({ skip }) => {
    using blocks = new BlockFile(4);
    await using engine = engineFor(method);
    const opened = await engine.open(blocks.path, { flags: "r+", direct: "prefer" });
    await using file = opened;
    if (!file.isDirect) skip("the file system of the temporary directory has no direct I/O");
    const view = room(engine, BLOCK_BYTES);
    expect(await file.read(view, 2 * BLOCK_BYTES)).toBe(BLOCK_BYTES);
    expect(firstWord(view)).toBe(2);
    expect(await file.write(view, 0, { sync: "data" })).toBe(BLOCK_BYTES);
    const wrong = [
      [view.subarray(1), 0],
      [view.subarray(0, 100), 0],
      [view, 100],
    ] as const;
    for (const [part, position] of wrong) {
      await expect(file.read(part, position)).rejects.toMatchObject({ code: "ERR_AIO_MEMORY" });
    }
  });

  // Aim: memory the kernel or a worker cannot be given is refused with a reason. Method: an ordinary buffer.
  test("memory that is not the engine's is refused", async () => {
    using blocks = new BlockFile(1);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path);
    for (const view of [Buffer.alloc(512), new Uint8Array(new SharedArrayBuffer(512))]) {
      await expect(file.read(view, 0)).rejects.toMatchObject({ code: "ERR_AIO_MEMORY" });
    }
  });

  // Aim: aborting ends the wait, never the loan. Method: abort a read at once; the promise settles when it is over.
  test("an aborted call settles with the signal's reason once its I/O is over", async () => {
    using blocks = new BlockFile(1);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path);
    const controller = new AbortController();
    const view = room(engine, BLOCK_BYTES);
    const read = file.read(view, 0, { signal: controller.signal });
    controller.abort(new Error("no longer wanted"));
    // With method sync the call was over before anybody could abort it.
    if (method === "sync") expect(await read).toBe(BLOCK_BYTES);
    else await expect(read).rejects.toThrow("no longer wanted");
    expect(engine.rows()).toEqual([]);
    await expect(file.read(view, 0, { signal: controller.signal })).rejects.toThrow("no longer wanted");
  });

  // Aim: the raw form hands over results as they are. Method: a good read, a bad descriptor's write.
  test("raw calls hand over bytes or a negative errno with their token", async () => {
    using blocks = new BlockFile(2);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path);
    const view = room(engine, 3 * BLOCK_BYTES);
    const outcome = async (
      start: (done: (...of: [number, number]) => void) => void,
    ): Promise<[number, number]> => await new Promise((resolve) => start((...of) => resolve(of)));
    expect(await outcome((done) => file.readRaw(view, 0, done, 7))).toEqual([2 * BLOCK_BYTES, 7]);
    const refused = await outcome((done) => file.writeRaw(view, 0, done, 8));
    expect(refused).toEqual([-constants.errno.EBADF, 8]);
  });

  // Aim: a preallocated file is zeros of the full length, and one that fails gives its memory back. Method: both.
  test("preallocating writes zeros, all of them", async () => {
    using blocks = new BlockFile(2);
    await using engine = engineFor(method);
    await using file = await engine.open(blocks.path, { flags: "r+" });
    const length = 1_000_000;
    await file.preallocate(length);
    const bytes = readFileSync(blocks.path);
    expect([bytes.length, bytes.every((byte) => byte === 0)]).toEqual([length, true]);
    using fault = engine.faults.arm({
      point: "instead",
      operation: "writev",
      result: -constants.errno.ENOSPC,
    });
    await expect(file.preallocate(length)).rejects.toMatchObject({ code: "ERR_AIO_IO", errnoName: "ENOSPC" });
    expect(fault.hits).toBeGreaterThan(0);
    expect(engine.arena.stats.inUse).toBe(0);
    expect([true, false]).toContain(file.advise(0, 0, "dontNeed"));
  });

  // Aim: the end is orderly. Method: close while reads run and wait; all of them succeed, later calls are refused.
  test("closing lets what was started end, and refuses the rest", async () => {
    using blocks = new BlockFile();
    const engine = engineFor(method, { queueDepth: 2 });
    const file = await engine.open(blocks.path);
    const reads = Array.from({ length: 20 }, (_, block) => file.read(room(engine, 512), block * BLOCK_BYTES));
    const closing = engine.close();
    expect(await Promise.all(reads)).toHaveLength(20);
    await closing;
    await engine.close();
    await file.close();
    await expect(file.read(new Uint8Array(1), 0)).rejects.toMatchObject({ code: "ERR_AIO_CLOSED" });
    await expect(engine.open(blocks.path)).rejects.toMatchObject({ code: "ERR_AIO_CLOSED" });
  });

  // Aim: callers that do not wait are told. Method: one handle, two calls may wait.
  test("a bounded number of calls may wait for a handle", async () => {
    using blocks = new BlockFile();
    await using engine = engineFor(method, { queueDepth: 1, waitingMax: 2 });
    await using file = await engine.open(blocks.path);
    const view = room(engine, 512);
    const calls = Array.from({ length: 5 }, async () => await file.read(view, 0));
    const outcomes = await Promise.allSettled(calls);
    const refused = outcomes.filter((outcome) => outcome.status === "rejected");
    // Method sync is over with a call when it returns, so nobody ever waits.
    expect(refused).toHaveLength(method === "sync" ? 0 : 2);
    for (const { reason } of refused) expect((reason as AioError).code).toBe("ERR_AIO_LIMIT");
  });
});

// Aim: opening fails like open(2), with its number. Method: a path that is not there, a file that is there already.
test("opening says what the system says", async () => {
  using blocks = new BlockFile(1);
  await using engine = engineFor("sync");
  const missing = engine.open(join(blocks.directory, "missing"));
  await expect(missing).rejects.toMatchObject({ code: "ERR_AIO_IO", errnoName: "ENOENT" });
  await expect(engine.open(blocks.path, { flags: "wx" })).rejects.toMatchObject({ errnoName: "EEXIST" });
  await using file = await engine.open(join(blocks.directory, "new"), { flags: "wx+", dataSync: true });
  expect(await file.write(room(engine, 512), 0)).toBe(512);
  expect(await file.size()).toBe(512);
});

// Aim: what the names of flags cannot say, and an alignment that the caller knows. Method: make a file without emptying it;
// a read that only the smaller alignment allows.
test("a file is opened with flags of open(2) and an alignment of the caller's", async ({ skip }) => {
  using blocks = new BlockFile(2);
  await using engine = engineFor("sync");
  const flags = openFlags.O_RDWR | openFlags.O_CREAT;
  await using kept = await engine.open(blocks.path, { flags });
  expect(await kept.size()).toBe(2 * BLOCK_BYTES);
  await using made = await engine.open(join(blocks.directory, "made"), { flags, mode: 0o600 });
  expect(await made.write(room(engine, 512), 0)).toBe(512);
  await using direct = await engine.open(blocks.path, { flags, direct: "prefer", alignmentBytes: 512 });
  if (!direct.isDirect) skip("the file system of the temporary directory has no direct I/O");
  expect(direct.alignmentBytes).toBe(512);
  await expect(direct.read(room(engine, 512), 100)).rejects.toMatchObject({ code: "ERR_AIO_MEMORY" });
});

// Aim: a better method that cannot run is named with its reason. Method: a probe that says no.
test("the fallback and its reason are shown, or refused where the method is required", async () => {
  const probe = () => ({ available: false, reason: "EPERM: forbidden here" });
  await using engine = IoEngine.create({ arenaBytes: 65_536, probe });
  expect(engine.choice).toEqual({
    method: "worker",
    fallbacks: [{ method: "io_uring", reason: "EPERM: forbidden here" }],
  });
  expect(() => IoEngine.create({ method: "io_uring", required: true, probe })).toThrow(
    expect.objectContaining({ code: "ERR_AIO_UNAVAILABLE" }),
  );
});

// Aim: a ring that has a file registered lets go of it. Method: the kernel's own list of the rings' registered files.
test.runIf(METHODS.includes("io_uring"))("a closed file is not kept open by the ring", async () => {
  const registered = (): string =>
    readdirSync("/proc/self/fdinfo")
      .map((fd) => {
        try {
          return readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
        } catch {
          return ""; // the descriptor of the listing itself
        }
      })
      .filter((info) => info.includes("SqMask"))
      .join("");
  using blocks = new BlockFile(1);
  await using engine = engineFor("io_uring");
  const file = await engine.open(blocks.path);
  await file.read(room(engine, 512), 0);
  const [before] = [registered()];
  await file.close();
  const listed = before.includes("blocks");
  expect(registered().includes("blocks")).toBe(false);
  // Kernels differ in what they list; where they name files at all, this one was there.
  expect(listed || !/UserFiles:\s+[1-9]/.test(before) || !/^\s+\d+: \w/m.test(before)).toBe(true);
});

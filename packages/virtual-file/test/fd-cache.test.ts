/** The descriptor cache: its bound, who is evicted, pins, the line, and what eviction owes to the file. */
import fc from "fast-check";
import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { FdCache, VirtualFile } from "../src/index.js";
import { createWorld, frozen, gate } from "./fake-engine.js";
import type { World } from "./fake-engine.js";

const WRITE = { read: true, write: true, create: true };

async function openFiles(world: World, count: number): Promise<VirtualFile[]> {
  const files: VirtualFile[] = [];
  for (let index = 0; index < count; index++) {
    world.engine.put(`/d/${String(index)}`, String(index));
    files.push(await VirtualFile.open(`/d/${String(index)}`, WRITE, world.environment));
  }
  return files;
}

async function readText(world: World, file: VirtualFile): Promise<string> {
  using target = world.arena.alloc(16);
  await file.readAt(target, 0, 16);
  return Buffer.from(target.view()).toString("latin1");
}

function opensOf(world: World): string[] {
  return world.engine.log.filter((line) => line.startsWith("open")).map((line) => line.split(" ")[1] ?? "");
}

test.each([0, -1, 1.5, Number.NaN])("a cache of %d slots is refused", (slots) => {
  expect(() => new FdCache(slots)).toThrow(RangeError);
});

// Aim: the bound. Method: 10 files through 2 slots, 50 reads at once; the engine fails a close under a read.
test("many files are read at once through two slots", async () => {
  const world = createWorld({ descriptors: new FdCache(2) });
  const files = await openFiles(world, 10);
  const reads = Array.from({ length: 50 }, (_, index) => readText(world, files[index % 10] as VirtualFile));
  expect(await Promise.all(reads)).toEqual(Array.from({ length: 50 }, (_, index) => String(index % 10)));
  expect(world.engine.openMax).toBe(2);
  for (const file of files) await file.close();
  expect([world.engine.openNow, world.environment.descriptors.stats.open]).toEqual([0, 0]);
});

// Aim: files that are opened again are the same files. Method: one that was made and cut, and a hundred readers of another one,
// read in an order of their own; the first one in between.
test("a hundred files share ten descriptors in any order", async () => {
  const world = createWorld({ descriptors: new FdCache(10) });
  const { engine, arena, environment } = world;
  engine.put("/d/made", "must go");
  engine.put("/d/read", "read");
  const made = await VirtualFile.open("/d/made", { ...WRITE, truncate: true }, environment);
  using content = frozen(arena, "made");
  await made.writeAllAt(content, 0);
  const readers: VirtualFile[] = [];
  for (let index = 0; index < 100; index++) readers.push(await VirtualFile.open("/d/read", {}, environment));
  for (let index = 0; index < 100; index++) {
    // 37 and 100 have no common divisor, so that each has its turn.
    expect(await readText(world, readers[(37 * index + 11) % 100] as VirtualFile)).toBe("read");
    if (index % 20 === 0) expect(await readText(world, made)).toBe("made");
  }
  expect([engine.openMax, environment.descriptors.stats.open]).toEqual([10, 10]);
  expect(environment.descriptors.stats.reopens).toBeGreaterThan(90);
  await Promise.all([made, ...readers].map((file) => file.close()));
  expect(engine.openNow).toBe(0);
});

// Aim: what was used lately stays. Method: three slots; one file is read between the opens of others.
test("the clock spares what was used since it came by", async () => {
  const world = createWorld({ descriptors: new FdCache(3) });
  const files = await openFiles(world, 4);
  // Opening the fourth took all marks and evicted the first; the second is read, so that the third goes next.
  expect(await readText(world, files[1] as VirtualFile)).toBe("1");
  world.engine.log.length = 0;
  expect(await readText(world, files[0] as VirtualFile)).toBe("0");
  expect(world.engine.log.filter((line) => line.startsWith("close"))).toEqual(["close /d/2"]);
  expect(await readText(world, files[1] as VirtualFile)).toBe("1");
  expect(opensOf(world)).toEqual(["/d/0"]);
  expect(world.environment.descriptors.stats).toEqual({ open: 3, evictions: 2, reopens: 1 });
  for (const file of files) await file.close();
});

// Aim: a pinned descriptor is never a victim, and those who wait for a slot get it in order. Method: one slot, a held read.
test("a slot is pinned during I/O and waited for in order", async () => {
  const world = createWorld({ descriptors: new FdCache(1) });
  const files = await openFiles(world, 3);
  const held = gate();
  world.engine.plan("read", held.opened);
  const first = readText(world, files[2] as VirtualFile);
  world.engine.log.length = 0;
  const order: string[] = [];
  const waiting = [1, 0, 1].map(async (index) =>
    order.push(await readText(world, files[index] as VirtualFile)),
  );
  await turn();
  expect(world.engine.log).toEqual([]);
  held.open();
  expect(await first).toBe("2");
  await Promise.all(waiting);
  expect(order).toEqual(["1", "1", "0"]);
  expect(opensOf(world), "one file is opened once for all who wait for it").toEqual(["/d/1", "/d/0"]);
  for (const file of files) await file.close();
});

// Aim: a re-open that fails is told, and the slot is not lost. Method: one failure, for two readers at once.
test("a failed re-open leaves the cache usable", async () => {
  const world = createWorld({ descriptors: new FdCache(1) });
  const files = await openFiles(world, 2);
  world.engine.plan("open", "EMFILE");
  const [one, two] = [readText(world, files[0] as VirtualFile), readText(world, files[0] as VirtualFile)];
  await expect(one).rejects.toMatchObject({ code: "ERR_FILE_IO", errnoCode: "EMFILE", syscall: "open" });
  expect(await two, "the second one tried for itself").toBe("0");
  expect(await readText(world, files[1] as VirtualFile)).toBe("1");
  for (const file of files) await file.close();
});

// Aim: a failed write-back is not lost with the descriptor. Method: evict a written file; its sync comes before its close.
test("eviction syncs what was written through the page cache, and a failure poisons", async () => {
  const world = createWorld({ descriptors: new FdCache(1) });
  const [first, second] = (await openFiles(world, 2)) as [VirtualFile, VirtualFile];
  using buffer = frozen(world.arena, "new");
  await first.writeAllAt(buffer, 0);
  world.engine.log.length = 0;
  expect(await readText(world, second)).toBe("1");
  expect(world.engine.log.slice(0, 2)).toEqual(["fdatasync /d/0", "close /d/0"]);
  await readText(world, first);
  await readText(world, second);
  expect(
    world.engine.log.filter((line) => line.startsWith("fdatasync")),
    "only what is new",
  ).toHaveLength(1);
  await first.writeAllAt(buffer, 0);
  world.engine.plan("fdatasync", "EIO");
  expect(await readText(world, second), "not this file's fault").toBe("1");
  await expect(first.sync()).rejects.toMatchObject({
    code: "ERR_FILE_POISONED",
    cause: { errnoCode: "EIO" },
  });
  for (const file of [first, second]) await file.close();
});

// Aim: a failed close of a victim is its own file's matter. Method: one close fails during an eviction.
test("a failed close during an eviction poisons the evicted file only", async () => {
  const world = createWorld({ descriptors: new FdCache(1) });
  const [first, second] = (await openFiles(world, 2)) as [VirtualFile, VirtualFile];
  world.engine.plan("close", "EIO");
  expect(await readText(world, first)).toBe("0");
  await expect(readText(world, second)).rejects.toMatchObject({ code: "ERR_FILE_POISONED" });
  for (const file of [first, second]) await file.close();
});

// Aim: a file whose slot went to another one does not use it. Method: close a file that was evicted, and read the other.
test("a stale slot is not touched", async () => {
  const world = createWorld({ descriptors: new FdCache(1) });
  const [first, second] = (await openFiles(world, 2)) as [VirtualFile, VirtualFile];
  await first.close();
  world.engine.log.length = 0;
  expect(await readText(world, second)).toBe("1");
  expect(opensOf(world)).toEqual([]);
  await second.close();
});

// Aim: a file is closed when its descriptor is, whoever closes that. Method: close a file that is evicted before, or at once.
test.each(["before", "at once"])("closing waits for an eviction that began %s", async (when) => {
  const world = createWorld({ descriptors: new FdCache(1) });
  const [first, second] = (await openFiles(world, 2)) as [VirtualFile, VirtualFile];
  const held = gate();
  world.engine.plan("close", held.opened);
  let isClosed = false;
  const close = async (): Promise<void> => {
    await second.close();
    isClosed = true;
  };
  const early = when === "before" ? undefined : close();
  const reading = readText(world, first);
  const closing = early ?? close();
  await turn();
  expect(isClosed).toBe(false);
  held.open();
  await closing;
  expect(await reading).toBe("0");
  await first.close();
  expect(world.engine.log.filter((line) => line === "close /d/1")).toHaveLength(1);
});

// Aim: the same under every order of completions. Method: a scheduler decides which call of the engine goes on next.
test("any interleaving keeps the bound, the pins and the contents", async () => {
  const step = fc.record({ file: fc.nat(4), kind: fc.constantFrom("read", "write", "sync", "close") });
  const property = fc.asyncProperty(
    fc.scheduler(),
    fc.array(step, { maxLength: 30, size: "max" }),
    fc.integer({ min: 1, max: 3 }),
    async (scheduler, steps, slots) => {
      const world = createWorld({ descriptors: new FdCache(slots) });
      const files = await openFiles(world, 5);
      world.engine.before = () => scheduler.schedule(Promise.resolve());
      const call = async ({ file, kind }: (typeof steps)[number]): Promise<void> => {
        const target = files[file] as VirtualFile;
        if (kind === "close") await target.close();
        else if (kind === "sync") await target.sync();
        else if (kind === "read") expect(await readText(world, target)).toBe(String(file));
        else {
          using buffer = frozen(world.arena, String(file));
          await target.writeAllAt(buffer, 0);
        }
      };
      const outcomes = await scheduler.waitFor(Promise.allSettled(steps.map(call)));
      for (const outcome of outcomes) {
        // What is called after a close is refused; nothing else fails.
        if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ code: "ERR_FILE_CLOSED" });
      }
      await scheduler.waitFor(Promise.all(files.map((file) => file.close())));
      expect(world.engine.openMax).toBeLessThanOrEqual(slots);
      expect(world.engine.openMaxOfFile).toBe(1);
      expect([world.engine.openNow, world.environment.descriptors.stats.open]).toEqual([0, 0]);
      expect(world.arena.stats.liveBuffers).toBe(0);
    },
  );
  await fc.assert(property, { numRuns: 60 });
});

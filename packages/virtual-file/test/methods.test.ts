/** Files over each method of @millrace/aio: the best one is taken by itself, which one it is can be seen, and all I/O goes there. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AioError, IoEngine } from "@millrace/aio";
import type { IoEngineOptions } from "@millrace/aio";
import { expect, test } from "vitest";
import { createFileEngine, FdCache, VirtualFile } from "../src/index.js";
import type { AioFileEngine } from "../src/index.js";
import { frozen } from "./fake-engine.js";

/** Whether io_uring can be had here, as asked of the package that would use it. */
async function hasUring(): Promise<boolean> {
  try {
    await IoEngine.create({ method: "io_uring", required: true, arenaBytes: 4096 }).close();
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(AioError);
    return false;
  }
}

/** Writes, syncs and reads a block, and says what the engine has counted. */
async function useFile(
  options: IoEngineOptions,
): Promise<{ readonly choice: AioFileEngine["choice"]; readonly started: Readonly<Record<string, number>> }> {
  const directory = mkdtempSync(join(tmpdir(), "millrace-methods-"));
  try {
    await using io = IoEngine.create({ ...options, arenaBytes: 65_536 });
    const engine = createFileEngine(io);
    const environment = { engine, arena: io.arena, descriptors: new FdCache(2) };
    const access = { read: true, write: true, createNew: true };
    await using file = await VirtualFile.open(join(directory, "file"), access, environment);
    using source = frozen(io.arena, Buffer.alloc(4096, "m"));
    await file.writeAllAt(source, 4096);
    await file.sync();
    await file.sync("all");
    using target = io.arena.alloc(4096);
    await file.readExactAt(target, 4096, 4096);
    expect(source.equals(target.view())).toBe(true);
    const started = io.statistics().io.map(({ operation, started }) => [operation, started]);
    return { choice: engine.choice, started: Object.fromEntries(started) as Record<string, number> };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const EACH_ONCE = { writev: 1, readv: 1, fdatasync: 1, fsync: 1 };

test("files use io_uring where there is one, and say so", async () => {
  const { choice, started } = await useFile({});
  const isThere = await hasUring();
  expect(choice.method).toBe(isThere ? "io_uring" : "worker");
  expect(choice.fallbacks).toHaveLength(isThere ? 0 : 1);
  expect(started).toEqual(EACH_ONCE);
});

test("where there is none, they say why", async () => {
  const { choice, started } = await useFile({ probe: () => ({ available: false, reason: "says the test" }) });
  expect(choice).toEqual({
    method: "worker",
    fallbacks: [{ method: "io_uring", reason: "says the test" }],
  });
  expect(started).toEqual(EACH_ONCE);
});

test.each(["worker", "sync"] as const)("the method can be chosen: %s", async (method) => {
  const { choice, started } = await useFile({ method });
  expect(choice).toEqual({ method, fallbacks: [] });
  expect(started).toEqual(EACH_ONCE);
});

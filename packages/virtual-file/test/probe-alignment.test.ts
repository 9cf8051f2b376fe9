/** Probing: each candidate by a write that nothing larger explains, and what a refusal means. */
import { expect, test } from "vitest";
import { probeAlignment } from "../src/index.js";
import type { FileEngine } from "../src/index.js";
import { createWorld, errno } from "./fake-engine.js";

/** An engine whose disk has blocks of a size, and checks what the kernel would. */
function withBlocks(engine: FileEngine, blockBytes: number, seen: number[]): FileEngine {
  return {
    rename: (source, target) => engine.rename(source, target),
    unlink: (path) => engine.unlink(path),
    async open(...input) {
      const descriptor = await engine.open(...input);
      return {
        read: (target, offset) => descriptor.read(target, offset),
        write(source, offset) {
          const { byteOffset, byteLength } = source;
          const largest = [byteOffset, byteLength, offset].map((value) => value & -value);
          seen.push(...new Set(largest));
          expect(byteLength, "more than a page, or the kernel may not look").toBeGreaterThan(4096);
          if (Math.min(...largest) < blockBytes) return Promise.reject(errno("EINVAL"));
          return descriptor.write(source, offset);
        },
        sync: (dataOnly) => descriptor.sync(dataOnly),
        truncate: (length) => descriptor.truncate(length),
        size: () => descriptor.size(),
        close: () => descriptor.close(),
      };
    },
  };
}

// Aim: the smallest alignment that works. Method: disks of each block size; every candidate is a multiple of nothing larger.
test.each([
  [512, 512],
  [1024, 1024],
  [2048, 2048],
  [4096, 4096],
  [8192, null],
])("a disk with blocks of %d needs %d", async (blockBytes, alignment) => {
  const { engine, arena } = createWorld();
  const seen: number[] = [];
  const probed = await probeAlignment("/d", { engine: withBlocks(engine, blockBytes, seen), arena });
  expect(probed).toBe(alignment);
  expect(seen).toEqual(
    [512, 1024, 2048, 4096].filter((candidate) => candidate <= Math.min(blockBytes, 4096)),
  );
  expect([engine.files.size, engine.openNow, arena.stats.liveBuffers]).toEqual([0, 0, 0]);
});

// Aim: no direct I/O at all, other failures, and short writes. Method: the engine says so.
test("a file system without direct I/O has no alignment, and other failures are told", async () => {
  const { engine, arena } = createWorld();
  engine.plan("open", "EINVAL", "EINVAL", "EINVAL", "EOPNOTSUPP");
  expect(await probeAlignment("/d", { engine, arena })).toBeNull();
  engine.plan("write", 100);
  expect(await probeAlignment("/d", { engine, arena }), "a part is no success").toBe(1024);
  engine.plan("open", "EACCES");
  await expect(probeAlignment("/d", { engine, arena })).rejects.toMatchObject({ errnoCode: "EACCES" });
  engine.plan("write", "ENOSPC");
  await expect(probeAlignment("/d", { engine, arena })).rejects.toMatchObject({ errnoCode: "ENOSPC" });
  expect([engine.files.size, engine.openNow, arena.stats.liveBuffers]).toEqual([0, 0, 0]);
});

/**
 * The memory of buffers that a pool gives up is the kernel's again, and the pool can have it back.
 */
import { nativeStatus } from "@millrace/io-uring";
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { openPool } from "../src/pool-core.js";
import { BufferPool } from "../src/pool.js";
import type { PoolOptions } from "../src/pool.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { blockOf, DataDirectory, PAGE, TABLE } from "./data-directory.js";

/** A pool of 64 buffers that hold 64 blocks. */
class World implements AsyncDisposable {
  readonly directory = new DataDirectory();
  readonly pool: BufferPool;
  readonly manager: BufferManager;

  constructor(options: PoolOptions = {}) {
    this.directory.writeBlocks(TABLE, 64);
    this.pool = BufferPool.create({ buffers: 64, backends: 2, aio: { method: "sync" }, ...options });
    const files = segmentedFiles({ directory: this.directory.path });
    this.manager = BufferManager.attach(this.pool.shared, { files, mayBlock: true });
    this.read();
  }

  /** Reads all blocks, which must be there. */
  read(): void {
    for (let block = 0; block < 64; block++) {
      const buffer = this.manager.read(TABLE, block);
      expect(blockOf(this.manager.page(buffer))).toBe(block);
      this.manager.release(buffer);
    }
  }

  /** Whether a frame has nothing but zeros. */
  isZero(frame: number): boolean {
    return openPool(this.pool.shared)
      .frames.view(frame)
      .every((byte) => byte === 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.manager.detachAsync();
    await this.pool.close();
    this.directory[Symbol.dispose]();
  }
}

const { available } = nativeStatus();

describe("a pool that shrinks", () => {
  test.skipIf(!available)("gives the memory of what goes back, and of nothing else", async () => {
    await using world = new World();
    expect(Array.from({ length: 64 }, (_, frame) => world.isZero(frame))).not.toContain(true);
    expect(world.manager.resize(20)).toEqual({
      before: 64,
      buffers: 20,
      evicted: 44,
      written: 0,
      releasedBytes: 44 * PAGE,
    });
    expect(Array.from({ length: 64 }, (_, frame) => world.isZero(frame))).toEqual(
      Array.from({ length: 64 }, (_, frame) => frame >= 20),
    );
    world.read();
    expect(world.manager.resize(64)).toEqual({
      before: 20,
      buffers: 64,
      evicted: 0,
      written: 0,
      releasedBytes: 0,
    });
    world.read();
    expect(world.manager.pages().next().value).toMatchObject({ relation: TABLE.relation });
    expect(Array.from({ length: 64 }, (_, frame) => world.isZero(frame))).not.toContain(true);
  });

  test("keeps it where it may be registered with io_uring, and says so", async () => {
    await using world = new World({ aio: { method: "sync", fixBuffers: true } });
    expect(world.manager.resize(16)).toMatchObject({
      buffers: 16,
      releasedBytes: 0,
      keptBecause: "the frames are registered with io_uring",
    });
    expect(Array.from({ length: 64 }, (_, frame) => world.isZero(frame))).not.toContain(true);
  });

  test("keeps it when it goes back to its size", async () => {
    await using world = new World();
    const buffer = world.manager.read(TABLE, 50);
    expect(buffer).toBeGreaterThan(32);
    const other = BufferManager.attach(world.pool.shared, {
      files: segmentedFiles({ directory: world.directory.path }),
      mayBlock: false,
    });
    const report = await other.resizeAsync(16, { onPinned: "rollback", timeoutMs: 0 });
    expect(report).toMatchObject({ buffers: 64, releasedBytes: 0 });
    expect(blockOf(world.manager.page(buffer))).toBe(50);
    world.manager.release(buffer);
    await other.detachAsync();
  });
});

/**
 * A checkpoint on a thread that must not sleep: its syncs run elsewhere, and the event loop turns meanwhile.
 */
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { BufferPool } from "../src/pool.js";
import { SegmentedFiles } from "../src/segmented-files.js";
import type { Fork, Relation } from "../src/tag.js";
import { BusyThreads, turns } from "./busy-threads.js";
import { blockOf, DataDirectory, METHODS, TABLE } from "./data-directory.js";

const OTHER: Relation = { ...TABLE, relation: 16_500 };

/** A pool on two tables of four blocks, a manager that must not sleep, and a promise of the first sync's beginning. */
class World implements AsyncDisposable {
  readonly directory = new DataDirectory(2);
  readonly pool: BufferPool;
  readonly manager: BufferManager;
  readonly begun: Promise<void>;
  readonly synced: string[] = [];

  constructor(method: (typeof METHODS)[number]) {
    for (const relation of [TABLE, OTHER]) this.directory.writeBlocks(relation, 4);
    const aio = { method, required: true };
    this.pool = BufferPool.create({ buffers: 64, backends: 2, segmentBlocks: 2, aio });
    let begin = (): void => undefined;
    this.begun = new Promise((resolve) => {
      begin = resolve;
    });
    const { directory, synced } = this;
    class Files extends SegmentedFiles {
      override async syncAsync(relation: Relation, fork: Fork): Promise<void> {
        const syncing = super.syncAsync(relation, fork);
        begin();
        await syncing;
        synced.push(`${relation.relation}/${fork}`);
      }
    }
    this.manager = BufferManager.attach(this.pool.shared, {
      files: (io, shared) => new Files(io, shared, { directory: directory.path, descriptorsMax: 2 }),
      mayBlock: false,
    });
  }

  async dirty(relation: Relation, block: number): Promise<void> {
    const { manager } = this;
    const buffer = await manager.readAsync(relation, block);
    await manager.lockAsync(buffer, "exclusive");
    manager.markDirty(buffer);
    manager.unlock(buffer);
    manager.release(buffer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.manager.detachAsync();
    await this.pool.close();
    this.directory[Symbol.dispose]();
  }
}

describe.each(METHODS)("an asynchronous checkpoint with method %s", (method) => {
  // Aim: the event loop turns while files are synced. Method: the threads that the syncs need are kept busy; the loop turns, and
  // pages are read meanwhile, of files enough to have those closed that are being synced.
  test("lets the event loop turn while files are synced", async () => {
    await using world = new World(method);
    const { manager } = world;
    await world.dirty(TABLE, 1);
    await world.dirty(OTHER, 3);
    let isDone = false;
    let report: Promise<unknown>;
    {
      await using busy = new BusyThreads();
      report = manager.checkpointAsync({ isImmediate: true }).finally(() => {
        isDone = true;
      });
      await world.begun;
      for (const [relation, block] of [
        [TABLE, 2],
        [OTHER, 0],
        [TABLE, 3],
        [OTHER, 2],
      ] as const) {
        const buffer = await manager.readAsync(relation, block);
        expect(blockOf(manager.page(buffer))).toBe(block);
        manager.release(buffer);
      }
      await turns();
      expect([isDone, world.synced]).toEqual([false, []]);
      await busy.release();
    }
    expect(await report).toMatchObject({ written: 2, syncs: 2 });
    expect(world.synced.toSorted()).toEqual([`${TABLE.relation}/0`, `${OTHER.relation}/0`]);
  });

  test("ends only when a sync that another one has begun is over", async () => {
    await using world = new World(method);
    const { manager } = world;
    await world.dirty(TABLE, 1);
    const ended: string[] = [];
    let both: Promise<unknown>;
    {
      await using busy = new BusyThreads();
      const checkpoint = async (name: string): Promise<void> => {
        await manager.checkpointAsync({ isImmediate: true });
        ended.push(name);
      };
      const first = checkpoint("first");
      await world.begun;
      both = Promise.all([first, checkpoint("second")]);
      await turns();
      expect(ended).toEqual([]);
      await busy.release();
    }
    await both;
    expect(ended.toSorted()).toEqual(["first", "second"]);
    expect(world.synced, "once").toEqual([`${TABLE.relation}/0`]);
  });
});

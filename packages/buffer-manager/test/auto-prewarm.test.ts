/**
 * Warm again after a restart: the list of a pool's pages is loaded into an empty one, as far as it goes, and not further.
 */
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { describe, expect, test } from "vitest";

import { AutoPrewarm } from "../src/auto-prewarm.js";
import { BufferManager } from "../src/buffer-manager.js";
import { STATE } from "../src/buffer-state.js";
import { formatPageList, parsePageList } from "../src/page-list.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { FORK } from "../src/tag.js";
import type { Relation, Tag } from "../src/tag.js";
import { blockOf, TABLE } from "./data-directory.js";
import { ReadWorld } from "./read-world.js";
import type { ReadingBackend } from "./read-world.js";

const GLOBAL: Relation = { tablespace: 1664, database: 0, relation: 1262 };
const OTHER: Relation = { tablespace: 1663, database: 6, relation: 7 };

const tagOf = ({ tablespace, database, relation }: Relation, block: number): Tag => ({
  tablespace,
  database,
  relation,
  fork: FORK.main,
  block,
});

/** The pages that are in a pool, as the list names them. */
function resident({ context }: ReadingBackend, buffers: number): string[] {
  return Array.from({ length: buffers }, (_, buffer) => buffer)
    .filter((buffer) => (context.headers.state(buffer) & STATE.valid) !== 0)
    .map((buffer) => {
      const { database, relation, block } = context.headers.tag(buffer);
      expect(blockOf(context.frames.view(buffer))).toBe(block);
      return `${database}/${relation}/${block}`;
    })
    .toSorted();
}

function prewarmOf(backend: ReadingBackend, path: string): AutoPrewarm {
  return new AutoPrewarm(backend.context, backend.reader, path);
}

function createWorld(buffers: number): { world: ReadWorld; list: string } {
  const world = new ReadWorld("sync", { buffers });
  for (const [relation, blocks] of [
    [TABLE, 40],
    [GLOBAL, 3],
    [OTHER, 5],
  ] as const) {
    world.directory.writeBlocks(relation, blocks);
  }
  return { world, list: join(world.directory.path, "autoprewarm.blocks") };
}

describe("a pool's pages", () => {
  test("are written down and loaded again by a manager, blocking and not", async () => {
    const { world, list } = createWorld(64);
    await using _ = world;
    const attach = (mayBlock: boolean): BufferManager =>
      BufferManager.attach(world.pool.shared, {
        files: segmentedFiles({ directory: world.directory.path }),
        mayBlock,
      });
    using manager = attach(true);
    for (let block = 0; block < 9; block++) manager.release(manager.read(TABLE, block));
    expect(manager.createAutoPrewarm(list).shutdown()).toBe(9);
    expect(manager.evictAll().evicted).toBe(9);
    // Only free buffers are filled; 55 of the 64 still are.
    const report = { warmed: 9, total: 9, isInterrupted: false };
    expect(manager.createAutoPrewarm(list).load()).toEqual(report);
    await using other = attach(false);
    expect(await other.createAutoPrewarm(list).loadAsync()).toEqual(report);
    const buffer = manager.tryRead(TABLE, 8);
    expect(buffer).toBeGreaterThan(0);
    manager.release(buffer);
  });

  test("are loaded again from the list that was written, in order, with what is global first", async () => {
    const { world, list } = createWorld(64);
    await using _ = world;
    const backend = world.backend();
    const read = async (relation: Relation, block: number, count: number): Promise<void> => {
      backend.release(...(await backend.read(block, count, 0, relation)));
    };
    await read(OTHER, 1, 2);
    await read(TABLE, 3, 10);
    await read(GLOBAL, 0, 2);
    const before = resident(backend, 64);
    expect(before).toHaveLength(14);
    expect(prewarmOf(backend, list).dump()).toBe(14);
    expect(parsePageList(readFileSync(list, "utf8"))).toHaveLength(14);
    const { world: restarted } = createWorld(64);
    await using after = restarted;
    const warm = after.backend();
    const report = await prewarmOf(warm, list).loadAsync();
    expect(report).toEqual({ warmed: 14, total: 14, isInterrupted: false });
    expect(resident(warm, 64)).toEqual(before);
    expect(warm.context.headers.tag(0), "the first buffer got a global page").toEqual(tagOf(GLOBAL, 0));
    expect(warm.counted("read").count, "neighbours are read together").toBe(3);
    expect(warm.context.pins.pinnedCount).toBe(0);
  });

  test("that are gone are passed over: relations, blocks behind the end", async () => {
    const { world, list } = createWorld(64);
    await using _ = world;
    const gone: Relation = { ...TABLE, relation: 99 };
    writeFileSync(
      list,
      formatPageList([tagOf(TABLE, 38), tagOf(TABLE, 39), tagOf(TABLE, 41), tagOf(gone, 0), tagOf(OTHER, 4)]),
    );
    truncateSync(world.directory.segment(OTHER, 0), 4 * 8192);
    rmSync(world.directory.segment(GLOBAL, 0));
    const backend = world.backend();
    const report = await prewarmOf(backend, list).loadAsync();
    expect(report).toEqual({ warmed: 2, total: 5, isInterrupted: false });
    expect(resident(backend, 64)).toEqual(["5/16384/38", "5/16384/39"]);
  });

  test("fill what is free and throw nothing out", async () => {
    const { world, list } = createWorld(16);
    await using _ = world;
    const backend = world.backend();
    backend.release(...(await backend.read(0, 4, 0, OTHER)));
    const tags = Array.from({ length: 40 }, (_, block) => tagOf(TABLE, block));
    writeFileSync(list, formatPageList([...tags.toReversed(), tagOf({ ...OTHER, database: 9 }, 0)]));
    const report = await prewarmOf(backend, list).loadAsync();
    expect(report).toEqual({ warmed: 12, total: 41, isInterrupted: false });
    expect(backend.counted("evict").count).toBe(0);
    expect(resident(backend, 16)).toHaveLength(16);
  });

  test("of a list that is damaged are not loaded at all, and its line is named", async () => {
    const { world, list } = createWorld(16);
    await using _ = world;
    writeFileSync(list, "<<3>>\n5,1663,16384,0,1\n5,1663,16384,zero,2\n5,1663,16384,0,3\n");
    const backend = world.backend();
    await expect(prewarmOf(backend, list).loadAsync()).rejects.toMatchObject({
      code: "ERR_BUFFER_BAD_DUMP",
      line: 3,
    });
    expect(resident(backend, 16)).toEqual([]);
  });

  test("without a list are none", async () => {
    const { world, list } = createWorld(16);
    await using _ = world;
    const backend = world.backend();
    expect(await prewarmOf(backend, list).loadAsync()).toMatchObject({
      total: 0,
    });
  });
});

describe("the last list", () => {
  test("has unlogged relations too, the ones in between do not", async () => {
    const { world, list } = createWorld(16);
    await using _ = world;
    const backend = world.backend();
    backend.release(...(await backend.read(0, 2, 0, { ...OTHER, persistence: "unlogged" })));
    backend.release(...(await backend.read(0, 1, 0, TABLE)));
    const prewarm = prewarmOf(backend, list);
    prewarm.start(0);
    expect(prewarm.dump()).toBe(1);
    expect(prewarm.shutdown()).toBe(3);
    expect(parsePageList(readFileSync(list, "utf8"))).toHaveLength(3);
  });

  test("is not written after a load that was interrupted", async () => {
    const { world, list } = createWorld(64);
    await using _ = world;
    writeFileSync(list, formatPageList(Array.from({ length: 40 }, (_, block) => tagOf(TABLE, block))));
    const before = readFileSync(list, "utf8");
    const backend = world.backend();
    const prewarm = prewarmOf(backend, list);
    const loading = prewarm.loadAsync();
    expect(prewarm.dump(), "nor while it runs").toBe(0);
    prewarm.interrupt();
    const report = await loading;
    expect(report.isInterrupted).toBe(true);
    expect(report.warmed).toBeLessThan(40);
    expect(prewarm.shutdown()).toBe(0);
    expect(readFileSync(list, "utf8")).toBe(before);
    expect(existsSync(`${list}.tmp`)).toBe(false);
  });
});

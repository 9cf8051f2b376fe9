/**
 * The file layer: blocks of relations in segment files, whatever runs the I/O, with few descriptors and clear errors.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createIoReturn } from "@millrace/aio";
import type { IoReturn, IoVector } from "@millrace/aio";
import { nativeStatus } from "@millrace/io-uring";
import { describe, expect, test } from "vitest";

import { attachContext, detachContext } from "../src/backend-context.js";
import type { BackendContext } from "../src/backend-context.js";
import { BufferPool } from "../src/pool.js";
import { segmentedFiles } from "../src/segmented-files.js";
import type { SegmentedFiles, SegmentedFilesOptions } from "../src/segmented-files.js";
import { FORK } from "../src/tag.js";
import type { Fork, Relation } from "../src/tag.js";
import { BusyThreads, turns } from "./busy-threads.js";
import { blockOf, DataDirectory, makePage, METHODS, PAGE, TABLE } from "./data-directory.js";

/** Blocks of a segment in these tests. */
const SEGMENT = 8;
const code = (code: string): unknown => expect.objectContaining({ code });

/** A pool whose frames the layer reads into and writes from. */
class World implements AsyncDisposable {
  readonly directory: DataDirectory;
  readonly pool: BufferPool;
  readonly context: BackendContext;
  readonly files: SegmentedFiles;

  constructor(
    method: (typeof METHODS)[number],
    options: Partial<SegmentedFilesOptions> & { direct?: boolean; mayBlock?: boolean } = {},
  ) {
    const { direct = false, mayBlock = true, ...more } = options;
    this.directory = new DataDirectory(SEGMENT);
    const aio = { method, required: true };
    this.pool = BufferPool.create({ buffers: 64, backends: 2, direct, segmentBlocks: SEGMENT, aio });
    const files = segmentedFiles({ directory: this.directory.path, ...more });
    this.context = attachContext(this.pool.shared, { files, mayBlock });
    this.files = this.context.files as SegmentedFiles;
  }

  vectors(frame: number, count: number): IoVector[] {
    const { frames } = this.context;
    return Array.from({ length: count }, (_, index) => ({
      segment: frames.segmentIndexOf(frame + index),
      offsetBytes: frames.byteOffsetOf(frame + index),
      lengthBytes: PAGE,
    }));
  }

  async transfer(
    isWrite: boolean,
    relation: Relation,
    fork: Fork,
    block: number,
    count: number,
  ): Promise<IoReturn> {
    const { aio, ioScope, files } = this.context;
    const slot = createIoReturn();
    const handle = await aio.acquireAsync(ioScope, slot);
    const ref = handle.ref();
    try {
      if (isWrite) files.startWrite(handle, relation, fork, block, this.vectors(0, count), count);
      else files.startRead(handle, relation, fork, block, this.vectors(0, count), count);
    } catch (error) {
      handle.release();
      throw error;
    }
    await aio.waitAsync(ref);
    return slot;
  }

  page(frame: number): Uint8Array {
    return this.context.frames.view(frame);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.files.closeAsync();
    expect(this.files.openCount).toBe(0);
    await this.context.aio.detachAsync();
    detachContext(this.context);
    await this.pool.close();
    this.directory[Symbol.dispose]();
  }
}

/** Descriptors of this process that are open on files below a directory. */
function openBelow(directory: string): string[] {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readFileSync(`/proc/self/fdinfo/${fd}`, "latin1") && join("/proc/self/fd", fd);
    } catch {
      return "";
    }
  });
  return links.filter((link) => {
    try {
      const at = statSync(link);
      return readdirSync(directory, { recursive: true, encoding: "utf8" }).some((name) => {
        const file = statSync(join(directory, name));
        return file.isFile() && file.ino === at.ino && file.dev === at.dev;
      });
    } catch {
      return false;
    }
  });
}

describe.each(METHODS)("method %s", (method) => {
  test.each([false, true])("reads blocks of any segment (direct %s)", async (direct) => {
    await using world = new World(method, { direct });
    world.directory.writeBlocks(TABLE, 20);
    expect(world.files.blocks(TABLE, FORK.main)).toBe(20);
    for (const [block, count] of [
      [0, 8],
      [9, 3],
      [16, 4],
      [19, 1],
    ] as const) {
      const slot = await world.transfer(false, TABLE, FORK.main, block, count);
      expect(slot.result).toEqual({ callback: 0, status: "ok", error: 0, result: count });
      for (let index = 0; index < count; index++) expect(blockOf(world.page(index))).toBe(block + index);
    }
  });

  test.each([false, true])(
    "writes blocks, and says so if they are written in part only (direct %s)",
    async (direct) => {
      await using world = new World(method, { direct });
      world.directory.writeBlocks(TABLE, 10);
      for (let index = 0; index < 2; index++) world.page(index).set(makePage(100 + index));
      const slot = await world.transfer(true, TABLE, FORK.main, 8, 2);
      expect(slot.result).toEqual({ callback: 0, status: "ok", error: 0, result: 2 });
      const bytes = readFileSync(world.directory.segment(TABLE, 8));
      expect([blockOf(bytes.subarray(0, PAGE)), blockOf(bytes.subarray(PAGE))]).toEqual([100, 101]);
      using fault = world.pool.aio.faults.arm({ point: "afterwards", operation: "writev", result: PAGE });
      const short = await world.transfer(true, TABLE, FORK.main, 0, 2);
      expect(fault.hits).toBe(1);
      expect(short.result.status).toBe("error");
      expect(() => world.context.aio.report(short, "error")).toThrow(
        'could not write blocks 0..1 of relation "base/5/16384": only a part was written',
      );
      using full = world.pool.aio.faults.arm({ point: "instead", operation: "writev", result: -28 });
      const failed = await world.transfer(true, TABLE, FORK.main, 1, 1);
      expect(full.hits).toBe(1);
      expect(() => world.context.aio.report(failed, "error")).toThrow(
        'could not write block 1 of relation "base/5/16384": ENOSPC',
      );
    },
  );

  test("a read that begins at the end of the file failed, one across it brought a part", async () => {
    await using world = new World(method);
    world.directory.writeBlocks(TABLE, 3);
    const across = await world.transfer(false, TABLE, FORK.main, 1, 4);
    expect(across.result).toMatchObject({ status: "partial", result: 2 });
    const beyond = await world.transfer(false, TABLE, FORK.main, 3, 2);
    expect(beyond.result).toMatchObject({ status: "error", error: 0, result: 0 });
    expect(() => world.context.aio.report(beyond, "error")).toThrow(
      'could not read blocks 3..4 of relation "base/5/16384": read only 0 of 16384 bytes',
    );
  });
});

describe("files", () => {
  // Aim: the layout is PostgreSQL's. Method: one block of each kind of fork is put where PostgreSQL keeps it.
  test("are where PostgreSQL keeps them", async () => {
    await using world = new World("sync");
    const { path } = world.directory;
    const version = "PG_18_202506291";
    writeFileSync(join(path, "PG_VERSION"), "18\n");
    const kinds: [Relation, Fork, string][] = [
      [TABLE, FORK.main, "base/5/16384"],
      [TABLE, FORK.fsm, "base/5/16384_fsm"],
      [TABLE, FORK.vm, "base/5/16384_vm"],
      [TABLE, FORK.init, "base/5/16384_init"],
      [{ tablespace: 1664, database: 0, relation: 1262 }, FORK.main, "global/1262"],
      [{ tablespace: 16_500, database: 5, relation: 7 }, FORK.vm, `pg_tblspc/16500/${version}/5/7_vm`],
      [{ ...TABLE, persistence: "temporary", owner: 3 }, FORK.main, "base/5/t3_16384"],
    ];
    // An upgraded cluster's tablespace may have the old version's directory still.
    const elsewhere = join(path, "elsewhere");
    mkdirSync(join(elsewhere, "PG_17_202406281"), { recursive: true });
    mkdirSync(join(elsewhere, version));
    mkdirSync(join(path, "pg_tblspc"));
    symlinkSync(elsewhere, join(path, "pg_tblspc", "16500"));
    for (const [index, [relation, fork, name]] of kinds.entries()) {
      expect(world.files.exists(relation, fork)).toBe(false);
      mkdirSync(dirname(join(path, name)), { recursive: true });
      writeFileSync(join(path, name), makePage(index));
      expect(world.files.exists(relation, fork)).toBe(true);
      expect(world.files.fileName(relation, fork, 0)).toBe(join(path, name));
      expect(world.files.fileName(relation, fork, SEGMENT)).toBe(`${join(path, name)}.1`);
      const slot = await world.transfer(false, relation, fork, 0, 1);
      expect(slot.result.result).toBe(1);
      expect(blockOf(world.page(0))).toBe(index);
    }
  });

  test("of a tablespace without a directory for one version cannot be named", async () => {
    await using world = new World("sync");
    const relation = { tablespace: 16_500, database: 5, relation: 7 };
    expect(() => world.files.exists(relation, FORK.main)).toThrow(code("ERR_BUFFER_FILE"));
  });

  test("may have any other layout", async () => {
    await using world = new World("sync", { path: ({ relation }, fork) => `r${relation}-${fork}` });
    writeFileSync(join(world.directory.path, "r16384-0"), makePage(0));
    expect(world.files.blocks(TABLE, FORK.main)).toBe(1);
  });

  test("that are not there are an error that names them, in whatever segment", async () => {
    await using world = new World("sync");
    const path = world.directory.segment(TABLE, 0);
    expect(() => world.files.blocks(TABLE, FORK.main)).toThrow(path);
    await expect(world.transfer(false, TABLE, FORK.main, 0, 1)).rejects.toThrow(code("ERR_BUFFER_FILE"));
    world.directory.writeBlocks(TABLE, 8);
    await expect(world.transfer(false, TABLE, FORK.main, 8, 1)).rejects.toThrow(`${path}.1`);
    expect(world.context.aio.idleCount).toBe(world.context.aio.concurrency);
  });

  test("have as many blocks as they have now, also after they grew or shrank behind the layer's back", async () => {
    await using world = new World("sync");
    for (const blocks of [0, 3, 8, 9, 30, 17, 16, 2, 0, 8]) {
      for (let first = 0; first < 40; first += SEGMENT)
        rmSync(world.directory.segment(TABLE, first), { force: true });
      world.files.forget(TABLE);
      world.directory.writeBlocks(TABLE, blocks);
      expect(world.files.blocks(TABLE, FORK.main)).toBe(blocks);
    }
    world.directory.writeBlocks(TABLE, 30);
    expect(world.files.blocks(TABLE, FORK.main)).toBe(30);
    writeFileSync(world.directory.segment(TABLE, 24), "");
    writeFileSync(world.directory.segment(TABLE, 16), makePage(16));
    expect(world.files.blocks(TABLE, FORK.main), "empty segments stay behind a truncation").toBe(17);
  });

  test.each([false, true])("grow by zeros, over the ends of segments (direct %s)", async (direct) => {
    await using world = new World("sync", { direct });
    world.directory.writeBlocks(TABLE, 6);
    world.files.zeroExtend(TABLE, FORK.main, 6, 1);
    world.files.zeroExtend(TABLE, FORK.main, 7, 20);
    expect(world.files.blocks(TABLE, FORK.main)).toBe(27);
    expect(world.directory.sizeOf(TABLE, 0)).toBe(SEGMENT * PAGE);
    const [first, last] = [
      readFileSync(world.directory.segment(TABLE, 0)),
      readFileSync(world.directory.segment(TABLE, 26)),
    ];
    expect(blockOf(first.subarray(5 * PAGE, 6 * PAGE)), "what was there stays").toBe(5);
    expect(first.subarray(6 * PAGE).every((byte) => byte === 0)).toBe(true);
    expect(last.every((byte) => byte === 0)).toBe(true);
    world.files.sync(TABLE, FORK.main);
  });

  test("that cannot grow say why", async () => {
    await using world = new World("sync", { isReadOnly: true });
    world.directory.writeBlocks(TABLE, 1);
    expect(() => world.files.zeroExtend(TABLE, FORK.main, 1, 1)).toThrow(code("ERR_BUFFER_FILE"));
  });

  test("are advised and written back where the native part is, and never fail in that", async () => {
    await using world = new World("sync");
    world.directory.writeBlocks(TABLE, 20);
    const { available } = nativeStatus();
    expect(world.files.canAdvise).toBe(available);
    expect(world.files.advise(TABLE, FORK.main, 5, 10)).toBe(available);
    expect(world.files.advise(TABLE, FORK.main, 30, 10), "no such segment").toBe(false);
    world.files.writeBack(TABLE, FORK.main, 5, 10);
    world.files.writeBack(TABLE, FORK.main, 100, 1);
    await using direct = new World("sync", { direct: true });
    expect(direct.files.canAdvise).toBe(false);
    expect(direct.files.advise(TABLE, FORK.main, 0, 1)).toBe(false);
  });
});

describe("descriptors", () => {
  test.each([true, false])("are bounded, and all closed at the end (may block: %s)", async (mayBlock) => {
    const world = new World("sync", { descriptorsMax: 3, mayBlock });
    world.directory.writeBlocks(TABLE, 40);
    for (const block of [0, 8, 16, 24, 32, 0, 39, 7]) {
      const slot = await world.transfer(false, TABLE, FORK.main, block, 1);
      expect([slot.result.result, blockOf(world.page(0))]).toEqual([1, block]);
      expect(world.files.openCount).toBeLessThanOrEqual(3);
    }
    const { path } = world.directory;
    expect(openBelow(path).length).toBe(3);
    await world.files.closeAsync();
    expect(openBelow(path)).toEqual([]);
    await world[Symbol.asyncDispose]();
  });

  test("are not closed under I/O", async () => {
    const world = new World("worker", { descriptorsMax: 1, mayBlock: false });
    world.directory.writeBlocks(TABLE, 16);
    const { aio, ioScope, files } = world.context;
    using hold = world.pool.aio.faults.arm({ point: "hold", operation: "readv", times: 1 });
    const slot = createIoReturn();
    const handle = aio.acquire(ioScope, slot);
    const ref = handle.ref();
    files.startRead(handle, TABLE, FORK.main, 0, world.vectors(8, 1), 1);
    await hold.arrived(1);
    expect((await world.transfer(false, TABLE, FORK.main, 8, 1)).result.result).toBe(1);
    expect(world.files.openCount, "the first file only waits to be closed").toBe(1);
    expect(openBelow(world.directory.path).length).toBe(2);
    hold[Symbol.dispose]();
    await aio.waitAsync(ref);
    expect([slot.result.result, blockOf(world.page(8))]).toEqual([1, 0]);
    await world[Symbol.asyncDispose]();
  });
});

describe("a sync without blocking", () => {
  // Aim: no other file is synced in its place, and no descriptor is lost. Method: the threads that sync are kept busy while the
  // file is closed, as by one that is opened after it; on threads that may sleep and that must not.
  test.each([true, false])("keeps its descriptor open until it is over (may block: %s)", async (mayBlock) => {
    await using world = new World("sync", { descriptorsMax: 1, mayBlock });
    world.directory.writeBlocks(TABLE, 4);
    await using busy = new BusyThreads();
    let isDone = false;
    const syncing = world.files.syncAsync(TABLE, FORK.main).finally(() => {
      isDone = true;
    });
    world.directory.writeBlocks(TABLE, 4, FORK.fsm);
    expect(world.files.blocks(TABLE, FORK.fsm)).toBe(4);
    await turns();
    expect([isDone, world.files.openCount, openBelow(world.directory.path).length]).toEqual([false, 1, 2]);
    await busy.release();
    await syncing;
    await world.files.closeAsync();
    expect(openBelow(world.directory.path)).toEqual([]);
  });

  test("syncs all segments, and the directory of one that was made", async () => {
    await using world = new World("sync");
    world.directory.writeBlocks(TABLE, 20);
    world.files.zeroExtend(TABLE, FORK.main, 20, 10);
    await world.files.syncAsync(TABLE, FORK.main);
    expect(world.files.openCount).toBe(4);
  });
});

describe("a failed sync", () => {
  // Aim: what may be lost is never called durable. Method: the file's directory is gone when the sync comes to it, which
  // fails as a disk would; a second thread's layer of the pool then refuses too.
  test.each(["sync", "syncAsync"] as const)("is final, for every thread of the pool (%s)", async (form) => {
    await using world = new World("sync");
    const other = attachContext(world.pool.shared, {
      files: segmentedFiles({ directory: world.directory.path }),
      mayBlock: true,
    });
    world.directory.writeBlocks(TABLE, 1);
    const elsewhere = { ...TABLE, database: 6 };
    mkdirSync(dirname(world.directory.segment(elsewhere, 0)), { recursive: true });
    world.files.zeroExtend(elsewhere, FORK.main, 0, 1);
    rmSync(dirname(world.directory.segment(elsewhere, 0)), { recursive: true });
    const poisoned = code("ERR_BUFFER_POISONED");
    if (form === "sync") expect(() => world.files.sync(elsewhere, FORK.main)).toThrow(poisoned);
    else await expect(world.files.syncAsync(elsewhere, FORK.main)).rejects.toThrow(poisoned);
    await expect(world.files.syncAsync(TABLE, FORK.main)).rejects.toThrow(poisoned);
    for (const { files } of [world.context, other]) {
      expect(() => files.sync(TABLE, FORK.main)).toThrow(poisoned);
      expect(() => files.zeroExtend(TABLE, FORK.main, 1, 1)).toThrow(poisoned);
    }
    await expect(world.transfer(false, TABLE, FORK.main, 0, 1)).rejects.toThrow(poisoned);
    await expect(world.transfer(true, TABLE, FORK.main, 0, 1)).rejects.toThrow(poisoned);
    other.files.close();
    await other.aio.detachAsync();
    detachContext(other);
  });
});

/**
 * Warming a relation: every block of the range is read once, to where the mode says, several at a time, and nothing is left over.
 */
import { ManualController } from "@millrace/aio";
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { STATE } from "../src/buffer-state.js";
import { Prewarmer } from "../src/prewarm.js";
import type { PrewarmOptions } from "../src/prewarm.js";
import { segmentedFiles } from "../src/segmented-files.js";
import { CONTEXT, COUNTED } from "../src/statistics.js";
import { FORK } from "../src/tag.js";
import type { Relation } from "../src/tag.js";
import { blockOf, makePage, METHODS, PAGE, TABLE } from "./data-directory.js";
import { WriteWorld } from "./write-world.js";
import type { WorldOptions } from "./write-world.js";

const BLOCKS = 100;
/** Reads that these take in segments of 40 blocks, of at most 16 blocks each. */
const READS = 3 + 3 + 2;
const code = (code: string): unknown => expect.objectContaining({ code });
const TEMPORARY: Relation = { ...TABLE, relation: 16_700, persistence: "temporary", owner: 0 };

/** A pool with room for a table of 100 blocks, and for pins enough to read ahead. */
class World extends WriteWorld {
  readonly prewarmer: Prewarmer = new Prewarmer(this.backend);

  constructor(options: WorldOptions = {}) {
    super({ buffers: 4096, pinBackends: 1, segmentBlocks: 40, localBuffers: 200, ...options });
    this.create(TABLE, BLOCKS);
  }

  async warm(options: PrewarmOptions, relation: Relation = TABLE): Promise<number> {
    const { waiter, mayBlock } = this.context;
    const flow = this.prewarmer.warm(relation, options, mayBlock);
    return mayBlock ? waiter.run(flow) : waiter.runAsync(flow);
  }

  /** Blocks in the pool, which must be what they are in the file. */
  resident(): number[] {
    const { headers, frames } = this.context;
    return Array.from({ length: 4096 }, (_, buffer) => buffer)
      .filter((buffer) => this.has(buffer, STATE.valid))
      .map((buffer) => {
        expect(blockOf(frames.view(buffer))).toBe(headers.block(buffer));
        return headers.block(buffer);
      })
      .toSorted((a, b) => a - b);
  }

  counted(operation: "read" | "hit", isTemporary = false): { count: number; bytes: number } {
    return this.context.counters.get(COUNTED[operation], CONTEXT.normal, isTemporary);
  }

  /** How many reads are issued from now on. */
  reads(): { readonly hits: number } & Disposable {
    return this.pool.aio.faults.arm({ point: "instead", operation: "readv", skip: 1_000_000 });
  }
}

const range = (first: number, end: number): number[] =>
  Array.from({ length: end - first }, (_, index) => first + index);
const forms = METHODS.flatMap((method) => [true, false].map((mayBlock) => ({ method, mayBlock })));

describe.each(forms)("with method $method (may block: $mayBlock)", ({ method, mayBlock }) => {
  const options = { mayBlock, aio: { method, required: true } };

  test("a fork is read into the pool, neighbours together", async () => {
    await using world = new World(options);
    expect(await world.warm({})).toBe(BLOCKS);
    expect(world.resident()).toEqual(range(0, BLOCKS));
    expect(world.counted("read")).toMatchObject({ count: READS, bytes: BLOCKS * PAGE });
    expect(await world.warm({ mode: "buffer" })).toBe(BLOCKS);
    expect([world.counted("read").count, world.counted("hit").count]).toEqual([READS, BLOCKS]);
  });

  test("a range of it is, and what is there already counts once", async () => {
    await using world = new World(options);
    for (const block of [12, 20, 21]) {
      const buffer = mayBlock
        ? world.context.waiter.run(world.backend.pages.read(TABLE, FORK.main, block, null, "normal", true))
        : await world.context.waiter.runAsync(
            world.backend.pages.read(TABLE, FORK.main, block, null, "normal", false),
          );
      world.context.pins.unpin(buffer - 1);
    }
    const before = world.counted("read").bytes;
    expect(await world.warm({ first: 10, last: 44 })).toBe(35);
    expect(world.resident()).toEqual(range(10, 45));
    expect(world.counted("read").bytes - before).toBe(32 * PAGE);
    expect(world.counted("hit").count).toBe(3);
  });

  test("a fork is read past the pool, neighbours together", async () => {
    await using world = new World(options);
    using reads = world.reads();
    expect(await world.warm({ mode: "read" })).toBe(BLOCKS);
    expect(reads.hits).toBe(READS);
    expect(world.resident()).toEqual([]);
    expect([world.counted("read").count, world.counted("hit").count]).toEqual([0, 0]);
    expect(await world.warm({ mode: "read", first: 39, last: 40 })).toBe(2);
    expect(reads.hits, "a block of each of two segments").toBe(READS + 2);
  });

  test("a read past the pool that brought a part is gone on with", async () => {
    await using world = new World(options);
    using fault = world.pool.aio.faults.arm({
      point: "afterwards",
      operation: "readv",
      result: 3 * PAGE + 100,
      skip: 1,
      times: 1,
    });
    expect(await world.warm({ mode: "read", last: 31 })).toBe(32);
    expect(fault.hits, "the rest of the second").toBe(3);
  });

  test("a read that fails ends it, whatever is in flight", async () => {
    await using world = new World(options);
    for (const mode of ["read", "buffer"] as const) {
      using fault = world.pool.aio.faults.arm({ point: "instead", operation: "readv", result: -5, times: 1 });
      await expect(world.warm({ mode })).rejects.toThrow(code("ERR_BUFFER_READ_FAILED"));
      expect(fault.hits).toBeGreaterThan(0);
      expect([world.context.pins.pinnedCount, world.backend.writer.scratchCount]).toEqual([0, 0]);
      fault[Symbol.dispose]();
      expect(await world.warm({ mode })).toBe(BLOCKS);
    }
  });

  test("a page that is not valid ends it in the pool, and is read past it", async () => {
    await using world = new World(options);
    world.directory.writeBlock(TABLE, 55, makePage(55, { header: true }));
    await expect(world.warm({})).rejects.toThrow(code("ERR_BUFFER_INVALID_PAGE"));
    expect(world.context.pins.pinnedCount).toBe(0);
    expect(await world.warm({ mode: "read" })).toBe(BLOCKS);
  });

  test("a temporary relation is warmed in the backend's own buffers", async () => {
    await using world = new World(options);
    world.create(TEMPORARY, 50);
    expect(await world.warm({}, TEMPORARY)).toBe(50);
    const { local } = world.backend;
    for (const block of range(0, 50)) {
      const buffer = local.lookup(TEMPORARY, FORK.main, block);
      expect(blockOf(world.context.frames.view(local.frame(buffer)))).toBe(block);
    }
    expect([local.pinnedCount, world.counted("read", true).bytes]).toEqual([0, 50 * PAGE]);
    expect(await world.warm({ mode: "read" }, TEMPORARY)).toBe(50);
  });
});

// Aim: reads are in flight together. Method: the threads that execute them are held until three have one.
test.each(["read", "buffer"] as const)("several reads are in flight in mode %s", async (mode) => {
  await using world = new World({ mayBlock: false, aio: { method: "worker", required: true, ioWorkers: 4 } });
  world.backend.session.maintenanceConcurrency = 3;
  using hold = world.pool.aio.faults.arm({ point: "hold", operation: "readv" });
  const warming = world.warm({ mode });
  await hold.arrived(3);
  expect(hold.hits).toBe(3);
  hold[Symbol.dispose]();
  expect(await warming).toBe(BLOCKS);
});

// Aim: no read fills frames that are a write's by then. Method: reads are completed by hand; the first of three fails.
test("frames are given back only when no read fills them any more", async () => {
  await using world = new World({ aio: { method: "manual", required: true } });
  const { aio } = world.pool;
  const controller = new ManualController(aio.shared, aio.registry);
  world.backend.session.maintenanceConcurrency = 3;
  const flow = world.prewarmer.warm(TABLE, { mode: "read" }, true);
  expect(flow.next().value).toMatchObject({ kind: "io" });
  const submitted = controller.submitted();
  expect(submitted).toHaveLength(3);
  controller.complete(submitted[0] ?? -1, -5);
  expect(flow.next().value, "the second").toMatchObject({ kind: "io", ref: { handle: submitted[1] } });
  expect(world.backend.writer.scratchCount).toBeGreaterThan(0);
  controller.completeAll();
  expect(() => flow.next()).toThrow(code("ERR_BUFFER_READ_FAILED"));
  expect(world.backend.writer.scratchCount).toBe(0);
});

describe("prefetching", () => {
  test.each([true, false])(
    "advises of what is not in the pool, in pieces (may block: %s)",
    async (mayBlock) => {
      await using world = new World({ mayBlock, aio: { method: "sync" } });
      const { files } = world.context;
      const advised: string[] = [];
      Object.defineProperty(files, "canAdvise", { value: true });
      files.advise = (_relation, _fork, block, count) => {
        advised.push(`${block}+${count}`);
        return true;
      };
      await world.warm({ first: 3, last: 4 });
      expect(await world.warm({ mode: "prefetch", last: 40 })).toBe(41);
      expect(advised).toEqual(["0+3", "5+16", "21+16", "37+4"]);
      expect(world.resident()).toEqual([3, 4]);
    },
  );

  test("on an event loop gives others their turn", async () => {
    await using world = new World({ mayBlock: false, aio: { method: "sync" } });
    const { files } = world.context;
    Object.defineProperty(files, "canAdvise", { value: true });
    files.blocks = () => 64 * 16 + 1;
    files.advise = () => true;
    const flow = world.prewarmer.warm(TABLE, { mode: "prefetch" }, false);
    expect(flow.next().value).toMatchObject({ kind: "word", timeoutMs: 1 });
    expect(flow.next()).toEqual({ done: true, value: 64 * 16 + 1 });
    expect(world.prewarmer.warm(TABLE, { mode: "prefetch" }, true).next().done).toBe(true);
  });

  test("is refused where nobody can be advised", async () => {
    await using world = new World({ direct: true, aio: { method: "sync" } });
    await expect(world.warm({ mode: "prefetch" })).rejects.toThrow(code("ERR_BUFFER_NO_ADVICE"));
    expect(await world.warm({ mode: "read" }), "with direct I/O").toBe(BLOCKS);
  });
});

test("a range has blocks of the fork, or none at all", async () => {
  await using world = new World({ aio: { method: "sync" } });
  for (const mode of ["read", "buffer"] as const) {
    expect(await world.warm({ mode, first: 9, last: 8 })).toBe(0);
    for (const wrong of [{ first: -1 }, { first: BLOCKS }, { last: BLOCKS }, { first: 0.5 }, { last: -1 }]) {
      await expect(world.warm({ mode, ...wrong })).rejects.toThrow(RangeError);
    }
    await expect(world.warm({ mode, fork: FORK.vm })).rejects.toThrow(code("ERR_BUFFER_FILE"));
  }
  world.create(TABLE, 0, FORK.fsm);
  expect(await world.warm({ fork: FORK.fsm })).toBe(0);
  await expect(world.warm({ fork: FORK.fsm, first: 0 })).rejects.toThrow(RangeError);
  expect(world.resident()).toEqual([]);
});

test("a manager warms, blocking and not", async () => {
  await using world = new World({ aio: { method: "sync" } });
  const attach = (mayBlock: boolean): BufferManager =>
    BufferManager.attach(world.pool.shared, {
      files: segmentedFiles({ directory: world.directory.path }),
      mayBlock,
    });
  await using blocking = attach(true);
  await using turning = attach(false);
  expect(blocking.prewarm(TABLE, { first: 90 })).toBe(10);
  expect(await turning.prewarmAsync(TABLE, { last: 9 })).toBe(10);
  expect(blocking.prewarm(TABLE, { mode: "read" })).toBe(BLOCKS);
  expect(world.resident()).toEqual([...range(0, 10), ...range(90, 100)]);
  for (const mode of ["read", "buffer"] as const) {
    expect(() => turning.prewarm(TABLE, { mode })).toThrow(code("ERR_BUFFER_WOULD_BLOCK"));
    expect(await turning.prewarmAsync(TABLE, { mode }), "nothing was left behind").toBe(BLOCKS);
  }
});

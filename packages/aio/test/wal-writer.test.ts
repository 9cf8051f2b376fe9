/** Writing a log: what is durable when, in which order committers go, and what a failure means. */
import { constants } from "node:os";
import { describe, expect, test } from "vitest";

import { createIoReturn } from "../src/result.js";
import { WalWriter } from "../src/wal-writer.js";
import { WAL_TARGET } from "../src/wal-target.js";
import { BLOCK_BYTES, METHODS, World } from "./fixture.js";

const START = 0x1_0000_0000n;
const EIO = -constants.errno.EIO;
const ENOSPC = -constants.errno.ENOSPC;

/** Lets a planned sync start. */
const turn = async (): Promise<void> => await new Promise((resolve) => setImmediate(resolve));

/** A writer over the world's file, one block a write. */
class Log implements Disposable {
  readonly writer: WalWriter;
  readonly #world: World;
  #blocks = 0;

  constructor(world: World, isDataSync: boolean) {
    this.#world = world;
    this.writer = new WalWriter(world.backend, { start: START, isDataSync, timeline: 3 });
  }

  /** The position after `blocks` blocks. */
  at(blocks: number): bigint {
    return START + BigInt(blocks * BLOCK_BYTES);
  }

  write(): bigint {
    const block = this.#blocks++;
    return this.writer.start({
      file: this.#world.lease,
      segmentNumber: 1n,
      offsetBytes: block * BLOCK_BYTES,
      vectors: [{ segment: 0, offsetBytes: block * BLOCK_BYTES, lengthBytes: BLOCK_BYTES }],
    });
  }

  [Symbol.dispose](): void {
    this.writer[Symbol.dispose]();
  }
}

describe.each([true, false])("O_DSYNC %s", (isDataSync) => {
  // Aim: with every method, what a flush returned for is on disk. Method: write, flush, several times over.
  test.each(METHODS)("a flush with method %s returns when everything before is durable", async (method) => {
    await using world = new World(method);
    using log = new Log(world, isDataSync);
    for (let round = 0; round < 4; round++) {
      const end = [log.write(), log.write(), log.write()].at(-1) ?? START;
      log.writer.flush(end);
      expect([log.writer.durable, log.writer.written, log.writer.started]).toEqual([end, end, end]);
    }
    const end = log.write();
    expect(await log.writer.flushAsync(end)).toBe(end);
    const synced = world.backend.statistics().io.filter(({ operation }) => operation === "fdatasync");
    expect(synced.map(({ started }) => started)).toEqual(isDataSync ? [] : [5]);
  });
});

// Aim: the durable position never jumps over a gap. Method: three writes complete in the order 3, 1, 2.
test("with O_DSYNC the durable position is the end of the run without a gap", async () => {
  await using world = new World("manual");
  using log = new Log(world, true);
  for (let write = 0; write < 3; write++) log.write();
  const [first = -1, second = -1, third = -1] = world.controller.submitted();
  const seen: bigint[] = [];
  for (const handle of [third, first, second]) {
    world.controller.complete(handle);
    world.backend.poll();
    seen.push(log.writer.durable);
  }
  expect(seen).toEqual([START, log.at(1), log.at(3)]);
});

// Aim: writes are started eagerly, so a later flush need not wait. Method: complete four writes, then flush for real.
test("a flush of writes that have completed does not wait", async () => {
  await using world = new World("manual", {}, { mayBlock: false });
  using log = new Log(world, true);
  for (let write = 0; write < 4; write++) log.write();
  world.controller.completeAll();
  world.backend.poll();
  log.writer.flush(log.at(4)); // would throw ERR_AIO_WOULD_BLOCK
  expect(world.backend.statistics().waits).toBe(0);
});

// Aim: one sync covers what had completed before it, not what completes while it runs. Method: complete step by step.
test("without O_DSYNC a sync covers the writes that completed before it was submitted", async () => {
  await using world = new World("manual");
  using log = new Log(world, false);
  log.write();
  log.write();
  const flushed = [log.writer.flushAsync(log.at(1)), log.writer.flushAsync(log.at(2))];
  world.controller.completeAll();
  world.backend.poll();
  await turn();
  const [sync = -1] = world.controller.submitted();
  const [row] = world.system.rows();
  expect(row).toMatchObject({ operation: "fdatasync", lengthBytes: null, target: "wal" });
  log.write();
  const later = log.writer.flushAsync(log.at(3));
  const write = world.controller.submitted().find((handle) => handle !== sync) ?? -1;
  world.controller.complete(write);
  world.backend.poll();
  expect(log.writer.durable).toBe(START);
  world.controller.complete(sync);
  world.backend.poll();
  expect(await Promise.all(flushed)).toEqual([log.at(2), log.at(2)]);
  expect(log.writer.durable).toBe(log.at(2));
  await turn();
  world.controller.completeAll(); // the second sync, which the third committer needs
  world.backend.poll();
  expect(await later).toBe(log.at(3));
});

// Aim: committers go in the order of their positions. Method: eight that came in a mixed order, released one by one.
test("committers are let go in the order of their positions", async () => {
  await using world = new World("manual");
  using log = new Log(world, true);
  for (let write = 0; write < 8; write++) log.write();
  const order: number[] = [];
  const commits = [5, 2, 8, 1, 7, 3, 6, 4].map(async (blocks) => {
    expect(await log.writer.flushAsync(log.at(blocks))).toBeGreaterThanOrEqual(log.at(blocks));
    order.push(blocks);
  });
  for (const handle of world.controller.submitted()) {
    world.controller.complete(handle);
    world.backend.poll();
  }
  await Promise.all(commits);
  expect(order).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
});

// Aim: a flush works although every handle is busy. Method: all four handles read; then a write and a flush.
test.each(METHODS)("a flush with method %s gets its handle from reads in flight", async (method) => {
  await using world = new World(method, { concurrency: 4 });
  using scope = world.backend.openScope();
  world.backend.enterBatch();
  for (let block = 0; block < 4; block++) world.read(world.backend.acquire(scope), block, 10 + block);
  using log = new Log(world, false);
  const end = log.write();
  world.backend.exitBatch();
  log.writer.flush(end);
  expect(log.writer.durable).toBe(end);
});

// Aim: a failure is final, for everybody, and nothing is claimed durable. Method: fail the 2nd write; fail a sync.
describe("a failure", () => {
  test.each([
    ["of a write", true, ENOSPC],
    ["that is a short write", true, 512],
  ])("%s stops the system and leaves the durable position", async (_name, isDataSync, result) => {
    const world = new World("manual");
    const log = new Log(world, isDataSync);
    log.write();
    log.write();
    const [first = -1, second = -1] = world.controller.submitted();
    const commits = Promise.allSettled([1, 2].map((blocks) => log.writer.flushAsync(log.at(blocks))));
    world.controller.complete(second, result);
    world.controller.complete(first);
    world.backend.poll();
    const outcomes = await commits;
    expect(outcomes[1]).toMatchObject({ status: "rejected", reason: { code: "ERR_AIO_PANIC" } });
    expect(log.writer.durable).toBeLessThanOrEqual(log.at(1));
    expect(() => log.write()).toThrow(expect.objectContaining({ code: "ERR_AIO_PANIC" }));
    using other = createScopeAfterPanic(world);
    expect(other.code).toBe("ERR_AIO_PANIC");
    world.file[Symbol.dispose]();
  });

  test("of a sync stops the system: a second one would prove nothing", async () => {
    const world = new World("manual");
    const log = new Log(world, false);
    const end = log.write();
    const commit = log.writer.flushAsync(end);
    const outcome = Promise.allSettled([commit]);
    world.controller.completeAll();
    world.backend.poll();
    await turn();
    world.controller.complete(world.controller.submitted()[0] ?? -1, EIO);
    world.backend.poll();
    const [rejected] = await outcome;
    expect(rejected).toMatchObject({ reason: { code: "ERR_AIO_PANIC", cause: { errnoName: "EIO" } } });
    expect(log.writer.durable).toBe(START);
    expect(() => log.writer.flush(end)).toThrow(expect.objectContaining({ code: "ERR_AIO_PANIC" }));
    world.file[Symbol.dispose]();
  });
});

/** What any other user of the system is told. */
function createScopeAfterPanic(world: World): Disposable & { readonly code: unknown } {
  let code: unknown;
  try {
    world.backend.openScope();
  } catch (error) {
    ({ code } = error as { code?: unknown });
  }
  return { code, [Symbol.dispose]: () => undefined };
}

// Aim: operators see which piece of log is written. Method: the row of a write in flight.
test("a write in flight is described by its place in the log", async () => {
  await using world = new World("manual");
  using log = new Log(world, true);
  log.write();
  const [row] = world.system.rows();
  expect(row).toMatchObject({
    target: "wal",
    targetDescription: "8192 bytes of WAL at 1/0, timeline 3, segment 1",
    operation: "writev",
  });
  expect(world.system.registry.targetOf(WAL_TARGET)?.name).toBe("wal");
  expect(createIoReturn().result.status).toBe("unknown");
  expect(() => log.writer.flush(log.at(9))).toThrow(RangeError);
});

/**
 * Checkpoints: what was dirty when one began is written, once, in the order of the files, and nothing else is.
 */
import { describe, expect, test } from "vitest";

import { STATE } from "../src/buffer-state.js";
import { checkpoint } from "../src/checkpoint.js";
import type { CheckpointOptions, CheckpointReport } from "../src/checkpoint.js";
import { BACKEND } from "../src/layout.js";
import type { Relation } from "../src/tag.js";
import type { Waiting } from "../src/waiting.js";
import { METHODS } from "./data-directory.js";
import { OTHER, TABLE, UNLOGGED, WriteWorld } from "./write-world.js";

const IMMEDIATE = { isImmediate: true } as const;

function run(world: WriteWorld, options: CheckpointOptions = IMMEDIATE): CheckpointReport {
  return world.context.waiter.run(checkpoint(world.parts, options));
}

/** Goes on with a flow up to its next pause. @returns its result, once it has one */
function untilPause<T>(world: WriteWorld, flow: Waiting<T>): T | undefined {
  for (let step = flow.next(); ; step = flow.next()) {
    if (step.done === true) return step.value;
    if (step.value.kind === "word") {
      expect(step.value).toMatchObject({ event: "CheckpointWriteDelay", timeoutMs: 100 });
      return undefined;
    }
    if (step.value.kind === "wal") world.log.flush(step.value.lsn);
  }
}

/** The writes among what was recorded. */
function writes(world: WriteWorld): string[] {
  return world.take().filter((event) => event.startsWith("write"));
}

describe.each(METHODS)("a checkpoint with method %s", (method) => {
  const options = { aio: { method, required: true } } as const;

  test("writes all that is dirty, neighbours together, and clears the marks", async () => {
    await using world = new WriteWorld({ ...options, combineLimit: 4 });
    world.create(TABLE, 20);
    world.create(OTHER, 4);
    const blocks = [7, 3, 19, 4, 5, 6, 8, 0];
    const buffers = blocks.map((block) => world.dirty(TABLE, block, block + 1));
    buffers.push(world.dirty(OTHER, 2, 99));
    world.touch(OTHER, 1);
    world.take();
    expect(run(world)).toEqual({ marked: 9, written: 9, writes: 5, pauses: 0, syncs: 2 });
    const { relation } = TABLE;
    const expected = [
      `${relation}:0`,
      `${relation}:3+4`,
      `${relation}:7+2`,
      `${relation}:19`,
      `${OTHER.relation}:2`,
    ];
    expect(writes(world)).toEqual(expected.map((write) => `write ${write}`));
    for (const block of blocks) expect(world.storedValue(TABLE, block)).toBe(block + 1);
    expect(world.storedValue(OTHER, 2)).toBe(99);
    for (const buffer of buffers) {
      expect(world.state(buffer) & (STATE.dirty | STATE.checkpointNeeded | STATE.ioInProgress)).toBe(0);
    }
    expect(run(world)).toEqual({ marked: 0, written: 0, writes: 0, pauses: 0, syncs: 0 });
  });

  test("makes the WAL of the newest page of a write durable, wherever that is in it", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 4);
    for (const block of [0, 3, 1, 2]) world.dirty(TABLE, block, block + 1);
    world.take();
    run(world);
    expect(world.take().slice(0, 2)).toEqual([`wal ${world.log.end}`, `write ${TABLE.relation}:0+4`]);
  });

  test("copies every page under its content lock, and holds none while it writes", async () => {
    await using world = new WriteWorld(options);
    world.create(TABLE, 6);
    for (const block of [0, 1, 2, 5]) world.dirty(TABLE, block, block + 1);
    const { writer, locks } = world.backend;
    const add = writer.add.bind(writer);
    const modes: (string | undefined)[] = [];
    writer.add = (run, buffer) => {
      modes.push(locks.modeOf(buffer));
      add(run, buffer);
    };
    const held: number[] = [];
    world.hook = (point) => {
      if (point === "flush:after-wal") held.push(locks.heldCount);
    };
    run(world);
    expect(modes).toEqual(["shared", "shared", "shared", "shared"]);
    expect(held).toEqual([0, 0, 0, 0]);
  });

  test("never joins blocks of two segments", async () => {
    await using world = new WriteWorld({ ...options, segmentBlocks: 4 });
    world.create(TABLE, 10);
    for (let block = 1; block < 10; block++) world.dirty(TABLE, block, block + 1);
    world.take();
    run(world);
    expect(writes(world)).toEqual(
      [1, 4, 8].map((block, at) => `write ${TABLE.relation}:${block}+${[3, 4, 2][at]}`),
    );
    for (let block = 1; block < 10; block++) expect(world.storedValue(TABLE, block)).toBe(block + 1);
  });

  test("gives one write's frames to the next, however many pages there are", async () => {
    await using world = new WriteWorld({ ...options, buffers: 512, combineLimit: 32 });
    world.create(TABLE, 400);
    for (let block = 0; block < 400; block++) world.dirty(TABLE, block, block % 100);
    expect(run(world)).toMatchObject({ marked: 400, written: 400 });
    for (let block = 0; block < 400; block++) expect(world.storedValue(TABLE, block)).toBe(block % 100);
  });

  test("on a thread that must not sleep does the same", async () => {
    await using world = new WriteWorld({ ...options, mayBlock: false });
    world.create(TABLE, 9);
    for (let block = 0; block < 9; block += 2) world.dirty(TABLE, block, block + 1);
    const flow = checkpoint(world.parts, IMMEDIATE);
    expect(await world.context.waiter.runAsync(flow)).toMatchObject({ written: 5, writes: 5 });
    for (let block = 0; block < 9; block += 2) expect(world.storedValue(TABLE, block)).toBe(block + 1);
  });
});

const options = { aio: { method: "sync" } } as const;

test("tablespaces take turns, so that all are done at the same time", async () => {
  await using world = new WriteWorld({ ...options, combineLimit: 1 });
  const tables = [1663, 1664].map((tablespace): Relation => {
    return { tablespace, database: tablespace === 1664 ? 0 : 5, relation: tablespace * 10 };
  });
  const sizes = [4, 2];
  for (const [at, table] of tables.entries()) {
    world.create(table, 4);
    for (let block = 0; block < (sizes[at] ?? 0); block++) world.dirty(table, block, 1);
  }
  run(world);
  expect(
    writes(world)
      .map((write) => (write.includes("16630") ? "A" : "B"))
      .join(""),
  ).toBe("ABAABA");
});

test("what gets dirty after it began is not its business, and what others write it does not write again", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 10);
  const early = [0, 4, 8].map((block) => world.dirty(TABLE, block, block + 1));
  const late = world.touch(TABLE, 9);
  const flow = checkpoint(world.parts, { now: () => 0 });
  expect(untilPause(world, flow), "it pauses after the first write").toBeUndefined();
  expect(early.map((buffer) => world.has(buffer, STATE.checkpointNeeded))).toEqual([false, true, true]);
  world.dirty(TABLE, 9, 10);
  world.dirty(TABLE, 0, 2);
  const [, second = 0] = early;
  world.flush(second);
  expect(world.has(second, STATE.checkpointNeeded), "whoever writes clears the mark").toBe(false);
  expect(untilPause(world, flow), "it pauses after an entry that needs no write, too").toBeUndefined();
  expect(untilPause(world, flow)).toMatchObject({ marked: 3, written: 2 });
  expect(world.has(late, STATE.dirty)).toBe(true);
  expect(world.has(early[0] ?? 0, STATE.dirty)).toBe(true);
  expect(early.map((buffer) => world.has(buffer, STATE.checkpointNeeded))).toEqual([false, false, false]);
});

test("pages of unlogged relations are written only when all are wanted", async () => {
  await using world = new WriteWorld(options);
  world.create(UNLOGGED, 3);
  world.create(TABLE, 1);
  const buffer = world.dirty(UNLOGGED, 1, 5);
  world.dirty(TABLE, 0, 6);
  expect(run(world)).toMatchObject({ marked: 1 });
  expect(world.has(buffer, STATE.dirty)).toBe(true);
  expect(run(world, { ...IMMEDIATE, pages: "all" })).toMatchObject({ marked: 1 });
  expect(world.storedValue(UNLOGGED, 1)).toBe(5);
  expect(world.take().filter((event) => event.startsWith("wal"))).toHaveLength(1);
});

test("it pauses once a page while it is ahead, and not at all when it is urgent or behind", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 10);
  const round = (options: CheckpointOptions): number => {
    for (const block of [0, 1, 5, 7]) world.dirty(TABLE, block, 1);
    const flow = checkpoint(world.parts, options);
    for (let pauses = 0; ; pauses++) {
      const report = untilPause(world, flow);
      if (report === undefined) continue;
      expect(report).toMatchObject({ marked: 4, writes: 3, pauses });
      return pauses;
    }
  };
  // Two pages of one write, then one; after the last there is nothing to wait for.
  expect(round({ now: () => 0 })).toBe(3);
  expect(round({ now: () => 0, isUrgent: () => true })).toBe(0);
  let now = 0;
  expect(round({ now: () => (now += 300_000) })).toBe(0);
  let position = 0n;
  expect(round({ now: () => 0, walBytes: 100, walPosition: () => (position += 1000n) })).toBe(0);
});

test("it waits for hints that have been logged and are not marked yet", async () => {
  await using world = new WriteWorld(options);
  const { words, at, waiter } = world.context;
  words[at + BACKEND.delayCheckpoint] = 1;
  const flow = checkpoint(world.parts, IMMEDIATE);
  expect(flow.next().value).toMatchObject({ kind: "word", at: at + BACKEND.delayCheckpoint, value: 1 });
  expect(flow.next().done).toBe(false);
  words[at + BACKEND.delayCheckpoint] = 0;
  expect(waiter.run(flow)).toMatchObject({ marked: 0 });
});

test("it asks the kernel to write back what it has written", async () => {
  await using world = new WriteWorld(options);
  world.create(TABLE, 40);
  for (let block = 0; block < 40; block++) world.dirty(TABLE, block, 1);
  run(world, { ...IMMEDIATE, flushAfter: 32 });
  expect(world.hints).toEqual([`${TABLE.relation}:0,32`, `${TABLE.relation}:32,8`]);
});

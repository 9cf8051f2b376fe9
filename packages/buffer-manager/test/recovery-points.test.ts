/**
 * A thread dies at every single step of what it does in the pool's words: whatever it was in the middle of, the pool is whole
 * afterwards, or has stopped where that is said.
 */
import { describe, expect, test } from "vitest";

import { refcountOf, STATE } from "../src/buffer-state.js";
import { CleanupLocks } from "../src/cleanup-lock.js";
import { foldStatistics, readStatistics } from "../src/io-statistics.js";
import { handOverToIo, IoLocks, terminateIo } from "../src/io-lock.js";
import { latchHolder, latchReaders } from "../src/latch.js";
import { BACKEND, DESCRIPTOR, HEADER, STRATEGY, SYNC } from "../src/layout.js";
import { PoolRecovery } from "../src/recovery.js";
import { CONTEXT, COUNTED } from "../src/statistics.js";
import { mutexesOf } from "../src/wake-all.js";
import { crashStates, withTornStates } from "./crash-points.js";
import { violations } from "./invariants.js";
import { ReplacementPool } from "./replacement.js";
import type { Replacer } from "./replacement.js";

const BUFFERS = 16;
/** Threads of the backends. */
const DEAD = 41;
const LIVING = 42;

/**
 * A pool with blocks 1 to `blocks`, a backend that will die, one that has blocks 1, 2 and 6 pinned, 2 locked shared and 6 about
 * to be read, and a third one that has block 1 pinned too.
 */
function createWorld(blocks = 8): { pool: ReplacementPool; dead: Replacer; living: Replacer } {
  const pool = new ReplacementPool(BUFFERS, 0);
  const { words, layout } = pool;
  words[layout.backendsAt + BACKEND.inUse] = DEAD + 1;
  words[layout.backendsAt + layout.backendWords + BACKEND.inUse] = LIVING + 1;
  const [dead, living] = [pool.backend(0), pool.backend(1)];
  for (let block = 1; block <= blocks; block++) living.read(block);
  living.pin(1);
  living.pin(2);
  living.locks.tryLock(living.find(2), "shared");
  living.pin(6);
  pool.setFlags(living.find(6), 0, STATE.valid);
  new IoLocks(living.headers, 1).tryStart(living.find(6), true, true);
  words[layout.backendsAt + 2 * layout.backendWords + BACKEND.inUse] = LIVING + 2;
  pool.backend(2).pin(1);
  return { pool, dead, living };
}

type World = ReturnType<typeof createWorld>;

/** The pin that comes with an I/O lock, before there is an I/O. */
const OF_LIVING_IO = "buffer 5: P1: 2 pins counted, 1 held";

/** What is wrong with a pool after a recovery. */
function leftovers({ words, layout }: ReplacementPool): string[] {
  const wrong = violations({ words, layout }).filter((each) => each !== OF_LIVING_IO);
  for (const mutex of mutexesOf(layout)) {
    if (latchHolder(words, mutex) !== undefined) wrong.push(`mutex ${mutex} is held`);
  }
  for (let buffer = 0; buffer < BUFFERS; buffer++) {
    const first = layout.descriptorsAt + buffer * DESCRIPTOR.words;
    if (latchHolder(words, first + DESCRIPTOR.contentLock) === 0) wrong.push(`page ${buffer} is locked`);
    const state = words[first + DESCRIPTOR.state] as number;
    const isTagged = (state & STATE.tagValid) !== 0;
    if (!isTagged && words[first + DESCRIPTOR.block] !== -1) wrong.push(`half a tag of ${buffer}`);
    const mayBe = buffer === 5 ? STATE.ioInProgress : 0;
    if ((state & (STATE.ioInProgress | STATE.pinCountWaiter)) !== mayBe)
      wrong.push(`state ${state} of ${buffer}`);
  }
  if (words[layout.backendsAt + BACKEND.inUse] !== 0) wrong.push("the place is taken");
  return wrong;
}

/** Lets the dead backend die at each step of `run`, recovers, and hands what is left to `check`. */
async function dieEverywhere(
  { pool }: World,
  run: () => void,
  check: (what: string, wrong: string[]) => void,
): Promise<number> {
  const { words, layout, doubles } = pool;
  const states = withTornStates(crashStates(words, run), layout.backendsAt);
  for (const [index, state] of states.entries()) {
    words.set(state);
    let pauses = 0;
    const recovery = new PoolRecovery(
      { words, layout, doubles },
      () => Promise.resolve(),
      () => {
        pauses += 1;
        return Promise.resolve();
      },
    );
    await recovery.recoverThread(DEAD);
    check(`step ${index} of ${states.length}, ${pauses} pauses`, leftovers(pool));
  }
  return states.length;
}

/** What a backend that dies does, in a pool with so many blocks. */
const OPERATIONS: Readonly<Record<string, readonly [number, (world: World) => void]>> = {
  "pins and unpins a page": [8, ({ dead }) => void dead.read(5)],
  "pins a page that another has pinned": [8, ({ dead }) => void dead.read(1)],
  "pins a page that another is about to read": [8, ({ dead }) => void dead.pins.pin(dead.find(6))],
  "pins pages and keeps them": [
    8,
    ({ dead }) => {
      for (const block of [1, 3, 4]) dead.pin(block);
      dead.pin(3);
      dead.unpin(4);
    },
  ],
  "brings pages into free buffers": [
    8,
    ({ dead }) => {
      for (const block of [20, 21]) dead.read(block);
    },
  ],
  "brings pages into the places of others": [
    16,
    ({ dead }) => {
      for (const block of [30, 31]) dead.pin(block);
    },
  ],
  "writes a victim": [
    16,
    ({ dead, living }) => {
      for (let block = 7; block <= 16; block++) living.dirty(block, 1n);
      dead.read(30);
    },
  ],
  "drops pages": [
    8,
    ({ dead }) => {
      for (const block of [3, 5]) dead.drop(block);
      dead.read(40);
    },
  ],
  "asks where the clock is, and to be told of the next allocation": [
    8,
    ({ dead, pool }) => {
      dead.allocator.sweep.syncStart();
      dead.allocator.sweep.notifyNextAllocation(0);
      pool.words[pool.layout.strategyAt + STRATEGY.bgwriter] = 1;
    },
  ],
  "locks pages shared and lets go of them": [
    8,
    ({ dead }) => {
      dead.pin(2);
      dead.pin(3);
      const [two, three] = [dead.find(2), dead.find(3)];
      dead.locks.tryLock(three, "shared");
      dead.locks.tryLock(two, "shared");
      dead.locks.tryLock(three, "shared");
      dead.locks.unlock(two);
      dead.locks.unlock(three);
      dead.locks.unlock(three);
    },
  ],
  "is refused an exclusive lock": [
    8,
    ({ dead }) => {
      dead.pin(2);
      if (dead.locks.tryLock(dead.find(2), "exclusive")) throw new Error("it is locked");
    },
  ],
  "waits to have the only pin": [
    8,
    ({ dead, pool }) => {
      dead.pin(1);
      const at = pool.layout.backendsAt;
      const { words } = pool;
      const context = { words, headers: dead.headers, pins: dead.pins, id: 0, at, reach: () => undefined };
      const cleanup = new CleanupLocks(context, dead.locks);
      // It has the lock for a moment, and dying there is told apart below.
      expect(cleanup.lock(dead.find(1)).next().done).toBe(false);
    },
  ],
  "takes I/O locks, with a pin for the I/O or without, and gives them back": [
    8,
    ({ dead, pool }) => {
      const locks = new IoLocks(dead.headers, 0);
      dead.pin(4);
      dead.pin(5);
      pool.setFlags(dead.find(4), 0, STATE.valid);
      pool.setFlags(dead.find(5), STATE.dirty, 0);
      locks.tryStart(dead.find(4), true, true);
      locks.tryStart(dead.find(5), false);
      terminateIo(dead.headers, dead.find(5), true, 0, false);
      locks.abort(dead.find(4), true);
      dead.unpin(4);
    },
  ],
  "counts, and leaves": [
    8,
    ({ dead, pool }) => {
      dead.counters.count(COUNTED.hit, CONTEXT.normal, false, 7);
      const { words, doubles, layout } = pool;
      foldStatistics({ words, doubles, layout }, 0, 0, true);
    },
  ],
};

describe("a backend that dies at any step while it", () => {
  for (const [what, [blocks, run]] of Object.entries(OPERATIONS)) {
    test(what, async () => {
      const world = createWorld(blocks);
      const { pool, living } = world;
      const kept = [1, 2, 6].map((block) => living.find(block));
      const steps = await dieEverywhere(
        world,
        () => run(world),
        (step, wrong) => {
          if (what.startsWith("waits") && wrong.includes("the pool has stopped")) {
            // It was about to find out whether it is alone, with the page locked.
            expect(wrong, step).toEqual(["the pool has stopped", "page 0 is locked"]);
            return;
          }
          expect(wrong, step).toEqual([]);
          expect(
            kept.map((buffer) => refcountOf(living.headers.state(buffer))),
            step,
          ).toEqual([2, 1, 2]);
          const lockAt = living.headers.at(kept[1] as number) + DESCRIPTOR.contentLock;
          expect(latchReaders(pool.words, lockAt), step).toBe(1);
          expect(pool.words[pool.layout.strategyAt + STRATEGY.bgwriter], step).toBe(0);
          // The pool goes on: every buffer but the pinned ones can be had.
          for (let block = 100; block < 100 + BUFFERS; block++) living.read(block);
          expect(violations(pool), step).toEqual([OF_LIVING_IO]);
        },
      );
      expect(steps).toBeGreaterThan(3);
    });
  }
});

describe("a backend that dies", () => {
  // Aim: a half changed page is never seen. Method: the words of each step while an exclusive lock is taken, held, given
  // back; it is held from the moment that it is noted until it is not.
  test("with a page locked exclusively stops the pool; on the way in or out of the lock it does not", async () => {
    const world = createWorld();
    const { pool, dead } = world;
    const outcomes: string[] = [];
    const buffer = dead.find(3);
    dead.pin(3);
    await dieEverywhere(
      world,
      () => {
        dead.locks.tryLock(buffer, "exclusive");
        Atomics.load(pool.words, 0);
        dead.locks.unlock(buffer);
      },
      (_, wrong) => {
        const hasStopped = pool.words[HEADER.panic] !== 0;
        outcomes.push(hasStopped ? "stopped" : "whole");
        const expected = new Set(["the pool has stopped", `page ${buffer} is locked`]);
        expect(wrong.filter((each) => !hasStopped || !expected.has(each))).toEqual([]);
      },
    );
    expect(outcomes[0]).toBe("whole");
    expect(outcomes.at(-1)).toBe("whole");
    expect(outcomes).toContain("stopped");
    const first = outcomes.indexOf("stopped");
    expect(first, "it had the lock, not noted yet").toBeGreaterThan(1);
    expect(outcomes.lastIndexOf("stopped"), "not noted any more, it still had it").toBeLessThan(
      outcomes.length - 2,
    );
  });

  // Aim: the same while it is busy with another lock. Method: a page stays locked while a second lock comes and goes.
  test("with a page locked exclusively stops the pool also while it takes or gives back another lock", async () => {
    const world = createWorld();
    const { pool, dead } = world;
    const [held, other] = [dead.find(3), dead.find(4)];
    dead.pin(3);
    dead.pin(4);
    dead.locks.tryLock(held, "exclusive");
    const run = (): void => {
      dead.locks.tryLock(other, "shared");
      dead.locks.unlock(other);
    };
    await dieEverywhere(world, run, (step, wrong) => {
      expect(wrong, step).toEqual(["the pool has stopped", `page ${held} is locked`]);
      const first = pool.layout.descriptorsAt + other * DESCRIPTOR.words;
      expect(latchReaders(pool.words, first + DESCRIPTOR.contentLock), step).toBe(0);
    });
  });

  test("with an I/O that aio had taken over leaves it to aio", async () => {
    const { pool, dead, living } = createWorld();
    const { words, layout, doubles } = pool;
    const buffer = dead.find(4);
    dead.pin(4);
    pool.setFlags(buffer, 0, STATE.valid);
    new IoLocks(dead.headers, 0).tryStart(buffer, true, true);
    handOverToIo(dead.headers, buffer, { handle: 3, generation: 9 });
    const recovery = new PoolRecovery({ words, layout, doubles }, async () => {
      terminateIo(living.headers, buffer, false, STATE.ioError, true);
      await Promise.resolve();
    });
    await recovery.recoverThread(DEAD);
    expect(leftovers(pool)).toEqual([]);
  });

  test("is counted out when two die at the same buffer", async () => {
    const { pool, dead, living } = createWorld();
    const { words, layout, doubles } = pool;
    living.locks.unlock(living.find(2));
    const buffer = dead.find(5);
    // Both had pinned it and not said so yet.
    for (const backend of [dead, living]) {
      backend.headers.pin(buffer, false);
      words[layout.backendsAt + backend.id * layout.backendWords + BACKEND.pinIntent] = buffer + 1;
    }
    const pause = (): Promise<void> => Promise.resolve();
    const recovery = new PoolRecovery({ words, layout, doubles }, pause, pause);
    await Promise.all([recovery.recoverThread(DEAD), recovery.recoverThread(LIVING)]);
    expect(violations(pool)).toEqual([]);
    expect(refcountOf(dead.headers.state(buffer))).toBe(0);
  });

  // Aim: no guess. Method: a living backend's intent never ends, as if it pinned that buffer without a pause.
  test("while its pin cannot be counted stops the pool", async () => {
    const { pool, dead } = createWorld();
    const { words, layout, doubles } = pool;
    const buffer = dead.find(5);
    for (const backend of [0, 1]) {
      words[layout.backendsAt + backend * layout.backendWords + BACKEND.pinIntent] = buffer + 1;
    }
    const pause = (): Promise<void> => Promise.resolve();
    await new PoolRecovery({ words, layout, doubles }, pause, pause).recoverThread(DEAD);
    expect(words[HEADER.panic]).toBe(1);
  });

  test("stops the pool if its I/O cannot be recovered, and says why", async () => {
    const { pool } = createWorld();
    const { words, layout, doubles } = pool;
    const recovery = new PoolRecovery({ words, layout, doubles }, () => Promise.reject(new Error("no ring")));
    await expect(recovery.recoverThread(DEAD)).rejects.toThrow("no ring");
    expect(words[HEADER.panic]).toBe(1);
  });

  test("leaves the fork that it was syncing to be synced again", async () => {
    const { pool } = createWorld();
    const { words, layout, doubles } = pool;
    const entryOf = (entry: number): Int32Array =>
      words.subarray(layout.syncsAt + (entry + 1) * SYNC.words, layout.syncsAt + (entry + 2) * SYNC.words);
    for (const [entry, backend] of [0, 1].entries()) entryOf(entry)[SYNC.syncer] = backend + 1;
    await new PoolRecovery({ words, layout, doubles }, () => Promise.resolve()).recoverThread(DEAD);
    expect([entryOf(0)[SYNC.pending], entryOf(0)[SYNC.syncer]]).toEqual([1, 0]);
    expect([entryOf(1)[SYNC.pending], entryOf(1)[SYNC.syncer]]).toEqual([0, 2]);
  });

  test("leaves what it counted", async () => {
    const { pool, dead } = createWorld();
    const { words, layout, doubles } = pool;
    dead.counters.count(COUNTED.write, CONTEXT.vacuum, false, 7, 70);
    await new PoolRecovery({ words, layout, doubles }, () => Promise.resolve()).recoverThread(DEAD);
    const rows = readStatistics({ words, layout, doubles }, 1, true);
    const row = rows.find(({ kind, context }) => kind === "client backend" && context === "vacuum");
    expect(row?.write).toEqual({ count: 7, bytes: 70, ms: 0 });
  });
});

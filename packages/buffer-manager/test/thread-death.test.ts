/**
 * Threads that are ended where it hurts: what they held is free afterwards, and who waited for it goes on; or everybody hears
 * that the pool has stopped.
 */
import { EventEmitter, once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";

import type { MethodName } from "@millrace/aio";
import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { refcountOf, STATE } from "../src/buffer-state.js";
import { DESCRIPTOR } from "../src/layout.js";
import { openPool } from "../src/pool-core.js";
import { BufferPool } from "../src/pool.js";
import type { PoolPoint } from "../src/points.js";
import { segmentedFiles } from "../src/segmented-files.js";
import type { Relation } from "../src/tag.js";
import { blockOf, makePage, METHODS } from "./data-directory.js";
import { checkInvariants } from "./invariants.js";
import { Directory } from "./plain-files.js";

const TABLE: Relation = { tablespace: 1663, database: 5, relation: 16_384 };
const BUFFERS = 32;
const BLOCKS = 24;
const BACKENDS = 4;
const code = (code: string): unknown => expect.objectContaining({ code });

interface Message {
  readonly at?: string;
  readonly done?: boolean;
  readonly code?: string;
  readonly message?: string;
}

interface Plan {
  readonly steps: readonly (readonly (string | number)[])[];
  readonly point?: PoolPoint;
  /** Times that it goes past the point. */
  readonly skip?: number;
}

type AsyncAtomics = typeof Atomics & {
  waitAsync(words: Int32Array, at: number, value: number): { readonly value: string | Promise<string> };
};

/** What stands for an error that nobody caught. */
const UNCAUGHT = "uncaught";

/** A thread with a plan. */
class Thread {
  readonly worker: Worker;
  readonly recovered: Promise<void>;
  readonly #messages: Message[] = [];
  readonly #bell = new EventEmitter();
  readonly #board = new Int32Array(new SharedArrayBuffer(8));

  constructor(world: World, { steps, point, skip = 0 }: Plan) {
    const { shared } = world.pool;
    const board = this.#board;
    const workerData = { shared, directory: world.directory.path, table: TABLE, steps, point, skip, board };
    this.worker = new Worker(new URL("dying-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    this.recovered = world.pool.supervise(this.worker);
    const note = (message: Message): void => {
      this.#messages.push(message);
      this.#bell.emit("message");
    };
    this.worker.on("message", note);
    this.worker.on("error", (error) => note({ code: UNCAUGHT, message: error.message }));
    this.worker.on("exit", () => note({ code: UNCAUGHT, message: "the thread has ended" }));
  }

  /** Resolves once a message is there that `isIt`. @throws what the thread died of */
  async heard(isIt: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const found = this.#messages.find((message) => isIt(message) || message.code === UNCAUGHT);
      if (found?.code === UNCAUGHT) throw new Error(found.message);
      if (found !== undefined) return found;
      await once(this.#bell, "message");
    }
  }

  /** Resolves once it has stopped at its point. @throws what it failed with instead, or that it never came there */
  async stopped(): Promise<void> {
    const point = (Atomics as AsyncAtomics).waitAsync(this.#board, 0, 0);
    const end = this.heard(({ code, done }) => code !== undefined || done === true);
    const ended = await Promise.race([point.value, end]);
    if (typeof ended === "object") throw new Error(ended.message ?? "it did all without coming to its point");
  }

  async kill(): Promise<void> {
    await this.worker.terminate();
    await this.recovered;
  }
}

class World implements AsyncDisposable {
  readonly directory = new Directory();
  readonly pool: BufferPool;
  readonly manager: BufferManager;

  constructor(method: MethodName = "sync") {
    mkdirSync(join(this.directory.path, "base", "5"), { recursive: true });
    const aio = { method, required: true };
    this.pool = BufferPool.create({ buffers: BUFFERS, backends: BACKENDS, pinBackends: 1, aio });
    const files = segmentedFiles({ directory: this.directory.path });
    this.manager = BufferManager.attach(this.pool.shared, { files, mayBlock: true });
    this.extend(BLOCKS, true);
  }

  extend(blocks: number, createFork = false): void {
    for (let left = blocks; left > 0;) {
      const { buffers } = this.manager.extend(TABLE, left, { createFork });
      for (const buffer of buffers) this.manager.release(buffer);
      left -= buffers.length;
    }
  }

  /** Writes valid pages that say which block they are, and throws them out. */
  fill(): void {
    for (let block = 0; block < BLOCKS; block++) {
      const buffer = this.manager.tryRead(TABLE, block);
      this.manager.lock(buffer, "exclusive");
      this.manager.page(buffer).set(makePage(block));
      this.manager.markDirty(buffer);
      this.manager.unlock(buffer);
      this.manager.release(buffer);
    }
    expect(this.manager.evictAll()).toMatchObject({ evicted: BLOCKS, flushed: BLOCKS });
  }

  /** Reads a block. @returns which one its page says it is */
  async read(block: number): Promise<number> {
    const buffer = await this.manager.readAsync(TABLE, block);
    const found = blockOf(this.manager.page(buffer));
    this.manager.release(buffer);
    return found;
  }

  state(block: number): number {
    const { words, layout } = openPool(this.pool.shared);
    const buffer = this.manager.tryRead(TABLE, block);
    this.manager.release(buffer);
    return words[layout.descriptorsAt + (buffer - 1) * DESCRIPTOR.words + DESCRIPTOR.state] as number;
  }

  /** The pool is whole, and everything can be done with it. */
  check(): void {
    checkInvariants(this.pool.shared);
    this.extend(40);
    this.manager.checkpoint({ isImmediate: true });
    this.manager.evictAll();
    expect(this.manager.resize(BUFFERS)).toMatchObject({ buffers: BUFFERS });
    expect(this.manager.summary()).toMatchObject({ used: 0, pinned: 0 });
    checkInvariants(this.pool.shared);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.manager.detachAsync();
    await this.pool.close();
    this.directory[Symbol.dispose]();
  }
}

describe("a thread that is ended", () => {
  // One page at a time: more a backend of so small a pool does not get.
  const extension: Plan["steps"] = Array.from({ length: 16 }, () => ["extend", 1]);
  const plans: readonly (readonly [PoolPoint, Plan["steps"], number])[] = [
    ["victim:selected", extension, 0],
    ["victim:selected", extension, 10],
    ["victim:before-invalidate", extension, 12],
    ["extend:locked", extension, 0],
    ["extend:locked", extension, 1],
    ["resize:phase", [["resize", 16]], 0],
    ["resize:phase", [["resize", 16]], 1],
    ["resize:phase", [["resize", 16]], 2],
  ];
  for (const [point, steps, skip] of plans) {
    test(`at ${point}, reached ${skip + 1} times, leaves a pool that is whole`, async () => {
      await using world = new World();
      const thread = new Thread(world, { steps, point, skip });
      await thread.stopped();
      await thread.kill();
      world.check();
    });
  }

  // Aim: whoever wants the block meanwhile gets it, then or when the thread is gone. Method: it has a free buffer for the
  // block, or a page's, and has not said so to anybody.
  for (const pages of [0, BUFFERS]) {
    test(`at alloc:before-insert, with ${pages} pages in the pool, leaves a block that others can read`, async () => {
      await using world = new World();
      world.fill();
      world.extend(pages);
      const thread = new Thread(world, { steps: [["read", 3, 1]], point: "alloc:before-insert" });
      await thread.stopped();
      expect(world.manager.summary().used).toBe(Math.max(0, pages - 1));
      expect([await world.read(3), await world.read(4)]).toEqual([3, 4]);
      await thread.kill();
      expect([await world.read(3), await world.read(5)]).toEqual([3, 5]);
      world.check();
    });
  }

  describe.each(METHODS)("with method %s", (method) => {
    // Aim: blocks that a dead thread was about to read, or has read in part, are read by whoever waits for them. Method: one
    // waits for the first and one for the last of four blocks while the thread stops; it completes its read itself.
    for (const [point, skip] of [
      ["read:before-start", 0],
      ["read:completing", 0],
      ["read:completing", 2],
    ] as const) {
      test(`at ${point}, reached ${skip + 1} times, leaves blocks that those read who wait for them`, async () => {
        await using world = new World(method);
        world.fill();
        const thread = new Thread(world, { steps: [["read", 3, 4]], point, skip });
        await thread.stopped();
        const waiting = [world.read(3), world.read(6)];
        await thread.kill();
        expect(await Promise.all(waiting)).toEqual([3, 6]);
        expect(await Promise.all([4, 5].map(async (block) => world.read(block)))).toEqual([4, 5]);
        for (const block of [3, 4, 5, 6]) {
          const wanted = STATE.valid | STATE.ioInProgress | STATE.ioError;
          expect(world.state(block) & wanted, `block ${block}`).toBe(STATE.valid);
          expect(refcountOf(world.state(block)), `block ${block}`).toBe(0);
        }
        world.check();
      });
    }
  });

  for (const point of ["flush:after-wal", "flush:before-write"] as const) {
    test(`at ${point} leaves the page dirty and to be written by others`, async () => {
      await using world = new World();
      const buffer = world.manager.tryRead(TABLE, 3);
      world.manager.lock(buffer, "exclusive");
      world.manager.markDirty(buffer);
      world.manager.unlock(buffer);
      world.manager.release(buffer);
      const thread = new Thread(world, { steps: [["checkpoint"]], point });
      await thread.stopped();
      expect(world.state(3) & STATE.ioInProgress).not.toBe(0);
      await thread.kill();
      expect(world.state(3) & (STATE.ioInProgress | STATE.dirty | STATE.ioError)).toBe(
        STATE.dirty | STATE.ioError,
      );
      world.manager.checkpoint({ isImmediate: true });
      expect(world.state(3) & STATE.dirty).toBe(0);
      world.check();
    });
  }

  test("while it waits for the only pin is no waiter any more", async () => {
    await using world = new World();
    const buffer = world.manager.tryRead(TABLE, 3);
    const thread = new Thread(world, { steps: [["cleanup", 3]], point: "cleanup:registered" });
    await thread.stopped();
    expect(world.state(3) & STATE.pinCountWaiter).not.toBe(0);
    await thread.kill();
    expect(world.state(3) & STATE.pinCountWaiter).toBe(0);
    expect(refcountOf(world.state(3))).toBe(1);
    world.manager.lockForCleanup(buffer);
    world.manager.unlock(buffer);
    world.manager.release(buffer);
    world.check();
  });

  test("with pages pinned and locked shared lets those go on that wait for them", async () => {
    await using world = new World();
    const dying = new Thread(world, {
      steps: [
        ["pin", 1],
        ["lock", 2, "shared"],
        ["lock", 3, "shared"],
      ],
    });
    await dying.heard(({ done }) => done === true);
    const waiting = new Thread(world, { steps: [["lock", 2, "exclusive"]] });
    await waiting.heard(({ at }) => at === "lock");
    await dying.kill();
    await waiting.heard(({ done }) => done === true);
    await waiting.kill();
    expect(() => world.manager.tryRead(TABLE, 2), "that one held it exclusively").toThrow(
      code("ERR_BUFFER_PANIC"),
    );
  });

  test("with a page locked exclusively stops the pool for all, also for those that sleep", async () => {
    await using world = new World();
    const dying = new Thread(world, { steps: [["lock", 2, "exclusive"]] });
    await dying.heard(({ done }) => done === true);
    const waiting = new Thread(world, { steps: [["lock", 2, "shared"]] });
    await waiting.heard(({ at }) => at === "lock");
    await dying.kill();
    expect(await waiting.heard((message) => message.code !== undefined)).toMatchObject({
      code: "ERR_BUFFER_PANIC",
    });
    expect(() => world.manager.tryRead(TABLE, 5)).toThrow(code("ERR_BUFFER_PANIC"));
    await waiting.kill();
  });
});

describe("a test", () => {
  test("that waits for a thread to come to a point hears why it does not", async () => {
    await using world = new World();
    const plans: readonly (readonly [Plan["steps"], string])[] = [
      [[["lose"]], "commands[command] is not a function"],
      [[["resize", 1]], `from 16 to ${BUFFERS} buffers, not 1`],
      [[["pin", 1]], "it did all without coming to its point"],
    ];
    for (const [steps, message] of plans) {
      const thread = new Thread(world, { steps, point: "extend:locked" });
      await expect(thread.stopped()).rejects.toThrow(message);
      await thread.kill();
    }
    // All places but the world's own are taken: the next thread dies of that before it does anything.
    const threads = Array.from({ length: BACKENDS - 1 }, () => new Thread(world, { steps: [] }));
    for (const thread of threads) await thread.heard(({ done }) => done === true);
    const late = new Thread(world, { steps: [], point: "extend:locked" });
    await expect(late.stopped()).rejects.toThrow("all 4 backends of the pool are in use");
    for (const thread of [...threads, late]) await thread.kill();
  });
});

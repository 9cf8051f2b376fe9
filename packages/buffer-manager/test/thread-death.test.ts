/**
 * Threads that are ended where it hurts: what they held is free afterwards, and who waited for it goes on; or everybody hears
 * that the pool has stopped.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";

import { describe, expect, test } from "vitest";

import { BufferManager } from "../src/buffer-manager.js";
import { refcountOf, STATE } from "../src/buffer-state.js";
import { DESCRIPTOR } from "../src/layout.js";
import { openPool } from "../src/pool-core.js";
import { BufferPool } from "../src/pool.js";
import type { PoolPoint } from "../src/points.js";
import { segmentedFiles } from "../src/segmented-files.js";
import type { Relation } from "../src/tag.js";
import { checkInvariants } from "./invariants.js";
import { Directory } from "./plain-files.js";

const TABLE: Relation = { tablespace: 1663, database: 5, relation: 16_384 };
const BUFFERS = 32;
const BLOCKS = 24;
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

/** A thread with a plan. */
class Thread {
  readonly worker: Worker;
  readonly recovered: Promise<void>;
  readonly #messages: Message[] = [];
  #wake: () => void = () => undefined;

  constructor(world: World, { steps, point, skip = 0 }: Plan) {
    const board = new Int32Array(new SharedArrayBuffer(8));
    const { shared } = world.pool;
    const workerData = { shared, directory: world.directory.path, table: TABLE, steps, point, skip, board };
    this.worker = new Worker(new URL("dying-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    this.recovered = world.pool.supervise(this.worker);
    this.worker.on("message", (message: Message) => {
      this.#messages.push(message);
      this.#wake();
    });
    this.worker.on("error", (error) => {
      this.#messages.push({ code: "error", message: String(error) });
      this.#wake();
    });
    this.#board = board;
  }

  readonly #board: Int32Array;

  /** Resolves once a message is there that `isIt`. */
  async heard(isIt: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const found = this.#messages.find((message) => isIt(message) || message.code === "error");
      if (found?.code === "error") throw new Error(found.message);
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Resolves once it has stopped. */
  async stopped(): Promise<void> {
    const wait = Atomics as unknown as {
      waitAsync: (words: Int32Array, at: number, value: number) => { value: unknown };
    };
    await wait.waitAsync(this.#board, 0, 0).value;
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

  constructor() {
    mkdirSync(join(this.directory.path, "base", "5"), { recursive: true });
    const aio = { method: "sync", required: true } as const;
    this.pool = BufferPool.create({ buffers: BUFFERS, backends: 4, pinBackends: 1, aio });
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
  const extension: Plan["steps"] = [
    ["extend", 8],
    ["extend", 8],
  ];
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

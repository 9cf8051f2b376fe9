/**
 * The model test's main thread: it makes a pool and four threads on it, disturbs them, and looks at what is left.
 *
 * Disturbances come when the threads have done some number of operations between them, never by the clock: a few writes fail,
 * the pool is resized, a thread is terminated wherever it happens to be and another takes its place. If the pool
 * stops because a thread died in the middle of a change, the test goes on as after a crash: what is on disk is not newer
 * than the WAL, and no page of it is torn.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { expect } from "vitest";

import type { MethodName } from "@millrace/aio";

import { BufferManager } from "../src/buffer-manager.js";
import { HEADER } from "../src/layout.js";
import { BufferPool } from "../src/pool.js";
import { segmentedFiles } from "../src/segmented-files.js";
import type { Relation } from "../src/tag.js";
import { checkInvariants } from "./invariants.js";
import { CONTROL, readVersion } from "./model-pages.mjs";

const PAGE_BYTES = 8192;
const THREADS = 4;
const BLOCKS = 120;
const OPERATIONS = 150;
const EIO = -5;
const TABLE: Relation = { tablespace: 1663, database: 1, relation: 1 };

/** What a seed came to. */
export interface ModelOutcome {
  readonly seed: number;
  readonly method: MethodName;
  readonly hasStopped: boolean;
  readonly terminated: number;
  readonly resized: number;
  readonly refused: number;
  readonly changes: number;
}

interface ThreadEnd {
  readonly outcome: string;
  readonly added: number;
}

type AsyncAtomics = typeof Atomics & {
  waitAsync(
    words: Int32Array,
    at: number,
    value: number,
  ): { async: boolean; value: string | Promise<string> };
};

class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e37_79b1) ^ 0x85eb_ca6b) | 1;
  }

  roll(below: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % below;
  }
}

function ownRelation(thread: number): Relation {
  return { ...TABLE, relation: 10 + thread };
}

/** One run of threads on one pool. */
class ModelRun {
  readonly #seed: number;
  readonly #dice: Dice;
  readonly #directory: string;
  readonly #method: MethodName;
  readonly #pool: BufferPool;
  /** The main thread's own part in the pool, which resizes it. */
  readonly #manager: BufferManager;
  readonly #model: SharedArrayBuffer = new SharedArrayBuffer(BLOCKS * 4);
  readonly #control: SharedArrayBuffer = new SharedArrayBuffer(CONTROL.words * 4);
  readonly #signals: Int32Array;
  readonly #running: Map<number, Worker> = new Map();
  readonly #ends: Promise<ThreadEnd | undefined>[] = [];
  readonly #recoveries: Promise<void>[] = [];
  #started = 0;
  #terminated = 0;
  #resized = 0;

  constructor(seed: number, method: MethodName, directory: string) {
    this.#seed = seed;
    this.#method = method;
    this.#dice = new Dice(seed);
    this.#directory = directory;
    this.#signals = new Int32Array(this.#control);
    mkdirSync(join(directory, "base", "1"), { recursive: true });
    this.#createFile(TABLE, BLOCKS);
    this.#pool = BufferPool.create({
      buffers: 40 + this.#dice.roll(30),
      buffersMax: 96,
      backends: THREADS + 4,
      segmentBlocks: 50,
      contiguous: this.#dice.roll(2) === 0,
      aio: { method, required: true, concurrency: 8 },
    });
    this.#manager = BufferManager.attach(this.#pool.shared, { files: segmentedFiles({ directory }) });
  }

  async run(): Promise<ModelOutcome> {
    for (let thread = 0; thread < THREADS; thread++) this.#start();
    const total = THREADS * OPERATIONS;
    for (let at = this.#dice.roll(150); at < total * 0.9; at += 40 + this.#dice.roll(200)) {
      if (!(await this.#untilOperations(at))) break;
      await this.#disturb();
    }
    const ends = await Promise.all(this.#ends);
    await Promise.all(this.#recoveries);
    const outcomes = ends.map((end) => end?.outcome ?? "terminated");
    // Whoever was done before the pool stopped has not heard of it.
    const words = new Int32Array(this.#pool.shared.control.buffer);
    const hasStopped = outcomes.includes("panic") || words[HEADER.panic] !== 0;
    await this.#manager.detachAsync().catch(() => undefined);
    for (const outcome of outcomes) expect(["done", "panic", "terminated"]).toContain(outcome);
    if (hasStopped) expect(this.#terminated, "a pool stops only because a thread died").toBeGreaterThan(0);
    await (hasStopped ? this.#checkAfterCrash() : this.#checkAtRest(ends));
    return {
      seed: this.#seed,
      method: this.#method,
      hasStopped,
      terminated: this.#terminated,
      resized: this.#resized,
      refused: this.#signals[CONTROL.refused] as number,
      changes: this.#signals[CONTROL.inserted] as number,
    };
  }

  #createFile(relation: Relation, blocks: number): void {
    for (let segment = 0; segment * 50 < Math.max(1, blocks); segment++) {
      const name = segment === 0 ? `${relation.relation}` : `${relation.relation}.${segment}`;
      const path = join(this.#directory, "base", "1", name);
      writeFileSync(path, "");
      truncateSync(path, Math.min(50, blocks - segment * 50) * PAGE_BYTES);
    }
  }

  #start(): void {
    const thread = this.#started++;
    const own = ownRelation(thread);
    this.#createFile(own, 0);
    const workerData = {
      shared: this.#pool.shared,
      directory: this.#directory,
      seed: this.#seed,
      thread,
      operations: OPERATIONS,
      blocks: BLOCKS,
      table: TABLE,
      own,
      model: this.#model,
      control: this.#control,
    };
    const worker = new Worker(new URL("model-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    this.#running.set(thread, worker);
    this.#recoveries.push(this.#pool.supervise(worker));
    this.#ends.push(
      new Promise((resolve, reject) => {
        worker.once("message", (end: ThreadEnd) => {
          this.#running.delete(thread);
          resolve(end);
        });
        worker.once("error", reject);
        worker.once("exit", () => resolve(undefined));
      }),
    );
  }

  /** @returns false if the threads have ended before */
  async #untilOperations(count: number): Promise<boolean> {
    let allEnded = false;
    const ended = Promise.all(this.#ends).then(() => (allEnded = true));
    for (;;) {
      const seen = Atomics.load(this.#signals, CONTROL.operations);
      if (seen >= count) return true;
      if (allEnded) return false;
      const wait = (Atomics as AsyncAtomics).waitAsync(this.#signals, CONTROL.operations, seen);
      if (wait.async) await Promise.race([wait.value, ended]);
    }
  }

  async #disturb(): Promise<void> {
    const { faults } = this.#pool.aio;
    const kind = this.#dice.roll(10);
    if (kind < 5) {
      // Disarmed with the system; it strikes a few writes and no more.
      faults.arm({ point: "instead", operation: "writev", result: EIO, times: 1 + this.#dice.roll(3) });
    } else if (kind < 8) {
      await this.#manager
        .resizeAsync(32 + this.#dice.roll(64), { onPinned: "rollback", timeoutMs: 200 })
        .then(() => (this.#resized += 1))
        .catch((error: unknown) => this.#expectRefusal(error));
    } else {
      const threads = [...this.#running.keys()];
      const thread = threads[this.#dice.roll(Math.max(1, threads.length))];
      const worker = thread === undefined ? undefined : this.#running.get(thread);
      if (worker === undefined || thread === undefined) return;
      this.#running.delete(thread);
      this.#terminated += 1;
      await worker.terminate();
      await Promise.all(this.#recoveries.slice(thread, thread + 1));
      if (this.#started < 2 * THREADS) this.#start();
    }
  }

  #expectRefusal(error: unknown): void {
    const codes = [
      "ERR_BUFFER_RESIZE_PINNED",
      "ERR_BUFFER_RESIZE_BUSY",
      "ERR_BUFFER_WRITE",
      "ERR_BUFFER_PANIC",
    ];
    expect(codes, String(error)).toContain((error as { code?: string }).code);
  }

  /** Everything that was changed is there: through the pool, and on disk after a checkpoint. */
  async #checkAtRest(ends: readonly (ThreadEnd | undefined)[]): Promise<void> {
    const model = new Int32Array(this.#model);
    const manager = BufferManager.attach(this.#pool.shared, {
      files: segmentedFiles({ directory: this.#directory }),
      mayBlock: true,
    });
    // Faults that have not struck yet strike here, each write fails once at most.
    for (let attempt = 0; ; attempt++) {
      try {
        manager.checkpoint({ isImmediate: true, pages: "all" });
        break;
      } catch (error) {
        expect((error as { code?: string }).code).toBe("ERR_BUFFER_WRITE");
        expect(attempt).toBeLessThan(50);
      }
    }
    for (let block = 0; block < BLOCKS; block++) {
      const buffer = manager.read(TABLE, block);
      expect(readVersion(manager.page(buffer), block), `block ${block} in the pool`).toBe(model[block]);
      manager.release(buffer);
    }
    for (const [thread, end] of ends.entries()) {
      const own = ownRelation(thread);
      for (let block = 0; block < (end?.added ?? 0); block++) {
        const buffer = manager.read(own, block);
        expect(readVersion(manager.page(buffer), block), `block ${block} of thread ${thread}`).toBe(1);
        manager.release(buffer);
      }
    }
    manager.detach();
    checkInvariants(this.#pool.shared);
    await this.#pool.close();
    for (let block = 0; block < BLOCKS; block++) {
      expect(this.#versionOnDisk(block), `block ${block} on disk`).toBe(model[block]);
    }
  }

  /** Nothing on disk is torn or newer than the WAL, so that replaying the WAL gives every change back. */
  async #checkAfterCrash(): Promise<void> {
    await this.#pool.close().catch(() => undefined);
    const model = new Int32Array(this.#model);
    for (let block = 0; block < BLOCKS; block++) {
      expect(this.#versionOnDisk(block), `block ${block}`).toBeLessThanOrEqual(model[block] as number);
    }
  }

  #versionOnDisk(block: number): number {
    const segment = Math.floor(block / 50);
    const name = segment === 0 ? "1" : `1.${segment}`;
    const file = readFileSync(join(this.#directory, "base", "1", name));
    const at = (block % 50) * PAGE_BYTES;
    return readVersion(file.subarray(at, at + PAGE_BYTES), block);
  }
}

/** Runs one seed. */
export async function runModel(seed: number, method: MethodName): Promise<ModelOutcome> {
  const directory = mkdtempSync(join(tmpdir(), "millrace-model-"));
  try {
    return await new ModelRun(seed, method, directory).run();
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

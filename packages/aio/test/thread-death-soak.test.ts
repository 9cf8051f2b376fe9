/**
 * Threads ended at random moments, over and over: whatever they were doing, nothing of it stays behind.
 *
 * Three threads read, write and sync in batches and one by one, wait for each other's I/O and reap each other's rings;
 * two of them are ended in the middle of it, and with method worker one of the I/O workers too. The third goes on and has
 * to get to its end by itself, which it only does if nothing that it waited for was lost.
 * `npm run soak:aio -- --rounds 1000` runs more rounds.
 */
import { readdirSync, readFileSync } from "node:fs";
import { once } from "node:events";
import { Worker } from "node:worker_threads";

import { orphanedRings } from "@millrace/io-uring";
import { describe, expect, test } from "vitest";

import { HANDLE_STATE } from "../src/handle-state.js";
import { BACKEND, FILE, HANDLE, LOCK, QUEUE } from "../src/layout.js";
import { waitAsync } from "../src/wait-async.js";
import { WORKER_ID_BASE } from "../src/worker-loop.js";
import { BLOCK_BYTES, BLOCKS, METHODS, World } from "./fixture.js";

const ROUNDS = Number(process.env["MILLRACE_SOAK_ROUNDS"] ?? 20);
const SEED = Number(process.env["MILLRACE_SOAK_SEED"] ?? 1);
const THREADS = 3;
const BOARD_WORDS = 16 + THREADS * 8 * 2;
/** Generous: a round takes 0.2 s on an idle machine. */
const ROUND_MS = 5000;

/** A number below `below` for each round and purpose; the same for the same seed. */
function pick(round: number, purpose: number, below: number): number {
  let mixed = Math.imul((SEED * 7919 + round) ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(purpose + 1, 0xc2b2ae35);
  mixed ^= mixed >>> 15;
  return (Math.imul(mixed, 0x2c1b3c6d) >>> 8) % below;
}

const openDescriptors = (): number => readdirSync("/proc/self/fd").length;

class SoakThread {
  readonly worker: Worker;
  readonly recovered: Promise<void>;
  readonly failure: Promise<never>;
  readonly #board: Int32Array;
  readonly #index: number;

  constructor(world: World, board: Int32Array, index: number, seed: number) {
    this.#board = board;
    this.#index = index;
    const { fd } = world.file;
    const workerData = {
      shared: world.system.shared,
      threads: THREADS,
      lease: world.lease,
      blocks: BLOCKS,
      seed,
      index,
      board,
      fd,
    };
    this.worker = new Worker(new URL("soak-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    this.recovered = world.system.supervise(this.worker);
    this.failure = new Promise((_, reject) => this.worker.on("error", reject));
    this.failure.catch(() => undefined);
  }

  /** Waits until the thread has been round its loop `turns` times; it goes on meanwhile. */
  async turns(turns: number): Promise<void> {
    const at = 1 + this.#index;
    for (let seen = 0; seen < turns; seen = Atomics.load(this.#board, at)) {
      await Promise.race([waitAsync(this.#board, at, seen), this.failure]);
      seen = Atomics.load(this.#board, at);
    }
  }
}

function checkNothingIsLeft(world: World, round: number): void {
  const { table } = world.backend;
  const { words, layout } = table;
  const what = `round ${round}, seed ${SEED}`;
  for (let backend = 1; backend < layout.backends; backend++) {
    const at = layout.backendsAt + backend * BACKEND.words;
    for (const word of [BACKEND.inUse, BACKEND.ring, BACKEND.ringLock + LOCK.state, BACKEND.waitEvent]) {
      expect(words[at + word], `${what}: word ${word} of backend ${backend}`).toBe(0);
    }
  }
  for (let handle = 0; handle < table.count; handle++) {
    expect(table.state(handle), `${what}: handle ${handle}`).toBe(HANDLE_STATE.idle);
    for (const word of [HANDLE.meta, HANDLE.lengths]) {
      expect(table.get(handle, word), `${what}: word ${word} of handle ${handle}`).toBe(0);
    }
  }
  const holder = (words[layout.queueAt + QUEUE.lock + LOCK.state] as number) >> 1;
  // A worker that was woken to look may have it just now.
  expect(holder === 0 || holder >= WORKER_ID_BASE, `${what}: queue lock held by ${holder}`).toBe(true);
  expect(words[layout.queueAt + QUEUE.head], `${what}: queue`).toBe(words[layout.queueAt + QUEUE.tail]);
  let leases = 0;
  for (let file = 0; file < layout.files; file++)
    leases += (words[layout.filesAt + file * FILE.words] ?? 0) & 1;
  expect(leases, `${what}: leases`).toBe(1);
  expect(orphanedRings(), what).toEqual([]);
}

async function playRound(world: World, round: number): Promise<void> {
  const board = new Int32Array(new SharedArrayBuffer(BOARD_WORDS * 4));
  const threads = [0, 1, 2].map((index) => new SoakThread(world, board, index, pick(round, index, 2 ** 23)));
  const survivor = threads[pick(round, 3, THREADS)] as SoakThread;
  const left = Promise.race([once(survivor.worker, "message"), survivor.failure]);
  const victims = threads.filter((thread) => thread !== survivor);
  const ends = victims.map(async (victim, index) => {
    await victim.turns(1 + pick(round, 4 + index, 12));
    await Promise.race([victim.worker.terminate(), victim.failure]);
    await victim.recovered;
  });
  if (world.system.workers !== undefined) {
    await survivor.turns(1 + pick(round, 6, 4));
    await world.system.workers.workerAt(pick(round, 7, 2))?.terminate();
  }
  await Promise.all(ends);
  await survivor.turns(2);
  Atomics.store(board, 0, 1);
  await left;
  await survivor.recovered;
  await world.system.workers?.settled();
  checkNothingIsLeft(world, round);
}

describe.each(METHODS)("method %s", (method) => {
  test(
    `${ROUNDS} rounds of threads that are ended at random moments`,
    { timeout: 30_000 + ROUNDS * ROUND_MS },
    async () => {
      await using world = new World(method, { backendsMax: 4, concurrency: 8, combineMax: 4, ioWorkers: 2 });
      await playRound(world, 0);
      const descriptors = openDescriptors();
      for (let round = 1; round <= ROUNDS; round++) await playRound(world, round);
      // Node opens one or two of its own when it pleases; what a round left behind would be there once for each.
      expect(openDescriptors() - descriptors, "descriptors left open").toBeLessThan(ROUNDS / 2);
      const content = new Uint32Array(new Uint8Array(readFileSync(world.file.path)).buffer);
      for (let block = 0; block < BLOCKS; block++) {
        const words = content.subarray((block * BLOCK_BYTES) / 4, ((block + 1) * BLOCK_BYTES) / 4);
        expect(
          words.every((word) => word === block),
          `block ${block} of the file`,
        ).toBe(true);
      }
      using scope = world.backend.openScope();
      const handle = world.backend.acquire(scope);
      const ref = handle.ref();
      world.read(handle, 17, 0);
      await world.backend.waitAsync(ref);
      expect(world.words(0)[0]).toBe(17);
    },
  );
});

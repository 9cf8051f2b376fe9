/** Four threads that read random ranges at once, by each method; every block says which it is. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

import { describe, expect, test } from "vitest";

import { BLOCK_BYTES, BLOCKS, METHODS, World } from "./fixture.js";

const THREADS = 4;
/** Reads of each thread; a tenth of a second of them, as the same machine runs other tests. */
const READS = Number(process.env["MILLRACE_STRESS_READS"] ?? 4000);

describe.each(METHODS)("method %s", (method) => {
  // Aim: no block is ever wrong, and all handles come back. Method: 4 x 4,000 reads of 1 to 16 blocks, eight in flight.
  test("reads of four threads are never mixed up", { timeout: 120_000 }, async () => {
    const memoryBytes = THREADS * 8 * 16 * BLOCK_BYTES;
    await using world = new World(method, { backendsMax: THREADS + 1, concurrency: 8 }, {}, memoryBytes);
    const workers = Array.from({ length: THREADS }, (_, index) => {
      const { system, lease } = world;
      const sizes = { reads: READS, blocks: BLOCKS, blockBytes: BLOCK_BYTES, index, seed: 1 + index };
      const workerData = { shared: system.shared, lease, ...sizes };
      return new Worker(new URL("stress-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    });
    const answers = await Promise.all(workers.map((worker) => once(worker, "message")));
    expect(answers).toEqual(workers.map(() => [READS]));
    await Promise.all(workers.map((worker) => worker.terminate()));
    expect(world.system.backends().length).toBe(1);
    expect(world.system.rows()).toEqual([]);
  });
});

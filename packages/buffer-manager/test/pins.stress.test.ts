/**
 * Pins taken and given back by threads at once, while others hold the headers' locks: no count and no flag is lost.
 *
 * `MILLRACE_PINS=100000000 npx vitest run --project buffer-manager pins.stress` pins for longer.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";

import { STATE, usageOf } from "../src/buffer-state.js";
import { readStatistics } from "../src/io-statistics.js";
import { DESCRIPTOR } from "../src/layout.js";
import { openPool } from "../src/pool-core.js";
import { CachedPool } from "./cached-pool.js";
import { checkInvariants } from "./invariants.js";
import { RELATION } from "./replacement.js";

const THREADS = 4;
const BUFFERS = 64;
/** Pins of each thread: about a second on two cores. */
const PINS = Number(process.env["MILLRACE_PINS"] ?? 1_000_000);
/** Generous: ten times what it takes. */
const TIMEOUT_MS = 30_000 + PINS / 100;

// Aim: a pin is an addition to a word that others rewrite as a whole under the header lock, and neither undoes the other.
// Method: four threads pin 64 pages at random; every eighth time each flips a dirty flag under the header lock, and compares it
// with a table that the lock guards. In the end nobody has a pin, so that any that was lost or doubled shows.
test(
  `${PINS} pins by each of four threads under header locks leave no pin and lose no flag`,
  { timeout: TIMEOUT_MS },
  async () => {
    await using world = new CachedPool([...Array(BUFFERS).keys()], {
      buffers: BUFFERS,
      backends: THREADS + 1,
    });
    const { shared } = world.pool;
    const { words, layout, doubles } = openPool(shared);
    const isDirty = new Int32Array(new SharedArrayBuffer(BUFFERS * 4));
    const line = new Int32Array(new SharedArrayBuffer(4));
    const first = layout.descriptorsAt + DESCRIPTOR.state;
    const job = {
      shared,
      pins: PINS,
      table: RELATION,
      state: { first, stride: DESCRIPTOR.words },
      flags: { locked: STATE.locked, dirty: STATE.dirty },
      isDirty,
      line,
    };
    const threads = Array.from({ length: THREADS }, (_, thread) => {
      const workerData = { ...job, thread };
      return new Worker(new URL("pinning-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    });
    await Promise.all(threads.map(async (thread) => once(thread, "message")));
    const outcomes = threads.map(async (thread) => (await once(thread, "message")) as unknown[]);
    Atomics.store(line, 0, 1);
    Atomics.notify(line, 0);
    expect((await Promise.all(outcomes)).flat()).toEqual(threads.map(() => ({ lost: 0, strayed: 0 })));
    for (let buffer = 0; buffer < BUFFERS; buffer++) {
      const state = words[first + buffer * DESCRIPTOR.words] as number;
      expect((state & STATE.dirty) !== 0, `buffer ${buffer} is dirty`).toBe(isDirty[buffer] === 1);
      expect(usageOf(state), `buffer ${buffer} was used`).toBe(5);
    }
    checkInvariants(shared);
    const hits = readStatistics({ words, doubles, layout }, 0, true).map(({ hit }) => hit?.count ?? 0);
    expect(hits.reduce((sum, count) => sum + count, 0)).toBe(THREADS * PINS);
  },
);

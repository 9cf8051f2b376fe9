/**
 * Threads that read, change and evict the same pages see one history of each, and a crash loses nothing that was durable.
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";

import { BufferPool } from "../src/pool.js";
import { DataDirectory, METHODS, PAGE, TABLE } from "./data-directory.js";
import { checkInvariants } from "./invariants.js";

const THREADS = 4;
const BLOCKS = 256;
const BUFFERS = 32;
/** Operations of a thread: some two seconds on two cores. */
const OPERATIONS = 1200;
const COUNTER_AT = 100;

/** A log in shared memory: its end, how far it is durable, the block + 1 that each record counts up; and the true counts. */
interface Log {
  readonly end: Int32Array;
  readonly durable: Int32Array;
  readonly records: Int32Array;
  readonly truth: Int32Array;
}

function createLog(): Log {
  const words = (count: number): Int32Array => new Int32Array(new SharedArrayBuffer(count * 4));
  return { end: words(1), durable: words(1), records: words(THREADS * OPERATIONS + 1), truth: words(BLOCKS) };
}

/** Replays durable records over what is in the files. @returns the counts */
function recover(directory: DataDirectory, log: Log): number[] {
  const file = readFileSync(directory.segment(TABLE, 0));
  const counts: number[] = [];
  const replayed: number[] = [];
  for (let block = 0; block < BLOCKS; block++) {
    const page = file.subarray(block * PAGE, (block + 1) * PAGE);
    const lsn = page.readUInt32LE(4);
    expect(lsn, "no page is ahead of the durable WAL").toBeLessThanOrEqual(log.durable[0] as number);
    replayed.push(lsn);
    counts.push(page.readInt32LE(COUNTER_AT));
  }
  for (let lsn = 1; lsn <= (log.durable[0] as number); lsn++) {
    const block = (log.records[lsn] as number) - 1;
    if (lsn > (replayed[block] as number)) counts[block] = (counts[block] as number) + 1;
  }
  return counts;
}

function durableCounts(log: Log): number[] {
  const counts = Array.from({ length: BLOCKS }, () => 0);
  for (let lsn = 1; lsn <= (log.durable[0] as number); lsn++) {
    const block = (log.records[lsn] as number) - 1;
    counts[block] = (counts[block] as number) + 1;
  }
  return counts;
}

describe.each(METHODS)("with method %s", (method) => {
  // Aim: each page has one history, whatever thread looks, and what was durable survives. Method: four threads count up and
  // look at 256 counters through 32 buffers, with evictions and checkpoints; each compares with the truth under its lock. In
  // the end the pool is thrown away as by a crash, and the durable log replayed over the files.
  test("threads see one history of each page, and a crash keeps what was durable", async () => {
    const seed = method.length;
    using directory = new DataDirectory();
    directory.writeBlocks(TABLE, BLOCKS);
    const log = createLog();
    const pool = BufferPool.create({ buffers: BUFFERS, backends: THREADS, aio: { method, required: true } });
    const threads = Array.from({ length: THREADS }, (_, thread) => {
      const workerData = {
        shared: pool.shared,
        directory: directory.path,
        seed,
        thread,
        operations: OPERATIONS,
        blocks: BLOCKS,
        relation: TABLE,
        log,
      };
      return new Worker(new URL("counting-thread.mjs", import.meta.url), { workerData, execArgv: [] });
    });
    const said = await Promise.all(
      threads.map(async (thread) => (await once(thread, "message")) as unknown[]),
    );
    expect(said.flat()).toEqual(threads.map(() => "done"));
    await Promise.all(threads.map((thread) => thread.terminate()));
    checkInvariants(pool.shared);
    await pool.close();
    expect(log.truth.reduce((sum, count) => sum + count, 0)).toBe(log.end[0]);
    expect(recover(directory, log)).toEqual(durableCounts(log));
  });
});

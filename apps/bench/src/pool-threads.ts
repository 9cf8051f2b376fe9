/**
 * Threads that hit the same pool at the same time: how they are started, what they do, and their rates together.
 *
 * Each thread runs this program again, told by its data to do this instead. All of them wait at a barrier, run for the same time,
 * and say how many visits they made; a run's rate is the sum.
 */
import { threadId, Worker } from "node:worker_threads";

import type { PoolShared } from "@millrace/buffer-manager";

import { hit, pinAgain, pinAll, visits } from "./pool-hits.js";
import { attach, relation } from "./pool-ground.js";
import { benchProgram } from "./repository.js";

/** What a thread does: pin and unpin pages that nobody has pinned, or pages that it has pinned all the time. */
export type HitKind = "shared" | "private";

/** What a thread is told. */
export interface HitOrder {
  readonly task: "pool-hits";
  readonly kind: HitKind;
  readonly shared: PoolShared;
  readonly directory: string;
  readonly pages: number;
  readonly relation: number;
  readonly seed: number;
  readonly timedMs: number;
  /** Words: threads that are ready, whether they may start. */
  readonly barrier: SharedArrayBuffer;
}

/** What a thread has done. */
export interface HitOutcome {
  readonly visits: number;
  readonly ms: number;
  readonly sum: number;
}

/** Whether this thread was made to do this. */
export function isHitOrder(data: unknown): data is HitOrder {
  return typeof data === "object" && data !== null && (data as Partial<HitOrder>).task === "pool-hits";
}

/** A thread's work, from the barrier to its outcome. */
export function doHits(order: HitOrder): HitOutcome {
  const { kind, pages, seed, timedMs } = order;
  const manager = attach(order.shared, order.directory);
  const target = relation(order.relation);
  const blocks = visits(pages, seed, 1 << 14);
  const buffers = kind === "private" ? pinAll(manager, target, pages) : new Int32Array(0);
  const slice = (): number =>
    kind === "private" ? pinAgain(manager, buffers, blocks) : hit(manager, target, blocks);
  for (let warm = 0; warm < 16; warm += 1) slice();
  const barrier = new Int32Array(order.barrier);
  Atomics.add(barrier, 0, 1);
  Atomics.notify(barrier, 0);
  Atomics.wait(barrier, 1, 0);
  const start = performance.now();
  let [count, sum] = [0, 0];
  while (performance.now() - start < timedMs) {
    sum = (sum + slice()) | 0;
    count += blocks.length;
  }
  const ms = performance.now() - start;
  for (const buffer of buffers) manager.release(buffer);
  manager.detach();
  return { visits: count, ms, sum };
}

/** Runs threads side by side. @returns visits a second of all of them, and a checksum of their work */
export async function runHits(
  orders: readonly Omit<HitOrder, "task" | "barrier">[],
): Promise<{ rate: number; checksum: string }> {
  const barrier = new SharedArrayBuffer(8);
  const words = new Int32Array(barrier);
  const outcomes = orders.map((order) => {
    const workerData: HitOrder = { ...order, task: "pool-hits", barrier };
    // What was built runs in a thread, whatever runs here: none of its flags are inherited.
    const worker = new Worker(benchProgram(), { workerData, execArgv: [] });
    return new Promise<HitOutcome>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
      worker.once("exit", (code) => reject(new RangeError(`thread ${threadId} ended with code ${code}`)));
    });
  });
  const start = (async (): Promise<void> => {
    for (;;) {
      const ready = Atomics.load(words, 0);
      if (ready === orders.length) break;
      await waitForChange(words, 0, ready);
    }
    Atomics.store(words, 1, 1);
    Atomics.notify(words, 1);
  })();
  const [done] = await Promise.all([Promise.all(outcomes), start]);
  const rate = done.reduce((sum, outcome) => sum + (outcome.visits / outcome.ms) * 1000, 0);
  const checksum = done.every(({ visits: count, sum }) => count > 0 && sum !== 0) ? "visited" : "nothing";
  return { rate, checksum };
}

type AsyncAtomics = typeof Atomics & {
  waitAsync(
    words: Int32Array,
    at: number,
    value: number,
  ): { async: boolean; value: string | Promise<string> };
};

async function waitForChange(words: Int32Array, at: number, value: number): Promise<void> {
  await (Atomics as AsyncAtomics).waitAsync(words, at, value).value;
}

/**
 * What a big relation does to a pool's working set: how much of it is still there while the relation is read, written or
 * vacuumed, through a ring and without one.
 *
 * Half the pool is a working set that is used now and then: between two steps of the big job one of its pages is read at
 * random, so that each of them is used once while the job goes through several pools full of pages. A read that finds its page
 * in the pool is a hit. Pages are zeros in sparse files; written pages go to the disk.
 */
import type { BufferManager, Relation, Ring } from "@millrace/buffer-manager";

import { createZeroRelation, PoolGround, relation } from "./pool-ground.js";
import { visits } from "./pool-hits.js";

/** What the big job is: a sequential scan, a COPY, a VACUUM. */
export type BigJob = "scan" | "bulk write" | "vacuum";

/** Which victims it takes: its ring's, anybody's, or those of a ring whose size is set to 0. */
export type Strategy = "ring" | "no ring" | "ring of size 0";

/** How big everything is. */
export interface PollutionSizes {
  readonly buffers: number;
  /** Blocks of the big relation. */
  readonly blocks: number;
  /** Blocks of the big job between two reads of the working set. */
  readonly stride: number;
}

/** What came of it. */
export interface Pollution {
  /** Percent of the reads of the working set that were hits. */
  readonly hitPercent: number;
  /** The same over each twentieth of the job. */
  readonly course: readonly number[];
  /** Blocks that the job did a second. */
  readonly blocksPerSecond: number;
}

const WORKING_SET = 1;
const BIG = 2;
const POINTS = 20;
const RING_KINDS = { scan: "bulkread", "bulk write": "bulkwrite", vacuum: "vacuum" } as const;

function ringOf(manager: BufferManager, job: BigJob, strategy: Strategy): Ring | null {
  if (strategy === "no ring") return null;
  return manager.ring(RING_KINDS[job], strategy === "ring" ? undefined : 0);
}

/** One step of a job: what it does with one block. */
function step(manager: BufferManager, job: BigJob, big: Relation, block: number, ring: Ring | null): void {
  if (job === "bulk write") {
    const { buffers } = manager.extend(big, 1, { ring });
    const buffer = buffers[0] as number;
    manager.lock(buffer, "exclusive");
    manager.markDirty(buffer);
    manager.unlock(buffer);
    manager.release(buffer);
    return;
  }
  const buffer = manager.read(big, block, { ring });
  if (job === "vacuum") {
    manager.lock(buffer, "exclusive");
    manager.markDirty(buffer);
    manager.unlock(buffer);
  }
  manager.release(buffer);
}

/** Does a big job in a pool of its own, and says what became of the working set. */
export async function pollute(
  directory: string,
  sizes: PollutionSizes,
  job: BigJob,
  strategy: Strategy,
): Promise<Pollution> {
  const { buffers, blocks, stride } = sizes;
  const pages = buffers / 2;
  createZeroRelation(directory, relation(WORKING_SET), pages);
  createZeroRelation(directory, relation(BIG), job === "bulk write" ? 0 : blocks);
  await using ground = new PoolGround(directory, { buffers, backends: 2 });
  const { manager } = ground;
  const workingSet = relation(WORKING_SET);
  // Twice, so that a page has been used since it came.
  for (let pass = 0; pass < 2; pass += 1) {
    for (let block = 0; block < pages; block += 1) manager.release(manager.read(workingSet, block));
  }
  const ring = ringOf(manager, job, strategy);
  const order = visits(pages, 1, Math.ceil(blocks / stride));
  const [hits, reads] = [new Float64Array(POINTS), new Float64Array(POINTS)];
  const start = performance.now();
  for (let block = 0; block < blocks; block += 1) {
    step(manager, job, relation(BIG), block, ring);
    if (block % stride !== stride - 1) continue;
    const point = Math.floor((block / blocks) * POINTS);
    const page = order[Math.floor(block / stride)] as number;
    const buffer = manager.tryRead(workingSet, page);
    reads[point] = (reads[point] as number) + 1;
    if (buffer > 0) hits[point] = (hits[point] as number) + 1;
    manager.release(buffer > 0 ? buffer : manager.read(workingSet, page));
  }
  const seconds = (performance.now() - start) / 1000;
  const sum = (values: Float64Array): number => values.reduce((total, value) => total + value, 0);
  return {
    hitPercent: (sum(hits) / Math.max(1, sum(reads))) * 100,
    course: Array.from(hits, (count, point) => (count / Math.max(1, reads[point] as number)) * 100),
    blocksPerSecond: blocks / seconds,
  };
}

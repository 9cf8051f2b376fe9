/**
 * `pool`: what finding, pinning and unpinning a page in the shared pool costs (goal G17), and what rings are good for.
 *
 * Hits only use the processor: best round of each side, in the same process. Threads that hit the same pool at once have
 * a rate together; on two cores that is judged against one thread's. Pollution is a share of hits and no speed, and the same in
 * every round but for nothing: it is deterministic.
 */
import { LRUCache } from "lru-cache";

import { runGroups } from "../available.js";
import type { Group, MaybeContestant } from "../available.js";
import type { RowSpec, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
import { pollute } from "../pollution.js";
import type { BigJob, PollutionSizes, Strategy } from "../pollution.js";
import { createZeroRelation, PoolGround, relation } from "../pool-ground.js";
import { createMap, hit, hitLru, hitMap, load, pinAgain, pinAll, visits, VISITS } from "../pool-hits.js";
import { runHits } from "../pool-threads.js";
import type { HitKind } from "../pool-threads.js";
import type { Plot } from "../row.js";
import type { BenchContext, Suite } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";

const HOT_PAGES = 1024;
const MANY_PAGES = 16_384;
const HOT = 1;
const MANY = 2;
const QUICK_VISITS = 1 << 12;
const THREADS_MS = 1000;
const QUICK_THREADS_MS = 20;
const SIZES: PollutionSizes = { buffers: 2048, blocks: 20_480, stride: 16 };
const QUICK_SIZES: PollutionSizes = { buffers: 256, blocks: 2560, stride: 16 };
const JOBS: readonly BigJob[] = ["scan", "bulk write", "vacuum"];
const HITS_MIN_PERCENT = 95;

const POOL = {
  hot: "pool, 1024 pages",
  many: "pool, 16,384 pages",
  again: "pool, pages pinned already",
  map: "Map of objects",
  lru: "lru-cache get",
} as const;

/** A contestant that visits pages in this thread. */
function visitor(
  context: BenchContext,
  name: string,
  command: string,
  pages: number,
  work: (order: Int32Array) => number,
): MaybeContestant {
  const [slices, count] = context.quick ? [QUICK_SLICES, QUICK_VISITS] : [FULL_SLICES, VISITS];
  const order = visits(pages, 7, count);
  return {
    name,
    command,
    missing: undefined,
    async run(): Promise<readonly Sample[]> {
      const sample = await fastestSlice(slices, count, () => work(order));
      return [{ ...sample, rate: sample.rate / 1e6, details: { ns: 1e9 / sample.rate } }];
    },
  };
}

function row(
  spec: Pick<RowSpec, "id" | "name" | "question" | "reference" | "candidate"> & Partial<RowSpec>,
): RowSpec {
  return { unit: "M hits/s", judge: "best", cache: "pages in the pool", ...spec };
}

/** G17: one thread. */
function hits(context: BenchContext, ground: PoolGround): Group {
  const { manager } = ground;
  const [hot, many] = [relation(HOT), relation(MANY)];
  const lru = new LRUCache<number, { readonly block: number }>({ max: HOT_PAGES });
  for (let block = 0; block < HOT_PAGES; block += 1) lru.set(block, { block });
  const map = createMap(HOT_PAGES);
  const question = "What does it cost to find, pin and unpin a page that threads share, compared with";
  return {
    contestants: [
      visitor(context, POOL.lru, "LRUCache.get of lru-cache, a number for a key", HOT_PAGES, (order) =>
        hitLru(lru, order),
      ),
      visitor(context, POOL.map, "Map.get of a number, a count up and down", HOT_PAGES, (order) =>
        hitMap(map, order),
      ),
      visitor(context, POOL.hot, "BufferManager.tryRead and release", HOT_PAGES, (order) =>
        hit(manager, hot, order),
      ),
      visitor(context, POOL.many, "BufferManager.tryRead and release, 128 MiB", MANY_PAGES, (order) =>
        hit(manager, many, order),
      ),
      visitor(context, POOL.again, "BufferManager.pinAgain and release", HOT_PAGES, (order) => {
        const buffers = pinAll(manager, hot, HOT_PAGES);
        const sum = pinAgain(manager, buffers, order);
        for (const buffer of buffers) manager.release(buffer);
        return sum;
      }),
    ],
    rows: [
      row({
        id: "G17",
        name: "a hit, against lru-cache",
        question: `${question} a get of lru-cache, which finds an object of one thread?`,
        reference: POOL.lru,
        candidate: POOL.hot,
        gate: { ratio: 1 },
        goal: { ratio: 1.5, rate: 40 },
        sameWork: true,
      }),
      row({
        id: "G17",
        name: "a hit, against a Map of objects",
        question: `${question} a Map of objects that only one thread has?`,
        reference: POOL.map,
        candidate: POOL.hot,
        sameWork: true,
      }),
      row({
        id: "G17",
        name: "a hit among 16,384 pages",
        question: "What does a hit cost in a pool of 128 MiB, pages at random?",
        reference: POOL.hot,
        candidate: POOL.many,
        gate: { rate: 1000 / 150 },
      }),
      row({
        id: "G17",
        name: "pinning again what this thread has pinned",
        question: "What does another pin of a page cost that this thread has pinned already?",
        reference: POOL.hot,
        candidate: POOL.again,
        goal: { rate: 100 },
        sameWork: true,
      }),
    ],
  };
}

/** Two threads on one pool, each pinning what it has pinned, or what the other pins too. */
function threads(context: BenchContext, ground: PoolGround): Group {
  const timedMs = context.quick ? QUICK_THREADS_MS : THREADS_MS;
  const on = (name: string, kind: HitKind, count: number): MaybeContestant => ({
    name,
    command: `${count === 1 ? "one thread" : `${count} threads`}, ${
      kind === "private" ? "pinAgain and release" : "tryRead and release"
    }`,
    missing: undefined,
    async run(): Promise<readonly Sample[]> {
      const { directory } = ground;
      const { shared } = ground.pool;
      const order = { kind, shared, directory, pages: HOT_PAGES, relation: HOT, timedMs };
      const seeds = Array.from({ length: count }, (_, index) => ({ ...order, seed: index + 1 }));
      const { rate, checksum } = await runHits(seeds);
      return [{ rate: rate / 1e6, checksum }];
    },
  });
  const names = {
    one: "one thread, its own pins",
    two: "two threads, their own pins",
    oneShared: "one thread, shared counts",
    twoShared: "two threads, shared counts",
  };
  return {
    contestants: [
      on(names.one, "private", 1),
      on(names.two, "private", 2),
      on(names.oneShared, "shared", 1),
      on(names.twoShared, "shared", 2),
    ],
    rows: [
      row({
        id: "G17",
        name: "two threads that have their pages pinned",
        question: "How much more do two threads do than one, when each has the pages pinned?",
        reference: names.one,
        candidate: names.two,
        gate: { ratio: 1.5 },
      }),
      row({
        id: "G17",
        name: "two threads that pin the same pages",
        question: "How much more do two threads do than one, when both change the same shared counts?",
        reference: names.oneShared,
        candidate: names.twoShared,
      }),
    ],
  };
}

/** What a ring is for. The courses of the last round are kept for the plot. */
function pollution(
  context: BenchContext,
  directory: string,
  courses: Map<string, readonly number[]>,
): Group[] {
  const sizes = context.quick ? QUICK_SIZES : SIZES;
  const contestant = (job: BigJob, strategy: Strategy): MaybeContestant => ({
    name: `${job}, ${strategy}`,
    command: `${job} of ${sizes.blocks} blocks, pool of ${sizes.buffers} buffers, ${strategy}`,
    missing: undefined,
    async run(): Promise<readonly Sample[]> {
      const { hitPercent, course, blocksPerSecond } = await pollute(directory, sizes, job, strategy);
      courses.set(`${job}, ${strategy}`, course);
      // A share of nought is no rate; a ten-thousandth of a percent is as good.
      const rate = Math.max(hitPercent, 1e-4);
      return [{ rate, checksum: hitPercent.toFixed(3), details: { blocksPerSecond } }];
    },
  });
  return JOBS.map((job) => ({
    contestants: (["no ring", "ring", "ring of size 0"] as const).map((strategy) =>
      contestant(job, strategy),
    ),
    rows: [
      row({
        id: "POLLUTION",
        name: `${job} through a ring`,
        question: `How much of a working set of half the pool is found there during a ${job} of ten times the pool, with a ring and without?`,
        unit: "% hits",
        cache: "sparse files in the page cache",
        reference: `${job}, no ring`,
        candidate: `${job}, ring`,
        gate: { rate: HITS_MIN_PERCENT },
      }),
      row({
        id: "POLLUTION",
        name: `${job} through a ring of size 0`,
        question: "Does a ring of size 0 leave everything to the clock?",
        unit: "% hits",
        cache: "sparse files in the page cache",
        reference: `${job}, no ring`,
        candidate: `${job}, ring of size 0`,
      }),
    ],
  }));
}

function plotsOf(courses: ReadonlyMap<string, readonly number[]>): Plot[] {
  return JOBS.map((job) => ({
    title: `hits in the working set during a ${job} of ten times the pool, %`,
    max: 100,
    series: (["ring", "no ring"] as const).map((strategy) => ({
      name: strategy,
      values: courses.get(`${job}, ${strategy}`) ?? [],
    })),
  }));
}

async function measure(context: BenchContext, directory: string): ReturnType<Suite["run"]> {
  const courses = new Map<string, readonly number[]>();
  createZeroRelation(directory, relation(HOT), HOT_PAGES);
  createZeroRelation(directory, relation(MANY), MANY_PAGES);
  const rows: Awaited<ReturnType<typeof runGroups>>["rows"][number][] = [];
  const skipped: string[] = [];
  {
    await using ground = new PoolGround(directory, { buffers: 2 * MANY_PAGES, backends: 4 });
    load(ground.manager, relation(HOT), HOT_PAGES);
    load(ground.manager, relation(MANY), MANY_PAGES);
    const result = await runGroups(context, [hits(context, ground), threads(context, ground)]);
    rows.push(...result.rows);
    skipped.push(...result.skipped);
  }
  const polluted = await runGroups(context, pollution(context, directory, courses));
  rows.push(...polluted.rows);
  skipped.push(...polluted.skipped);
  return {
    method: [
      `pages are found in a pseudo-random order; ${VISITS} visits a slice; threads run for ${THREADS_MS} ms side by side`,
      `pollution: a pool of ${SIZES.buffers} buffers, one read of the working set for each ${SIZES.stride} blocks of the job`,
    ],
    rows,
    plots: plotsOf(courses),
    ...(skipped.length === 0 ? {} : { skipped: skipped.join(". ") }),
  };
}

export const poolSuite: Suite = {
  name: "pool",
  question: "What does a page cost that is in the pool, and what keeps it there?",
  run: (context) => withWorkDirectory(context.directory, (directory) => measure(context, directory)),
};

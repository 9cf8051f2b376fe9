/**
 * `scan`: a relation read from beginning to end through the pool and a read stream (goals G8 and G9).
 *
 * Everybody reads the same file, the table of a real PostgreSQL with checksums, cold: past the page cache, or after the kernel
 * has been told to forget it. PostgreSQL itself is started anew for each of its runs. fio has the same blocks, depth and kind
 * of memory; it verifies nothing and keeps nothing.
 */
import { createReadStream } from "node:fs";

import type { Relation } from "@millrace/buffer-manager";
import { probeUring } from "@millrace/io-uring";
import { findPostgres } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";

import { runGroups } from "../available.js";
import type { Group, MaybeContestant } from "../available.js";
import type { RowSpec, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
import { FIO_HINT, fioCommand, fioVersion, runFio } from "../fio.js";
import { reserveHugePages } from "../huge-pages.js";
import { createPrewarmGround, makeCold, prewarm } from "../prewarm.js";
import type { PrewarmGround } from "../prewarm.js";
import { createZeroRelation, PAGE_BYTES, PoolGround, relation } from "../pool-ground.js";
import { hit, load } from "../pool-hits.js";
import { runScan, scanCommand } from "../scan-run.js";
import type { ScanSpec } from "../scan-run.js";
import type { BenchContext, Suite } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";

const BLOCKS = 131_072;
const QUICK_BLOCKS = 1024;
const WARM_UP = 1;
const WARM_UP_BLOCKS = 4096;
const CACHED = 2;
const CACHED_BLOCKS = 16_384;
const CACHED_PASSES = 40;
const COMBINE = 16;
const DEPTH = 16;
const CHUNK_BYTES = 128 * 1024;
const FIO_MS = 2000;
const QUICK_FIO_MS = 60;
const COLD = "cold: past the page cache (O_DIRECT), or dropped from it; an empty pool";

const STREAM = "pool and stream";

/** What the groups share. */
interface ScanGround {
  readonly quick: boolean;
  readonly directory: string;
  readonly table: PrewarmGround | undefined;
  readonly missing: { readonly postgres: string | undefined; readonly uring: string | undefined };
  readonly hugePages: string | undefined;
}

function row(
  spec: Pick<RowSpec, "id" | "name" | "question" | "reference" | "candidate"> & Partial<RowSpec>,
): RowSpec {
  return { unit: "MB/s", judge: "median", cache: COLD, ...spec };
}

/** A relation of zeros beside the table; its number is none that PostgreSQL uses. */
function warmUpOf(table: PrewarmGround): Relation {
  return { ...table.relation, relation: WARM_UP };
}

function specOf(ground: ScanGround, wish: Partial<ScanSpec>): ScanSpec {
  const { table, quick } = ground;
  return {
    directory: table?.dataDirectory ?? ground.directory,
    relation: table?.relation ?? relation(CACHED),
    blocks: table?.blocks ?? 0,
    warmUp: table === undefined ? relation(WARM_UP) : warmUpOf(table),
    warmUpBlocks: quick ? 64 : WARM_UP_BLOCKS,
    method: "io_uring",
    direct: true,
    checksums: true,
    buffers: 16_384,
    combineLimit: COMBINE,
    effectiveIoConcurrency: DEPTH,
    contiguous: true,
    cachedPasses: 0,
    ...wish,
  };
}

function scanner(ground: ScanGround, name: string, wish: Partial<ScanSpec> = {}): MaybeContestant {
  const spec = specOf(ground, wish);
  return {
    name,
    command: scanCommand(spec),
    missing: ground.missing.postgres ?? (spec.method === "io_uring" ? ground.missing.uring : undefined),
    run: async () => runScan(spec, "MB/s"),
  };
}

function prewarmer(
  ground: ScanGround,
  name: string,
  settings: Readonly<Record<string, string>>,
): MaybeContestant {
  const { table, missing } = ground;
  const said = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  return {
    name,
    command: `PostgreSQL ${table?.installation.version ?? ""}: pg_prewarm('t', 'buffer'), shared_buffers=128MB, ${said.join(", ")}`,
    missing: missing.postgres,
    run: async () => (table === undefined ? [] : prewarm(table, settings)),
  };
}

/** G8: against PostgreSQL. */
function againstPostgres(ground: ScanGround): Group {
  const major = ground.table?.installation.major ?? 0;
  const method: Record<string, string> = major >= 18 ? { io_method: "worker" } : {};
  const direct = "pg_prewarm, direct";
  const buffered = "pg_prewarm, page cache";
  const sides = { candidate: STREAM, id: "G8" } as const;
  return {
    contestants: [
      prewarmer(ground, direct, { debug_io_direct: "data", ...method }),
      prewarmer(ground, buffered, method),
      scanner(ground, STREAM),
    ],
    rows: [
      row({
        ...sides,
        name: "cold scan, against PostgreSQL with direct I/O",
        question:
          "How fast is a cold relation read into the pool, every page verified, compared with pg_prewarm?",
        reference: direct,
        gate: { ratio: 1 },
        goal: { ratio: 1.25 },
      }),
      row({
        ...sides,
        name: "cold scan, against PostgreSQL over the page cache",
        question: "How fast is it compared with pg_prewarm over the kernel's page cache and its read-ahead?",
        reference: buffered,
        gate: { ratio: 1 },
      }),
    ],
  };
}

/** I/Os a second as MB/s; the second sample is a rate as well. */
function inMegabytes(samples: readonly Sample[]): Sample[] {
  return samples.map(({ rate, checksum, details = {} }) => ({
    rate: (rate * CHUNK_BYTES) / 1e6,
    checksum,
    details,
  }));
}

/** The device's limit, Node's own, and what each part of the design is worth. */
function againstOthers(ground: ScanGround): Group {
  const { table, quick } = ground;
  const path = table?.path ?? "";
  const options = [
    "ioengine=io_uring",
    "direct=1",
    "rw=read",
    `bs=${CHUNK_BYTES / 1024}k`,
    `iodepth=${DEPTH}`,
    "iomem=shmhuge",
  ];
  const job = {
    path,
    fileBytes: (table?.blocks ?? 0) * PAGE_BYTES,
    options,
    warmUpMs: 0,
    timedMs: quick ? QUICK_FIO_MS : FIO_MS,
  };
  const fio: MaybeContestant = {
    name: "fio",
    command: fioCommand(job),
    missing:
      ground.missing.postgres ??
      ground.missing.uring ??
      ground.hugePages ??
      (fioVersion() === undefined ? FIO_HINT : undefined),
    run: () => inMegabytes(runFio(job)),
  };
  const node: MaybeContestant = {
    name: "createReadStream",
    command: "fs.createReadStream, highWaterMark 128 KiB",
    missing: ground.missing.postgres,
    run: async () => {
      makeCold(path);
      const end = job.fileBytes - 1;
      const start = performance.now();
      let [bytes, sum] = [0, 0];
      for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES, end })) {
        const data = chunk as Buffer;
        bytes += data.length;
        for (let at = 12; at < data.length; at += PAGE_BYTES)
          sum = (Math.imul(sum, 31) + (data[at] ?? 0)) | 0;
      }
      const seconds = (performance.now() - start) / 1000;
      return [{ rate: bytes / 1e6 / seconds, checksum: String(sum) }];
    },
  };
  const [one, scattered, worker] = [
    "pool and stream, no look-ahead",
    "pool and stream, single frames",
    "pool and stream, worker",
  ];
  return {
    contestants: [
      fio,
      node,
      scanner(ground, STREAM),
      scanner(ground, one, { effectiveIoConcurrency: 0 }),
      scanner(ground, scattered, { contiguous: false }),
      scanner(ground, worker, { method: "worker" }),
    ],
    rows: [
      row({
        id: "G8",
        name: "cold scan, against fio",
        question: "How near does a scan come to fio with the same blocks, depth and memory?",
        reference: "fio",
        candidate: STREAM,
        gate: { ratio: 0.9 },
      }),
      row({
        id: "G9",
        name: "cold scan, against createReadStream",
        question: "How fast is a cold relation read, compared with fs.createReadStream of the same file?",
        reference: "createReadStream",
        candidate: STREAM,
        gate: { ratio: 1.1 },
        goal: { ratio: 1.4 },
      }),
      row({
        id: "LOOK-AHEAD",
        name: "cold scan with 16 I/Os in flight",
        question: "What is looking ahead worth: effective_io_concurrency 16 against 0?",
        reference: one,
        candidate: STREAM,
        gate: { ratio: 3 },
      }),
      row({
        id: "EXTENTS",
        name: "cold scan into contiguous frames",
        question: "What is it worth that a combined read lands in frames that lie side by side?",
        reference: scattered,
        candidate: STREAM,
      }),
      row({
        id: "WORKERS",
        name: "cold scan with method worker",
        question: "What does a scan reach where io_uring is not to be had?",
        reference: STREAM,
        candidate: worker,
      }),
    ],
  };
}

/** What the stream itself costs: everything is in the pool. */
async function cached(context: BenchContext, ground: ScanGround, plain: PoolGround): Promise<Group> {
  const { quick } = context;
  const [blocks, passes] = quick ? [512, 2] : [CACHED_BLOCKS, CACHED_PASSES];
  load(plain.manager, relation(CACHED), blocks);
  const order = Int32Array.from({ length: blocks }, (_, block) => block);
  const spec = specOf(ground, {
    directory: ground.directory,
    relation: relation(CACHED),
    blocks,
    warmUp: relation(WARM_UP),
    method: "sync",
    direct: false,
    buffers: 8 * CACHED_BLOCKS,
    cachedPasses: passes,
  });
  return {
    contestants: [
      {
        name: "tryRead and release",
        command: "BufferManager.tryRead and release, blocks in order",
        missing: undefined,
        async run(): Promise<readonly Sample[]> {
          const slices = quick ? QUICK_SLICES : FULL_SLICES;
          const sample = await fastestSlice(slices, blocks, () =>
            hit(plain.manager, relation(CACHED), order),
          );
          return [{ ...sample, rate: sample.rate / 1e6 }];
        },
      },
      {
        name: "stream, all cached",
        command: scanCommand(spec),
        missing: undefined,
        run: async () => runScan(spec, "M blocks/s"),
      },
    ],
    rows: [
      row({
        id: "CACHED",
        name: "scan of cached pages",
        question:
          "How many blocks a second does a thread get through a stream when all of them are in the pool?",
        unit: "M blocks/s",
        judge: "best",
        cache: "all pages in the pool",
        reference: "tryRead and release",
        candidate: "stream, all cached",
        gate: { rate: 2 },
        goal: { rate: 5 },
      }),
    ],
  };
}

/** The newest PostgreSQL there is. */
function newestPostgres(): PostgresInstallation | undefined {
  const found = [findPostgres("embedded"), findPostgres("system")];
  return found.filter((one) => one !== undefined).toSorted((a, b) => b.major - a.major)[0];
}

async function measure(context: BenchContext, directory: string): ReturnType<Suite["run"]> {
  const { quick } = context;
  const installation = newestPostgres();
  using hugePages = reserveHugePages(!quick);
  const table =
    installation === undefined
      ? undefined
      : await createPrewarmGround(installation, `${directory}/postgres`, quick ? QUICK_BLOCKS : BLOCKS);
  const uring = probeUring();
  const ground: ScanGround = {
    quick,
    directory,
    table,
    missing: {
      postgres: table === undefined ? "no PostgreSQL: npm install brings an embedded one" : undefined,
      uring: uring.available ? undefined : `no io_uring here: ${uring.reason ?? "unknown"}`,
    },
    hugePages: hugePages.refused,
  };
  createZeroRelation(directory, relation(WARM_UP), WARM_UP_BLOCKS);
  createZeroRelation(directory, relation(CACHED), CACHED_BLOCKS);
  if (table !== undefined) createZeroRelation(table.dataDirectory, warmUpOf(table), WARM_UP_BLOCKS);
  await using plain = new PoolGround(directory, { buffers: 2 * CACHED_BLOCKS, backends: 2 });
  const { rows, skipped } = await runGroups(context, [
    await cached(context, ground, plain),
    againstPostgres(ground),
    againstOthers(ground),
  ]);
  return {
    method: [
      `${((table?.blocks ?? 0) * PAGE_BYTES) / 2 ** 20} MiB of a table of PostgreSQL ${installation?.version ?? "-"} with checksums; ${fioVersion() ?? "no fio"}`,
      "a process for each scan, a server for each pg_prewarm; the clock runs from the first block to the last",
    ],
    rows,
    ...(skipped.length === 0 ? {} : { skipped: skipped.join(". ") }),
  };
}

export const scanSuite: Suite = {
  name: "scan",
  question: "How fast is a relation read through the pool, compared with PostgreSQL, fio and node:fs?",
  run: (context) => withWorkDirectory(context.directory, (directory) => measure(context, directory)),
};

/**
 * `scan`: a relation read from beginning to end through the pool and a read stream (goals G8 and G9).
 *
 * Everybody reads the same file, the table of a real PostgreSQL with checksums, cold: past the page cache, or after the kernel
 * has been told to forget it. PostgreSQL itself is started anew for each of its runs. fio has the same blocks, depth and kind
 * of memory. It keeps nothing and looks at no byte of what it reads, which is worth much where a host copies into the guest's
 * memory: so there is a scan that verifies nothing beside it, and a fio that verifies a file of its own.
 */
import { probeUring } from "@millrace/io-uring";
import { findPostgres } from "@millrace/postgres-process";
import type { PostgresInstallation } from "@millrace/postgres-process";

import { runGroups } from "../available.js";
import type { Group } from "../available.js";
import type { RowSpec, Sample } from "../contest.js";
import { fastestSlice, FULL_SLICES, QUICK_SLICES } from "../cpu-run.js";
import { fioVersion } from "../fio.js";
import { reserveHugePages } from "../huge-pages.js";
import { createPrewarmGround } from "../prewarm.js";
import { createZeroRelation, PAGE_BYTES, PoolGround, relation } from "../pool-ground.js";
import { hit, load } from "../pool-hits.js";
import {
  CACHED,
  DEPTH,
  fioReader,
  fioVerifier,
  nodeReader,
  prewarmer,
  scanner,
  specOf,
} from "../scan-peers.js";
import type { ScanGround } from "../scan-peers.js";
import { runScan, scanCommand } from "../scan-run.js";
import type { BenchContext, Suite } from "../suite.js";
import { withWorkDirectory } from "../work-directory.js";

const BLOCKS = 131_072;
const QUICK_BLOCKS = 1024;
const CACHED_BLOCKS = 16_384;
const CACHED_PASSES = 40;
/** Scans in a row, where fio reads for two seconds. */
const PASSES = 3;
const COLD = "cold: past the page cache (O_DIRECT), or dropped from it; an empty pool";

const STREAM = "pool and stream";

function row(
  spec: Pick<RowSpec, "id" | "name" | "question" | "reference" | "candidate"> & Partial<RowSpec>,
): RowSpec {
  return { unit: "MB/s", judge: "median", cache: COLD, ...spec };
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

const OTHERS = {
  fio: "fio",
  fioOne: "fio, one at a time",
  fioVerifying: "fio, verifying",
  node: "createReadStream",
  unverified: "pool and stream, nothing verified",
  one: "pool and stream, no look-ahead",
  aged: "pool and stream, aged pool",
  scattered: "pool and stream, aged pool, single frames",
  worker: "pool and stream, worker",
} as const;

/** The device's limit, Node's own, and what each part of the design is worth. */
function againstOthers(ground: ScanGround): Group {
  const path = ground.table?.path ?? "";
  const passes = ground.quick ? 1 : PASSES;
  return {
    contestants: [
      fioReader(ground, OTHERS.fio, { path, depth: DEPTH }),
      fioReader(ground, OTHERS.fioOne, { path, depth: 1 }),
      fioVerifier(ground, OTHERS.fioVerifying),
      nodeReader(ground, OTHERS.node),
      scanner(ground, STREAM, { passes }),
      scanner(ground, OTHERS.unverified, { passes, checksums: false }),
      scanner(ground, OTHERS.one, { passes, effectiveIoConcurrency: 0 }),
      scanner(ground, OTHERS.aged, { passes, isAged: true }),
      scanner(ground, OTHERS.scattered, { passes, isAged: true, contiguous: false }),
      scanner(ground, OTHERS.worker, { passes, method: "worker" }),
    ],
    rows: otherRows(),
  };
}

function otherRows(): RowSpec[] {
  return [
    row({
      id: "G8",
      name: "cold scan, against fio",
      question:
        "How near does a scan come to fio with the same blocks, depth and memory, which verifies nothing?",
      reference: OTHERS.fio,
      candidate: STREAM,
      gate: { ratio: 0.9 },
    }),
    row({
      id: "G8",
      name: "cold scan, neither verifies",
      question: "How near does a scan come to fio if it does not verify its pages either?",
      reference: OTHERS.fio,
      candidate: OTHERS.unverified,
      gate: { ratio: 0.9 },
    }),
    row({
      id: "G8",
      name: "cold scan, both verify",
      question: "How near does a scan come to fio if that verifies what it reads too, by a CRC-32C?",
      reference: OTHERS.fioVerifying,
      candidate: STREAM,
      gate: { ratio: 0.9 },
    }),
    row({
      id: "G9",
      name: "cold scan, against createReadStream",
      question: "How fast is a cold relation read, compared with fs.createReadStream of the same file?",
      reference: OTHERS.node,
      candidate: STREAM,
      gate: { ratio: 1.1 },
      goal: { ratio: 1.4 },
    }),
    row({
      id: "LOOK-AHEAD",
      name: "cold scan with 16 I/Os in flight",
      question: "What is looking ahead worth: effective_io_concurrency 16 against 0?",
      reference: OTHERS.one,
      candidate: STREAM,
      gate: { ratio: 3 },
    }),
    row({
      id: "LOOK-AHEAD",
      name: "fio with 16 I/Os in flight",
      question: "What are 16 reads in flight against one worth to this device itself?",
      reference: OTHERS.fioOne,
      candidate: OTHERS.fio,
    }),
    row({
      id: "EXTENTS",
      name: "cold scan into contiguous frames",
      question:
        "What is it worth that a combined read lands in frames that lie side by side, in a pool whose free frames have no order?",
      reference: OTHERS.scattered,
      candidate: OTHERS.aged,
    }),
    row({
      id: "WORKERS",
      name: "cold scan with method worker",
      question: "What does a scan reach where io_uring is not to be had?",
      reference: STREAM,
      candidate: OTHERS.worker,
    }),
  ];
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
    warmUpBlocks: blocks,
    method: "sync",
    direct: false,
    buffers: 8 * CACHED_BLOCKS,
    passes,
    isCached: true,
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
  createZeroRelation(directory, relation(CACHED), CACHED_BLOCKS);
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

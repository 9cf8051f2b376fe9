/**
 * One scan of a relation through pool and stream, in a process of its own: what is asked for, and what came out.
 *
 * A process for each run, as a server would have one, so that its processor time is the scan's. Code has been compiled before, by
 * scans of the same pages through another pool; the pool is empty when the clock starts. Every page is looked at here.
 */
import { BufferManager, BufferPool, segmentedFiles } from "@millrace/buffer-manager";
import type { Relation } from "@millrace/buffer-manager";
import { ReadStream, STREAM_FLAG } from "@millrace/read-stream";

import { runChild } from "./child-run.js";
import type { Sample } from "./contest.js";
import { BenchError } from "./errors.js";
import { ioSamples } from "./io-run.js";
import { PAGE_BYTES } from "./pool-ground.js";

/** First argument of the process that does a scan. */
export const SCAN_RUN_ARGUMENT = "internal-scan-run";
const TIMEOUT_MS = 60_000;
const WARM_UP_PASSES = 3;
/** Frames from one that is emptied to the next; a prime, so that each has its turn. */
const AGE_STRIDE = 7919;

/** What a scan does. */
export interface ScanSpec {
  /** Data directory. */
  readonly directory: string;
  readonly relation: Relation;
  readonly blocks: number;
  /** Blocks that code is warmed up with before, in a pool of its own; at most `blocks`. */
  readonly warmUpBlocks: number;
  readonly method: "io_uring" | "worker" | "sync";
  readonly direct: boolean;
  readonly checksums: boolean;
  readonly buffers: number;
  readonly combineLimit: number;
  readonly effectiveIoConcurrency: number;
  readonly contiguous: boolean;
  /** How often the relation is scanned. With O_DIRECT and a ring every scan is as cold as the first. */
  readonly passes: number;
  /** Whether a scan that is not timed brings all of it into the pool before. */
  readonly isCached: boolean;
  /** Whether pages have been in all frames before, and have left them in no order. */
  readonly isAged: boolean;
}

/** What came of it. */
export interface ScanOutcome {
  readonly blocks: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly checksum: string;
}

function scan(manager: BufferManager, relation: Relation, blocks: number): number {
  let sum = 0;
  const stream = ReadStream.begin(manager, {
    relation,
    flags: STREAM_FLAG.sequential | STREAM_FLAG.useBatching,
    ring: manager.scanRing(blocks),
    next: ReadStream.range(0, blocks),
  });
  let count = 0;
  for (let buffer = stream.next(); buffer !== 0; buffer = stream.next()) {
    const page = manager.page(buffer);
    // A word of the page's items, as whoever scans would touch some.
    sum = (Math.imul(sum, 31) + (page[PAGE_BYTES - 1] as number) + (page[12] as number)) | 0;
    manager.release(buffer);
    count += 1;
  }
  stream.end();
  if (count !== blocks) throw new BenchError("ERR_BENCH_WORK", `${count} blocks came of ${blocks}`);
  return sum;
}

function createPool(spec: ScanSpec): BufferPool {
  return BufferPool.create({
    buffers: spec.buffers,
    backends: 4,
    checksums: spec.checksums,
    combineLimit: spec.combineLimit,
    effectiveIoConcurrency: spec.effectiveIoConcurrency,
    direct: spec.direct,
    contiguous: spec.contiguous,
    aio: { method: spec.method, required: true },
  });
}

function attach(pool: BufferPool, { directory }: ScanSpec): BufferManager {
  return BufferManager.attach(pool.shared, {
    files: segmentedFiles({ directory, isReadOnly: true }),
    mayBlock: true,
  });
}

/** Fills the pool, and empties its frames in no order, as the life of a server does; what is free is then scattered. */
function age(manager: BufferManager, { relation, blocks, buffers }: ScanSpec): void {
  const filled: number[] = [];
  for (let block = 0; block < Math.min(blocks, buffers); block += 1) {
    const buffer = manager.read(relation, block);
    manager.release(buffer);
    filled.push(buffer);
  }
  for (let at = 0; at < filled.length; at += 1)
    manager.evict(filled[(at * AGE_STRIDE) % filled.length] as number);
}

/** Has the code compiled that the scan runs, and the reads under way that it has under way. */
async function warmUp(spec: ScanSpec): Promise<void> {
  await using pool = createPool(spec);
  using manager = attach(pool, spec);
  for (let pass = 0; pass < WARM_UP_PASSES; pass += 1) scan(manager, spec.relation, spec.warmUpBlocks);
}

/** Does a scan in this process. */
export async function doScan(spec: ScanSpec): Promise<ScanOutcome> {
  await warmUp(spec);
  await using pool = createPool(spec);
  using manager = attach(pool, spec);
  let sum = 0;
  if (spec.isAged) age(manager, spec);
  if (spec.isCached) scan(manager, spec.relation, spec.blocks);
  const cpu = process.cpuUsage();
  const start = performance.now();
  for (let pass = 0; pass < spec.passes; pass += 1) sum = scan(manager, spec.relation, spec.blocks);
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    blocks: spec.blocks * spec.passes,
    seconds,
    cpuSeconds: (user + system) / 1e6,
    checksum: (sum >>> 0).toString(16).padStart(8, "0"),
  };
}

/** The command of a scan, for its row. */
export function scanCommand(spec: ScanSpec): string {
  const { method, direct, combineLimit, effectiveIoConcurrency: depth, contiguous, checksums, isAged } = spec;
  return `ReadStream over BufferManager (${[
    `method ${method}`,
    direct ? "O_DIRECT" : "page cache",
    `${(combineLimit * PAGE_BYTES) / 1024} KiB`,
    `concurrency ${depth}`,
    contiguous ? "contiguous frames" : "single frames",
    isAged ? "aged pool" : "fresh pool",
    checksums ? "checksums verified" : "no checksums",
    `${spec.buffers} buffers`,
  ].join(", ")})`;
}

/**
 * Does a scan in a process of its own.
 *
 * @param unit "MB/s", or blocks
 * @throws {BenchError} ERR_BENCH_PROGRAM: it failed or hung
 */
export async function runScan(spec: ScanSpec, unit: "MB/s" | "M blocks/s"): Promise<Sample[]> {
  const outcome = await runChild<ScanOutcome>({
    argument: SCAN_RUN_ARGUMENT,
    spec,
    command: scanCommand(spec),
    timeoutMs: TIMEOUT_MS,
  });
  const { blocks, seconds, cpuSeconds, checksum } = outcome;
  const rate = unit === "MB/s" ? (blocks * PAGE_BYTES) / 1e6 / seconds : blocks / 1e6 / seconds;
  return ioSamples({ rate, coresUsed: cpuSeconds / seconds, checksum, details: {} });
}

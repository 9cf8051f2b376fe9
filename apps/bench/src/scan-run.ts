/**
 * One scan of a relation through pool and stream, in a process of its own: what is asked for, and what came out.
 *
 * A process for each run, as a server would have one, so that its processor time is the scan's; the pool is empty when the clock
 * starts, and code has been compiled on a relation of zeros before. Every page is verified by the pool and looked at here.
 */
import { spawn } from "node:child_process";

import { BufferManager, BufferPool, segmentedFiles } from "@millrace/buffer-manager";
import type { Relation } from "@millrace/buffer-manager";
import { ReadStream, STREAM_FLAG } from "@millrace/read-stream";

import type { Sample } from "./contest.js";
import { BenchError } from "./errors.js";
import { ioSamples } from "./io-run.js";
import { PAGE_BYTES } from "./pool-ground.js";
import { benchProgram } from "./repository.js";

/** First argument of the process that does a scan. */
export const SCAN_RUN_ARGUMENT = "internal-scan-run";
const TIMEOUT_MS = 60_000;
const OUTPUT_KEPT = 4000;

/** What a scan does. */
export interface ScanSpec {
  /** Data directory. */
  readonly directory: string;
  readonly relation: Relation;
  readonly blocks: number;
  /** A relation that code is warmed up with. */
  readonly warmUp: Relation;
  readonly warmUpBlocks: number;
  readonly method: "io_uring" | "worker" | "sync";
  readonly direct: boolean;
  readonly checksums: boolean;
  readonly buffers: number;
  readonly combineLimit: number;
  readonly effectiveIoConcurrency: number;
  readonly contiguous: boolean;
  /** Scan again and again what is in the pool, and time only that; otherwise time the first scan. */
  readonly cachedPasses: number;
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

/** Does a scan in this process. */
export async function doScan(spec: ScanSpec): Promise<ScanOutcome> {
  await using pool = BufferPool.create({
    buffers: spec.buffers,
    backends: 4,
    checksums: spec.checksums,
    combineLimit: spec.combineLimit,
    effectiveIoConcurrency: spec.effectiveIoConcurrency,
    direct: spec.direct,
    contiguous: spec.contiguous,
    aio: { method: spec.method, required: true },
  });
  using manager = BufferManager.attach(pool.shared, {
    files: segmentedFiles({ directory: spec.directory, isReadOnly: true }),
    mayBlock: true,
  });
  for (let pass = 0; pass < 4; pass += 1) scan(manager, spec.warmUp, spec.warmUpBlocks);
  let sum = 0;
  const passes = Math.max(1, spec.cachedPasses);
  if (spec.cachedPasses > 0) scan(manager, spec.relation, spec.blocks);
  const cpu = process.cpuUsage();
  const start = performance.now();
  for (let pass = 0; pass < passes; pass += 1) sum = scan(manager, spec.relation, spec.blocks);
  const seconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  return {
    blocks: spec.blocks * passes,
    seconds,
    cpuSeconds: (user + system) / 1e6,
    checksum: (sum >>> 0).toString(16).padStart(8, "0"),
  };
}

/** The command of a scan, for its row. */
export function scanCommand(spec: ScanSpec): string {
  const { method, direct, combineLimit, effectiveIoConcurrency: depth, contiguous, checksums } = spec;
  return `ReadStream over BufferManager (${[
    `method ${method}`,
    direct ? "O_DIRECT" : "page cache",
    `${(combineLimit * PAGE_BYTES) / 1024} KiB`,
    `concurrency ${depth}`,
    contiguous ? "contiguous frames" : "single frames",
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
  const profiling = process.execArgv.filter((option) => /^--(cpu|heap)-prof/.test(option));
  const child = spawn(
    process.execPath,
    [...profiling, benchProgram(), SCAN_RUN_ARGUMENT, JSON.stringify(spec)],
    { stdio: ["ignore", "pipe", "pipe"], timeout: TIMEOUT_MS, killSignal: "SIGKILL" },
  );
  let [printed, complained] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (printed += chunk.toString("utf8")));
  child.stderr.on("data", (chunk: Buffer) => {
    complained = (complained + chunk.toString("utf8")).slice(-OUTPUT_KEPT);
  });
  const ended = await new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => resolve(code === null ? String(signal) : `code ${code}`));
  });
  const line = printed.split("\n").find((text) => text.startsWith("{"));
  if (line === undefined) {
    throw new BenchError("ERR_BENCH_PROGRAM", `${scanCommand(spec)} ended (${ended}): ${complained}`);
  }
  const { blocks, seconds, cpuSeconds, checksum } = JSON.parse(line) as ScanOutcome;
  const rate = unit === "MB/s" ? (blocks * PAGE_BYTES) / 1e6 / seconds : blocks / 1e6 / seconds;
  return ioSamples({ rate, coresUsed: cpuSeconds / seconds, checksum, details: {} });
}

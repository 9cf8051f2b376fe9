/**
 * One run of I/O in a process of its own: what is asked for, and what comes out.
 */
import { runChild } from "./child-run.js";
import type { Sample } from "./contest.js";

/** First argument of the process that does a run. */
export const IO_RUN_ARGUMENT = "internal-io-run";
/** A run that takes longer than this hangs. */
const TIMEOUT_MS = 30_000;
/** A run that used less than a clock tick can tell used this much. */
const CORES_MIN = 0.001;

/**
 * Who does the I/O. Reads: the callbacks or the promises of an engine, or `fs.promises`. Durable writes of a log, one after
 * the other: an engine's file, `fs.promises`, or a `VirtualFile`. Durable writes of a log by a `WalWriter`: whole pieces, several
 * in flight, or the records of clients who each wait for their commit.
 */
export type IoDriver =
  | "raw"
  | "promise"
  | "fs-promises"
  | "log"
  | "fs-promises-log"
  | "virtual-file-log"
  | "wal-stream"
  | "group-commit";

/** What a run does. */
export interface IoRunSpec {
  readonly driver: IoDriver;
  readonly path: string;
  readonly fileBytes: number;
  readonly blockBytes: number;
  readonly queueDepth: number;
  /** Of "group-commit". */
  readonly clients: number;
  readonly order: "random" | "sequential";
  readonly direct: boolean;
  /** Of an engine. */
  readonly method: "io_uring" | "worker";
  readonly busyPoll: boolean;
  readonly hugePages: boolean;
  /** Measure each I/O's latency; off where the clock itself would be a good part of the work. */
  readonly latencies: boolean;
  readonly warmUpMs: number;
  readonly timedMs: number;
}

/** What a run did while the clock ran. */
export interface IoRunOutcome {
  readonly operations: number;
  readonly seconds: number;
  /** Of the processor, user and system. */
  readonly cpuSeconds: number;
  readonly p50Us: number | undefined;
  readonly p99Us: number | undefined;
  /** Made of what was read; hexadecimal. */
  readonly checksum: string;
  /** What is under the memory that was read into; undefined where nobody can say. */
  readonly hugePageBytes: number | undefined;
}

/** What a spec has unless it says otherwise. */
export const IO_RUN_DEFAULTS = {
  blockBytes: 8192,
  queueDepth: 1,
  clients: 1,
  order: "random",
  direct: true,
  method: "io_uring",
  busyPoll: false,
  hugePages: true,
  latencies: true,
} as const;

/** A run's samples, in this order of measures: operations a second, and operations for each second of processor time. */
export const MEASURE = { rate: 0, perCoreSecond: 1 } as const;

/** Samples of figures that any program may have given. */
export function ioSamples(figures: {
  readonly rate: number;
  readonly coresUsed: number;
  readonly checksum: string;
  readonly details: Readonly<Record<string, number | undefined>>;
}): Sample[] {
  const { rate, checksum } = figures;
  const perCoreSecond = rate / Math.max(figures.coresUsed, CORES_MIN);
  const present = Object.entries(figures.details).filter(([, value]) => value !== undefined);
  const details = Object.fromEntries(present) as Record<string, number>;
  return [
    { rate, checksum, details: { ...details, perCoreSecond } },
    { rate: perCoreSecond, checksum, details: { ...details, coresUsed: figures.coresUsed } },
  ];
}

const NODE_DRIVERS: ReadonlySet<IoDriver> = new Set<IoDriver>(["fs-promises", "fs-promises-log"]);
/** Those that write. */
export const LOG_DRIVERS: ReadonlySet<IoDriver> = new Set<IoDriver>([
  "log",
  "fs-promises-log",
  "virtual-file-log",
  "wal-stream",
  "group-commit",
]);

/** Whether @millrace/aio does the I/O. */
export function isEngineDriver(driver: IoDriver): boolean {
  return !NODE_DRIVERS.has(driver);
}

/** The command of a run, for its row. */
export function ioRunCommand(spec: IoRunSpec): string {
  const isEngine = isEngineDriver(spec.driver);
  const api = {
    raw: "IoFile.readRaw",
    promise: "IoFile.read",
    "fs-promises": "FileHandle.read of node:fs/promises",
    log: "IoFile.write, O_DSYNC",
    "fs-promises-log": "FileHandle.write and datasync of node:fs/promises",
    "virtual-file-log": "VirtualFile.writeAllAt and sync",
    "wal-stream": "WalWriter.start and flushAsync, O_DSYNC",
    "group-commit": `WalWriter.start and flushAsync, O_DSYNC, one flush in flight; ${spec.clients} clients with records of 256 bytes`,
  }[spec.driver];
  const parts = [
    ...(isEngine ? [`method ${spec.method}`] : []),
    ...(isEngine && spec.busyPoll ? ["busyPoll"] : []),
    spec.direct ? "O_DIRECT" : "page cache",
    `${spec.driver === "group-commit" ? "pages of " : ""}${spec.blockBytes / 1024} KiB`,
    ...(spec.driver === "group-commit" ? [] : [`QD${spec.queueDepth}`]),
    ...(spec.hugePages || !isEngine ? [] : ["4 KiB pages"]),
  ];
  return `${api} (${parts.join(", ")})`;
}

/**
 * Does a run in a process of its own.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM: it failed or hung
 */
export async function runIoProcess(spec: IoRunSpec): Promise<IoRunOutcome> {
  return await runChild({
    argument: IO_RUN_ARGUMENT,
    spec,
    command: ioRunCommand(spec),
    timeoutMs: TIMEOUT_MS,
  });
}

/** The samples of a run. */
export function samplesOfRun(outcome: IoRunOutcome): Sample[] {
  const { operations, seconds, cpuSeconds, p50Us, p99Us, checksum } = outcome;
  return ioSamples({
    rate: operations / seconds,
    coresUsed: cpuSeconds / seconds,
    checksum,
    details: { p50Us, p99Us, hugePageMiB: outcome.hugePageBytes && outcome.hugePageBytes / 2 ** 20 },
  });
}

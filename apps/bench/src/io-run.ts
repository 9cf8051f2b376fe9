/**
 * One run of I/O in a process of its own: what is asked for, what comes out, and how it is started.
 *
 * A process for each run, as fio has one: the processor time of the process, kernel workers of its ring included, is
 * then the run's and nobody else's. The program is this one, called with a first argument that no user needs; what it is
 * to do and what it did travel as JSON.
 */
import { spawn } from "node:child_process";

import type { Sample } from "./contest.js";
import { BenchError } from "./errors.js";
import { benchProgram } from "./repository.js";

/** First argument of the process that does a run. */
export const IO_RUN_ARGUMENT = "internal-io-run";
/** A run that takes longer than this hangs. */
const TIMEOUT_MS = 30_000;
const OUTPUT_KEPT = 4000;
/** A run that used less than a clock tick can tell used this much. */
const CORES_MIN = 0.001;

/**
 * Who does the I/O: the callbacks or the promises of an engine, or `fs.promises`; reads, or durable writes of a log one
 * after the other.
 */
export type IoDriver = "raw" | "promise" | "fs-promises" | "log" | "fs-promises-log";

/** What a run does. */
export interface IoRunSpec {
  readonly driver: IoDriver;
  readonly path: string;
  readonly fileBytes: number;
  readonly blockBytes: number;
  readonly queueDepth: number;
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

/** The command of a run, for its row. */
export function ioRunCommand(spec: IoRunSpec): string {
  const flags = [
    spec.direct ? "O_DIRECT" : "page cache",
    `${spec.blockBytes / 1024} KiB`,
    `QD${spec.queueDepth}`,
  ];
  const api = {
    raw: "IoFile.readRaw",
    promise: "IoFile.read",
    "fs-promises": "FileHandle.read of node:fs/promises",
    log: "IoFile.write, O_DSYNC",
    "fs-promises-log": "FileHandle.write and datasync of node:fs/promises",
  }[spec.driver];
  const isNode = spec.driver === "fs-promises" || spec.driver === "fs-promises-log";
  const method = isNode ? [] : [`method ${spec.method}`, ...(spec.busyPoll ? ["busyPoll"] : [])];
  return `${api} (${[...method, ...flags, ...(spec.hugePages || isNode ? [] : ["4 KiB pages"])].join(", ")})`;
}

/**
 * Does a run in a process of its own.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM: it failed or hung
 */
export async function runIoProcess(spec: IoRunSpec): Promise<IoRunOutcome> {
  const profiling = process.execArgv.filter((option) => /^--(cpu|heap)-prof/.test(option));
  const child = spawn(
    process.execPath,
    [...profiling, benchProgram(), IO_RUN_ARGUMENT, JSON.stringify(spec)],
    {
      stdio: ["ignore", "pipe", "pipe"],
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL",
    },
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
  // What has printed its result has done its work, however it ended.
  const line = printed.split("\n").find((text) => text.startsWith("{"));
  if (line === undefined) {
    throw new BenchError("ERR_BENCH_PROGRAM", `${ioRunCommand(spec)} ended (${ended}): ${complained}`);
  }
  return JSON.parse(line) as IoRunOutcome;
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

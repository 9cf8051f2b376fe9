/**
 * fio, the reference for block I/O: the same job as a candidate's, and its figures out of its JSON.
 *
 * Jobs run against the file that is there; they must neither create nor extend nor truncate one. What is not said below
 * is fio's default. Where fio's clocks would be a good part of the work they are reduced, as its authors advise.
 */
import { spawnSync } from "node:child_process";

import type { Sample } from "./contest.js";
import { BenchError } from "./errors.js";
import { ioSamples } from "./io-run.js";

const TIMEOUT_MS = 30_000;
const OUTPUT_MAX_BYTES = 16 * 1024 * 1024;

/** What to do where there is none. */
export const FIO_HINT = "fio is not installed (for example apt-get install fio)";

/** A job. */
export interface FioJob {
  readonly path: string;
  readonly fileBytes: number;
  /** Options without the leading dashes, such as "iodepth=32". */
  readonly options: readonly string[];
  readonly warmUpMs: number;
  readonly timedMs: number;
}

/** fio's version, such as "fio-3.33"; undefined where it is not installed. */
export function fioVersion(): string | undefined {
  const { status, stdout } = spawnSync("fio", ["--version"], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : undefined;
}

/** The command that a job is, but for the file and the time. */
export function fioCommand(job: FioJob): string {
  return `fio ${job.options.map((option) => `--${option}`).join(" ")}`;
}

interface FioSide {
  readonly iops: number;
  readonly total_ios: number;
  readonly clat_ns?: { readonly percentile?: Readonly<Record<string, number>> };
}

interface FioReport {
  readonly jobs?: readonly {
    readonly error: number;
    readonly usr_cpu: number;
    readonly sys_cpu: number;
    readonly read: FioSide;
    readonly write: FioSide;
  }[];
}

/**
 * The figures in fio's JSON: one entry, jobs are reported as a group.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM: that is not fio's JSON, or its job failed
 */
export function parseFio(output: string): Sample[] {
  // Notes of fio may stand before the JSON.
  const start = output.indexOf("{");
  let report: FioReport;
  try {
    report = JSON.parse(output.slice(Math.max(0, start))) as FioReport;
  } catch (cause) {
    throw new BenchError("ERR_BENCH_PROGRAM", `fio printed no JSON: ${output.slice(0, 200)}`, { cause });
  }
  const job = report.jobs?.[0];
  if (job === undefined || job.error !== 0) {
    throw new BenchError("ERR_BENCH_PROGRAM", `fio's job failed: errno ${job?.error ?? "unknown"}`);
  }
  const side = job.read.total_ios > 0 ? job.read : job.write;
  const percentiles = side.clat_ns?.percentile;
  const us = (rank: string): number | undefined => {
    const ns = percentiles?.[rank];
    return ns === undefined || ns === 0 ? undefined : ns / 1000;
  };
  return ioSamples({
    rate: side.iops,
    coresUsed: (job.usr_cpu + job.sys_cpu) / 100,
    checksum: `${side.total_ios} I/Os`,
    details: { p50Us: us("50.000000"), p99Us: us("99.000000") },
  });
}

/**
 * Runs a job.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM
 */
export function runFio(job: FioJob): Sample[] {
  const { path, fileBytes, options, warmUpMs, timedMs } = job;
  const { status, stdout, stderr } = spawnSync(
    "fio",
    [
      "--name=bench",
      `--filename=${path}`,
      `--size=${fileBytes}`,
      "--allow_file_create=0",
      "--time_based",
      `--runtime=${timedMs}ms`,
      ...(warmUpMs > 0 ? [`--ramp_time=${warmUpMs}ms`] : []),
      "--group_reporting",
      "--output-format=json",
      ...options.map((option) => `--${option}`),
    ],
    { encoding: "utf8", timeout: TIMEOUT_MS, killSignal: "SIGKILL", maxBuffer: OUTPUT_MAX_BYTES },
  );
  if (status !== 0) {
    throw new BenchError("ERR_BENCH_PROGRAM", `${fioCommand(job)} ended (${status}): ${stderr || stdout}`);
  }
  return parseFio(stdout);
}

/**
 * Has fio write a file, once.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM
 */
export function writeWithFio({
  path,
  fileBytes,
  options,
}: Pick<FioJob, "path" | "fileBytes" | "options">): void {
  const { status, stderr } = spawnSync(
    "fio",
    ["--name=fill", `--filename=${path}`, `--size=${fileBytes}`, ...options.map((option) => `--${option}`)],
    { encoding: "utf8", timeout: TIMEOUT_MS, killSignal: "SIGKILL", maxBuffer: OUTPUT_MAX_BYTES },
  );
  if (status !== 0) throw new BenchError("ERR_BENCH_PROGRAM", `fio could not write a file: ${stderr}`);
}

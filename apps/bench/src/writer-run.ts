/**
 * One file written from beginning to end in small pieces, in a process of its own: what is asked for, and what came out.
 *
 * The clock stops twice: when the kernel has everything, and when everything is durable. Then, before anybody reads the file,
 * `fincore` says how much of it is in the page cache; then all of it is read and compared with what it has to be. A file that
 * is overwritten is zeros before, so that bytes which were never written are noticed.
 */
import { spawnSync } from "node:child_process";
import { closeSync, fsyncSync, openSync, readSync, rmSync, statSync, writeSync } from "node:fs";

import { Crc32c } from "@millrace/checksums";

import { runChild } from "./child-run.js";
import type { Sample } from "./contest.js";
import { BenchError } from "./errors.js";
import { makeCold } from "./prewarm.js";
import { pseudoRandomBytes } from "./pseudo-random.js";

/** First argument of the process that writes. */
export const WRITER_RUN_ARGUMENT = "internal-writer-run";
const TIMEOUT_MS = 60_000;
/**
 * Bytes after which the content repeats: a multiple of every piece, and none of a buffer, so that two buffers that changed
 * places are noticed.
 */
const SOURCE_BYTES: number = 17 * 64 * 1024;
const READ_BYTES: number = 1024 * 1024;
const MB = 1e6;
/** A share of nothing is no rate: it counts as one percent. */
const PERCENT_MIN = 1;

/** Who writes. */
export type WriterDriver = "buffered-writer" | "createWriteStream" | "sonic-boom";

/** What a run does. */
export interface WriterRunSpec {
  readonly driver: WriterDriver;
  readonly path: string;
  readonly totalBytes: number;
  readonly warmUpBytes: number;
  /** Of each write. */
  readonly chunkBytes: number;
  /** Capacity of a buffer; highWaterMark; minLength. */
  readonly bufferBytes: number;
  /** Of `BufferedWriter`. */
  readonly queueDepth: number;
  /** The file is there, as long as it will be, and is overwritten. */
  readonly preallocated: boolean;
}

/** What came of it. */
export interface WriterRunOutcome {
  /** Until the kernel had everything, and until everything was durable. */
  readonly writtenMs: number;
  readonly durableMs: number;
  readonly cpuMs: number;
}

/** A run's samples, in this order of measures. */
export const WRITER_MEASURE = { durable: 0, written: 1, perCoreSecond: 2, pastPageCache: 3 } as const;

/** The pieces, to be written over and over. */
export function cutSource(chunkBytes: number): Buffer[] {
  const source = Buffer.from(pseudoRandomBytes(SOURCE_BYTES).buffer);
  return Array.from({ length: SOURCE_BYTES / chunkBytes }, (_, index) =>
    source.subarray(index * chunkBytes, (index + 1) * chunkBytes),
  );
}

/** CRC-32C of the file that a run has to leave. */
function expectedChecksum(totalBytes: number): number {
  const checksum = new Crc32c();
  const pieces = cutSource(SOURCE_BYTES);
  for (let left = totalBytes; left > 0; left -= SOURCE_BYTES) {
    for (const piece of pieces) checksum.update(piece.subarray(0, Math.min(left, SOURCE_BYTES)));
  }
  return checksum.digest();
}

function checksumOfFile(path: string): number {
  const checksum = new Crc32c();
  const piece = new Uint8Array(READ_BYTES);
  const fd = openSync(path, "r");
  try {
    for (let count = readSync(fd, piece); count > 0; count = readSync(fd, piece))
      checksum.update(piece.subarray(0, count));
  } finally {
    closeSync(fd);
  }
  return checksum.digest();
}

/** Makes a file of written zeros. */
function preallocate(path: string, bytes: number): void {
  const zeros = new Uint8Array(READ_BYTES);
  const fd = openSync(path, "w");
  try {
    for (let at = 0; at < bytes; at += zeros.length)
      writeSync(fd, zeros, 0, Math.min(zeros.length, bytes - at), at);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Why the page cache cannot be looked at here; undefined if it can. */
export function fincoreProblem(): string | undefined {
  const { status } = spawnSync("fincore", ["--version"]);
  return status === 0 ? undefined : "fincore is not installed (util-linux)";
}

/** Bytes of a file that are in the page cache; undefined where nobody can say. */
export function cachedBytes(path: string): number | undefined {
  const args = ["--bytes", "--noheadings", "--raw", "--output", "RES", path];
  const { status, stdout } = spawnSync("fincore", args, { encoding: "utf8" });
  return status === 0 ? Number(stdout.trim()) : undefined;
}

/** The command of a run, for its row. */
export function writerRunCommand(spec: WriterRunSpec): string {
  const buffer = `${spec.bufferBytes / 1024} KiB`;
  const file = spec.preallocated ? "preallocated file" : "new file";
  const command = {
    "buffered-writer": `BufferedWriter (${spec.queueDepth + 1} × ${buffer}, O_DIRECT): tryWrite, else await write`,
    createWriteStream: `fs.createWriteStream (highWaterMark ${buffer}): write, else await drain`,
    "sonic-boom": `sonic-boom (sync, contentMode buffer, minLength ${buffer}): write`,
  }[spec.driver];
  return `${command}; ${file}, fdatasync at the end`;
}

/**
 * Does a run in a process of its own, looks at the page cache, and compares all of the file.
 *
 * @throws {BenchError} ERR_BENCH_PROGRAM: it failed or hung; ERR_BENCH_WORK: the file is not what it has to be
 */
export async function runWriter(spec: WriterRunSpec): Promise<Sample[]> {
  const { path, totalBytes } = spec;
  rmSync(path, { force: true });
  if (spec.preallocated) {
    preallocate(path, totalBytes);
    // Whoever goes through the page cache finds the file there, which is best for him; who does not, does not.
    if (spec.driver === "buffered-writer") makeCold(path);
  }
  try {
    const { writtenMs, durableMs, cpuMs } = await runChild<WriterRunOutcome>({
      argument: WRITER_RUN_ARGUMENT,
      spec,
      command: writerRunCommand(spec),
      timeoutMs: TIMEOUT_MS,
    });
    const cached = cachedBytes(path);
    const found = checksumOfFile(path);
    if (statSync(path).size !== totalBytes || found !== expectedChecksum(totalBytes))
      throw new BenchError("ERR_BENCH_WORK", `${writerRunCommand(spec)} left another file`);
    const checksum = (found >>> 0).toString(16).padStart(8, "0");
    const megabytes = totalBytes / MB;
    const perCoreSecond = megabytes / (cpuMs / 1000);
    const pastPageCache = 100 * (1 - (cached ?? totalBytes) / totalBytes);
    const details = { perCoreSecond, ...(cached === undefined ? {} : { cachedMiB: cached / 2 ** 20 }) };
    const rates = [
      (megabytes / durableMs) * 1000,
      (megabytes / writtenMs) * 1000,
      perCoreSecond,
      Math.max(pastPageCache, PERCENT_MIN),
    ];
    return rates.map((rate) => ({ rate, checksum, details }));
  } finally {
    rmSync(path, { force: true });
  }
}

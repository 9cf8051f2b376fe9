/**
 * Who takes part in the suites of block I/O: fio's jobs and this program's runs, on the files of one work directory.
 */
import { closeSync, constants, openSync, rmSync } from "node:fs";
import { join } from "node:path";

import { probeUring } from "@millrace/io-uring";

import type { MaybeContestant } from "../available.js";
import { FIO_HINT, fioCommand, fioVersion, runFio } from "../fio.js";
import { reserveHugePages } from "../huge-pages.js";
import {
  IO_RUN_DEFAULTS,
  ioRunCommand,
  isEngineDriver,
  LOG_DRIVERS,
  runIoProcess,
  samplesOfRun,
} from "../io-run.js";
import type { IoRunSpec } from "../io-run.js";
import { warmPageCache, writeNumberedFile } from "../numbered-file.js";

const MIB: number = 2 ** 20;

/** How much is done. */
interface Sizes {
  readonly fileBytes: number;
  readonly logBytes: number;
  readonly warmUpMs: number;
  readonly timedMs: number;
}

const FULL: Sizes = { fileBytes: 1024 * MIB, logBytes: 64 * MIB, warmUpMs: 1000, timedMs: 2000 };
const QUICK: Sizes = { fileBytes: 16 * MIB, logBytes: 4 * MIB, warmUpMs: 20, timedMs: 60 };

/** Files and programs of a suite, and what is missing. Disposing gives back what was taken from the machine. */
export interface Ground extends Disposable {
  readonly quick: boolean;
  /** What is read. */
  readonly path: string;
  /** What is overwritten. */
  readonly logPath: string;
  readonly sizes: Sizes;
  readonly fio: string | undefined;
  readonly missing: {
    readonly uring: string | undefined;
    readonly direct: string | undefined;
    readonly hugePages: string | undefined;
  };
}

/** Why there is no direct I/O in a directory; undefined if there is. */
export function directProblem(directory: string): string | undefined {
  const path = join(directory, "direct");
  try {
    closeSync(openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT));
    rmSync(path);
    return undefined;
  } catch (error) {
    return `no direct I/O in this directory: ${error instanceof Error ? error.message : String(error)}`;
  }
}

/**
 * Makes the files, and looks for what is needed.
 *
 * @param files which of them
 */
export function prepareGround(
  directory: string,
  quick: boolean,
  files: readonly ("blocks" | "log")[] = ["blocks", "log"],
): Ground {
  const sizes = quick ? QUICK : FULL;
  const [path, logPath] = [join(directory, "blocks"), join(directory, "log")];
  if (files.includes("blocks")) writeNumberedFile(path, sizes.fileBytes);
  if (files.includes("log")) writeNumberedFile(logPath, sizes.logBytes);
  const uring = probeUring();
  const hugePages = reserveHugePages(!quick);
  return {
    quick,
    path,
    logPath,
    sizes,
    fio: fioVersion(),
    missing: {
      uring: uring.available ? undefined : `no io_uring here: ${uring.reason ?? uring.code ?? "unknown"}`,
      direct: directProblem(directory),
      hugePages: hugePages.refused,
    },
    [Symbol.dispose]: () => hugePages[Symbol.dispose](),
  };
}

/** A run of this program. */
export function ioRun(
  ground: Ground,
  name: string,
  wish: Partial<IoRunSpec> & Pick<IoRunSpec, "driver">,
): MaybeContestant {
  const { path, logPath, sizes, missing } = ground;
  const { warmUpMs, timedMs } = sizes;
  const file = LOG_DRIVERS.has(wish.driver)
    ? { path: logPath, fileBytes: sizes.logBytes }
    : { path, fileBytes: sizes.fileBytes };
  const spec: IoRunSpec = { ...IO_RUN_DEFAULTS, ...file, warmUpMs, timedMs, ...wish };
  return {
    name,
    command: ioRunCommand(spec),
    missing:
      (isEngineDriver(spec.driver) && spec.method === "io_uring" ? missing.uring : undefined) ??
      (spec.direct ? missing.direct : undefined),
    async run() {
      if (!spec.direct) warmPageCache(spec.path);
      return samplesOfRun(await runIoProcess(spec));
    },
  };
}

/** A job of fio's. */
export function fioRun(
  ground: Ground,
  name: string,
  options: readonly string[],
  file: "blocks" | "log" = "blocks",
): MaybeContestant {
  const { path, logPath, sizes, missing } = ground;
  const { warmUpMs, timedMs } = sizes;
  const [target, fileBytes] = file === "log" ? [logPath, sizes.logBytes] : [path, sizes.fileBytes];
  const job = { path: target, fileBytes, options, warmUpMs, timedMs };
  const has = (option: string): boolean => options.includes(option);
  return {
    name,
    command: `${ground.fio ?? "fio"}: ${fioCommand(job)}`,
    missing:
      (ground.fio === undefined ? FIO_HINT : undefined) ??
      (has("ioengine=io_uring") ? missing.uring : undefined) ??
      (has("direct=1") ? missing.direct : undefined) ??
      (has("iomem=shmhuge") ? missing.hugePages : undefined),
    run() {
      if (!has("direct=1")) warmPageCache(target);
      return runFio(job);
    },
  };
}

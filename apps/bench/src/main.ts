#!/usr/bin/env node
/**
 * The entry of `npm run bench`: every suite, the real output, and the exit code.
 *
 * Suites are listed here, cheapest first, so that a defect in the frame shows early. The process is ended explicitly:
 * results are on disk and printed by then, and nothing that a suite forgot may keep it alive.
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";

import { doChannel, isChannelOrder } from "./channel-threads.js";
import { runBench, EXIT } from "./cli.js";
import { doIoRun } from "./io-run-child.js";
import { IO_RUN_ARGUMENT } from "./io-run.js";
import type { IoRunSpec } from "./io-run.js";
import { doHits, isHitOrder } from "./pool-threads.js";
import { doScan, SCAN_RUN_ARGUMENT } from "./scan-run.js";
import type { ScanSpec } from "./scan-run.js";
import { SUITES } from "./suites/all.js";
import { doWriterRun } from "./writer-run-child.js";
import { WRITER_RUN_ARGUMENT } from "./writer-run.js";
import type { WriterRunSpec } from "./writer-run.js";

const output = {
  print: (line: string): void => void process.stdout.write(`${line}\n`),
  progress: (line: string): void => void process.stderr.write(`${line}\n`),
};

/** Runs that another instance of this program wants done in a process of their own. */
const CHILD_RUNS = new Map<string, (spec: unknown) => Promise<unknown>>([
  [IO_RUN_ARGUMENT, (spec) => doIoRun(spec as IoRunSpec)],
  [SCAN_RUN_ARGUMENT, (spec) => doScan(spec as ScanSpec)],
  [WRITER_RUN_ARGUMENT, (spec) => doWriterRun(spec as WriterRunSpec)],
]);

/** The whole program, or one such run. */
async function main(argv: readonly string[]): Promise<number> {
  const [first = "", spec = ""] = argv;
  const childRun = CHILD_RUNS.get(first);
  if (childRun === undefined) return await runBench(argv, SUITES, output);
  output.print(JSON.stringify(await childRun(JSON.parse(spec))));
  return EXIT.ok;
}

if (isMainThread) {
  main(process.argv.slice(2)).then(
    (code) => process.exit(code),
    (error: unknown) => {
      process.stderr.write(
        `bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
      );
      process.exit(EXIT.couldNotRun);
    },
  );
} else if (isHitOrder(workerData)) {
  // A thread of a suite that wants more than one.
  parentPort?.postMessage(doHits(workerData));
} else if (isChannelOrder(workerData)) {
  void doChannel(workerData);
}

#!/usr/bin/env node
/**
 * The entry of `npm run bench`: every suite, the real output, and the exit code.
 *
 * Suites are listed here, cheapest first, so that a defect in the frame shows early. The process is ended explicitly:
 * results are on disk and printed by then, and nothing that a suite forgot may keep it alive.
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";

import { runBench, EXIT } from "./cli.js";
import { doIoRun } from "./io-run-child.js";
import { IO_RUN_ARGUMENT } from "./io-run.js";
import type { IoRunSpec } from "./io-run.js";
import { doHits, isHitOrder } from "./pool-threads.js";
import { doScan, SCAN_RUN_ARGUMENT } from "./scan-run.js";
import type { ScanSpec } from "./scan-run.js";
import { SUITES } from "./suites/all.js";

const output = {
  print: (line: string): void => void process.stdout.write(`${line}\n`),
  progress: (line: string): void => void process.stderr.write(`${line}\n`),
};

/** The whole program, or the one run of I/O that another instance of it wants done in a process of its own. */
async function main(argv: readonly string[]): Promise<number> {
  const [first, spec = ""] = argv;
  if (first === IO_RUN_ARGUMENT) {
    output.print(JSON.stringify(await doIoRun(JSON.parse(spec) as IoRunSpec)));
  } else if (first === SCAN_RUN_ARGUMENT) {
    output.print(JSON.stringify(await doScan(JSON.parse(spec) as ScanSpec)));
  } else {
    return await runBench(argv, SUITES, output);
  }
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
}

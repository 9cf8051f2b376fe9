#!/usr/bin/env node
/**
 * The entry of `npm run bench`: every suite, the real output, and the exit code.
 *
 * Suites are listed here, cheapest first, so that a defect in the frame shows early. The process is ended explicitly:
 * results are on disk and printed by then, and nothing that a suite forgot may keep it alive.
 */
import { runBench, EXIT } from "./cli.js";
import { SUITES } from "./suites/all.js";

const output = {
  print: (line: string): void => void process.stdout.write(`${line}\n`),
  progress: (line: string): void => void process.stderr.write(`${line}\n`),
};

runBench(process.argv.slice(2), SUITES, output).then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(
      `bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    process.exit(EXIT.couldNotRun);
  },
);

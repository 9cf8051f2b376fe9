/**
 * The program: reads the command line, runs the suites one after the other, prints, writes the results.
 *
 * Suites never run side by side: they would measure each other. Results go to standard output, progress to standard
 * error. The file is written after every suite, so that an interrupted run leaves what it has.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, resolve } from "node:path";

import { parseArguments, usage } from "./arguments.js";
import { BenchError } from "./errors.js";
import { describeMachine } from "./machine.js";
import { repositoryRoot } from "./repository.js";
import { formatMachine, formatSuite } from "./report.js";
import { failedRows, serializeResults } from "./results.js";
import type { Results } from "./results.js";
import type { SuiteResult } from "./row.js";
import type { Suite } from "./suite.js";

/** What the exit code means; 64 is sysexits' EX_USAGE. */
export const EXIT = { ok: 0, gateMissed: 1, couldNotRun: 2, usage: 64 } as const;

/** Where text goes, a line at a time. */
export interface Output {
  readonly print: (line: string) => void;
  readonly progress: (line: string) => void;
}

async function runSuite(suite: Suite, context: Parameters<Suite["run"]>[0]): Promise<SuiteResult> {
  const { name, question } = suite;
  return { name, question, ...(await suite.run(context)) };
}

/**
 * Runs the program.
 *
 * @param argv what follows the script's name
 * @returns the exit code: 0, 1 when a gate is missed, 64 for a wrong command line
 * @throws whatever a suite throws; what was measured before is in the file
 */
export async function runBench(
  argv: readonly string[],
  suites: readonly Suite[],
  output: Output,
): Promise<number> {
  let options;
  try {
    options = parseArguments(
      argv,
      suites.map(({ name }) => name),
    );
  } catch (error) {
    if (!(error instanceof BenchError) || error.code !== "ERR_BENCH_USAGE") throw error;
    output.progress(`${error.message}\n\n${usage(suites)}`);
    return EXIT.usage;
  }
  if (options.help) {
    output.print(usage(suites));
    return EXIT.ok;
  }
  const { json, quick, rounds } = options;
  const directory = resolve(options.directory ?? tmpdir());
  mkdirSync(directory, { recursive: true });
  if (json !== undefined) mkdirSync(dirname(resolve(json)), { recursive: true });
  const machine = describeMachine(directory, repositoryRoot());
  output.print(formatMachine(machine));
  output.print("");
  let results: Results = { machine, suites: [] };
  for (const suite of suites.filter(({ name }) => options.suites.includes(name))) {
    const log = (line: string): void => output.progress(`${suite.name}: ${line}`);
    const result = await runSuite(suite, { quick, rounds, directory, log });
    results = { machine, suites: [...results.suites, result] };
    for (const line of formatSuite(result)) output.print(line);
    if (json !== undefined) writeFileSync(json, serializeResults(results));
  }
  const failed = quick ? [] : failedRows(results);
  for (const name of failed) output.print(`gate missed: ${name}`);
  return failed.length === 0 ? EXIT.ok : EXIT.gateMissed;
}

/**
 * The command line of `npm run bench`. Pure: text in, options out.
 */
import { parseArgs } from "node:util";

import { BenchError } from "./errors.js";
import { ROUNDS_DEFAULT } from "./suite.js";

/** More rounds than this take hours. */
const ROUNDS_MAX = 1000;

/** What the command line asks for. */
export interface BenchArguments {
  /** Names of suites in the order given; every suite when none is named. */
  readonly suites: readonly string[];
  readonly json: string | undefined;
  readonly quick: boolean;
  readonly rounds: number;
  readonly directory: string | undefined;
  readonly help: boolean;
}

/** What `--help` prints. */
export function usage(suites: readonly { readonly name: string; readonly question: string }[]): string {
  const width = Math.max(0, ...suites.map(({ name }) => name.length));
  return [
    "npm run bench -- [suite…] [--json FILE] [--quick] [--rounds N] [--directory DIR]",
    "",
    ...suites.map(({ name, question }) => `  ${name.padEnd(width)}  ${question}`),
    "",
    "  --json FILE      write the results there as JSON",
    "  --quick          smoke sizes: runs in seconds, judges nothing",
    `  --rounds N       rounds of reference and candidates, alternating (default: ${ROUNDS_DEFAULT}, with --quick 1)`,
    "  --directory DIR  where files are written, and so which device is measured (default: the system's temporary one)",
    "",
    "Without a suite all of them run. The exit code is 1 when a gate is missed, 2 when a suite could not be run.",
  ].join("\n");
}

/**
 * Reads the arguments behind the script's name.
 *
 * @param known names of the suites there are
 * @throws {BenchError} ERR_BENCH_USAGE
 */
export function parseArguments(argv: readonly string[], known: readonly string[]): BenchArguments {
  let parsed;
  try {
    parsed = parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        json: { type: "string" },
        quick: { type: "boolean", default: false },
        rounds: { type: "string" },
        directory: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (cause) {
    throw new BenchError("ERR_BENCH_USAGE", cause instanceof Error ? cause.message : String(cause), {
      cause,
    });
  }
  const { values, positionals } = parsed;
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    throw new BenchError("ERR_BENCH_USAGE", `no suite is named ${unknown}; there are ${known.join(", ")}`);
  }
  const rounds = values.rounds === undefined ? (values.quick ? 1 : ROUNDS_DEFAULT) : Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > ROUNDS_MAX) {
    throw new BenchError("ERR_BENCH_USAGE", `--rounds must be 1 to ${ROUNDS_MAX}, not ${values.rounds}`);
  }
  return {
    suites: positionals.length === 0 ? known : [...new Set(positionals)],
    json: values.json,
    quick: values.quick,
    rounds,
    directory: values.directory,
    help: values.help,
  };
}

#!/usr/bin/env node
/**
 * The command: many seeds with a report, one seed with its trace, or the list of mutations.
 *
 * Exit status 0 means that everything held and enough was reached; 1 that something did not; 2 a wrong command line.
 */
import { parseArgs } from "node:util";
import { buildMutant } from "./mutations/mutant.js";
import type { Mutation } from "./mutations/mutant.js";
import { MUTATIONS } from "./mutations/list.js";
import type { Plan } from "./plan.js";
import { describeFailure, describePlan, describeSet, isGood } from "./report.js";
import { runSeed, runSeeds } from "./runner.js";
import { shorten } from "./shrink.js";
import type { RunResult } from "./simulate.js";

const USAGE = `usage: npm run simulate -- [--seeds N] [--first N]     many seeds (default 500), with a report
                             --seed N [--trace]           one seed
                             … [--acceptors N]            the same with 3 or 5 acceptors in every run
                             --mutations [--only a,b]     wrong cores, each of which must be found
`;

/** A mutation that is not found by then has escaped. */
const MUTATION_SEEDS = 3000;

interface Arguments {
  readonly seeds: number;
  readonly first: number;
  readonly seed: number | undefined;
  readonly trace: boolean;
  /** Laid over every schedule. */
  readonly change: Partial<Plan>;
  readonly mutations: boolean;
  readonly only: readonly string[] | undefined;
}

function print(...lines: readonly string[]): void {
  process.stdout.write(`${lines.join("\n")}\n`);
}

function readArguments(): Arguments | undefined {
  try {
    const { values } = parseArgs({
      options: {
        seeds: { type: "string", default: "" },
        first: { type: "string", default: "1" },
        seed: { type: "string" },
        trace: { type: "boolean", default: false },
        mutations: { type: "boolean", default: false },
        only: { type: "string" },
        acceptors: { type: "string" },
      },
    });
    const seeds = Number(values.seeds === "" ? (values.mutations ? MUTATION_SEEDS : 500) : values.seeds);
    const first = Number(values.first);
    const seed = values.seed === undefined ? undefined : Number(values.seed);
    if (![seeds, first, seed ?? 0].every((value) => Number.isSafeInteger(value) && value >= 0))
      return undefined;
    const { trace, mutations, acceptors } = values;
    if (acceptors !== undefined && acceptors !== "3" && acceptors !== "5") return undefined;
    const change = acceptors === undefined ? {} : { acceptors: Number(acceptors) };
    return { seeds, first, seed, trace, change, mutations, only: values.only?.split(",") };
  } catch {
    return undefined;
  }
}

async function runOne({ trace, change }: Arguments, seed: number): Promise<boolean> {
  const listener = trace ? (line: string): void => print(line) : undefined;
  const result = await runSeed(seed, listener, (plan) => ({ ...plan, ...change }));
  print(`seed ${String(seed)}:`, ...describePlan(result.plan), ...describeFailure(result));
  if (result.violation !== undefined) await printShortened(result);
  return result.violation === undefined;
}

async function printShortened(failure: RunResult): Promise<void> {
  const { result, attempts } = await shorten(failure);
  print(
    `shortened in ${String(attempts)} attempts to:`,
    ...describePlan(result.plan),
    ...describeFailure(result),
  );
}

async function runMany({ first, seeds, change }: Arguments): Promise<boolean> {
  const startedMs = performance.now();
  const set = await runSeeds({ firstSeed: first, seeds, change, onProgress: progress(seeds) });
  const seconds = (performance.now() - startedMs) / 1000;
  print(...describeSet(set), "", `${(set.runs / seconds).toFixed(1)} seeds a second`);
  for (const failure of set.failures) print("", ...describeFailure(failure));
  const [worst] = set.failures;
  if (worst !== undefined) await printShortened(worst);
  print("", isGood(set) ? "everything held" : "FAILED");
  return isGood(set);
}

function progress(seeds: number): (done: number) => void {
  return (done) => {
    if (done % 500 === 0 && done < seeds) print(`… ${String(done)} of ${String(seeds)}`);
  };
}

async function runMutations({ first, seeds, only }: Arguments): Promise<boolean> {
  const chosen = MUTATIONS.filter(({ name }) => only?.includes(name) ?? true);
  let escaped = 0;
  for (const mutation of chosen) if (!(await isFound(mutation, first, seeds))) escaped += 1;
  print("", `${String(chosen.length - escaped)} of ${String(chosen.length)} mutations found`);
  return escaped === 0 && chosen.length > 0;
}

async function isFound(mutation: Mutation, first: number, seeds: number): Promise<boolean> {
  const mutant = await buildMutant(mutation);
  const { runs, failures } = await mutant.runSeeds({ firstSeed: first, seeds, stopAtFailure: true });
  const [failure] = failures;
  const outcome =
    failure?.violation === undefined
      ? "ESCAPED"
      : `seed ${String(failure.plan.seed)}: ${failure.violation.invariant}`;
  print(`  ${mutation.name.padEnd(38)} ${String(runs).padStart(5)} seeds  ${outcome}`);
  return failure !== undefined;
}

async function main(): Promise<number> {
  const options = readArguments();
  if (options === undefined) {
    process.stderr.write(USAGE);
    return 2;
  }
  const { seed, mutations } = options;
  const isFine =
    seed !== undefined
      ? await runOne(options, seed)
      : mutations
        ? await runMutations(options)
        : await runMany(options);
  return isFine ? 0 : 1;
}

process.exitCode = await main();

/**
 * What a suite is, and what it is given.
 *
 * A suite owns everything it starts and has ended all of it when it returns, whether it succeeds or throws. It never
 * prints: it reports progress line by line and returns data.
 */
import type { Contestant, RowSpec } from "./contest.js";
import { contest } from "./contest.js";
import type { Row, SuiteResult } from "./row.js";

/** Rounds of a set unless the command line says otherwise. */
export const ROUNDS_DEFAULT = 5;

/** What the command line says, and where to work. */
export interface BenchContext {
  /** Sizes that run in seconds; figures mean nothing then. */
  readonly quick: boolean;
  readonly rounds: number;
  /** An existing directory on the file system that is to be measured. The suite makes its own below and removes it. */
  readonly directory: string;
  /** A line of progress. */
  readonly log: (line: string) => void;
}

/** A group of rows that are measured together. */
export interface Suite {
  readonly name: string;
  /** One sentence. */
  readonly question: string;
  run(context: BenchContext): Promise<Omit<SuiteResult, "name" | "question">>;
}

/** Runs a contest as the context says, with a line of progress for each run. */
export async function runContest(
  context: BenchContext,
  contestants: readonly Contestant[],
  rows: readonly RowSpec[],
): Promise<Row[]> {
  return await contest({
    contestants,
    rows,
    rounds: context.rounds,
    quick: context.quick,
    onRun(name, round, samples) {
      const rates = samples.map(({ rate }) => rate.toPrecision(4)).join(", ");
      context.log(`round ${round + 1}  ${name}: ${rates}`);
    },
  });
}

/**
 * A row: one written question, what was compared, what came out, and what that means.
 *
 * Rows are plain data and exactly what the results file holds; everything that is printed is made from them, so that a
 * README can be made from a file. Rates are always "more is better", in the row's unit.
 */
import type { Spread } from "./statistics.js";
import type { Bound, Judge, Ratio, Verdict } from "./verdict.js";

/** One side of a row. */
export interface Side extends Spread {
  /** Short name, unique in its suite. */
  readonly name: string;
  /** The command or the code that was run. */
  readonly command: string;
  /** The rate of each round. */
  readonly rounds: readonly number[];
  /** Further figures, such as latencies with their unit in the name: the median over the rounds of each. */
  readonly details: Readonly<Record<string, number>>;
}

/** One comparison. */
export interface Row {
  /** Identifier of the goal, such as "G20"; several rows may share it. */
  readonly id: string;
  /** Unique in its suite. */
  readonly name: string;
  readonly question: string;
  readonly unit: string;
  readonly reference: Side;
  readonly candidate: Side;
  readonly ratio: Ratio;
  readonly judge: Judge;
  readonly gate?: Bound;
  readonly goal?: Bound;
  readonly verdict: Verdict;
  /** Sets of rounds that were run; more than one means that the reference wobbled. */
  readonly tries: number;
  /** Made from the outcome of the work, so that none of it can be optimised away. */
  readonly checksum: string;
  /** State of the caches the work depends on. */
  readonly cache: string;
}

/** Some courses over the same steps, to be looked at. */
export interface Plot {
  readonly title: string;
  /** The top of the scale; the bottom is nought. */
  readonly max: number;
  readonly series: readonly { readonly name: string; readonly values: readonly number[] }[];
}

/** What one suite gave. */
export interface SuiteResult {
  readonly name: string;
  /** What the suite as a whole is about, one sentence. */
  readonly question: string;
  /** How it was run: sizes, versions, settings. */
  readonly method: readonly string[];
  readonly rows: readonly Row[];
  readonly plots?: readonly Plot[];
  /** Why there are no rows, or fewer than usual. */
  readonly skipped?: string;
}

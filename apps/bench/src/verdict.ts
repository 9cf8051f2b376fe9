/**
 * The rules that turn rounds into a verdict. Pure, and the only place where a bound is compared with a figure.
 *
 * Reference and candidate ran in the same minute, so their ratio is what counts; per round, and of these the median.
 * A reference that wobbles by itself says nothing about the candidate: its rounds are void. Work that only uses the
 * processor is judged by the best round of each side instead, because noise only ever adds time.
 */
import { spread } from "./statistics.js";
import type { Spread } from "./statistics.js";

/** A reference whose fastest round is more than this many times its slowest one measured something else: the machine. */
export const VOID_SPREAD = 1.6;
/** Sets of rounds before a reference that always wobbles makes the row inconclusive. */
export const TRIES_MAX = 3;

/** What must be reached. Both, where both are given. */
export interface Bound {
  /** Candidate's rate over the reference's. */
  readonly ratio?: number;
  /** The candidate's own rate in the row's unit, for goals that are absolute. */
  readonly rate?: number;
}

/** `median`: of the rounds' ratios, for what waits for a device. `best`: best round over best round. */
export type Judge = "median" | "best";

/**
 * `pass`: every bound is reached. `below goal`: the gate is. `FAIL`: the gate is not. `inconclusive`: the reference
 * wobbled in every set of rounds. `measured`: there is no bound. `smoke`: the sizes were too small to mean anything.
 */
export type Verdict = "pass" | "below goal" | "FAIL" | "inconclusive" | "measured" | "smoke";

/** The ratios of all rounds, and the one that is compared with gate and goal. */
export interface Ratio extends Spread {
  readonly judged: number;
}

/** Whether the reference's rounds differ so much that they are void. Rates must be above zero. */
export function isVoid(referenceRates: readonly number[]): boolean {
  return Math.max(...referenceRates) > VOID_SPREAD * Math.min(...referenceRates);
}

/**
 * The ratios of rounds that were run pairwise.
 *
 * @param candidate rates, one for each round, in the order of `reference`
 * @throws {RangeError} no rounds, or not as many on both sides
 */
export function ratioOf(reference: readonly number[], candidate: readonly number[], judge: Judge): Ratio {
  if (reference.length !== candidate.length) throw new RangeError("both sides need the same rounds");
  const rounds = spread(candidate.map((rate, round) => rate / (reference[round] ?? Number.NaN)));
  const best = Math.max(...candidate) / Math.max(...reference);
  return { ...rounds, judged: judge === "best" ? best : rounds.median };
}

/** Whether a figure reaches a bound; an absent bound is reached. */
export function reaches(bound: Bound | undefined, ratio: number, rate: number): boolean {
  if (bound === undefined) return true;
  return (
    ratio >= (bound.ratio ?? Number.NEGATIVE_INFINITY) && rate >= (bound.rate ?? Number.NEGATIVE_INFINITY)
  );
}

/** What a verdict is made of. */
export interface Case {
  readonly ratio: number;
  readonly rate: number;
  readonly gate: Bound | undefined;
  readonly goal: Bound | undefined;
  /** The reference's rounds were void in the last set, too. */
  readonly isVoid: boolean;
  readonly quick: boolean;
}

/** The verdict; void rounds never fail, and quick ones are not judged at all. */
export function verdictOf({ ratio, rate, gate, goal, isVoid: wobbles, quick }: Case): Verdict {
  if (quick) return "smoke";
  if (gate === undefined && goal === undefined) return wobbles ? "inconclusive" : "measured";
  if (wobbles) return "inconclusive";
  if (!reaches(gate, ratio, rate)) return "FAIL";
  return reaches(goal, ratio, rate) ? "pass" : "below goal";
}

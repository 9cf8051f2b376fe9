/**
 * A set of runs: seeds one after another, what they reached together, and what failed.
 *
 * One seed in a hundred runs twice and must leave the same trace, or the simulator itself is not to be trusted.
 */
import { CoverageTotals } from "./coverage.js";
import { makePlan } from "./plan.js";
import type { Plan } from "./plan.js";
import { simulate } from "./simulate.js";
import type { RunResult } from "./simulate.js";

/** Every so many seeds one runs twice. */
const REPEAT_EVERY = 100;

/** What came of a set of runs. */
export interface SetResult {
  readonly runs: number;
  readonly events: number;
  readonly totals: CoverageTotals;
  /** Runs that violated something, in the order of their seeds. */
  readonly failures: readonly RunResult[];
  /** Seeds whose second run left another trace. */
  readonly unrepeatable: readonly number[];
  /** Longest virtual time from the end of the disturbances to a new commit. */
  readonly slowestRecoveryMs: number;
}

/** What to run. */
export interface SetOptions {
  readonly firstSeed: number;
  readonly seeds: number;
  /** Laid over every schedule. */
  readonly change?: Partial<Plan>;
  /** End at the first violation. Default: run all. */
  readonly stopAtFailure?: boolean;
  /** Called after each seed. */
  readonly onProgress?: (done: number) => void;
}

/** Runs a set of seeds in this thread. */
export async function runSeeds(options: SetOptions): Promise<SetResult> {
  const totals = new CoverageTotals();
  const failures: RunResult[] = [];
  const unrepeatable: number[] = [];
  let runs = 0;
  let events = 0;
  let slowestRecoveryMs = 0;
  for (let seed = options.firstSeed; seed < options.firstSeed + options.seeds; seed += 1) {
    const plan = { ...makePlan(seed), ...options.change };
    const result = await simulate(plan);
    runs += 1;
    events += result.events;
    totals.add(result.coverage);
    slowestRecoveryMs = Math.max(slowestRecoveryMs, result.recoveredAfterMs ?? 0);
    if (seed % REPEAT_EVERY === 0) {
      const again = await simulate(plan);
      if (again.traceHash !== result.traceHash) unrepeatable.push(seed);
    }
    if (result.violation !== undefined) failures.push(result);
    options.onProgress?.(runs);
    if (result.violation !== undefined && options.stopAtFailure === true) break;
  }
  return { runs, events, totals, failures, unrepeatable, slowestRecoveryMs };
}

/** Runs one seed, as its schedule says or as `change` makes of it. */
export function runSeed(
  seed: number,
  listener?: (line: string) => void,
  change: (plan: Plan) => Plan = (plan) => plan,
): Promise<RunResult> {
  return simulate(change(makePlan(seed)), listener);
}

/**
 * What a run, and a set of runs, has reached: a simulator that finds nothing because nothing happens is worthless.
 *
 * A run counts events by name; a set of runs counts in how many of them each happened, and compares that with
 * thresholds. Below a threshold the whole set has failed, whatever the invariants say.
 */
import { FAULT_KINDS } from "./plan.js";
import type { FaultKind } from "./plan.js";

/** What is counted besides faults. */
export type CoverageEvent =
  | "commit"
  | "election"
  | "divergent-tail-cut"
  | "recovery"
  | "reader-bytes"
  | "term-reader-bytes"
  | "reader-lost-term"
  | "donor-feed"
  | "catch-up"
  | "divergence-found"
  | "stale-append"
  | "refused-start"
  | "peer-commit"
  | "segment-crossed"
  | "membership-change"
  | "controller-crash"
  | "sync-finished"
  | "disk-full-refusal"
  | "files"
  | "generations"
  | "liveness-checked"
  | "competing-proposers"
  | "three-acceptors"
  | "five-acceptors";

/** Counts of one run. */
export class Coverage {
  readonly #counts = new Map<CoverageEvent | FaultKind, number>();

  count(event: CoverageEvent | FaultKind): void {
    this.#counts.set(event, this.of(event) + 1);
  }

  of(event: CoverageEvent | FaultKind): number {
    return this.#counts.get(event) ?? 0;
  }
}

interface Threshold {
  readonly name: string;
  /** Least share of runs. */
  readonly share: number;
  readonly holds: (run: Coverage) => boolean;
}

/** A fault kind that fires in fewer runs than this is not tested. */
const FAULT_SHARE = 0.01;

const THRESHOLDS: readonly Threshold[] = [
  { name: "commits", share: 0.6, holds: (run) => run.of("commit") > 0 },
  { name: "two elections or more", share: 0.3, holds: (run) => run.of("election") >= 2 },
  { name: "cuts a divergent tail", share: 0.05, holds: (run) => run.of("divergent-tail-cut") > 0 },
  ...(
    [
      ["recovery", 0.3],
      ["reader-bytes", 0.3],
      ["term-reader-bytes", 0.3],
      ["reader-lost-term", 0.1],
      ["donor-feed", 0.1],
      ["catch-up", 0.1],
      ["divergence-found", 0.02],
      ["stale-append", 0.02],
      ["peer-commit", 0.02],
      ["segment-crossed", 0.02],
      ["membership-change", 0.05],
      ["controller-crash", 0.02],
      ["sync-finished", 0.01],
      ["refused-start", 0.001],
      ["disk-full-refusal", 0.005],
      ["liveness-checked", 0.95],
      ["competing-proposers", 0.3],
      ["three-acceptors", 0.3],
      ["five-acceptors", 0.3],
      ["files", 0.1],
      ["generations", 0.2],
    ] as const
  ).map(([event, share]) => ({ name: event, share, holds: (run: Coverage) => run.of(event) > 0 })),
  ...FAULT_KINDS.map((kind) => ({
    name: `fault ${kind}`,
    share: FAULT_SHARE,
    holds: (run: Coverage) => run.of(kind) > 0,
  })),
];

/** One line of a report. */
export interface CoverageRow {
  readonly name: string;
  readonly runs: number;
  readonly share: number;
  readonly least: number;
  readonly isReached: boolean;
}

/** Coverage of a set of runs. */
export class CoverageTotals {
  readonly #counts: number[] = THRESHOLDS.map(() => 0);
  #runs = 0;
  #events = new Map<CoverageEvent | FaultKind, number>();

  add(run: Coverage): void {
    this.#runs += 1;
    THRESHOLDS.forEach((threshold, index) => {
      if (threshold.holds(run)) this.#counts[index] = (this.#counts[index] ?? 0) + 1;
    });
    for (const event of ["commit", "election", "divergent-tail-cut", "recovery"] as const) {
      this.#events.set(event, (this.#events.get(event) ?? 0) + run.of(event));
    }
  }

  /** How often something happened in all runs together. */
  sum(event: "commit" | "election" | "divergent-tail-cut" | "recovery"): number {
    return this.#events.get(event) ?? 0;
  }

  /** One row for each threshold. */
  rows(): readonly CoverageRow[] {
    return THRESHOLDS.map(({ name, share: least }, index) => {
      const runs = this.#counts[index] ?? 0;
      const share = this.#runs === 0 ? 0 : runs / this.#runs;
      return { name, runs, share, least, isReached: share >= least };
    });
  }
}

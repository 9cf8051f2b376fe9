/**
 * Shortens a failing schedule: leaves faults out and the world calmer, as long as the same invariant is violated.
 *
 * Faults go by halves, quarters and so on down to single ones (delta debugging, after Zeller); then the disturbances
 * end right after the violation and what is unusual in the settings is made usual. Every attempt is a whole run, so
 * their number is bounded.
 */
import type { Invariant } from "./verdict.js";
import type { Fault, Plan } from "./plan.js";
import { simulate } from "./simulate.js";
import type { RunResult } from "./simulate.js";

/** A run takes tens of milliseconds; nobody waits longer than some seconds for a shorter schedule. */
const ATTEMPTS_MAX = 200;

/** What is left of a schedule. */
export interface Shortened {
  readonly result: RunResult;
  readonly attempts: number;
}

/**
 * Finds a shorter schedule that violates the same invariant.
 *
 * @param failure a run with a violation
 */
export async function shorten(failure: RunResult): Promise<Shortened> {
  const invariant = failure.violation?.invariant;
  if (invariant === undefined) return { result: failure, attempts: 0 };
  const search = new Search(failure, invariant);
  await search.dropFaults();
  await search.calm();
  await search.dropFaults();
  return { result: search.best, attempts: search.attempts };
}

class Search {
  best: RunResult;
  attempts = 0;
  readonly #invariant: Invariant;

  constructor(failure: RunResult, invariant: Invariant) {
    this.best = failure;
    this.#invariant = invariant;
  }

  async dropFaults(): Promise<void> {
    let chunk = Math.max(1, Math.ceil(this.best.plan.faults.length / 2));
    for (;;) {
      let isShorter = false;
      for (let from = 0; from < this.best.plan.faults.length;) {
        const faults = without(this.best.plan.faults, from, chunk);
        if (await this.#attempt({ ...this.best.plan, faults })) isShorter = true;
        else from += chunk;
      }
      if (chunk === 1 && !isShorter) return;
      chunk = Math.max(1, Math.floor(chunk / 2));
      if (this.attempts >= ATTEMPTS_MAX) return;
    }
  }

  async calm(): Promise<void> {
    const { plan, violation } = this.best;
    const endMs = violation?.atMs ?? plan.activeMs;
    const changes: readonly Partial<Plan>[] = [
      { activeMs: Math.min(plan.activeMs, endMs + 1) },
      { storage: "memory" },
      { latency: { ...plan.latency, slowShare: 0 } },
      { switchShare: 0 },
      { gossipEveryMs: Number.POSITIVE_INFINITY },
      { recordsPerWrite: 1 },
      { writeEveryMs: plan.writeEveryMs * 2 },
      { acceptors: 3 },
    ];
    for (const change of changes) await this.#attempt({ ...this.best.plan, ...change });
  }

  async #attempt(plan: Plan): Promise<boolean> {
    if (this.attempts >= ATTEMPTS_MAX) return false;
    this.attempts += 1;
    const result = await simulate(plan);
    if (result.violation?.invariant !== this.#invariant) return false;
    this.best = result;
    return true;
  }
}

function without(faults: readonly Fault[], from: number, count: number): readonly Fault[] {
  return [...faults.slice(0, from), ...faults.slice(from + count)];
}

/**
 * Runs in words: the coverage table, a schedule, a violation.
 */
import type { Plan } from "./plan.js";
import type { SetResult } from "./runner.js";
import type { RunResult } from "./simulate.js";

/** The lines that tell what a set of runs has reached. */
export function describeSet(set: SetResult): readonly string[] {
  const { totals } = set;
  const lines = [
    `${String(set.runs)} seeds, ${String(set.events)} events: ${String(totals.sum("election"))} elections, ` +
      `${String(totals.sum("commit"))} commits, ${String(totals.sum("divergent-tail-cut"))} divergent tails cut, ` +
      `${String(totals.sum("recovery"))} recoveries; slowest return to work ${set.slowestRecoveryMs.toFixed(0)} ms (virtual)`,
    "",
    "  reached                      seeds   share   least",
  ];
  for (const { name, runs, share, least, isReached } of totals.rows()) {
    lines.push(
      `  ${name.padEnd(26)} ${String(runs).padStart(7)} ${percent(share)} ${percent(least)}${isReached ? "" : "   TOO FEW"}`,
    );
  }
  for (const seed of set.unrepeatable) {
    lines.push(`  seed ${String(seed)} left another trace when it ran again: something but the seed decides`);
  }
  return lines;
}

/** Fewer seeds than this say nothing about shares: what one seed in a hundred does may not have come up. */
const COVERAGE_SEEDS_MIN = 300;

/** Whether everything held and, in a set large enough to judge that, enough was reached. */
export function isGood(set: SetResult): boolean {
  if (set.failures.length > 0 || set.unrepeatable.length > 0) return false;
  return set.runs < COVERAGE_SEEDS_MIN || set.totals.rows().every(({ isReached }) => isReached);
}

/** The lines that tell what a run violated. */
export function describeFailure({ plan, violation, traceHash }: RunResult): readonly string[] {
  if (violation === undefined) return [`seed ${String(plan.seed)}: nothing was violated, trace ${traceHash}`];
  return [
    `seed ${String(plan.seed)} violates ${violation.invariant} at ${violation.atMs.toFixed(3)} ms:`,
    `  ${violation.detail.replaceAll("\n", "\n  ")}`,
  ];
}

/** The lines that tell how a run is set up and what is done to it. */
export function describePlan(plan: Plan): readonly string[] {
  const { latency } = plan;
  return [
    `  ${String(plan.acceptors)} acceptors and ${String(plan.spares)} spares on ${plan.storage}, protocol ${String(plan.protocolVersion)}, ` +
      `generations ${plan.generations ? "on" : "off"}, timeline made ${plan.creation === "explicit" ? "in advance" : "by the first election"}`,
    `  start ${plan.startLsn.toString(16).toUpperCase()}, disturbed for ${plan.activeMs.toFixed(0)} ms, latency ${String(latency.usualMs)} ms, ` +
      `${String(latency.slowShare)} of messages ${String(latency.slowMs)} ms, a write each ${plan.writeEveryMs.toFixed(0)} ms`,
    ...plan.faults.map(
      ({ kind, atMs, durationMs, roll }) =>
        `  ${atMs.toFixed(0).padStart(8)} ms  ${kind} for ${durationMs.toFixed(0)} ms (roll ${roll.toFixed(4)})`,
    ),
  ];
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`.padStart(7);
}

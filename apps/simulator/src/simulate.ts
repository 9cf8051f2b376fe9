/**
 * One run from its schedule: build, disturb, heal, expect progress, compare everything.
 */
import type { Lsn } from "@millrace/lsn";
import { isMember } from "@millrace/wal-protocol";
import type { Coverage } from "./coverage.js";
import { strike } from "./faults.js";
import { show } from "./verdict.js";
import type { Violation } from "./verdict.js";
import { MembershipController } from "./membership-controller.js";
import { RECOVERY_LIMIT_MS } from "./plan.js";
import type { Plan } from "./plan.js";
import { Random } from "./random.js";
import { World } from "./world.js";

/** What came of a run. */
export interface RunResult {
  readonly plan: Plan;
  /** The first violation, or undefined. */
  readonly violation: Violation | undefined;
  readonly coverage: Coverage;
  /** Equal for equal schedules. */
  readonly traceHash: string;
  readonly traceEntries: number;
  readonly events: number;
  /** Virtual time at the end. */
  readonly endedMs: number;
  /** Virtual time from the end of the disturbances to the first new commit; undefined if that was not reached. */
  readonly recoveredAfterMs: number | undefined;
}

/** WAL that has to be committed after the disturbances are over. */
const PROGRESS_BYTES = 500n;

/**
 * Runs a schedule. No run influences another.
 *
 * @param listener gets the trace, line by line
 */
export async function simulate(plan: Plan, listener?: (line: string) => void): Promise<RunResult> {
  const world = new World(plan, listener);
  const { time, ledger, trace } = world;
  const isViolated = (): boolean => ledger.violation !== undefined;
  await startWorld(world);
  for (const fault of plan.faults) time.after(fault.atMs, () => strike(world, fault));
  await time.run(plan.activeMs, isViolated);
  let recoveredAfterMs: number | undefined;
  if (!isViolated()) {
    recoveredAfterMs = await recover(world, isViolated);
    if (!isViolated()) await compareAll(world);
  }
  for (const host of world.hosts) host.stop();
  if (ledger.violation !== undefined) {
    trace.note("violation", ledger.violation.invariant, ledger.violation.detail);
  }
  return {
    plan,
    violation: ledger.violation,
    coverage: world.coverage,
    traceHash: trace.hash,
    traceEntries: trace.entries,
    events: time.events,
    endedMs: time.nowMs,
    recoveredAfterMs,
  };
}

/** Builds a world: putting control files in place takes disk steps, and those take events. */
export async function startWorld(world: World): Promise<void> {
  let isBuilt = false;
  const building = world.build().then(() => {
    isBuilt = true;
  });
  await world.time.run(1000, () => isBuilt);
  await building;
}

// Everything is repaired, one proposer is left: it has to commit within the limit.
async function recover(world: World, isViolated: () => boolean): Promise<number | undefined> {
  const { time, ledger, trace, plan } = world;
  trace.note("heal");
  world.heal();
  const [first, ...others] = world.hosts;
  for (const host of others) host.stop();
  first?.start();
  if (plan.generations) finishMembership(world);
  const healedMs = time.nowMs;
  const goalLsn = (ledger.commitLsn + PROGRESS_BYTES) as Lsn;
  await time.run(healedMs + RECOVERY_LIMIT_MS, () => isViolated() || ledger.commitLsn >= goalLsn);
  if (isViolated()) return undefined;
  if (ledger.commitLsn < goalLsn) {
    ledger.violate(
      "Liveness",
      `no progress for ${String(RECOVERY_LIMIT_MS)} ms after everything was repaired; committed is ${show(ledger.commitLsn)}`,
    );
    return undefined;
  }
  world.coverage.count("liveness-checked");
  const recoveredAfterMs = time.nowMs - healedMs;
  // A while longer, so that laggards are brought level.
  await time.run(time.nowMs + 300, isViolated);
  return recoveredAfterMs;
}

// A controller that nobody kills any more.
function finishMembership(world: World): void {
  const random = new Random(world.plan.seed, "last controller");
  const attempt = async (): Promise<void> => {
    const isDone = await new MembershipController(world, random, Number.POSITIVE_INFINITY).run(false);
    if (isDone) return;
    await world.time.sleep(100);
    await attempt();
  };
  world.time.promisesMoved();
  void attempt();
}

/** Compares every member's own bytes, as far as it takes them for committed, with the committed ones. */
export async function compareAll(world: World): Promise<void> {
  const { acceptors, ledger, startLsn, plan, membership } = world;
  for (const node of acceptors) {
    const { process } = node;
    if (process === undefined) continue;
    const { commitLsn } = process.state;
    if (commitLsn <= startLsn) continue;
    if (plan.generations && !isMember(membership.configuration, node.nodeId)) continue;
    const bytes = await process.copy(startLsn, commitLsn);
    ledger.readers.onRead(`the comparison of ${node.name}`, startLsn, bytes);
  }
}

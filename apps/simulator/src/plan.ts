/**
 * The schedule of one run, drawn from its seed before anything happens: who there is, how the world behaves, and
 * which faults come when.
 *
 * A schedule is plain data and everything in a run follows from it, so a failing one can be shortened by leaving
 * things out and run again. Faults name their victims by number and take what else they need from `roll`, so that
 * one fault means the same whether or not those before it are still there.
 */
import { Random } from "./random.js";
import type { LatencyProfile } from "./network.js";

/** Everything that can be done to the cluster. */
export const FAULT_KINDS = [
  "power-cut", // an acceptor loses power: what was not synced survives in part
  "power-cut-at-step", // the same, right before some step of its disk
  "power-cut-at-election", // in the middle of following a new leader
  "power-cut-all", // all acceptors at once
  "kill", // an acceptor's process dies alone
  "kill-then-power-cut", // the process dies before a sync, and the power fails when the next one is told of an election
  "reset", // one connection breaks on both sides, what is under way is lost
  "abandon", // one side gives a connection up, what it sent may come later than its successor's
  "isolate", // an acceptor is cut off from everybody
  "one-way", // nothing gets from, or to, an acceptor
  "lose-proposers", // some acceptors hear from each other but from no proposer
  "split-minority", // a minority of the acceptors is cut off from the proposers and the rest
  "split-majority", // a majority is
  "split-proposer", // one proposer is left with some of the acceptors
  "slow-link",
  "slow-disk",
  "disk-full",
  "failed-sync",
  "proposer-crash",
  "rival", // one more proposer lives for a while
  "flapping", // a proposer is restarted again and again
  "sync-proposer", // a proposer that only brings the acceptors level
  "term-bump",
  "checkpoint",
  "change-members",
] as const;

/** A kind of fault. */
export type FaultKind = (typeof FAULT_KINDS)[number];

/** One fault. */
export interface Fault {
  readonly kind: FaultKind;
  readonly atMs: number;
  readonly durationMs: number;
  /** In [0, 1): whom it hits and how. */
  readonly roll: number;
}

/** How one run is set up. */
export interface Plan {
  readonly seed: number;
  readonly acceptors: number;
  /** Nodes without the timeline that a change of members may bring in. */
  readonly spares: number;
  readonly generations: boolean;
  readonly protocolVersion: 2 | 3;
  readonly storage: "memory" | "files";
  /** Whether the timeline is made in advance or by the first election. */
  readonly creation: "explicit" | "by-proposer";
  readonly startLsn: number;
  /** How long faults happen. */
  readonly activeMs: number;
  readonly latency: LatencyProfile;
  readonly reconnectMs: number;
  readonly heartbeatMs: number;
  readonly connectionTimeoutMs: number;
  /** Share of proposers that compare their WAL before they tell anybody of their election. */
  readonly holdShare: number;
  /** Share of proposers whose PostgreSQL has all WAL that a laggard may need; the others ask donors. */
  readonly keepShare: number;
  readonly writeEveryMs: number;
  readonly recordsPerWrite: number;
  /** Share of writes that leave the segment. */
  readonly switchShare: number;
  readonly gossipEveryMs: number;
  readonly faults: readonly Fault[];
}

const SEGMENT = 1024 * 1024;
const PAGE = 8192;
const LONG_HEADER_BYTES = 40;
/** Virtual time after the last fault within which a commit has to come. */
export const RECOVERY_LIMIT_MS = 60_000;

const WEIGHTS: Readonly<Record<FaultKind, number>> = {
  "power-cut": 10,
  "power-cut-at-step": 12,
  "power-cut-at-election": 10,
  "power-cut-all": 2,
  kill: 5,
  "kill-then-power-cut": 8,
  reset: 8,
  abandon: 12,
  isolate: 6,
  "one-way": 6,
  "lose-proposers": 7,
  "split-minority": 5,
  "split-majority": 4,
  "split-proposer": 8,
  "slow-link": 3,
  "slow-disk": 4,
  "disk-full": 3,
  "failed-sync": 3,
  "proposer-crash": 8,
  rival: 14,
  flapping: 1,
  "sync-proposer": 3,
  "term-bump": 2,
  checkpoint: 4,
  "change-members": 24,
};

/** Draws the schedule of `seed`. */
export function makePlan(seed: number): Plan {
  const random = new Random(seed, "plan");
  const acceptors = random.chance(0.6) ? 3 : 5;
  const generations = random.chance(0.4);
  const activeMs = random.between(1200, 5500);
  return {
    seed,
    acceptors,
    spares: generations ? 1 + random.below(2) : 0,
    generations,
    protocolVersion: generations || random.chance(0.5) ? 3 : 2,
    storage: random.chance(0.3) ? "files" : "memory",
    creation: generations || random.chance(0.6) ? "explicit" : "by-proposer",
    startLsn: startLsn(random),
    activeMs,
    latency: latency(random),
    reconnectMs: random.between(50, 400),
    heartbeatMs: random.between(100, 500),
    connectionTimeoutMs: random.between(500, 2500),
    holdShare: random.next(),
    keepShare: random.next(),
    writeEveryMs: random.between(8, 120),
    recordsPerWrite: 1 + random.below(6),
    switchShare: random.chance(0.15) ? 0.03 : 0,
    gossipEveryMs: random.chance(0.6) ? random.between(15, 400) : Number.POSITIVE_INFINITY,
    faults: makeFaults(random, activeMs, generations),
  };
}

// Anywhere a record can begin; often shortly before a page's or a segment's end, where positions are special.
function startLsn(random: Random): number {
  const segment = SEGMENT * (1 + random.below(40));
  const dice = random.next();
  if (dice < 0.15) return segment;
  const before = dice < 0.5;
  const lsn = before
    ? segment + SEGMENT - 8 * (1 + random.below(3000))
    : segment + PAGE * random.below(100) + 8 * random.below(900);
  // No record begins inside a page's header.
  return lsn % PAGE === 0 ? lsn : Math.max(lsn, lsn - (lsn % PAGE) + LONG_HEADER_BYTES);
}

function latency(random: Random): LatencyProfile {
  const usualMs = random.pick([0.2, 1, 5, 20]);
  return { usualMs, slowShare: random.pick([0, 0.01, 0.1]), slowMs: usualMs * 20 };
}

function makeFaults(random: Random, activeMs: number, generations: boolean): readonly Fault[] {
  // Some runs are calm, some are not, and each prefers some kinds: uniform misery reaches fewer states.
  const count = random.chance(0.05) ? 0 : 1 + random.below(random.pick([4, 10, 25]));
  const weights = FAULT_KINDS.map((kind) => {
    if (kind === "change-members" && !generations) return 0;
    return WEIGHTS[kind] * random.pick([0.2, 1, 1, 4]);
  });
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const faults: Fault[] = [];
  for (let index = 0; index < count; index += 1) {
    let at = random.next() * total;
    const picked = weights.findIndex((weight) => {
      at -= weight;
      return at < 0;
    });
    const kind = FAULT_KINDS[picked] ?? "reset";
    faults.push({
      kind,
      atMs: random.between(0.03, 1) * activeMs,
      durationMs: random.pick([30, 150, 600, 2000]) * (0.5 + random.next()),
      roll: random.next(),
    });
  }
  return faults.toSorted((a, b) => a.atMs - b.atMs);
}

/**
 * What the load and the deaths in it prove, as rows of the demo's table. Pure: figures in, rows out.
 *
 * A row holds only if what it is about has happened: a kill that was not under load, a process that is still the same
 * one, a part that came back without a single commit behind it are all failures, as is a kill that is missing.
 *
 * Two kinds of bounds are put on pauses. With an acceptor away there is a quorum all the time, so commits must not stop;
 * the bound is the promise made for that. Without the bridge or without PostgreSQL no commit can return, so there the
 * pause is as long as the restart takes: it is measured and shown, and its bound only tells a restart from a failure.
 */
import { RESTART_DELAY_MIN_MS } from "../parts/supervisor.js";
import type { CommitLog } from "./commit-log.js";
import { VICTIMS } from "./kills.js";
import type { KillOutcome, Victim } from "./kills.js";
import type { ReportRow } from "./report.js";

/** With a quorum there commits must never stop for longer. */
export const PAUSE_MAX_MS = 2000;
/** Node's start, an election among acceptors that are all there, and a machine that is busy with the load. */
const ELECTION_MS = 5000;
/** How long the slot of a bridge that has died may still count as in use. */
const SLOT_MS = 5000;
/**
 * PostgreSQL replays the WAL since its last checkpoint, at most max_wal_size, which is 1 GB by default; that takes it
 * some ten seconds, twice that on a busy machine.
 */
const CRASH_RECOVERY_MS = 20_000;
/** Without the bridge: one delay of the supervisor, and the new bridge's way to its first commit. */
export const BRIDGE_PAUSE_MAX_MS: number = RESTART_DELAY_MIN_MS + SLOT_MS + ELECTION_MS;
/** Without PostgreSQL: the same for PostgreSQL, its crash recovery, and then what a dead bridge takes. */
export const POSTGRES_PAUSE_MAX_MS: number = RESTART_DELAY_MIN_MS + CRASH_RECOVERY_MS + BRIDGE_PAUSE_MAX_MS;

const PAUSE_BOUNDS: Readonly<Record<Victim, number>> = {
  acceptor: PAUSE_MAX_MS,
  bridge: BRIDGE_PAUSE_MAX_MS,
  postgres: POSTGRES_PAUSE_MAX_MS,
};

const TITLES: Readonly<Record<Victim, string>> = {
  acceptor: "acceptor",
  bridge: "bridge",
  postgres: "PostgreSQL",
};

function seconds(ms: number | undefined): string {
  return ms === undefined ? "never" : `${(ms / 1000).toFixed(1)} s`;
}

function killRow(victim: Victim, outcome: KillOutcome | undefined): ReportRow {
  const name = `${TITLES[victim]} killed under load and back`;
  if (outcome === undefined) return { name, figure: "it did not happen", ok: false };
  const { pid, newPid, awayMs, commitsBefore, phase } = outcome;
  const from = `${outcome.name}, pid ${pid ?? "none"} -> ${newPid ?? "none"}`;
  return {
    name,
    figure: `${from}, away ${seconds(awayMs)}, first commit after ${seconds(phase.firstCommitAfterMs)}, ${phase.commitsAfterReturn} since`,
    ok:
      pid !== undefined &&
      newPid !== undefined &&
      newPid !== pid &&
      commitsBefore > 0 &&
      phase.firstCommitAfterMs !== undefined &&
      phase.commitsAfterReturn > 0,
  };
}

function pauseRow(victim: Victim, longestMs: number | undefined): ReportRow {
  const name = `longest time without a commit, ${TITLES[victim]}'s death`;
  if (longestMs === undefined) return { name, figure: "it did not happen", ok: false };
  const bound = PAUSE_BOUNDS[victim];
  return { name, figure: `${Math.round(longestMs)} ms (at most ${bound})`, ok: longestMs <= bound };
}

/** The rows about the load: its transactions, each death and return, each pause. */
export function loadRows(log: CommitLog, outcomes: readonly KillOutcome[]): ReportRow[] {
  const perSecond = log.durationMs > 0 ? Math.round((log.count * 1000) / log.durationMs) : 0;
  const of = (victim: Victim): KillOutcome | undefined =>
    outcomes.find((outcome) => outcome.victim === victim);
  // Before the first kill there is a quorum, too: what is promised for an acceptor's death holds there all the more.
  const pauseOf = (victim: Victim): number | undefined => {
    const pauseMs = of(victim)?.phase.longestPauseMs;
    if (pauseMs === undefined || victim !== "acceptor") return pauseMs;
    return Math.max(pauseMs, log.undisturbed.longestPauseMs);
  };
  return [
    {
      name: "transactions committed under load",
      figure: `${log.count} in ${(log.durationMs / 1000).toFixed(1)} s (${perSecond}/s)`,
      ok: log.count > 0,
    },
    ...VICTIMS.map((victim) => killRow(victim, of(victim))),
    ...VICTIMS.map((victim) => pauseRow(victim, pauseOf(victim))),
  ];
}

/**
 * The deaths of the demo: an acceptor, the bridge and PostgreSQL, one after the other, each by SIGKILL and each in the
 * middle of the load.
 *
 * A kill comes at its share of the time, but not before what was killed last is back and a transaction begun since
 * then was committed, and then right behind an acknowledgement, so that clients are certainly at work. What does not
 * come back in time ends the series; the kills that are left out show as rows that fail. Nothing here restarts
 * anything: that is the supervisor's work, and it is what is being watched.
 *
 * A share and not a time, because the load may be told to run for an hour; the shares leave to each part the time that
 * its return takes in the shortest run that is allowed.
 */
import type { AllInOne } from "../all-in-one.js";
import { DeadlineError, delay, withDeadline } from "../waiting.js";
import type { CommitLog, LoadPhase } from "./commit-log.js";

/** Who dies, in this order. */
export const VICTIMS = ["acceptor", "bridge", "postgres"] as const;

export type Victim = (typeof VICTIMS)[number];

/**
 * When each kill is due, as a share of the load. An acceptor needs a second and is not waited for by commits; the
 * bridge needs two; PostgreSQL, with its crash recovery and the bridge behind it, needs the longest.
 */
const KILL_AT: Readonly<Record<Victim, number>> = { acceptor: 0.1, bridge: 0.3, postgres: 0.55 };

/** Which of the three acceptors is killed. */
const ACCEPTOR_INDEX = 1;

/** From a death to the first commit of a transaction begun after the return; a machine under stress gets the most of it. */
export const RECOVERY_LIMIT_MS = 60_000;
/** How long a kill waits for the acknowledgement behind which it comes. */
const NEXT_COMMIT_MS = 5000;

/** A part that is killed, as much of it as the series needs. */
export interface KillTarget {
  /** For people, for example "acceptor 2". */
  readonly name: string;
  pid(): number | undefined;
  /** Kills it with SIGKILL and all that belongs to it; resolves when it has ended. */
  kill(): Promise<void>;
  /** Resolves when it serves again. */
  back(): Promise<void>;
}

/** How one death went. Members are undefined where it did not come to that. */
export interface KillOutcome {
  readonly victim: Victim;
  readonly name: string;
  /** Commits between the previous return, or the start of the load, and the kill. */
  readonly commitsBefore: number;
  readonly pid: number | undefined;
  readonly newPid: number | undefined;
  /** From the kill to the part's own word that it serves. */
  readonly awayMs: number | undefined;
  readonly phase: LoadPhase;
}

/** What the series runs with. */
export interface KillSeriesOptions {
  readonly targets: Readonly<Record<Victim, KillTarget>>;
  readonly log: CommitLog;
  readonly seconds: number;
  readonly nowMs: () => number;
  readonly say: (line: string) => void;
  /** Resolves after the given time; replaced by tests. */
  readonly delay?: (ms: number) => Promise<void>;
  /** Told the moment before PostgreSQL is killed: from then on its clients may lose their connections. */
  readonly onPostgresKill: (nowMs: number) => void;
}

/** The parts of a running all-in-one that has a PostgreSQL of its own. */
export function killTargets(app: AllInOne): Record<Victim, KillTarget> {
  const acceptor = app.acceptorProcess(ACCEPTOR_INDEX);
  const { bridgeProcess: bridge, postgresProcess: postgres, cluster } = app;
  if (postgres === undefined || cluster === undefined) throw new RangeError("PostgreSQL is not ours to kill");
  const signalled = (part: typeof bridge, name: string): KillTarget => ({
    name,
    pid: () => part.pid,
    async kill() {
      const ended = part.ended();
      if (part.pid !== undefined) process.kill(part.pid, "SIGKILL");
      await ended;
    },
    back: () => part.ready(),
  });
  return {
    acceptor: signalled(acceptor, `acceptor ${ACCEPTOR_INDEX + 1}`),
    bridge: signalled(bridge, "bridge"),
    postgres: {
      name: "PostgreSQL",
      pid: () => cluster.pid,
      async kill() {
        const ended = postgres.ended();
        await cluster.kill();
        await ended;
      },
      back: () => postgres.ready(),
    },
  };
}

async function killOne(
  victim: Victim,
  target: KillTarget,
  commitsBefore: number,
  options: KillSeriesOptions,
): Promise<KillOutcome> {
  const { log, nowMs, say } = options;
  const pid = target.pid();
  const phase = log.beginPhase(nowMs());
  let awayMs: number | undefined;
  try {
    if (victim === "postgres") options.onPostgresKill(nowMs());
    say(`${target.name} (pid ${pid}) is killed with SIGKILL`);
    await withDeadline(target.kill(), RECOVERY_LIMIT_MS);
    phase.wentDown(nowMs());
    await withDeadline(target.back(), RECOVERY_LIMIT_MS);
    phase.cameBack(nowMs());
    awayMs = nowMs() - phase.startMs;
    say(`${target.name} is back after ${(awayMs / 1000).toFixed(1)} s (pid ${target.pid()})`);
    await withDeadline(commitAfterReturn(log, phase), RECOVERY_LIMIT_MS);
    say(`commits go on, the first ${((phase.firstCommitAfterMs ?? 0) / 1000).toFixed(1)} s after the kill`);
  } catch (error) {
    if (!(error instanceof DeadlineError)) throw error;
  }
  const newPid = awayMs === undefined ? undefined : target.pid();
  return { victim, name: target.name, commitsBefore, pid, newPid, awayMs, phase };
}

async function commitAfterReturn(log: CommitLog, phase: LoadPhase): Promise<void> {
  while (phase.commitsAfterReturn === 0) await log.nextCommit();
}

/** True when the part is back and commits go on. */
function hasRecovered(outcome: KillOutcome): boolean {
  return outcome.newPid !== undefined && outcome.phase.commitsAfterReturn > 0;
}

/**
 * Kills one after the other.
 *
 * @returns one outcome for each kill that happened, in their order; fewer than three when a part did not recover
 */
export async function runKills(options: KillSeriesOptions): Promise<KillOutcome[]> {
  const { targets, log, seconds, nowMs } = options;
  const wait = options.delay ?? delay;
  const startMs = nowMs();
  const outcomes: KillOutcome[] = [];
  let commits = (): number => log.undisturbed.commits;
  for (const victim of VICTIMS) {
    await wait(Math.max(0, startMs + seconds * 1000 * KILL_AT[victim] - nowMs()));
    try {
      await withDeadline(log.nextCommit(), NEXT_COMMIT_MS);
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      return outcomes;
    }
    const outcome = await killOne(victim, targets[victim], commits(), options);
    outcomes.push(outcome);
    if (!hasRecovered(outcome)) return outcomes;
    commits = () => outcome.phase.commitsAfterReturn;
  }
  return outcomes;
}

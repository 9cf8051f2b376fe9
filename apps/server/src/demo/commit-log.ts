/**
 * What the clients of the demo were told: which rows are committed, and when each commit was acknowledged.
 *
 * The pause between two acknowledgements, over all connections together, is the time in which no commit returned. Start
 * and end of the load count as acknowledgements, so that a load that never got going, or stopped before its end, shows
 * as a pause and cannot hide.
 *
 * The time of the load is cut into phases, one from each kill to the next. A pause belongs to the phase in which it ends;
 * the part of it that lies before a cut counts for the earlier phase, too, so that none gets lost between two. A commit
 * proves that the dead part is not needed, or is back, only if its transaction was begun after the death: the answer
 * to an earlier one may have been under way.
 */

/** One part of the load, from one kill to the next or to the end. Times as in `CommitLog`. */
export class LoadPhase {
  readonly startMs: number;
  #downMs: number | undefined;
  #backMs: number | undefined;
  #longestPauseMs = 0;
  #commits = 0;
  #commitsAfterReturn = 0;
  #firstCommitMs: number | undefined;

  constructor(startMs: number) {
    this.startMs = startMs;
  }

  /** Notes that what was to be killed has ended by `nowMs`. */
  wentDown(nowMs: number): void {
    this.#downMs = nowMs;
  }

  /** Notes that it serves again at `nowMs`. */
  cameBack(nowMs: number): void {
    this.#backMs = nowMs;
  }

  /** Notes the acknowledgement, at `nowMs`, of a transaction that was begun at `startedMs`. */
  acknowledge(startedMs: number, nowMs: number): void {
    this.#commits += 1;
    if (this.#downMs !== undefined && startedMs >= this.#downMs) this.#firstCommitMs ??= nowMs;
    if (this.#backMs !== undefined && startedMs >= this.#backMs) this.#commitsAfterReturn += 1;
  }

  pause(ms: number): void {
    this.#longestPauseMs = Math.max(this.#longestPauseMs, ms);
  }

  get longestPauseMs(): number {
    return this.#longestPauseMs;
  }

  /** Transactions acknowledged in this phase. */
  get commits(): number {
    return this.#commits;
  }

  /** Of these, the ones that were begun after the return. */
  get commitsAfterReturn(): number {
    return this.#commitsAfterReturn;
  }

  /** From the start of the phase to the first acknowledgement of a transaction begun after the death. */
  get firstCommitAfterMs(): number | undefined {
    return this.#firstCommitMs === undefined ? undefined : this.#firstCommitMs - this.startMs;
  }
}

/** Acknowledged commits of one load. Times are those of one monotonic clock, in milliseconds, and never decrease. */
export class CommitLog {
  readonly #startMs: number;
  readonly #ids = new Set<number>();
  readonly #phases: LoadPhase[];
  #lastMs: number;
  #waiting: (() => void)[] = [];

  constructor(startMs: number) {
    this.#startMs = startMs;
    this.#lastMs = startMs;
    this.#phases = [new LoadPhase(startMs)];
  }

  /** Notes that the client of row `id`, whose transaction was begun at `startedMs`, was told at `nowMs` that it is committed. */
  acknowledge(id: number, startedMs: number, nowMs: number): void {
    this.#ids.add(id);
    this.#pause(nowMs);
    this.#lastMs = nowMs;
    this.#current.acknowledge(startedMs, nowMs);
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Begins the next phase at `nowMs`. The pause that is under way goes on in it. */
  beginPhase(nowMs: number): LoadPhase {
    this.#pause(nowMs);
    const phase = new LoadPhase(nowMs);
    this.#phases.push(phase);
    return phase;
  }

  /** Notes that the load ended at `nowMs`. */
  finish(nowMs: number): void {
    this.#pause(nowMs);
    this.#lastMs = nowMs;
  }

  /** Resolves at the next acknowledgement; never, if there is none any more. */
  nextCommit(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #pause(nowMs: number): void {
    this.#current.pause(nowMs - this.#lastMs);
  }

  get #current(): LoadPhase {
    const phase = this.#phases.at(-1);
    if (phase === undefined) throw new RangeError("a log has at least one phase");
    return phase;
  }

  /** The phase before the first kill. */
  get undisturbed(): LoadPhase {
    return this.#phases[0] ?? this.#current;
  }

  get count(): number {
    return this.#ids.size;
  }

  /** From the start of the load to its last acknowledgement or end. */
  get durationMs(): number {
    return this.#lastMs - this.#startMs;
  }

  /** Acknowledged ids that `present` lacks, in the order of their acknowledgement. */
  missingFrom(present: ReadonlySet<number>): number[] {
    return [...this.#ids].filter((id) => !present.has(id));
  }
}

/**
 * Requests that wait for a worker: those that somebody waits for before the others, and among each the owners in turn.
 *
 * Deficit round robin (Shreedhar and Varghese, 1995): an owner may send as many records a turn as its quantum allows and
 * saves what it does not use, so that ten short requests are not behind ten thousand of somebody else's. Within an owner
 * the order is that of arrival. Requests that nobody waits for get a turn from time to time all the same.
 */

/** Records that an owner may send in a turn. */
const QUANTUM_RECORDS = 64;
/** At least one request that nobody waits for goes in this time, if there is one. */
const BACKGROUND_EVERY_MS = 100;

/** What the queue knows of a request. */
export interface QueuedJob {
  readonly owner: string;
  /** Records to be replayed. */
  readonly cost: number;
  /** Whether somebody waits for it. */
  readonly isDemand: boolean;
}

interface Lane<T> {
  readonly jobs: T[];
  deficit: number;
}

/** One class of requests. */
class Round<T extends QueuedJob> {
  readonly #lanes = new Map<string, Lane<T>>();
  size = 0;

  add(job: T): void {
    let lane = this.#lanes.get(job.owner);
    if (lane === undefined) this.#lanes.set(job.owner, (lane = { jobs: [], deficit: QUANTUM_RECORDS }));
    lane.jobs.push(job);
    this.size += 1;
  }

  /** The next job, which leaves the queue. */
  take(): T | undefined {
    while (this.size > 0) {
      const [[owner, lane] = []] = this.#lanes;
      const job = lane?.jobs[0];
      if (owner === undefined || lane === undefined || job === undefined) return undefined;
      if (job.cost <= lane.deficit) {
        lane.jobs.shift();
        lane.deficit -= job.cost;
        this.size -= 1;
        if (lane.jobs.length === 0) this.#lanes.delete(owner);
        return job;
      }
      // Its turn is over: to the end of the round, with a new quantum for the next one.
      lane.deficit += QUANTUM_RECORDS;
      this.#lanes.delete(owner);
      this.#lanes.set(owner, lane);
    }
    return undefined;
  }

  remove(job: T): boolean {
    const lane = this.#lanes.get(job.owner);
    const at = lane?.jobs.indexOf(job) ?? -1;
    if (lane === undefined || at < 0) return false;
    lane.jobs.splice(at, 1);
    if (lane.jobs.length === 0) this.#lanes.delete(job.owner);
    this.size -= 1;
    return true;
  }
}

export class RedoQueue<T extends QueuedJob> {
  readonly #demand = new Round<T>();
  readonly #background = new Round<T>();
  readonly #now: () => number;
  #backgroundAt: number;

  /** @param now milliseconds since an arbitrary moment */
  constructor(now: () => number) {
    this.#now = now;
    this.#backgroundAt = now();
  }

  get size(): number {
    return this.#demand.size + this.#background.size;
  }

  add(job: T): void {
    if (!job.isDemand && this.#background.size === 0) this.#backgroundAt = this.#now();
    (job.isDemand ? this.#demand : this.#background).add(job);
  }

  take(): T | undefined {
    const isDue = this.#background.size > 0 && this.#now() - this.#backgroundAt >= BACKGROUND_EVERY_MS;
    if (this.#demand.size > 0 && !isDue) return this.#demand.take();
    this.#backgroundAt = this.#now();
    return this.#background.take() ?? this.#demand.take();
  }

  /** Takes a job out that is not wanted any more; false if it has left already. */
  remove(job: T): boolean {
    return this.#demand.remove(job) || this.#background.remove(job);
  }

  /** Takes out all that is left. */
  drain(): readonly T[] {
    const jobs: T[] = [];
    for (let job = this.take(); job !== undefined; job = this.take()) jobs.push(job);
    return jobs;
  }
}

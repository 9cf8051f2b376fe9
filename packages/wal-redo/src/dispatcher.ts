/**
 * Which worker gets which request, and when.
 *
 * A page is with one worker at a time: as long as a request for it is under way, further ones go to the same worker, and wait
 * for that one if it is full, while requests for other pages go past them. Otherwise the one with least to do gets it.
 */
import { RedoError } from "./errors.js";
import { RedoQueue } from "./redo-queue.js";
import type { QueuedJob } from "./redo-queue.js";
import type { RedoJob, RedoWorker } from "./redo-worker.js";

/** A part of a request on its way. */
export interface Job extends RedoJob, QueuedJob {
  /** The page. */
  readonly key: string;
  /** Nobody wants the answer any more. */
  isAbandoned: boolean;
}

/** What is asked of a worker here. */
export type WorkerPlace = Pick<RedoWorker, "state" | "inFlight" | "hasRoomFor" | "send" | "ensure">;

/** The worker that a page is with, and how many requests for the page are there. */
interface Place {
  readonly worker: WorkerPlace;
  count: number;
}

export class Dispatcher {
  readonly #workers: readonly WorkerPlace[];
  readonly #queue: RedoQueue<Job>;
  readonly #onFree: () => void;
  readonly #places = new Map<string, Place>();
  /** Jobs for a page whose worker is full, by worker, in order. */
  readonly #parked = new Map<WorkerPlace, Job[]>();
  #parkedCount = 0;
  #isStopped = false;

  /**
   * @param now milliseconds since an arbitrary moment
   * @param onFree a job has left the queue
   */
  constructor(workers: readonly WorkerPlace[], now: () => number, onFree: () => void) {
    this.#workers = workers;
    this.#queue = new RedoQueue(now);
    this.#onFree = onFree;
  }

  /** Jobs that no worker has yet. */
  get size(): number {
    return this.#queue.size + this.#parkedCount;
  }

  add(job: Job): void {
    this.#queue.add(job);
    this.dispatch();
  }

  /** Takes out a job that is not wanted any more; false if a worker has it. */
  remove(job: Job): boolean {
    return this.#queue.remove(job) || this.#unpark(job);
  }

  /** Must be told of every job that was answered or has failed. */
  leave(job: Job): void {
    const place = this.#places.get(job.key);
    if (place === undefined) return;
    place.count -= 1;
    if (place.count === 0) this.#places.delete(job.key);
  }

  /** Gives no job away any more; gives back those that are left. */
  stop(): readonly Job[] {
    this.#isStopped = true;
    const parked = [...this.#parked.values()].flat();
    this.#parked.clear();
    this.#parkedCount = 0;
    return [...this.#queue.drain(), ...parked];
  }

  /** Gives jobs to workers as long as some worker takes one; to be called whenever one may. */
  dispatch(): void {
    if (this.#isStopped) return;
    for (const worker of this.#workers) this.#sendParked(worker);
    while (this.#queue.size > 0) {
      const free = this.#workers.filter((worker) => worker.hasRoomFor(0));
      if (free.length === 0) return;
      const job = this.#queue.take();
      if (job === undefined) return;
      const worker = this.#enter(job, free);
      const isFirst = (this.#parked.get(worker)?.length ?? 0) === 0;
      if (!isFirst || !worker.hasRoomFor(job.bytes)) {
        this.#park(worker, job);
        continue;
      }
      this.#onFree();
      this.#give(worker, job);
    }
  }

  #sendParked(worker: WorkerPlace): void {
    const jobs = this.#parked.get(worker) ?? [];
    for (let [job] = jobs; job !== undefined && worker.hasRoomFor(job.bytes); [job] = jobs) {
      jobs.shift();
      this.#parkedCount -= 1;
      this.#onFree();
      this.#give(worker, job);
    }
  }

  #give(worker: WorkerPlace, job: Job): void {
    if (worker.state === "ready" || worker.state === "busy") {
      worker.send(job);
      return;
    }
    worker.ensure().then(
      () => {
        if (job.isAbandoned) this.leave(job);
        else if (worker.state === "absent") {
          job.failed(new RedoError("ERR_REDO_PROCESS_DIED", undefined, "the worker ended"));
        } else worker.send(job);
      },
      (error: unknown) => job.failed(error as RedoError),
    );
  }

  #park(worker: WorkerPlace, job: Job): void {
    const jobs = this.#parked.get(worker);
    if (jobs === undefined) this.#parked.set(worker, [job]);
    else jobs.push(job);
    this.#parkedCount += 1;
  }

  #unpark(job: Job): boolean {
    for (const jobs of this.#parked.values()) {
      const at = jobs.indexOf(job);
      if (at < 0) continue;
      jobs.splice(at, 1);
      this.#parkedCount -= 1;
      this.leave(job);
      return true;
    }
    return false;
  }

  /** The worker that the job's page is with from now on. */
  #enter(job: Job, free: readonly WorkerPlace[]): WorkerPlace {
    const place = this.#places.get(job.key);
    if (place !== undefined) {
      place.count += 1;
      return place.worker;
    }
    const worker = free.reduce((best, each) => (each.inFlight < best.inFlight ? each : best));
    this.#places.set(job.key, { worker, count: 1 });
    return worker;
  }
}

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
}

/** Jobs that wait for a worker while it is being started. */
const WAIT_FOR_START_MAX = 16;

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
  /** Jobs that wait for a worker which is full or being started, in order. */
  readonly #parked = new Map<WorkerPlace, Job[]>();
  #parkedCount = 0;
  readonly #starting = new Set<WorkerPlace>();
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
      const free = this.#workers.filter((worker) => this.#isFree(worker));
      if (free.length === 0) return;
      const job = this.#queue.take();
      if (job === undefined) return;
      const worker = this.#enter(job, free);
      this.#park(worker, job);
      this.#sendParked(worker);
    }
  }

  /** Whether a worker is there for pages that no worker has. */
  #isFree(worker: WorkerPlace): boolean {
    const parked = this.#parked.get(worker)?.length ?? 0;
    return isRunning(worker) ? parked === 0 && worker.hasRoomFor(0) : parked < WAIT_FOR_START_MAX;
  }

  #sendParked(worker: WorkerPlace): void {
    const jobs = this.#parked.get(worker) ?? [];
    if (jobs.length > 0 && !isRunning(worker)) this.#start(worker);
    for (
      let [job] = jobs;
      job !== undefined && isRunning(worker) && worker.hasRoomFor(job.bytes);
      [job] = jobs
    ) {
      jobs.shift();
      this.#parkedCount -= 1;
      this.#onFree();
      worker.send(job);
    }
  }

  /** Starts a worker for those that wait for it. If it does not start, all of them are told. */
  #start(worker: WorkerPlace): void {
    if (this.#starting.has(worker)) return;
    this.#starting.add(worker);
    worker.ensure().then(
      () => {
        this.#starting.delete(worker);
        if (isRunning(worker)) this.dispatch();
        else
          this.#failParked(
            worker,
            new RedoError("ERR_REDO_PROCESS_DIED", undefined, "the worker ended at once"),
          );
      },
      (error: unknown) => {
        this.#starting.delete(worker);
        this.#failParked(worker, error as RedoError);
      },
    );
  }

  #failParked(worker: WorkerPlace, error: RedoError): void {
    const jobs = this.#parked.get(worker)?.splice(0) ?? [];
    this.#parkedCount -= jobs.length;
    for (const job of jobs) {
      this.#onFree();
      job.failed(error);
    }
    this.dispatch();
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

function isRunning(worker: WorkerPlace): boolean {
  return worker.state === "ready" || worker.state === "busy";
}

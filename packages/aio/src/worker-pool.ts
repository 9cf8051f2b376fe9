/**
 * The supervisor of the I/O workers: how many there are, who is replaced, who has to leave.
 *
 * A new worker takes the lowest free slot; when there are too many the one in the highest slot is asked to leave, one at
 * a time. A worker that dies is replaced, and what it had in its hands is not lost: an I/O that it had not finished goes
 * back to the queue once (reads and writes at a position can be repeated), or is completed from the result it had
 * already recorded. The supervisor lives on the thread that made the system and never sleeps there.
 */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";

import type { Completer } from "./completion.js";
import { executeNow, settle } from "./execute.js";
import { HANDLE_STATE } from "./handle-state.js";
import { IO_WORKERS_MAX, QUEUE, WORKER } from "./layout.js";
import { breakLock } from "./mutex.js";
import { hasStopped } from "./panic.js";
import type { AioShared, ThreadContext } from "./thread-context.js";
import { LEFT_IDLE, WORKER_ID_BASE } from "./worker-loop.js";
import type { WorkerOrder } from "./worker-main.js";
import { waitAsync } from "./wait-async.js";
import { wakeAll } from "./wake-all.js";
import { WorkerQueue } from "./worker-queue.js";

/** Limits between which the number of workers follows the load. */
export interface AutoSizing {
  /** Kept whatever happens; 1..32, 2 unless said otherwise. */
  readonly min?: number;
  /** Never exceeded; min..32, 8 unless said otherwise. */
  readonly max?: number;
  /** A worker above the minimum leaves after that long without work; -1: never. 60,000 unless said otherwise. */
  readonly idleTimeoutMs?: number;
  /** At most one worker is added in this time. 100 unless said otherwise. */
  readonly launchIntervalMs?: number;
}

/** Time and timers; a test brings its own. */
export interface PoolClock {
  now(): number;
  setTimer(callback: () => void, delayMs: number): { cancel(): void };
}

/** Workers in a row that end before they reach their loop; after that none is started any more. */
const FAILED_STARTS_MAX = 3;
/** Pause before the next attempt to get a lock whose holder is gone. */
const LOOK_AGAIN_MS = 1;
const AUTO_SIZING_DEFAULTS = { min: 2, max: 8, idleTimeoutMs: 60_000, launchIntervalMs: 100 } as const;

const systemClock: PoolClock = {
  now: () => performance.now(),
  setTimer(callback, delayMs) {
    const timer = setTimeout(callback, delayMs).unref();
    return { cancel: () => clearTimeout(timer) };
  },
};

/** What the pool works with. */
export interface WorkerPoolOptions {
  readonly context: ThreadContext;
  readonly shared: AioShared;
  readonly completer: Completer;
  readonly registryModule: string | undefined;
  readonly registryData?: unknown;
  /** Flags of Node for the workers' threads; none of the parent's are inherited. */
  readonly execArgv?: readonly string[];
  readonly clock?: PoolClock;
}

/** @throws {RangeError} not 1..32 */
export function checkWorkerCount(count: number): void {
  if (!Number.isInteger(count) || count < 1 || count > IO_WORKERS_MAX) {
    throw new RangeError(`from 1 to ${IO_WORKERS_MAX} I/O workers, not ${count}`);
  }
}

/** The workers of one system. */
export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #words: Int32Array;
  readonly #queueAt: number;
  readonly #queue: WorkerQueue;
  readonly #clock: PoolClock;
  readonly #workers = new Map<number, Worker>();
  readonly #ended: (() => void)[] = [];
  #wanted = 0;
  #failedStarts = 0;
  #startError: unknown;
  #isClosing = false;
  #sizing: Required<AutoSizing> | undefined;
  #lastLaunch = Number.NEGATIVE_INFINITY;
  #launchTimer: { cancel(): void } | undefined;

  constructor(options: WorkerPoolOptions) {
    const { words, layout } = options.context;
    this.#options = options;
    this.#words = words;
    this.#queueAt = layout.queueAt;
    this.#queue = new WorkerQueue(words, layout, WORKER_ID_BASE - 1, false);
    this.#clock = options.clock ?? systemClock;
  }

  /** Workers that run, by slot. */
  get slots(): number[] {
    return [...this.#workers.keys()].sort((a, b) => a - b);
  }

  /**
   * Why no worker runs any more: the error with which they failed to start, several in a row. Issuers then execute
   * their I/O themselves. undefined as long as all is well.
   */
  get startError(): unknown {
    return this.#failedStarts >= FAILED_STARTS_MAX ? this.#startError : undefined;
  }

  /** The thread in a slot, for tests that kill it. */
  workerAt(slot: number): Worker | undefined {
    return this.#workers.get(slot);
  }

  /** Sets how many workers there should be; they come and go by themselves. @throws {RangeError} not 1..32 */
  setSize(count: number): void {
    checkWorkerCount(count);
    this.#wanted = count;
    this.#adjust();
  }

  /** Lets the number of workers follow the load. @throws {RangeError} the limits are not 1 <= min <= max <= 32 */
  setAutoSizing(sizing: AutoSizing): void {
    const limits = { ...AUTO_SIZING_DEFAULTS, ...sizing };
    checkWorkerCount(limits.min);
    checkWorkerCount(limits.max);
    if (limits.min > limits.max)
      throw new RangeError(`at least ${limits.min} workers, but at most ${limits.max}`);
    const first = this.#sizing === undefined;
    this.#sizing = limits;
    this.#words[this.#queueAt + QUEUE.workersMax] = limits.max;
    this.#words[this.#queueAt + QUEUE.idleTimeoutMs] = limits.idleTimeoutMs;
    this.#words[this.#queueAt + QUEUE.workersMin] = limits.min;
    this.#wanted = Math.min(limits.max, Math.max(limits.min, this.#wanted));
    this.#adjust();
    if (first) this.#awaitGrowth();
  }

  /** Resolves when as many workers run as are wanted. */
  async settled(): Promise<void> {
    while (!this.#isClosing && this.#workers.size !== this.#wanted) {
      await new Promise<void>((resolve) => void this.#ended.push(resolve));
    }
  }

  /** Resolves when a worker has ended the next time, and perhaps been replaced, or one was added. */
  async changed(): Promise<void> {
    await new Promise<void>((resolve) => void this.#ended.push(resolve));
  }

  /** Lets all workers finish what is queued and ends them. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#wanted = 0;
    this.#launchTimer?.cancel();
    Atomics.add(this.#words, this.#queueAt + QUEUE.growBell, 1);
    Atomics.notify(this.#words, this.#queueAt + QUEUE.growBell);
    for (const slot of this.#workers.keys()) this.#askToLeave(slot);
    while (this.#workers.size > 0) {
      await new Promise<void>((resolve) => void this.#ended.push(resolve));
    }
  }

  #adjust(): void {
    while (this.#workers.size < this.#wanted) this.#start();
    if (this.#workers.size > this.#wanted) this.#askToLeave(Math.max(...this.#workers.keys()));
  }

  #start(): void {
    let slot = 0;
    while (this.#workers.has(slot)) slot++;
    const at = this.#options.context.layout.workersAt + slot * WORKER.words;
    this.#words[at + WORKER.current] = 0;
    this.#words[at + WORKER.leave] = 0;
    this.#words[at + WORKER.ios] = 0;
    this.#words[at + WORKER.wakeups] = 0;
    this.#words[at + WORKER.started] = 0;
    const { shared, registryModule, registryData, execArgv = [] } = this.#options;
    const workerData: WorkerOrder = { shared, slot, registryModule, registryData };
    const worker = new Worker(workerMainUrl(), { workerData, execArgv: [...execArgv] });
    worker.unref();
    this.#workers.set(slot, worker);
    Atomics.or(this.#words, this.#queueAt + QUEUE.workerMask, 1 << slot);
    // What ended it has been turned into the result of an I/O; the end itself is dealt with below.
    let hasFailed = false;
    worker.on("error", (error) => {
      hasFailed = true;
      this.#startError = error;
    });
    worker.on("exit", () => this.#onExit(slot, hasFailed));
  }

  #askToLeave(slot: number): void {
    const at = this.#options.context.layout.workersAt + slot * WORKER.words;
    Atomics.store(this.#words, at + WORKER.leave, 1);
    this.#workers.get(slot)?.ref();
    this.#queue.wake(slot);
  }

  #onExit(slot: number, hasFailed: boolean): void {
    this.#workers.delete(slot);
    Atomics.and(this.#words, this.#queueAt + QUEUE.workerMask, ~(1 << slot));
    this.#tidyUp(slot);
    this.#countStart(slot, hasFailed);
    const isShrinking = this.#sizing !== undefined && this.#wanted > this.#sizing.min && !this.#isClosing;
    if (isShrinking && this.#leftIdle(slot)) this.#wanted -= 1;
    if (hasStopped(this.#words)) this.#wanted = this.#workers.size;
    else if (!this.#isClosing) this.#adjust();
    // Whoever is the highest now sleeps without a limit of time, and takes one when it is woken.
    this.#queue.wakeAll();
    if (this.#workers.size === 0 && !hasStopped(this.#words)) this.#drainQueue();
    for (const resolve of this.#ended.splice(0)) resolve();
  }

  /** Gives up when workers end as soon as they start: a module that cannot be loaded, a registry that differs. */
  #countStart(slot: number, hasFailed: boolean): void {
    const at = this.#options.context.layout.workersAt + slot * WORKER.words;
    if (this.#words[at + WORKER.started] !== 0) this.#failedStarts = 0;
    else if (hasFailed && !this.#isClosing) this.#failedStarts += 1;
    if (this.#failedStarts >= FAILED_STARTS_MAX) this.#wanted = 0;
  }

  /** Whether a worker left because it had nothing to do: then it is not replaced. */
  #leftIdle(slot: number): boolean {
    const at = this.#options.context.layout.workersAt + slot * WORKER.words;
    return this.#words[at + WORKER.leave] === LEFT_IDLE;
  }

  /** What a dead worker may have left behind: a lock, an idle mark, an I/O. */
  #tidyUp(slot: number): void {
    const { layout, table } = this.#options.context;
    const at = layout.workersAt + slot * WORKER.words;
    const handle = Atomics.load(this.#words, at + WORKER.current) - 1;
    const isSameLife = handle >= 0 && table.generationLow(handle) === this.#words[at + WORKER.generation];
    // It died between writing its record and taking the entry out: then the entry is there for the next worker.
    const isQueued = this.#queue.isLockedBy(WORKER_ID_BASE + slot) && this.#queue.first() === handle;
    breakLock(this.#words, this.#queue.lockAt, WORKER_ID_BASE + slot);
    this.#queue.setIdle(slot, false);
    this.#words[at + WORKER.current] = 0;
    // A stopped system repeats nothing: what stopped it may be the very callback.
    if (isSameLife && !isQueued && !hasStopped(this.#words)) this.#rescue(handle);
    wakeAll(table);
  }

  #rescue(handle: number): void {
    const { context, completer } = this.#options;
    const { table } = context;
    const state = table.state(handle);
    if (state === HANDLE_STATE.completedIo) completer.finish(handle);
    if (state !== HANDLE_STATE.submitted) return;
    const isSecondTime = table.isRetried(handle);
    table.markRetried(handle);
    const mayQueue = !isSecondTime && this.#workers.size > 0;
    if (mayQueue && this.#enqueue(handle)) return;
    completer.complete(handle, settle(context, handle, executeNow(context, handle)));
  }

  #enqueue(handle: number): boolean {
    if (!this.#queue.lock()) return false;
    const isQueued = this.#queue.push(handle);
    const peer = isQueued ? this.#queue.takeIdle() : -1;
    this.#queue.unlock();
    if (peer >= 0) this.#queue.wake(peer);
    return isQueued;
  }

  /** Without any worker, what is queued is executed here: an I/O must not wait for nobody. */
  #drainQueue(): void {
    const { context, completer } = this.#options;
    for (;;) {
      if (!this.#queue.lock()) {
        // A thread died with the lock. Its recovery is one of the next things that this thread does.
        this.#clock.setTimer(() => this.#drainQueue(), LOOK_AGAIN_MS);
        return;
      }
      const handle = this.#queue.first();
      if (handle >= 0) this.#queue.removeFirst();
      this.#queue.unlock();
      if (handle < 0) return;
      completer.complete(handle, settle(context, handle, executeNow(context, handle)));
    }
  }

  #awaitGrowth(): void {
    if (this.#isClosing) return;
    const at = this.#queueAt + QUEUE.growBell;
    void waitAsync(this.#words, at, Atomics.load(this.#words, at)).then(() => {
      this.#grow();
      this.#awaitGrowth();
    });
  }

  /** One worker more, if a worker still wants it, but not sooner than the interval after the last. */
  #grow(): void {
    const sizing = this.#sizing;
    if (sizing === undefined || this.#isClosing || this.#launchTimer !== undefined) return;
    const delay = this.#lastLaunch + sizing.launchIntervalMs - this.#clock.now();
    if (delay > 0) {
      this.#launchTimer = this.#clock.setTimer(() => {
        this.#launchTimer = undefined;
        this.#grow();
      }, delay);
      return;
    }
    if (Atomics.exchange(this.#words, this.#queueAt + QUEUE.growRequested, 0) === 0) return;
    if (this.#wanted >= sizing.max) return;
    this.#lastLaunch = this.#clock.now();
    this.#wanted += 1;
    this.#adjust();
    for (const resolve of this.#ended.splice(0)) resolve();
  }
}

/** The built entry beside the bundle, or in dist when this file runs from its source. */
function workerMainUrl(): URL {
  const beside = new URL("./worker-main.js", import.meta.url);
  return existsSync(fileURLToPath(beside)) ? beside : new URL("../dist/worker-main.js", import.meta.url);
}

/**
 * The queue between those who submit I/O and the I/O workers: a ring of handle numbers, and who of the workers sleeps.
 *
 * Everything here is called with the queue's lock held, but for `wake`. A worker that finds nothing marks itself idle
 * under the lock and notes its wake word there; whoever takes its mark away counts the word up after unlocking. So a
 * wake-up cannot be lost, and a worker that is not idle is never woken. One slot stays empty: head = tail means empty.
 * Each change takes effect by its last store, so that the queue is right whenever the thread that has the lock dies.
 *
 * The design is PostgreSQL 18's method_worker.c.
 */
import { QUEUE, WORKER, WORKER_QUEUE_SLOTS } from "./layout.js";
import type { Layout } from "./layout.js";
import { isLockedBy, lock, spinLock, unlock } from "./mutex.js";

/** Workers that one worker wakes at most. */
export const WAKE_FAN_OUT = 2;
const NONE = -1;

/** The queue of a system, as one thread sees it. */
export class WorkerQueue {
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #workersAt: number;
  readonly #holder: number;
  readonly #mayBlock: boolean;

  /** @param holder this thread's number as a lock holder, from 1 */
  constructor(words: Int32Array, layout: Layout, holder: number, mayBlock: boolean) {
    this.#words = words;
    this.#at = layout.queueAt;
    this.#workersAt = layout.workersAt;
    this.#holder = holder;
    this.#mayBlock = mayBlock;
  }

  get lockAt(): number {
    return this.#at + QUEUE.lock;
  }

  /**
   * Takes the lock. A thread that must not sleep spins: nobody holds it for longer than a few words' changes.
   *
   * @returns false if such a thread did not get it: the holder is not running, or has died and is not recovered yet
   */
  lock(): boolean {
    if (!this.#mayBlock) return spinLock(this.#words, this.lockAt, this.#holder);
    lock(this.#words, this.lockAt, this.#holder);
    return true;
  }

  /** Whether a holder has the lock. */
  isLockedBy(holder: number): boolean {
    return isLockedBy(this.#words, this.lockAt, holder);
  }

  unlock(): void {
    unlock(this.#words, this.lockAt);
  }

  /** Entries in the queue. */
  get depth(): number {
    const { head, tail } = this.#ends();
    return (head - tail) & (WORKER_QUEUE_SLOTS - 1);
  }

  /** @returns false when full */
  push(handle: number): boolean {
    const { head, tail } = this.#ends();
    const next = (head + 1) & (WORKER_QUEUE_SLOTS - 1);
    if (next === tail) return false;
    this.#words[this.#at + QUEUE.entries + head] = handle;
    Atomics.store(this.#words, this.#at + QUEUE.head, next);
    return true;
  }

  /** The entry that is next to be taken, left where it is. @returns -1 when empty */
  first(): number {
    const { head, tail } = this.#ends();
    return head === tail ? NONE : (this.#words[this.#at + QUEUE.entries + tail] as number);
  }

  /** Takes the first entry out. There is one, and whoever takes it has noted down that it has. */
  removeFirst(): void {
    const { tail } = this.#ends();
    Atomics.store(this.#words, this.#at + QUEUE.tail, (tail + 1) & (WORKER_QUEUE_SLOTS - 1));
  }

  /** Every entry, first to last. */
  entries(): number[] {
    const { head, tail } = this.#ends();
    const found: number[] = [];
    for (let at = tail; at !== head; at = (at + 1) & (WORKER_QUEUE_SLOTS - 1)) {
      found.push(this.#words[this.#at + QUEUE.entries + at] as number);
    }
    return found;
  }

  /** Takes the idle mark of the lowest-numbered sleeping worker at or above `from`. @returns its number, or -1 */
  takeIdle(from = 0): number {
    for (;;) {
      const mask = this.#get(QUEUE.idleMask) & (from >= 32 ? 0 : -1 << from);
      if (mask === 0) return NONE;
      const worker = 31 - Math.clz32(mask & -mask);
      // The supervisor takes the mark of a dead worker without the lock.
      if (this.setIdle(worker, false)) return worker;
    }
  }

  /** Sets or takes a worker's mark. @returns whether that changed it */
  setIdle(worker: number, isIdle: boolean): boolean {
    const [at, bit] = [this.#at + QUEUE.idleMask, 1 << worker];
    const before = isIdle ? Atomics.or(this.#words, at, bit) : Atomics.and(this.#words, at, ~bit);
    return ((before & bit) !== 0) !== isIdle;
  }

  isIdle(worker: number): boolean {
    return (this.#get(QUEUE.idleMask) & (1 << worker)) !== 0;
  }

  /** Wakes a worker whose idle mark was taken. Without the lock. */
  wake(worker: number): void {
    const at = this.#workersAt + worker * WORKER.words + WORKER.wake;
    Atomics.add(this.#words, at, 1);
    Atomics.notify(this.#words, at);
  }

  /**
   * Wakes every worker, idle or not. After the death of a thread: it may have taken a worker's idle mark and not have
   * lived to wake it.
   */
  wakeAll(): void {
    for (let rest = this.workerMask; rest !== 0; rest &= rest - 1) this.wake(31 - Math.clz32(rest & -rest));
  }

  /** The bits of the workers there are. */
  get workerMask(): number {
    return Atomics.load(this.#words, this.#at + QUEUE.workerMask);
  }

  #get(word: number): number {
    return this.#words[this.#at + word] as number;
  }

  #ends(): { readonly head: number; readonly tail: number } {
    return { head: this.#get(QUEUE.head), tail: this.#get(QUEUE.tail) };
  }
}

/** How many bits of a mask are set. */
export function countBits(mask: number): number {
  let rest = mask;
  let count = 0;
  for (; rest !== 0; count++) rest &= rest - 1;
  return count;
}

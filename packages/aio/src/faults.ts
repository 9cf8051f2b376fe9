/**
 * Faults on purpose, for tests: in shared memory, so that they strike in whichever thread comes by.
 *
 * Kernel fault injection, strace and LD_PRELOAD libraries do not reach io_uring's data operations, so the core carries
 * its own hook. While nothing is armed it costs one plain load for each I/O. "instead" takes the place of the operation;
 * "afterwards" rewrites what it returned, only downwards, and zeroes the bytes of a read that are then not delivered, so
 * that code which trusts them is seen; "reopen" throws in a worker after it has reopened the file; "idle" counts the
 * workers that go to sleep (`fd` is then their slot). The others stop a thread that may block at the places where its
 * death would do harm, until they are released or the thread is ended.
 */
import { threadId } from "node:worker_threads";

import { AioError } from "./errors.js";
import { FAULT, FAULTS_MAX, HEADER } from "./layout.js";
import type { Layout } from "./layout.js";
import { OPERATION } from "./operations.js";
import type { IoOperation } from "./operations.js";
import { waitAsync } from "./wait-async.js";

const POINTS = {
  instead: 1,
  afterwards: 2,
  reopen: 3,
  idle: 4,
  hold: 5,
  submitted: 6,
  locked: 7,
  queued: 8,
  taken: 9,
  recorded: 10,
  part: 11,
  completed: 12,
} as const;

/** Where a fault strikes. */
export type FaultPoint = keyof typeof POINTS;

/**
 * Where a thread can be stopped: in a worker before it executes an I/O ("hold"), while it takes one out of the queue
 * ("taken"), after it has completed one ("completed"); in an issuer between SUBMITTED and the kernel or the queue
 * ("submitted"), with the queue's lock ("locked"), before it wakes a worker ("queued"); in a completer between
 * COMPLETED_IO and the callbacks ("recorded"), and when one half of a linked write has arrived ("part").
 */
export type HoldPoint = Exclude<FaultPoint, "instead" | "afterwards" | "reopen" | "idle">;

/** A fault to arm. */
export interface FaultSpec {
  readonly point: FaultPoint;
  /** Only this operation; every one without it. */
  readonly operation?: IoOperation;
  /** Only this descriptor; every one without it. */
  readonly fd?: number;
  /** Only in the thread of this id; in every one without it. */
  readonly threadId?: number;
  /** I/Os let through first; 0 without it. */
  readonly skip?: number;
  /** I/Os struck after that; every one without it. */
  readonly times?: number;
  /** A negative errno, or bytes. Used by "instead" and "afterwards". */
  readonly result?: number;
}

/** An armed fault. Disposing disarms it, and releases whoever it holds. */
export interface ArmedFault extends Disposable {
  /** I/Os that have come by so far, let through or struck. */
  readonly hits: number;
  /** Resolves once so many have come by. The caller keeps the process alive. */
  arrived(hits: number): Promise<void>;
}

/** The faults of a system, as one thread sees them. */
export class Faults {
  readonly #words: Int32Array;
  readonly #at: number;

  constructor(words: Int32Array, layout: Layout) {
    this.#words = words;
    this.#at = layout.faultsAt;
  }

  /** Whether there is anything to look at. */
  get isArmed(): boolean {
    return this.#words[HEADER.faultsArmed] !== 0;
  }

  /** @throws {AioError} ERR_AIO_LIMIT: 16 are armed already */
  arm(spec: FaultSpec): ArmedFault {
    const words = this.#words;
    for (let index = 0; index < FAULTS_MAX; index++) {
      const at = this.#at + index * FAULT.words;
      if (words[at + FAULT.armed] !== 0) continue;
      words[at + FAULT.point] = POINTS[spec.point];
      words[at + FAULT.operation] = spec.operation === undefined ? 0 : OPERATION[spec.operation];
      words[at + FAULT.fd] = spec.fd ?? -1;
      words[at + FAULT.thread] = spec.threadId === undefined ? 0 : spec.threadId + 1;
      words[at + FAULT.skip] = spec.skip ?? 0;
      words[at + FAULT.times] = spec.times ?? 0;
      words[at + FAULT.result] = spec.result ?? 0;
      words[at + FAULT.hits] = 0;
      words[at + FAULT.gate] = 0;
      Atomics.store(words, at + FAULT.armed, 1);
      Atomics.add(words, HEADER.faultsArmed, 1);
      return new Armed(words, at);
    }
    throw new AioError("ERR_AIO_LIMIT", `${FAULTS_MAX} faults are armed already`);
  }

  /** The result that a fault at `point` demands for an I/O; undefined if none strikes. */
  strike(point: FaultPoint, operation: number, fd: number): number | undefined {
    for (let index = 0; index < FAULTS_MAX; index++) {
      const at = this.#at + index * FAULT.words;
      if (this.#matches(at, point, operation, fd)) return this.#words[at + FAULT.result];
    }
    return undefined;
  }

  /** Sleeps here while a fault that matches is armed. Only for threads that may block. */
  holdHere(point: HoldPoint, operation: number, fd: number): void {
    for (let index = 0; index < FAULTS_MAX; index++) {
      const at = this.#at + index * FAULT.words;
      if (!this.#matches(at, point, operation, fd)) continue;
      Atomics.wait(this.#words, at + FAULT.gate, 0);
    }
  }

  #matches(at: number, point: FaultPoint, operation: number, fd: number): boolean {
    const words = this.#words;
    if (Atomics.load(words, at + FAULT.armed) === 0 || words[at + FAULT.point] !== POINTS[point])
      return false;
    const [wantedOperation, wantedFd] = [words[at + FAULT.operation], words[at + FAULT.fd]];
    if (wantedOperation !== 0 && wantedOperation !== operation) return false;
    if (wantedFd !== -1 && wantedFd !== fd) return false;
    const wantedThread = words[at + FAULT.thread];
    if (wantedThread !== 0 && wantedThread !== threadId + 1) return false;
    const [skip = 0, times = 0] = [words[at + FAULT.skip], words[at + FAULT.times]];
    const earlier = Atomics.add(words, at + FAULT.hits, 1);
    Atomics.notify(words, at + FAULT.hits);
    return earlier >= skip && (times === 0 || earlier < skip + times);
  }
}

class Armed implements ArmedFault {
  readonly #words: Int32Array;
  readonly #at: number;
  #isArmed = true;
  #hits = 0;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  get hits(): number {
    return this.#isArmed ? Atomics.load(this.#words, this.#at + FAULT.hits) : this.#hits;
  }

  async arrived(hits: number): Promise<void> {
    for (let seen = this.hits; this.#isArmed && seen < hits; seen = this.hits) {
      await waitAsync(this.#words, this.#at + FAULT.hits, seen);
    }
  }

  [Symbol.dispose](): void {
    if (!this.#isArmed) return;
    this.#hits = this.hits;
    this.#isArmed = false;
    Atomics.store(this.#words, this.#at + FAULT.gate, 1);
    Atomics.notify(this.#words, this.#at + FAULT.gate);
    Atomics.store(this.#words, this.#at + FAULT.armed, 0);
    Atomics.sub(this.#words, HEADER.faultsArmed, 1);
  }
}

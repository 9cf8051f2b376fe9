/**
 * What a method of doing I/O has to offer, and what it is given.
 *
 * Each backend has a method object of its own; what they share is in shared memory. `submit` must bring every handle at
 * least to SUBMITTED, through `markSubmitted`. A method without `waitOne` completes I/O without its issuer's help.
 * Callers hold no lock when they call a method.
 */
import type { Completer } from "./completion.js";
import type { ExecutionContext } from "./execute.js";
import type { FileLease } from "./file-table.js";
import type { OwnHandles } from "./own-handles.js";

/** How I/O can be done. "manual" is for tests: a test completes it. */
export type MethodName = "io_uring" | "worker" | "sync" | "manual";

/** Numbers of the methods in shared memory. */
export const METHOD_NUMBER: Readonly<Record<MethodName, number>> = {
  sync: 0,
  worker: 1,
  io_uring: 2,
  manual: 3,
};

/** What a method works with. */
export interface MethodContext extends ExecutionContext {
  /** Number of the backend, from 0. */
  readonly backend: number;
  readonly completer: Completer;
  readonly own: OwnHandles;
  /** Whether this thread may sleep. */
  readonly mayBlock: boolean;
  /**
   * Makes staged handles SUBMITTED, and puts them into the list of I/O in flight. Those whose file takes no I/O any more are
   * completed at once.
   *
   * @returns how many are not: the first places of `handles`
   */
  markSubmitted(handles: Int32Array, count: number): number;
  /** I/O in flight, of this backend. */
  inFlight(): number;
  /** Called when the whole system has to stop. */
  panic(reason: number): void;
}

/** A method at work for one backend. */
export interface IoMethod {
  readonly name: MethodName;
  /** True if this I/O has to be executed by its issuer at once. Without it none has. */
  needsSynchronousExecution?(handle: number): boolean;
  /** Submits staged handles, in order. At most SUBMIT_BATCH. The array is the method's to change. */
  submit(handles: Int32Array, count: number): void;
  /**
   * Brings an I/O of any backend on its way to completion: returns when it is COMPLETED_IO or further, or recycled, or
   * when something else has completed so that it is worth looking again. Blocks, if the thread may.
   */
  waitOne?(handle: number, generation: number): void;
  /** Completes what is ready of another backend's I/O, `handle` or others, without waiting. For threads that cannot sleep. */
  reapFor?(handle: number): void;
  /** Completes what the kernel has ready for this backend, without waiting. @returns I/Os completed */
  poll?(): number;
  /**
   * Calls back on the event loop whenever `poll` would find something.
   *
   * @returns a switch for whether that keeps the process alive
   */
  listen?(onReady: () => void): EventSource;
  /** A lease has ended, and no I/O uses its descriptor: whatever the method keeps of it must go. */
  forgetFile?(lease: FileLease): void;
  /** Gives back what the method holds. The backend has no I/O in flight. */
  close(): void;
}

/** Something that wakes an event loop. */
export interface EventSource {
  /** From now on it keeps the process alive, or does not. */
  keepAlive(isWanted: boolean): void;
  stop(): void;
}

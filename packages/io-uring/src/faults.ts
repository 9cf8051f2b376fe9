/**
 * The fault hook for tests: makes the nth call of an operation fail, or fall short, as if the kernel had said so.
 *
 * Tracers and preloaded libraries do not reach what goes through a ring. Off unless armed: system calls look at one
 * word of the process, reaping at one variable of the thread. A result of zero or more lets a read or write really
 * happen, up to that many bytes; a completion gets the result in place of its own, after the I/O was done.
 */
import { nativeOrThrow } from "./native.js";

/** Positions are those of `enum fault` in csrc/native.h. */
const OPERATIONS = [
  "setup",
  "enter",
  "register",
  "pread",
  "pwrite",
  "preadv",
  "pwritev",
  "fsync",
  "fdatasync",
  "fadvise",
  "fallocate",
  "syncFileRange",
] as const;

/** What can fail: a system call anywhere in the process, or a completion that this thread reaps. */
export type FaultOperation = (typeof OPERATIONS)[number] | "completion";

export interface Fault {
  readonly operation: FaultOperation;
  /** Which call from now on fails; 1, the default, is the next one. */
  readonly nth?: number;
  /** How many in a row fail from there on; 1 by default. */
  readonly times?: number;
  /** A negative errno, or the bytes that a read or write gets to do. */
  readonly result: number;
}

const completions = { pass: 0, times: 0, result: 0 };

/**
 * Arms a fault. A second one for the same operation replaces the first.
 *
 * @throws {UringError} ERR_URING_UNAVAILABLE for system calls without the native part
 */
export function armFault(fault: Fault): void {
  const { operation, nth = 1, times = 1, result } = fault;
  if (!Number.isInteger(nth) || nth < 1) throw new RangeError(`nth: ${nth}`);
  if (!Number.isInteger(times) || times < 1 || times > 0xffff_ffff) throw new RangeError(`times: ${times}`);
  if (!Number.isSafeInteger(result)) throw new RangeError(`result: ${result}`);
  if (operation === "completion") {
    Object.assign(completions, { pass: nth - 1, times, result });
    return;
  }
  const index = OPERATIONS.indexOf(operation);
  if (index < 0) throw new TypeError(`operation: ${operation}`);
  nativeOrThrow().faultArm(index, nth - 1, times, result);
}

/** Disarms everything: system calls for the whole process, completions for this thread. */
export function disarmFaults(): void {
  completions.times = 0;
  OPERATIONS.forEach((_, index) => nativeOrThrow().faultArm(index, 0, 0, 0));
}

/** Whether this thread's completions have to be seen through {@link Ring.peek}, as a fault on them is armed. */
export function hasCompletionFault(): boolean {
  return completions.times !== 0;
}

/** Applies an armed fault to completions that were just copied out. */
export function faultCompletions(out: Int32Array, count: number): void {
  if (completions.times === 0) return;
  for (let index = 0; index < count && completions.times > 0; index++) {
    if (completions.pass > 0) completions.pass -= 1;
    else {
      completions.times -= 1;
      out[index * 4 + 2] = completions.result;
    }
  }
}

/**
 * Panic: the end of a system that cannot trust its own state any more.
 *
 * One word of the header, set once. Every call looks at it, and everybody who sleeps on a handle is woken to see it. In
 * PostgreSQL the same events bring the server down; a library can only refuse to go on.
 */
import { AioError } from "./errors.js";
import type { HandleTable } from "./handle-table.js";
import { ALARM_BIT } from "./handle-state.js";
import { HEADER } from "./layout.js";
import { wakeAll } from "./wake-all.js";

/** Why a system stopped: the value of the header's panic word. */
export const PANIC = { none: 0, callbackThrew: 1, submitFailed: 2, walFailed: 3 } as const;

const REASONS: readonly string[] = [
  "",
  "an exception escaped from a callback of an I/O",
  "the kernel did not accept submitted I/O",
  "a write or a sync of WAL failed",
];

/** What stopped a system, where it happened in this thread; by its memory. */
const causes = new WeakMap<ArrayBufferLike, unknown>();

/**
 * Stops the system; the first reason stays. Everybody asleep on a handle, a bell or a ring wakes up to it.
 *
 * @param cause what was thrown; the `cause` of the errors that this thread sees from now on
 */
export function panic(table: HandleTable, reason: number, cause?: unknown): void {
  const { words } = table;
  if (Atomics.compareExchange(words, HEADER.panic, PANIC.none, reason) !== PANIC.none) return;
  if (cause !== undefined) causes.set(words.buffer, cause);
  for (let handle = 0; handle < table.count; handle++) Atomics.or(words, table.at(handle), ALARM_BIT);
  wakeAll(table);
}

/** Whether the system has stopped. */
export function hasStopped(words: Int32Array): boolean {
  return Atomics.load(words, HEADER.panic) !== PANIC.none;
}

/** @throws {AioError} ERR_AIO_PANIC: the system has stopped */
export function checkPanic(words: Int32Array): void {
  const reason = Atomics.load(words, HEADER.panic);
  if (reason !== PANIC.none) throw panicError(reason, causes.get(words.buffer));
}

/** The error for a panic word that is not 0. */
export function panicError(reason: number, cause?: unknown): AioError {
  const message = `asynchronous I/O has stopped: ${REASONS[reason] ?? `reason ${reason}`}`;
  return new AioError("ERR_AIO_PANIC", message, cause === undefined ? undefined : { cause });
}

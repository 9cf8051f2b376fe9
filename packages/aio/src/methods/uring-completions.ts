/**
 * Taking completions from a ring: what the owner, another thread at need, and the supervisor after a death all do.
 *
 * Under the ring's lock every result is recorded in its handle, then the kernel is told that the completions have been
 * seen, then the callbacks run. A reaper may die anywhere in between: a completion that was recorded and not yet taken
 * out is met again by the next reaper and told by the handle's state, generation or missing part.
 */
import { ForeignRing } from "@millrace/io-uring";

import { isTransient, settle } from "../execute.js";
import type { ExecutionContext } from "../execute.js";
import { HANDLE_STATE, STATE_MASK } from "../handle-state.js";
import { BACKEND, HANDLE } from "../layout.js";
import type { MethodContext } from "../method.js";
import { FLAG } from "../operations.js";

/** Completions taken in one pass. */
const REAP_MAX = 32;
const COMPLETION_WORDS = 4;
/** Marks the second half of a write that is linked to its sync, in the user data. */
export const SYNC_PART: number = 1 << 31;
/** The bits of a generation in the user data. */
export const GENERATION_MASK = 0x0fff_ffff;
/** Bits of a handle's `partsLeft`. */
export const OPERATION_PART = 1;
export const LINKED_PART = 2;

/** Completions of one ring, for whoever reaps it. */
export interface Completions {
  readonly ready: number;
  peek(out: Int32Array, max: number): number;
  advance(count: number): void;
}

/** Scratch of this thread. A drain never starts another one: callbacks start no I/O. */
const out = new Int32Array(REAP_MAX * COMPLETION_WORDS);
const recorded = new Int32Array(REAP_MAX);

/** What completing needs, of a backend or of the supervisor. */
type DrainContext = ExecutionContext & Pick<MethodContext, "completer">;

/**
 * Completes what a ring has ready. The caller holds the ring's lock.
 *
 * @returns I/Os completed
 */
export function drainRing(context: DrainContext, ring: Completions): number {
  const { completer } = context;
  let left = ring.ready;
  let completed = 0;
  while (left > 0) {
    const count = ring.peek(out, Math.min(left, REAP_MAX));
    if (count <= 0) break;
    left -= count;
    let known = 0;
    for (let index = 0; index < count; index++) {
      const at = index * COMPLETION_WORDS;
      const handle = out[at] as number;
      if (!accept(context, handle, out[at + 1] as number, out[at + 2] as number)) continue;
      recorded[known] = handle;
      known += 1;
    }
    ring.advance(count);
    for (let index = 0; index < known; index++) completer.finish(recorded[index] as number);
    completed += known;
  }
  return completed;
}

/** Records one completion. @returns whether its I/O is COMPLETED_IO by it */
function accept(context: DrainContext, handle: number, userHigh: number, result: number): boolean {
  const { table, completer } = context;
  if (handle < 0 || handle >= table.count) return false;
  const at = table.at(handle);
  const { words } = table;
  // Plain: the ring's lock and the completion itself come after whatever was stored here.
  const word = words[at] as number;
  // One that was recorded before its reaper died, or a stray of an earlier life.
  if ((word & STATE_MASK) !== HANDLE_STATE.submitted) return false;
  if (word >>> 4 !== (userHigh & GENERATION_MASK)) return false;
  const isSyncPart = (userHigh & SYNC_PART) !== 0;
  words[at + (isSyncPart ? HANDLE.syncPart : HANDLE.firstPart)] = result;
  // A bit each, not a count: a reaper may die here, and then the same completion is seen again.
  const partsLeft = (words[at + HANDLE.partsLeft] as number) & ~(isSyncPart ? LINKED_PART : OPERATION_PART);
  words[at + HANDLE.partsLeft] = partsLeft;
  if (partsLeft !== 0) {
    const { faults } = context;
    if (faults.isArmed) {
      faults.holdHere("part", words[at + HANDLE.operation] as number, words[at + HANDLE.fd] as number);
    }
    return false;
  }
  const isSynced = (words[at + HANDLE.flags] as number) & (FLAG.thenDataSync | FLAG.thenSync);
  const raw = isSynced === 0 ? result : joinParts(words, at);
  completer.record(handle, isTransient(raw) ? settle(context, handle, raw) : raw);
  return true;
}

/** A linked write and sync as one result: the write's, unless it was whole and the sync failed. */
function joinParts(words: Int32Array, at: number): number {
  const written = words[at + HANDLE.firstPart] as number;
  const synced = words[at + HANDLE.syncPart] as number;
  const isWhole = written === (words[at + HANDLE.lengthBytes] as number);
  return isWhole && synced < 0 ? synced : written;
}

/** Another thread's ring; undefined if it has closed it. */
export function attachIfOpen(id: number): ForeignRing | undefined {
  try {
    return ForeignRing.attach(id);
  } catch (error) {
    if ((error as { code?: unknown }).code === "ERR_URING_NOT_FOUND") return undefined;
    throw error;
  }
}

/** Says that the kernel has been handed a backend's submissions below `entered`, or that they were seen to otherwise. */
export function announceEntered(words: Int32Array, backendAt: number, entered: number): void {
  Atomics.store(words, backendAt + BACKEND.entered, entered);
  if (Atomics.load(words, backendAt + BACKEND.enteredWaiters) !== 0) {
    Atomics.notify(words, backendAt + BACKEND.entered);
  }
}

/**
 * Taking completions from a ring: what the owner, another thread at need, and the supervisor after a death all do.
 *
 * Under the ring's lock every result is recorded in its handle, then the kernel is told that the completions have been
 * seen, then the callbacks run. A reaper may die anywhere in between: a completion that was recorded and not yet taken
 * out is met again by the next reaper and told by the handle's state, generation or missing part.
 */
import { ForeignRing, hasCompletionFault } from "@millrace/io-uring";
import type { Ring } from "@millrace/io-uring";

import { isTransient, settle } from "../execute.js";
import type { ExecutionContext } from "../execute.js";
import { HANDLE_STATE, STATE_BITS, STATE_MASK } from "../handle-state.js";
import { BACKEND, byteAt, HANDLE, META } from "../layout.js";
import type { MethodContext } from "../method.js";
import { FLAG } from "../operations.js";
import type { OwnHandles } from "../own-handles.js";

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

/** No raw result: those are not below -4095. */
const NOT_OVER = -(2 ** 31);

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
      const raw = resultOf(context, handle, out[at + 1] as number, out[at + 2] as number);
      if (raw === NOT_OVER) continue;
      completer.record(handle, raw);
      recorded[known] = handle;
      known += 1;
    }
    ring.advance(count);
    for (let index = 0; index < known; index++) completer.finish(recorded[index] as number);
    completed += known;
  }
  return completed;
}

/**
 * Completes what the own ring of this thread's backend has ready. The caller holds the ring's lock.
 *
 * In one go for each I/O, from the completion to IDLE: whoever comes after a death in between meets the same completions
 * again, and tells those that are done by their generation. The kernel hears of them afterwards, which is the fence after
 * which sleepers are looked for. As callbacks may take their time, they are looked for after each I/O as well.
 *
 * @returns I/Os completed
 */
export function drainOwnRing(context: DrainContext, own: OwnHandles, backend: number, ring: Ring): number {
  if (hasCompletionFault()) return drainRing(context, ring);
  const { table, completer } = context;
  const { queues } = ring;
  let left = ring.ready;
  let completed = 0;
  while (left > 0) {
    const count = Math.min(left, REAP_MAX);
    const { words, head } = queues;
    let known = 0;
    for (let index = 0; index < count; index++) {
      const at = queues.completionAt(head + index);
      const handle = words[at] as number;
      const raw = resultOf(context, handle, words[at + 1] as number, words[at + 2] as number);
      if (raw === NOT_OVER) continue;
      completer.completeOwn(own, handle, raw);
      if (table.mayHaveSleepers(backend)) table.wakeIfSlept(handle);
      recorded[known] = handle;
      known += 1;
    }
    queues.retire(count);
    left -= count;
    completed += known;
    if (!table.hasSleepers(backend)) continue;
    for (let index = 0; index < known; index++) table.wakeIfSlept(recorded[index] as number);
  }
  return completed;
}

/** The raw result of an I/O by one of its completions; NOT_OVER if another is still to come, or it is not this I/O's. */
function resultOf(context: DrainContext, handle: number, userHigh: number, result: number): number {
  const { table } = context;
  if (handle < 0 || handle >= table.count) return NOT_OVER;
  const at = table.at(handle);
  const { words } = table;
  // Plain: the ring's lock and the completion itself come after whatever was stored here.
  const word = words[at] as number;
  // One that was recorded before its reaper died, or a stray of an earlier life.
  if ((word & STATE_MASK) !== HANDLE_STATE.submitted) return NOT_OVER;
  if (word >>> STATE_BITS !== (userHigh & GENERATION_MASK)) return NOT_OVER;
  const raw = isSynced(words[at + HANDLE.meta] as number) ? joinParts(context, at, userHigh, result) : result;
  return raw < 0 && isTransient(raw) ? settle(context, handle, raw) : raw;
}

function isSynced(meta: number): boolean {
  return (meta & ((FLAG.thenDataSync | FLAG.thenSync) << META.flags)) !== 0;
}

/**
 * A linked write and sync as one result: the write's, unless it was whole and the sync failed. NOT_OVER before both are
 * there.
 */
function joinParts({ table, faults }: DrainContext, at: number, userHigh: number, result: number): number {
  const { words } = table;
  const isSyncPart = (userHigh & SYNC_PART) !== 0;
  words[at + (isSyncPart ? HANDLE.syncPart : HANDLE.firstPart)] = result;
  // A bit each, not a count: a reaper may die here, and then the same completion is seen again.
  const partsLeft = (words[at + HANDLE.partsLeft] as number) & ~(isSyncPart ? LINKED_PART : OPERATION_PART);
  words[at + HANDLE.partsLeft] = partsLeft;
  if (partsLeft !== 0) {
    if (faults.isArmed) {
      const operation = byteAt(words[at + HANDLE.meta] as number, META.operation);
      faults.holdHere("part", operation, words[at + HANDLE.fd] as number);
    }
    return NOT_OVER;
  }
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

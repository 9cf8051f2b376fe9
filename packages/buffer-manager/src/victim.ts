/**
 * Victims: buffers made free for another page. One comes pinned once, clean and without a tag.
 *
 * What the clock selects is pinned, and then may turn out to be in use after all: somebody found it through its old tag,
 * dirtied it again, locked it. Then it is let go of and the search goes on; nothing is ever waited for but the write of a
 * dirty page, whose WAL comes first. After GetVictimBuffer of PostgreSQL 18.
 */
import type { BackendContext } from "./backend-context.js";
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import type { ClockSweep } from "./clock-sweep.js";
import type { ContentLocks } from "./content-locks.js";
import type { MappingContext, MappingTable } from "./mapping.js";
import type { Mutexes } from "./mutex.js";
import { pageLsn } from "./page-lsn.js";
import { ringInUse } from "./ring.js";
import type { Ring } from "./ring.js";
import { COUNTED } from "./statistics.js";
import type { Waiting } from "./waiting.js";

/** What writes a victim's page. */
export interface VictimWriter {
  /**
   * Writes a page, its WAL first. The buffer is pinned, its content lock held shared.
   *
   * @param context that the write is charged to, of `CONTEXT`
   */
  flush(buffer: number, context: number): Waiting<void>;
  /** After that, without the lock: may have the kernel begin to write back. */
  flushed?(buffer: number, context: number): void;
}

/** What finding victims needs of its backend. */
export type VictimContext = MappingContext &
  Pick<
    BackendContext,
    "words" | "layout" | "headers" | "pins" | "counters" | "frames" | "wal" | "reach" | "id" | "mayBlock"
  >;

/** The parts of a backend that victims are found with. */
export interface VictimParts {
  readonly mutexes: Mutexes;
  readonly mapping: MappingTable;
  readonly sweep: ClockSweep;
  readonly locks: ContentLocks;
  readonly writer: VictimWriter;
}

const NONE = -1;

/** What trying to take a victim's page out of the pool came to. */
const VACATE = { done: 0, inUse: 1, mustWait: 2 } as const;
type VacateOutcome = (typeof VACATE)[keyof typeof VACATE];

/** Finds victims for one backend. */
export class Victims {
  readonly #context: VictimContext;
  readonly #parts: VictimParts;
  /** What `tryGet` has selected and pinned, and left to `get`. */
  #selected = NONE;
  #isSelectedFromRing = false;

  constructor(context: VictimContext, parts: VictimParts) {
    this.#context = context;
    this.#parts = parts;
  }

  /** Whether `tryGet` has left a buffer to `get`. */
  get hasSelected(): boolean {
    return this.#selected >= 0;
  }

  /**
   * Makes a buffer free, where nothing has to be waited for: no page to be written, no mutex that is taken. This is what nearly
   * every miss needs, and it makes no generator.
   *
   * @param context that its eviction is charged to, of `CONTEXT`
   * @returns its index; pinned once, clean, without a tag. -1 if it must be waited: `get` goes on with what was selected, and
   *   has to be called before this flow lets go of the thread. Until then nothing else is selected
   * @throws {BufferError} ERR_BUFFER_NO_UNPINNED
   */
  tryGet(ring: Ring | null, context: number): number {
    const { pins } = this.#context;
    const { sweep } = this.#parts;
    if (this.hasSelected) return NONE;
    for (;;) {
      const buffer = sweep.getVictim(ring);
      let outcome: VacateOutcome = VACATE.inUse;
      try {
        outcome = this.#tryVacate(buffer, sweep.isFromRing, context);
      } finally {
        if (outcome === VACATE.inUse) pins.unpin(buffer);
      }
      if (outcome === VACATE.done) return buffer;
      if (outcome === VACATE.mustWait) {
        this.#selected = buffer;
        this.#isSelectedFromRing = sweep.isFromRing;
        return NONE;
      }
    }
  }

  /**
   * Makes a buffer free.
   *
   * @param context that its write and its eviction are charged to, of `CONTEXT`
   * @returns its index; pinned once, clean, without a tag
   * @throws {BufferError} ERR_BUFFER_NO_UNPINNED; what writing a page throws
   */
  *get(ring: Ring | null, context: number): Waiting<number> {
    const { pins } = this.#context;
    const { sweep } = this.#parts;
    for (;;) {
      const selected = this.#selected;
      this.#selected = NONE;
      const buffer = selected >= 0 ? selected : sweep.getVictim(ring);
      const isFromRing = selected >= 0 ? this.#isSelectedFromRing : sweep.isFromRing;
      let isTaken = false;
      try {
        isTaken = yield* this.#vacate(buffer, ring, isFromRing, context);
      } finally {
        if (!isTaken) pins.unpin(buffer);
      }
      if (isTaken) return buffer;
    }
  }

  #tryVacate(buffer: number, isFromRing: boolean, context: number): VacateOutcome {
    const { headers, reach } = this.#context;
    const state = headers.state(buffer);
    if ((state & STATE.dirty) !== 0) return VACATE.mustWait;
    if ((state & STATE.tagValid) === 0) {
      reach("victim:selected", buffer);
      this.#countVacated(state, isFromRing, context);
      reach("victim:before-invalidate", buffer);
      return VACATE.done;
    }
    const { mapping, mutexes } = this.#parts;
    const bucket = mapping.bucketOfBuffer(buffer);
    const mutex = mapping.mutexOf(bucket);
    reach("victim:selected", buffer);
    reach("victim:before-invalidate", buffer);
    if (!mutexes.tryLock(mutex)) return VACATE.mustWait;
    try {
      this.#countVacated(state, isFromRing, context);
      return this.#removeAlone(bucket, buffer) ? VACATE.done : VACATE.inUse;
    } finally {
      mutexes.unlock(mutex);
    }
  }

  *#vacate(buffer: number, ring: Ring | null, isFromRing: boolean, context: number): Waiting<boolean> {
    const { headers, reach } = this.#context;
    const state = headers.state(buffer);
    reach("victim:selected", buffer);
    if ((state & STATE.dirty) !== 0) {
      const isClean = yield* this.#clean(buffer, ring, isFromRing, context);
      if (!isClean) return false;
    }
    this.#countVacated(state, isFromRing, context);
    reach("victim:before-invalidate", buffer);
    return (state & STATE.tagValid) === 0 || (yield* this.invalidate(buffer));
  }

  #countVacated(state: number, isFromRing: boolean, context: number): void {
    if ((state & STATE.valid) === 0) return;
    this.#context.counters.count(isFromRing ? COUNTED.reuse : COUNTED.evict, context, false);
  }

  /** @returns false if the page is locked, or the ring would rather have another buffer */
  *#clean(buffer: number, ring: Ring | null, isFromRing: boolean, context: number): Waiting<boolean> {
    const { locks, writer } = this.#parts;
    if (!locks.tryLock(buffer, "shared")) return false;
    try {
      if (this.#isRejected(buffer, ringInUse(ring), isFromRing)) return false;
      yield* writer.flush(buffer, context);
    } finally {
      locks.unlock(buffer);
    }
    writer.flushed?.(buffer, context);
    return true;
  }

  #isRejected(buffer: number, ring: Ring | null, isFromRing: boolean): boolean {
    if (ring === null || !isFromRing) return false;
    const { headers, frames, wal } = this.#context;
    const state = headers.lock(buffer);
    const lsn = pageLsn(frames, buffer);
    headers.unlock(buffer, state);
    // What is not in the WAL has an LSN that says nothing about the WAL.
    const isDurable = (state & STATE.permanent) === 0 || wal.isDurable(lsn);
    return !isDurable && ring.reject(buffer, isFromRing);
  }

  /**
   * Takes the page of a buffer that this flow alone has pinned out of the pool. The pin stays.
   *
   * @returns false if it is pinned by others too, also by another flow of this thread, or dirty: nothing was done
   */
  *invalidate(buffer: number): Waiting<boolean> {
    const { mapping, mutexes } = this.#parts;
    const bucket = mapping.bucketOfBuffer(buffer);
    const mutex = mapping.mutexOf(bucket);
    if (!mutexes.tryLock(mutex)) yield* mutexes.lock(mutex);
    try {
      return this.#removeAlone(bucket, buffer);
    } finally {
      mutexes.unlock(mutex);
    }
  }

  /** Under the mutex of the buffer's bucket. @returns false if somebody else has the buffer pinned, or it is dirty */
  #removeAlone(bucket: number, buffer: number): boolean {
    const { headers, pins } = this.#context;
    const state = headers.lock(buffer);
    const isAlone = (state & REFCOUNT_MASK) === 1 && pins.count(buffer) === 1;
    if (!isAlone || (state & STATE.dirty) !== 0) {
      headers.unlock(buffer, state);
      return false;
    }
    this.#parts.mapping.remove(bucket, buffer, 1);
    return true;
  }
}

/**
 * Allocation: the buffer of a block, which is the one that has it or one that is made free for it.
 *
 * Between finding that no buffer has the block and giving it one, others may do the same; the mapping's mutex decides who was
 * first, and the loser puts its victim on the free list. "Not found" for a block that has a buffer means that its page is not
 * valid: it is being read, or could not be. After BufferAlloc of PostgreSQL 18.
 */
import { ClockSweep } from "./clock-sweep.js";
import type { ContentLocks } from "./content-locks.js";
import { MappingTable } from "./mapping.js";
import { Mutexes } from "./mutex.js";
import { ringInUse } from "./ring.js";
import type { Ring } from "./ring.js";
import type { Fork, Relation } from "./tag.js";
import { Victims } from "./victim.js";
import type { VictimContext, VictimWriter } from "./victim.js";
import type { Waiting } from "./waiting.js";

const NONE = -1;

/** Allocates buffers for one backend. */
export class Allocator {
  /** Whether the page of the buffer that `allocate` returned last is valid. To be read at once: other flows allocate too. */
  found = false;
  readonly mapping: MappingTable;
  readonly sweep: ClockSweep;
  readonly mutexes: Mutexes;
  readonly #context: VictimContext;
  readonly #victims: Victims;

  constructor(context: VictimContext, locks: ContentLocks, writer: VictimWriter) {
    this.#context = context;
    this.mutexes = new Mutexes(context);
    this.mapping = new MappingTable(context);
    this.sweep = new ClockSweep(context, this.mutexes);
    const { mutexes, mapping, sweep } = this;
    this.#victims = new Victims(context, { mutexes, mapping, sweep, locks, writer });
  }

  /**
   * Pins the buffer of a block, where nothing has to be waited for; `found` says whether its page is valid.
   *
   * @param context that evictions are charged to, of `CONTEXT`
   * @returns its index; -1 if it must be waited: `allocate` goes on with what was selected, and has to be called next
   * @throws {BufferError} ERR_BUFFER_NO_UNPINNED
   */
  tryAllocate(relation: Relation, fork: Fork, block: number, ring: Ring | null, context: number): number {
    const isRing = ringInUse(ring) !== null;
    const known = this.mapping.lookupAndPin(relation, fork, block, isRing);
    if (known >= 0) {
      this.found = this.mapping.isValid;
      return known;
    }
    const bucket = this.mapping.bucketOf(relation, fork, block);
    const mutex = this.mapping.mutexOf(bucket);
    if (!this.mutexes.tryLock(mutex)) return NONE;
    const present = this.#pinPresent(bucket, relation, fork, block, isRing);
    this.mutexes.unlock(mutex);
    if (present >= 0) return present;
    const victim = this.#victims.tryGet(ring, context);
    if (victim < 0) return NONE;
    try {
      this.#context.reach("alloc:before-insert", victim);
      this.mutexes.lockNow(mutex);
    } catch (error) {
      this.giveBack(victim);
      throw error;
    }
    return this.#insert(bucket, relation, fork, block, victim, isRing);
  }

  /**
   * Pins the buffer of a block; `found` says whether its page is valid.
   *
   * @param context that evictions and writes are charged to, of `CONTEXT`
   * @returns its index
   * @throws {BufferError} ERR_BUFFER_NO_UNPINNED; what writing a victim's page throws
   */
  *allocate(
    relation: Relation,
    fork: Fork,
    block: number,
    ring: Ring | null,
    context: number,
  ): Waiting<number> {
    for (;;) {
      const buffer = yield* this.#allocateOnce(relation, fork, block, ring, context);
      if (buffer >= 0) return buffer;
    }
  }

  *#allocateOnce(
    relation: Relation,
    fork: Fork,
    block: number,
    ring: Ring | null,
    context: number,
  ): Waiting<number> {
    const isRing = ringInUse(ring) !== null;
    const bucket = this.mapping.bucketOf(relation, fork, block);
    const mutex = this.mapping.mutexOf(bucket);
    const victims = this.#victims;
    if (!victims.hasSelected) {
      const known = this.mapping.lookupAndPin(relation, fork, block, isRing);
      if (known >= 0) {
        this.found = this.mapping.isValid;
        return known;
      }
      if (!this.mutexes.tryLock(mutex)) yield* this.mutexes.lock(mutex);
      const present = this.#pinPresent(bucket, relation, fork, block, isRing);
      this.mutexes.unlock(mutex);
      if (present >= 0) return present;
    }
    const victim = yield* victims.get(ring, context);
    try {
      this.#context.reach("alloc:before-insert", victim);
      if (!this.mutexes.tryLock(mutex)) yield* this.mutexes.lock(mutex);
    } catch (error) {
      this.giveBack(victim);
      throw error;
    }
    return this.#insert(bucket, relation, fork, block, victim, isRing);
  }

  /**
   * Gives a victim to a block, unless somebody was faster. Under the mutex, which it gives back.
   *
   * @returns -1 if the victim is about to leave the pool: it is given back, and another one is needed
   */
  #insert(
    bucket: number,
    relation: Relation,
    fork: Fork,
    block: number,
    victim: number,
    isRing: boolean,
  ): number {
    const winner = this.#pinPresent(bucket, relation, fork, block, isRing);
    // The pool may have begun to shrink since the victim was selected.
    const isDoomed = winner < 0 && victim >= this.sweep.buffers;
    if (winner < 0 && !isDoomed) this.mapping.insert(bucket, relation, fork, block, victim);
    this.mutexes.unlock(this.mapping.mutexOf(bucket));
    if (isDoomed) {
      this.giveBack(victim);
      return NONE;
    }
    if (winner >= 0) {
      this.giveBack(victim);
      return winner;
    }
    this.found = false;
    return victim;
  }

  /** Under the mutex. */
  #pinPresent(bucket: number, relation: Relation, fork: Fork, block: number, isRing: boolean): number {
    const buffer = this.mapping.find(bucket, relation, fork, block);
    if (buffer < 0) return buffer;
    this.mapping.pinLocked(buffer, isRing);
    this.found = this.mapping.isValid;
    return buffer;
  }

  /** A buffer made free for something else than one known block: pinned once, clean, without a tag. */
  getVictim(ring: Ring | null, context: number): Waiting<number> {
    return this.#victims.get(ring, context);
  }

  /** Unpins a victim that is not needed after all, and puts it on the free list. */
  giveBack(victim: number): void {
    this.#context.pins.unpin(victim);
    this.sweep.pushFree(victim);
  }

  /** Puts a buffer that holds nothing on the free list. */
  pushFree(buffer: number): void {
    this.sweep.pushFree(buffer);
  }

  /** Takes a page out of the pool, see {@link Victims.invalidate}. */
  invalidateVictim(buffer: number): Waiting<boolean> {
    return this.#victims.invalidate(buffer);
  }
}

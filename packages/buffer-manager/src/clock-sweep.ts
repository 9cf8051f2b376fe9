/**
 * Which buffer is replaced next: a ring's, else one of a run, of the free list, else what the clock's hand finds unused.
 *
 * The hand is a counter that only grows, modulo the number of buffers; whoever moves it over the end folds it back and
 * counts a pass, both under the strategy mutex, so that a reader of both sees them agree. A buffer that is pinned is passed
 * over; one that was used since the hand last came by has its usage count lowered; one that was not is taken. The
 * search fails once it has met nothing but pinned buffers for a whole pass. After freelist.c of PostgreSQL 18.
 */
import type { BackendContext } from "./backend-context.js";
import { REFCOUNT_MASK, STATE, USAGE_MASK, USAGE_ONE } from "./buffer-state.js";
import { BufferError } from "./errors.js";
import type { Extents } from "./extents.js";
import { hasFree, popFree, pushFree } from "./free-list.js";
import type { BufferHeaders } from "./headers.js";
import { DESCRIPTOR, HEADER, STRATEGY } from "./layout.js";
import type { PoolLayout } from "./layout.js";
import type { Mutexes } from "./mutex.js";
import type { Pins } from "./pins.js";
import { ringInUse } from "./ring.js";
import type { Ring } from "./ring.js";

const NONE = -1;

/** Where the clock is. */
export interface SweepPosition {
  /** The buffer that the hand comes to next. */
  readonly hand: number;
  readonly passes: number;
  /** Buffers taken other than from a ring since this was last asked for. */
  readonly allocations: number;
}

/** The strategy, as one backend uses it. */
export class ClockSweep {
  /** Whether what `getVictim` gave last was in the ring. */
  isFromRing = false;
  /** Victims side by side, where the pool wants them: before the free list and the clock. */
  extents: Extents | undefined;
  readonly #words: Int32Array;
  readonly #layout: PoolLayout;
  readonly #headers: BufferHeaders;
  readonly #pins: Pins;
  readonly #mutexes: Mutexes;
  readonly #lockAt: number;
  readonly #handAt: number;
  readonly #allocationsAt: number;
  readonly #passesAt: number;
  readonly #notifyAt: number;

  constructor(context: Pick<BackendContext, "words" | "layout" | "headers" | "pins">, mutexes: Mutexes) {
    const at = context.layout.strategyAt;
    this.#words = context.words;
    this.#layout = context.layout;
    this.#headers = context.headers;
    this.#pins = context.pins;
    this.#mutexes = mutexes;
    this.#lockAt = at + STRATEGY.lock;
    this.#handAt = at + STRATEGY.hand;
    this.#allocationsAt = at + STRATEGY.allocations;
    this.#passesAt = at + STRATEGY.completePasses;
    this.#notifyAt = at + STRATEGY.bgwriter;
  }

  /** Buffers that the sweep chooses among. */
  get buffers(): number {
    return this.#words[HEADER.low] as number;
  }

  /**
   * Finds an unused buffer and pins it. It may still hold a page, also a dirty one.
   *
   * @throws {BufferError} ERR_BUFFER_NO_UNPINNED: all buffers are pinned
   */
  getVictim(wish: Ring | null): number {
    const ring = ringInUse(wish);
    this.isFromRing = false;
    if (ring !== null) {
      const own = this.#takeFromRing(ring);
      if (own >= 0) {
        this.isFromRing = true;
        return own;
      }
    }
    this.#notify();
    Atomics.add(this.#words, this.#allocationsAt, 1);
    let buffer = this.extents === undefined ? NONE : this.extents.take();
    if (buffer < 0) buffer = this.#takeFree();
    if (buffer < 0) buffer = this.#sweep();
    if (ring !== null) ring.put(buffer);
    return buffer;
  }

  #takeFromRing(ring: Ring): number {
    const buffer = ring.advance();
    if (buffer < 0 || buffer >= this.buffers) return NONE;
    const state = this.#headers.lock(buffer);
    if ((state & REFCOUNT_MASK) !== 0 || (state & USAGE_MASK) > USAGE_ONE) {
      this.#headers.unlock(buffer, state);
      return NONE;
    }
    this.#pins.pinLocked(buffer, state);
    return buffer;
  }

  #takeFree(): number {
    while (hasFree(this.#words, this.#layout)) {
      this.#mutexes.lockNow(this.#lockAt);
      const buffer = popFree(this.#words, this.#layout);
      this.#mutexes.unlock(this.#lockAt);
      if (buffer < 0) return NONE;
      if (buffer < this.buffers && this.#tryTake(buffer)) return buffer;
    }
    return NONE;
  }

  #sweep(): number {
    const words = this.#words;
    let tries = this.buffers;
    for (;;) {
      const buffer = this.#tick();
      let state = this.#headers.state(buffer);
      if ((state & STATE.locked) !== 0) {
        state = this.#headers.lock(buffer);
        this.#headers.unlock(buffer, state);
      }
      if ((state & REFCOUNT_MASK) !== 0) {
        tries -= 1;
        if (tries <= 0) throw new BufferError("ERR_BUFFER_NO_UNPINNED", "all buffers of the pool are pinned");
        continue;
      }
      tries = this.buffers;
      if ((state & USAGE_MASK) === 0) {
        if (this.#tryTake(buffer)) return buffer;
        continue;
      }
      // One look is enough: whoever changed the word meanwhile used the buffer, and the hand comes back.
      state &= ~STATE.locked;
      Atomics.compareExchange(words, this.#headers.at(buffer) + DESCRIPTOR.state, state, state - USAGE_ONE);
    }
  }

  /** Pins a buffer that is neither pinned nor used. */
  #tryTake(buffer: number): boolean {
    const state = this.#headers.lock(buffer);
    if ((state & (REFCOUNT_MASK | USAGE_MASK)) === 0) {
      this.#pins.pinLocked(buffer, state);
      return true;
    }
    this.#headers.unlock(buffer, state);
    return false;
  }

  #tick(): number {
    const { buffers } = this;
    const ticks = Atomics.add(this.#words, this.#handAt, 1) >>> 0;
    if (ticks < buffers) return ticks;
    const buffer = ticks % buffers;
    if (buffer === 0) this.#fold(ticks + 1, buffers);
    return buffer;
  }

  /** Takes whole passes off the hand. Others may have moved it on meanwhile. */
  #fold(seen: number, buffers: number): void {
    const words = this.#words;
    this.#mutexes.lockNow(this.#lockAt);
    let expected = seen | 0;
    for (;;) {
      const before = Atomics.compareExchange(words, this.#handAt, expected, (expected >>> 0) % buffers);
      if (before === expected) break;
      expected = before;
    }
    words[this.#passesAt] = (words[this.#passesAt] as number) + 1;
    this.#mutexes.unlock(this.#lockAt);
  }

  #notify(): void {
    if (this.#words[this.#notifyAt] === 0) return;
    const backend = Atomics.exchange(this.#words, this.#notifyAt, 0) - 1;
    if (backend >= 0) this.#headers.wakeBackend(backend);
  }

  /** Puts a buffer that holds nothing on the free list. One that the pool is about to lose stays off it. */
  pushFree(buffer: number): void {
    if (buffer >= this.buffers) return;
    this.#mutexes.lockNow(this.#lockAt);
    pushFree(this.#words, this.#layout, buffer);
    this.#mutexes.unlock(this.#lockAt);
  }

  /** Where the hand is, and how many buffers were taken since this was last asked for, which counts from 0 again. */
  syncStart(): SweepPosition {
    const { buffers } = this;
    const words = this.#words;
    this.#mutexes.lockNow(this.#lockAt);
    const ticks = Atomics.load(words, this.#handAt) >>> 0;
    const passes = (words[this.#passesAt] as number) + Math.floor(ticks / buffers);
    this.#mutexes.unlock(this.#lockAt);
    const allocations = Atomics.exchange(words, this.#allocationsAt, 0) >>> 0;
    return { hand: ticks % buffers, passes, allocations };
  }

  /** Asks to be woken by the next allocation. @param backend -1 to ask no more */
  notifyNextAllocation(backend: number): void {
    Atomics.store(this.#words, this.#notifyAt, backend + 1);
  }
}

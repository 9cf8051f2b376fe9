/**
 * All handles of a system, as words: where each is, what it says, and the only functions that change a state.
 *
 * Every change is checked against the table of legal ones, so a handle that two threads believe to own is caught where it
 * happens. What a state describes is stored before the state. Three ways to store one, by who acts on it: `step`, a plain
 * store, for states that only their owner acts on (up to STAGED, and COMPLETED_LOCAL) and for COMPLETED_IO, which only he
 * acts on who takes over from a dead completer: that thread's end or the lock on its ring comes between; `publish`, in
 * order and without a fence, for batches that end with one fence and one look for sleepers; `move`, which wakes who sleeps
 * on the handle when it becomes SUBMITTED (a sleeper may then reap the completion itself) or COMPLETED_SHARED.
 */
import assert from "node:assert/strict";

import {
  generationHigh,
  HANDLE_STATE,
  isLegalMove,
  packStateGeneration,
  STATE_BITS,
  STATE_MASK,
  stateName,
  unpackGeneration,
} from "./handle-state.js";
import { BACKEND, byteAt, HANDLE, LENGTHS, META, VECTOR } from "./layout.js";
import type { Layout } from "./layout.js";
import { FLAG } from "./operations.js";
import { publishWord } from "./publish-word.js";

const TWO_32 = 2 ** 32;
/** A step of the generation, in the word that it shares with the state. */
const GENERATION_STEP = 1 << STATE_BITS;

/** Observer of every state change in this thread; tests record traces with it. */
export type MoveObserver = (handle: number, from: number, to: number) => void;

/** The handles, as one thread sees them. */
export class HandleTable {
  readonly words: Int32Array;
  readonly layout: Layout;
  /** Number of handles of the whole system. */
  readonly count: number;
  onMove: MoveObserver | undefined;
  readonly #handlesAt: number;
  readonly #vectorsAt: number;
  readonly #dataAt: number;
  readonly #combine: number;

  constructor(words: Int32Array, layout: Layout) {
    this.words = words;
    this.layout = layout;
    this.count = layout.backends * layout.concurrency;
    this.#handlesAt = layout.handlesAt;
    this.#vectorsAt = layout.vectorsAt;
    this.#dataAt = layout.dataAt;
    this.#combine = layout.combine;
  }

  /** Gives every handle its first generation and its owner. Once, by the creator. */
  initialise(): void {
    for (let handle = 0; handle < this.count; handle++) {
      const at = this.at(handle);
      this.words[at + HANDLE.owner] = Math.floor(handle / this.layout.concurrency);
      this.words[at + HANDLE.state] = packStateGeneration(HANDLE_STATE.idle, 1);
    }
  }

  /** First word of a handle. */
  at(handle: number): number {
    return this.#handlesAt + handle * HANDLE.words;
  }

  /** First word of a handle's piece `index`. */
  vectorAt(handle: number, index: number): number {
    return this.#vectorsAt + (handle * this.#combine + index) * VECTOR.words;
  }

  /** First of a handle's attached words. */
  dataAt(handle: number): number {
    return this.#dataAt + handle * this.#combine;
  }

  /** A word of a handle, by a plain load: right for its owner, and after its state was read. */
  get(handle: number, word: number): number {
    return this.words[this.at(handle) + word] as number;
  }

  /** An OPERATION; 0 before one is set. This and what follows by plain loads, as `get`. */
  operation(handle: number): number {
    return byteAt(this.get(handle, HANDLE.meta), META.operation);
  }

  /** Number of the target; 0 before it is set. */
  targetId(handle: number): number {
    return byteAt(this.get(handle, HANDLE.meta), META.targetId);
  }

  /** Bits of FLAG. */
  flags(handle: number): number {
    return byteAt(this.get(handle, HANDLE.meta), META.flags);
  }

  callbackCount(handle: number): number {
    return byteAt(this.get(handle, HANDLE.meta), META.callbackCount);
  }

  /** Words attached for the callbacks. */
  dataLength(handle: number): number {
    return byteAt(this.get(handle, HANDLE.lengths), LENGTHS.data);
  }

  /** Pieces of memory. */
  vectorLength(handle: number): number {
    return byteAt(this.get(handle, HANDLE.lengths), LENGTHS.vectors);
  }

  /** Whether it was executed again because the kernel gave it up for a reason that is not the issuer's. */
  isRetried(handle: number): boolean {
    return (this.flags(handle) & FLAG.retried) !== 0;
  }

  /** By the thread that has the I/O. */
  markRetried(handle: number): void {
    (this.words[this.at(handle) + HANDLE.meta] as number) |= FLAG.retried << META.flags;
  }

  /** The state, freshly loaded. */
  state(handle: number): number {
    return Atomics.load(this.words, this.at(handle)) & STATE_MASK;
  }

  /** The state word itself, freshly loaded, for sleeping on it. */
  stateWord(handle: number): number {
    return Atomics.load(this.words, this.at(handle));
  }

  /** The low bits of the generation, freshly loaded: enough to tell a handle's life from the next ones. */
  generationLow(handle: number): number {
    return Atomics.load(this.words, this.at(handle)) >>> STATE_BITS;
  }

  /** The generation, freshly loaded. */
  generation(handle: number): number {
    const at = this.at(handle);
    for (;;) {
      const high = Atomics.load(this.words, at + HANDLE.generationHigh);
      const low = Atomics.load(this.words, at);
      if (Atomics.load(this.words, at + HANDLE.generationHigh) === high) return unpackGeneration(low, high);
    }
  }

  /** File offset of the I/O. */
  offsetBytes(handle: number): number {
    const at = this.at(handle);
    const low = this.words[at + HANDLE.offsetLow] as number;
    return (this.words[at + HANDLE.offsetHigh] as number) * TWO_32 + (low >>> 0);
  }

  setOffsetBytes(handle: number, offsetBytes: number): void {
    const at = this.at(handle);
    this.words[at + HANDLE.offsetLow] = offsetBytes | 0;
    // Storing an element cuts the fraction off.
    this.words[at + HANDLE.offsetHigh] = offsetBytes / TWO_32;
  }

  /** Changes a state for this thread alone: by a plain store, and nobody is woken. The handle must be in `from`. */
  step(handle: number, from: number, to: number): void {
    const at = this.at(handle);
    const word = this.words[at] as number;
    if ((word & STATE_MASK) !== from || !isLegalMove(from, to)) this.#refuse(handle, word, from, to);
    this.words[at] = (word & ~STATE_MASK) | to;
    if (this.onMove !== undefined) this.onMove(handle, from, to);
  }

  /**
   * Changes a state that other threads act on, as one of a batch: before it is over, a fence follows, and `wakeIfSlept`
   * for each of its handles if `handleWaiters` is not 0 then.
   */
  publish(handle: number, from: number, to: number): void {
    const at = this.at(handle);
    const word = this.words[at] as number;
    if ((word & STATE_MASK) !== from || !isLegalMove(from, to)) this.#refuse(handle, word, from, to);
    publishWord(this.words, at, (word & ~STATE_MASK) | to);
    if (this.onMove !== undefined) this.onMove(handle, from, to);
  }

  /** Changes a state that other threads act on. */
  move(handle: number, from: number, to: number): void {
    const at = this.at(handle);
    const word = this.words[at] as number;
    if ((word & STATE_MASK) !== from || !isLegalMove(from, to)) this.#refuse(handle, word, from, to);
    Atomics.store(this.words, at, (word & ~STATE_MASK) | to);
    this.wakeIfSlept(handle);
    if (this.onMove !== undefined) this.onMove(handle, from, to);
  }

  /** Ends a life: the next generation and IDLE in one store, then what must not be taken for the next life's. */
  recycle(handle: number, from: number): void {
    const at = this.at(handle);
    const word = this.words[at] as number;
    if ((word & STATE_MASK) !== from || !isLegalMove(from, HANDLE_STATE.idle)) {
      this.#refuse(handle, word, from, HANDLE_STATE.idle);
    }
    this.#toIdle(at, word);
    if (this.onMove !== undefined) this.onMove(handle, from, HANDLE_STATE.idle);
  }

  /**
   * Ends the life of an I/O that its owner found to be over, from SUBMITTED on: no callback is there to see the states
   * between, and a death leaves it either as it was, with its completion in the ring, or over. As one of a batch.
   */
  endPlain(handle: number): void {
    const at = this.at(handle);
    const word = this.words[at] as number;
    if ((word & STATE_MASK) !== HANDLE_STATE.submitted) {
      this.#refuse(handle, word, HANDLE_STATE.submitted, HANDLE_STATE.completedIo);
    }
    this.#toIdle(at, word);
    if (this.onMove !== undefined) this.#tellEnd(handle);
  }

  /** Says that a thread is about to sleep on a handle's state. Before it looks at the state for the last time. */
  addSleeper(handle: number): void {
    Atomics.add(this.words, this.#sleepersAt(handle), 1);
    Atomics.add(this.words, this.at(handle) + HANDLE.waiters, 1);
  }

  /** The counterpart. A thread that dies asleep stays counted: its handle's owner looks a little more often than it had to. */
  removeSleeper(handle: number): void {
    Atomics.sub(this.words, this.at(handle) + HANDLE.waiters, 1);
    Atomics.sub(this.words, this.#sleepersAt(handle), 1);
  }

  /** Whether anybody may sleep on a handle of a backend. After a fence that follows the states in question. */
  hasSleepers(backend: number): boolean {
    const at = this.layout.backendsAt + backend * BACKEND.words;
    return Atomics.load(this.words, at + BACKEND.handleWaiters) !== 0;
  }

  /** The same by a plain load, without a fence: it may say no too early, and then the next fence finds them. */
  mayHaveSleepers(backend: number): boolean {
    const at = this.layout.backendsAt + backend * BACKEND.words;
    return this.words[at + BACKEND.handleWaiters] !== 0;
  }

  #sleepersAt(handle: number): number {
    const { backendsAt, concurrency } = this.layout;
    return backendsAt + Math.floor(handle / concurrency) * BACKEND.words + BACKEND.handleWaiters;
  }

  /** Wakes those who sleep on a handle. After a store of its state that is ordered before what follows. */
  wakeIfSlept(handle: number): void {
    const at = this.at(handle);
    if (Atomics.load(this.words, at + HANDLE.waiters) !== 0) Atomics.notify(this.words, at);
  }

  /** Clears what a next life must not inherit. Also for an idle handle whose owner died before it had done so. */
  wipe(handle: number): void {
    const at = this.at(handle);
    this.words[at + HANDLE.meta] = 0;
    this.words[at + HANDLE.lengths] = 0;
  }

  /** Sets a handle's generation; for tests of the wrap, on an idle handle. */
  setGeneration(handle: number, generation: number): void {
    const at = this.at(handle);
    assert.equal(this.state(handle), HANDLE_STATE.idle);
    Atomics.store(this.words, at + HANDLE.generationHigh, generationHigh(generation));
    Atomics.store(this.words, at, packStateGeneration(HANDLE_STATE.idle, generation));
  }

  #toIdle(at: number, word: number): void {
    const { words } = this;
    const next = ((word & -GENERATION_STEP) + GENERATION_STEP) | 0;
    if (next === 0) Atomics.add(words, at + HANDLE.generationHigh, 1);
    publishWord(words, at, next);
    words[at + HANDLE.meta] = 0;
    words[at + HANDLE.lengths] = 0;
  }

  #tellEnd(handle: number): void {
    const { submitted, completedIo, completedShared, completedLocal, idle } = HANDLE_STATE;
    this.onMove?.(handle, submitted, completedIo);
    this.onMove?.(handle, completedIo, completedShared);
    this.onMove?.(handle, completedShared, completedLocal);
    this.onMove?.(handle, completedLocal, idle);
  }

  #refuse(handle: number, word: number, from: number, to: number): never {
    const state = stateName(word & STATE_MASK);
    assert.fail(`handle ${handle}: ${stateName(from)} to ${stateName(to)}, but it is ${state}`);
  }
}

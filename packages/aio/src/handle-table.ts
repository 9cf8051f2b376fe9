/**
 * All handles of a system, as words: where each is, what it says, and the only function that changes a state.
 *
 * `move` checks every change against the table of legal ones, so a handle that two threads believe to own is caught
 * where it happens. What a state describes is stored before the state; states that other threads act on are published
 * with a sequentially consistent store, the owner's private ones (up to STAGED, and COMPLETED_LOCAL) with plain stores,
 * which cost a tenth. So is COMPLETED_IO: only who takes over from its dead completer acts on it, and that thread's end
 * or the lock on its ring comes between. A thread that sleeps on a handle is woken when it becomes SUBMITTED (it may then reap the
 * completion itself) and when it becomes COMPLETED_SHARED.
 */
import assert from "node:assert/strict";

import {
  HANDLE_STATE,
  isLegalMove,
  packStateGeneration,
  STATE_BITS,
  STATE_MASK,
  stateName,
  unpackGeneration,
  generationHigh,
} from "./handle-state.js";
import { HANDLE, VECTOR } from "./layout.js";
import type { Layout } from "./layout.js";

const TWO_32 = 2 ** 32;

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
    this.words[at + HANDLE.offsetHigh] = Math.floor(offsetBytes / TWO_32);
  }

  /** Changes a state. The handle must be in `from`. */
  move(handle: number, from: number, to: number): void {
    const at = this.at(handle);
    const word = this.words[at] as number;
    if ((word & STATE_MASK) !== from || !isLegalMove(from, to)) this.#refuse(handle, word, from, to);
    const next = (word & ~STATE_MASK) | to;
    if (to === HANDLE_STATE.submitted || to === HANDLE_STATE.completedShared) {
      Atomics.store(this.words, at, next);
      if (Atomics.load(this.words, at + HANDLE.waiters) !== 0) Atomics.notify(this.words, at);
    } else {
      this.words[at] = next;
    }
    if (this.onMove !== undefined) this.onMove(handle, from, to);
  }

  /** Ends a life: the next generation and IDLE in one store, then what must not be taken for the next life's. */
  recycle(handle: number, from: number): void {
    const at = this.at(handle);
    const word = this.words[at] as number;
    if ((word & STATE_MASK) !== from || !isLegalMove(from, HANDLE_STATE.idle)) {
      this.#refuse(handle, word, from, HANDLE_STATE.idle);
    }
    const next = ((word >>> 4) + 1) & 0x0fff_ffff;
    if (next === 0) this.#carry(at);
    Atomics.store(this.words, at, next << 4);
    this.wipe(handle);
    if (this.onMove !== undefined) this.onMove(handle, from, HANDLE_STATE.idle);
  }

  /** Clears what a next life must not inherit. Also for an idle handle whose owner died before it had done so. */
  wipe(handle: number): void {
    const at = this.at(handle);
    this.words[at + HANDLE.operation] = 0;
    this.words[at + HANDLE.targetId] = 0;
    this.words[at + HANDLE.flags] = 0;
    this.words[at + HANDLE.callbackCount] = 0;
    this.words[at + HANDLE.dataLength] = 0;
    this.words[at + HANDLE.vectorLength] = 0;
    this.words[at + HANDLE.rawResult] = 0;
    this.words[at + HANDLE.distilled] = 0;
    this.words[at + HANDLE.retried] = 0;
  }

  /** Sets a handle's generation; for tests of the wrap, on an idle handle. */
  setGeneration(handle: number, generation: number): void {
    const at = this.at(handle);
    assert.equal(this.state(handle), HANDLE_STATE.idle);
    Atomics.store(this.words, at + HANDLE.generationHigh, generationHigh(generation));
    Atomics.store(this.words, at, packStateGeneration(HANDLE_STATE.idle, generation));
  }

  #carry(at: number): void {
    Atomics.add(this.words, at + HANDLE.generationHigh, 1);
  }

  #refuse(handle: number, word: number, from: number, to: number): never {
    const state = stateName(word & STATE_MASK);
    assert.fail(`handle ${handle}: ${stateName(from)} to ${stateName(to)}, but it is ${state}`);
  }
}

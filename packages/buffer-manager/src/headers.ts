/**
 * The headers of all buffers, as one thread sees them: the header lock, shared pins, tags.
 *
 * The state word's rules are in buffer-state.ts. A thread says in its own words which header it is about to lock or pin
 * before it does, so that its supervisor knows where to look if it dies in between.
 */
import type { WaitRef } from "@millrace/aio";

import {
  REFCOUNT_MASK,
  REFCOUNT_ONE,
  STATE,
  USAGE_MASK,
  USAGE_MAX,
  USAGE_ONE,
  USAGE_SHIFT,
} from "./buffer-state.js";
import { BufferError } from "./errors.js";
import { BACKEND, DESCRIPTOR, HEADER, HEADER_WORDS } from "./layout.js";
import type { PoolLayout } from "./layout.js";
import { INVALID_BLOCK } from "./tag.js";
import type { Fork, Relation, Tag } from "./tag.js";

/** Looks at a locked header before this thread gives others a chance. A header is locked for some ten instructions. */
const SPINS = 1000;
/** Pauses of 1 ms before it is plain that the holder of a header lock is gone. */
const PAUSES_MAX = 2000;
/** The same for a thread that must not pause, in looks of some nanoseconds: about two seconds. */
const SPINS_MAX = 400_000_000;
const WORD = 2 ** 32;

/** All headers of a pool. `buffer` is an index from 0 here; callers of the package count from 1. */
export class BufferHeaders {
  readonly words: Int32Array;
  readonly layout: PoolLayout;
  readonly #first: number;
  readonly #intentAt: number;
  readonly #pauseAt: number;
  readonly #mayBlock: boolean;

  /** @param backendAt first word of the backend; -1 for a thread that has none, such as an I/O worker */
  constructor(words: Int32Array, layout: PoolLayout, backendAt: number, mayBlock: boolean) {
    this.words = words;
    this.layout = layout;
    this.#first = layout.descriptorsAt + DESCRIPTOR.state;
    // A word that nobody reads stands in for those of a backend.
    this.#intentAt = backendAt < 0 ? HEADER_WORDS - 1 : backendAt + BACKEND.headerIntent;
    this.#pauseAt = HEADER_WORDS - 2;
    this.#mayBlock = mayBlock;
  }

  /** Index of the first word of a descriptor. */
  at(buffer: number): number {
    return this.layout.descriptorsAt + buffer * DESCRIPTOR.words;
  }

  /** The state word as it is now; it may have the lock bit set. */
  state(buffer: number): number {
    return Atomics.load(this.words, this.#first + buffer * DESCRIPTOR.words);
  }

  /** Takes the header lock. @returns the state with the lock bit; to be given to `unlock`, changed as wanted */
  lock(buffer: number): number {
    const at = this.#first + buffer * DESCRIPTOR.words;
    this.words[this.#intentAt] = buffer + 1;
    for (;;) {
      const seen = Atomics.or(this.words, at, STATE.locked);
      if ((seen & STATE.locked) === 0) return seen | STATE.locked;
      this.awaitUnlocked(at);
    }
  }

  /** Stores a state and gives the header lock back. */
  unlock(buffer: number, state: number): void {
    Atomics.store(this.words, this.#first + buffer * DESCRIPTOR.words, state & ~STATE.locked);
    this.words[this.#intentAt] = 0;
  }

  /**
   * Adds this backend to those that have the buffer pinned, and bumps its usage count, unless the buffer is about to leave a
   * pool that shrinks.
   *
   * @param isRing as a ring does: the count becomes 1 if it was 0, and stays what it is otherwise
   * @returns the new state
   */
  pin(buffer: number, isRing: boolean): number {
    const usesMax = isRing ? USAGE_ONE : USAGE_MAX << USAGE_SHIFT;
    return this.#count(buffer, REFCOUNT_ONE, buffer < (this.words[HEADER.low] as number) ? usesMax : 0);
  }

  /**
   * Takes a pin away and wakes the backend that waits for the only one left, if that is so.
   *
   * @returns the new state
   */
  unpin(buffer: number): number {
    const next = this.#count(buffer, -REFCOUNT_ONE, 0);
    if ((next & STATE.pinCountWaiter) !== 0) this.wakePinWaiter(buffer);
    return next;
  }

  /**
   * Adds to the reference count, and one use if there have been fewer.
   *
   * @param usesMax a usage count, in its place in the state
   * @returns the new state
   */
  #count(buffer: number, pins: number, usesMax: number): number {
    const { words } = this;
    const at = this.#first + buffer * DESCRIPTOR.words;
    let seen = words[at] as number;
    for (;;) {
      if ((seen & STATE.locked) !== 0) {
        seen = this.awaitUnlocked(at);
        continue;
      }
      let next = seen + pins;
      if ((seen & USAGE_MASK) < usesMax) next += USAGE_ONE;
      const before = Atomics.compareExchange(words, at, seen, next);
      if (before === seen) return next;
      seen = before;
    }
  }

  /** Wakes the backend that waits to be the only one, if only its own pin is left. */
  wakePinWaiter(buffer: number): void {
    let state = this.lock(buffer);
    const isAlone = (state & STATE.pinCountWaiter) !== 0 && (state & REFCOUNT_MASK) === 1;
    const waiter = (this.words[this.at(buffer) + DESCRIPTOR.pinWaiter] as number) - 1;
    if (isAlone) state &= ~STATE.pinCountWaiter;
    this.unlock(buffer, state);
    if (isAlone && waiter >= 0) this.wakeBackend(waiter);
  }

  /** Counts a backend's wake word up, and wakes it. */
  wakeBackend(backend: number): void {
    const at = this.layout.backendsAt + backend * this.layout.backendWords + BACKEND.wake;
    Atomics.add(this.words, at, 1);
    Atomics.notify(this.words, at);
  }

  /** Whether the tag is this one. Of use under a pin or the header lock only. */
  hasTag(buffer: number, relation: Relation, fork: number, block: number): boolean {
    const { words } = this;
    const at = this.at(buffer);
    return (
      words[at + DESCRIPTOR.block] === (block | 0) &&
      words[at + DESCRIPTOR.relation] === (relation.relation | 0) &&
      words[at + DESCRIPTOR.fork] === fork &&
      words[at + DESCRIPTOR.database] === (relation.database | 0) &&
      words[at + DESCRIPTOR.tablespace] === (relation.tablespace | 0)
    );
  }

  /** Whether the buffer holds a block of this relation. Without a pin this is a guess, to be made sure of. */
  isOfRelation(buffer: number, relation: Relation): boolean {
    const { words } = this;
    const at = this.at(buffer);
    return (
      words[at + DESCRIPTOR.relation] === (relation.relation | 0) &&
      words[at + DESCRIPTOR.database] === (relation.database | 0) &&
      words[at + DESCRIPTOR.tablespace] === (relation.tablespace | 0)
    );
  }

  /** The block of the tag. */
  block(buffer: number): number {
    return (this.words[this.at(buffer) + DESCRIPTOR.block] as number) >>> 0;
  }

  /** The fork of the tag. */
  fork(buffer: number): Fork {
    return this.words[this.at(buffer) + DESCRIPTOR.fork] as Fork;
  }

  /** A copy of the tag. */
  tag(buffer: number): Tag {
    const { words } = this;
    const at = this.at(buffer);
    return {
      tablespace: (words[at + DESCRIPTOR.tablespace] as number) >>> 0,
      database: (words[at + DESCRIPTOR.database] as number) >>> 0,
      relation: (words[at + DESCRIPTOR.relation] as number) >>> 0,
      fork: words[at + DESCRIPTOR.fork] as Fork,
      block: (words[at + DESCRIPTOR.block] as number) >>> 0,
    };
  }

  /** Sets the tag. Under the header lock, of a buffer without one. */
  setTag(buffer: number, relation: Relation, fork: number, block: number): void {
    const { words } = this;
    const at = this.at(buffer);
    words[at + DESCRIPTOR.tablespace] = relation.tablespace | 0;
    words[at + DESCRIPTOR.database] = relation.database | 0;
    words[at + DESCRIPTOR.relation] = relation.relation | 0;
    words[at + DESCRIPTOR.fork] = fork;
    words[at + DESCRIPTOR.block] = block | 0;
  }

  /** Makes the tag name nothing. Under the header lock. */
  clearTag(buffer: number): void {
    const { words } = this;
    const at = this.at(buffer);
    words[at + DESCRIPTOR.block] = INVALID_BLOCK | 0;
    words[at + DESCRIPTOR.relation] = 0;
    words[at + DESCRIPTOR.fork] = 0;
    words[at + DESCRIPTOR.database] = 0;
    words[at + DESCRIPTOR.tablespace] = 0;
  }

  /**
   * Notes the I/O that reads or writes the buffer. For the holder of its I/O lock, who needs no header lock for it: the
   * handle is stored last, and is what makes the reference one.
   */
  setIo(buffer: number, ref: WaitRef): void {
    const { words } = this;
    const at = this.at(buffer);
    words[at + DESCRIPTOR.ioGenerationLow] = ref.generation | 0;
    words[at + DESCRIPTOR.ioGenerationHigh] = Math.floor(ref.generation / WORD);
    Atomics.store(words, at + DESCRIPTOR.ioHandle, ref.handle + 1);
  }

  /** Forgets the I/O. For the holder of the I/O lock, before it gives that back. */
  clearIo(buffer: number): void {
    this.words[this.at(buffer) + DESCRIPTOR.ioHandle] = 0;
  }

  /**
   * The I/O that reads or writes the buffer; undefined if none does. Under the header lock: the I/O lock is given back only
   * while that is free, so that no other I/O's generation can be seen with this one's handle.
   */
  io(buffer: number): WaitRef | undefined {
    const at = this.at(buffer);
    const handle = Atomics.load(this.words, at + DESCRIPTOR.ioHandle) - 1;
    if (handle < 0) return undefined;
    const low = (this.words[at + DESCRIPTOR.ioGenerationLow] as number) >>> 0;
    return { handle, generation: (this.words[at + DESCRIPTOR.ioGenerationHigh] as number) * WORD + low };
  }

  /**
   * Waits until a header is not locked, for whoever is about to change the state by compare-exchange.
   *
   * @param at index of the state word   @returns the state without the lock bit
   */
  awaitUnlocked(at: number): number {
    const { words } = this;
    const spins = this.#mayBlock ? SPINS : SPINS_MAX;
    for (let spin = 0; spin < spins; spin++) {
      const seen = Atomics.load(words, at);
      if ((seen & STATE.locked) === 0) return seen;
    }
    for (let pause = 0; this.#mayBlock && pause < PAUSES_MAX; pause++) {
      const seen = Atomics.load(words, at);
      if ((seen & STATE.locked) === 0) return seen;
      Atomics.wait(words, this.#pauseAt, 0, 1);
    }
    throw new BufferError(
      "ERR_BUFFER_PANIC",
      "a buffer's header stays locked: the thread that locked it is gone",
    );
  }
}

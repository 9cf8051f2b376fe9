/**
 * The pins of one backend: how often it has each buffer pinned, and the shared count that says so to others once.
 *
 * Invariant: the backend is counted in a buffer's shared reference count exactly while its own count of it is above zero.
 * Pinning again costs no atomic operation.
 *
 * The own counts are an array over all buffers, four bytes each. PostgreSQL has eight in a cache line and a hash table for
 * the rest, because its backends are processes with as many such arrays as there are connections; here an access by index
 * is what makes a hit cheap. The limit of pins is reckoned as there, as if eight were always taken.
 *
 * They are in shared memory for the supervisor's sake, to whom they say what a dead thread had pinned. The backend's intent
 * word names the one buffer whose own count may not be what the shared one says.
 */
import assert from "node:assert/strict";

import { REFCOUNT_ONE, STATE } from "./buffer-state.js";
import { BufferError } from "./errors.js";
import type { BufferHeaders } from "./headers.js";
import { NOT_DONE } from "./hit-module.js";
import type { HitCalls } from "./hit-module.js";
import { BACKEND } from "./layout.js";

/** Pins that the limit of pins takes for granted. */
export const PIN_SLOTS = 8;

/** A backend's pins. For one thread. */
export class Pins {
  readonly #headers: BufferHeaders;
  readonly #words: Int32Array;
  readonly #intentAt: number;
  readonly #pinnedAt: number;
  readonly #counts: Int32Array;
  readonly #unpinLast: HitCalls["unpin"];

  /**
   * @param backendAt first word of the backend
   * @param calls the faster way for the common case, if there is one
   */
  constructor(headers: BufferHeaders, backendAt: number, calls?: HitCalls) {
    this.#headers = headers;
    this.#words = headers.words;
    this.#intentAt = backendAt + BACKEND.pinIntent;
    this.#pinnedAt = backendAt + BACKEND.pinned;
    const first = backendAt + headers.layout.countsAt;
    this.#counts = headers.words.subarray(first, first + headers.layout.buffersMax);
    this.#unpinLast = calls?.unpin ?? notDone;
  }

  /** Different buffers pinned beyond those that the limit of pins takes for granted. */
  get overflowCount(): number {
    return Math.max(0, this.pinnedCount - PIN_SLOTS);
  }

  /** Different buffers pinned. */
  get pinnedCount(): number {
    return this.#words[this.#pinnedAt] as number;
  }

  /** How often this backend has a buffer pinned; 0 also for what is no buffer. */
  count(buffer: number): number {
    return this.#counts[buffer] ?? 0;
  }

  /** Every pinned buffer, in their order. */
  buffers(): number[] {
    const buffers: number[] = [];
    for (let buffer = 0; buffers.length < this.pinnedCount; buffer++) {
      if (this.count(buffer) > 0) buffers.push(buffer);
    }
    return buffers;
  }

  /**
   * Pins a buffer once more.
   *
   * The tag may have changed up to the moment of the first pin: whoever found the buffer without the lock of its mapping
   * partition looks at the tag again.
   *
   * @param isRing see {@link BufferHeaders.pin}
   * @returns whether its contents are valid
   */
  pin(buffer: number, isRing = false): boolean {
    const count = this.#counts[buffer] as number;
    if (count > 0) {
      this.#counts[buffer] = count + 1;
      return (this.#headers.state(buffer) & STATE.valid) !== 0;
    }
    this.#words[this.#intentAt] = buffer + 1;
    const state = this.#headers.pin(buffer, isRing);
    this.#add(buffer);
    return (state & STATE.valid) !== 0;
  }

  /**
   * Pins a buffer whose header this thread has locked, and gives the lock back. The usage count stays.
   *
   * @param state as it is to be stored, with or without the lock bit, the new pin not counted in
   */
  pinLocked(buffer: number, state: number): void {
    const count = this.#counts[buffer] as number;
    if (count > 0) {
      this.#headers.unlock(buffer, state);
      this.#counts[buffer] = count + 1;
      return;
    }
    this.#words[this.#intentAt] = buffer + 1;
    this.#headers.unlock(buffer, state + REFCOUNT_ONE);
    this.#add(buffer);
  }

  /** Pins a buffer that this backend has pinned already. @throws {BufferError} ERR_BUFFER_BAD_ID: it has not */
  pinAgain(buffer: number): void {
    const count = this.count(buffer);
    if (count === 0) throw notPinned(buffer);
    this.#counts[buffer] = count + 1;
  }

  /** Takes one pin back. @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has none on the buffer */
  unpin(buffer: number): void {
    const count = this.count(buffer);
    if (count !== 1) {
      if (count === 0) throw notPinned(buffer);
      this.#counts[buffer] = count - 1;
      return;
    }
    const outcome = this.#unpinLast(buffer + 1);
    if (outcome === NOT_DONE) {
      this.#words[this.#intentAt] = buffer + 1;
      this.#headers.unpin(buffer);
      this.#remove(buffer);
      return;
    }
    if (outcome !== 0) this.#headers.wakePinWaiter(buffer);
  }

  /**
   * Takes the last pin back while the buffer's header is locked, and gives the lock back.
   *
   * @param state as it is to be stored, the pin still counted in
   */
  unpinLocked(buffer: number, state: number): void {
    assert.equal(this.count(buffer), 1, "the pin is not the backend's only one");
    this.#words[this.#intentAt] = buffer + 1;
    this.#headers.unlock(buffer, state - REFCOUNT_ONE);
    this.#remove(buffer);
    if ((state & STATE.pinCountWaiter) !== 0) this.#headers.wakePinWaiter(buffer);
  }

  #add(buffer: number): void {
    this.#counts[buffer] = 1;
    this.#words[this.#pinnedAt] = this.pinnedCount + 1;
    this.#words[this.#intentAt] = 0;
  }

  #remove(buffer: number): void {
    this.#counts[buffer] = 0;
    this.#words[this.#pinnedAt] = this.pinnedCount - 1;
    this.#words[this.#intentAt] = 0;
  }
}

function notDone(): number {
  return NOT_DONE;
}

function notPinned(buffer: number): BufferError {
  return new BufferError("ERR_BUFFER_BAD_ID", `this backend has no pin on buffer ${buffer + 1}`);
}

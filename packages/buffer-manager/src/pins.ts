/**
 * The pins of one backend: how often it has each buffer pinned, and the shared count that says so to others once.
 *
 * Invariant: the backend is counted in a buffer's shared reference count exactly while its own count of it is above zero,
 * and the buffer's bit in the backend's bitmap is set. Pinning again costs no atomic operation. Eight counts lie in an
 * array that fits a cache line; when that is full, one of them, in turn, moves to a hash table, and one found there moves
 * back when it is pinned again: a scan that pins few buffers never sees the table. After PostgreSQL's private reference counts.
 *
 * The bitmap is in shared memory for the supervisor's sake: it says what a dead thread had pinned. The backend's intent
 * word names the one buffer whose bit may not be what the shared count is.
 */
import assert from "node:assert/strict";

import { REFCOUNT_ONE, STATE } from "./buffer-state.js";
import { BufferError } from "./errors.js";
import type { BufferHeaders } from "./headers.js";
import { BACKEND } from "./layout.js";

/** Counts in the array. */
export const PIN_SLOTS = 8;
const NONE = -1;

/** A backend's pins. For one thread. */
export class Pins {
  readonly #headers: BufferHeaders;
  readonly #words: Int32Array;
  readonly #intentAt: number;
  readonly #bitmapAt: number;
  /** Buffer of each slot; NONE for a free one. */
  readonly #buffers: Int32Array = new Int32Array(PIN_SLOTS).fill(NONE);
  readonly #counts: Int32Array = new Int32Array(PIN_SLOTS);
  readonly #overflow: Map<number, number> = new Map();
  #victim = 0;
  #free = 0;

  /** @param backendAt first word of the backend */
  constructor(headers: BufferHeaders, backendAt: number) {
    this.#headers = headers;
    this.#words = headers.words;
    this.#intentAt = backendAt + BACKEND.pinIntent;
    this.#bitmapAt = backendAt + headers.layout.bitmapAt;
  }

  /** Different buffers in the hash table. */
  get overflowCount(): number {
    return this.#overflow.size;
  }

  /** Different buffers pinned. */
  get pinnedCount(): number {
    let count = this.#overflow.size;
    for (let slot = 0; slot < PIN_SLOTS; slot++) if (this.#buffers[slot] !== NONE) count += 1;
    return count;
  }

  /** How often this backend has a buffer pinned. */
  count(buffer: number): number {
    const slot = this.#find(buffer);
    if (slot >= 0) return this.#counts[slot] as number;
    return this.#overflow.size === 0 ? 0 : (this.#overflow.get(buffer) ?? 0);
  }

  /** Every pinned buffer, in no order. */
  buffers(): number[] {
    return [...this.#buffers.filter((buffer) => buffer !== NONE), ...this.#overflow.keys()];
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
    const slot = this.#find(buffer);
    if (slot >= 0) {
      this.#counts[slot] = (this.#counts[slot] as number) + 1;
      return (this.#headers.state(buffer) & STATE.valid) !== 0;
    }
    if (this.#overflow.size > 0 && this.#pinOverflow(buffer)) {
      return (this.#headers.state(buffer) & STATE.valid) !== 0;
    }
    const free = this.#takeSlot();
    this.#words[this.#intentAt] = buffer + 1;
    const state = this.#headers.pin(buffer, isRing);
    this.#add(free, buffer);
    return (state & STATE.valid) !== 0;
  }

  /**
   * Pins a buffer whose header this thread has locked, and gives the lock back. The usage count stays.
   *
   * @param state as it is to be stored, with or without the lock bit, the new pin not counted in
   */
  pinLocked(buffer: number, state: number): void {
    const slot = this.#find(buffer);
    if (slot >= 0 || this.#overflow.has(buffer)) {
      this.#headers.unlock(buffer, state);
      this.pin(buffer);
      return;
    }
    const free = this.#takeSlot();
    this.#words[this.#intentAt] = buffer + 1;
    this.#headers.unlock(buffer, state + REFCOUNT_ONE);
    this.#add(free, buffer);
  }

  /** Pins a buffer that this backend has pinned already. @throws {BufferError} ERR_BUFFER_BAD_ID: it has not */
  pinAgain(buffer: number): void {
    const slot = this.#find(buffer);
    if (slot >= 0) this.#counts[slot] = (this.#counts[slot] as number) + 1;
    else if (!this.#pinOverflow(buffer)) throw notPinned(buffer);
  }

  /** Takes one pin back. @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has none on the buffer */
  unpin(buffer: number): void {
    const slot = this.#find(buffer);
    if (slot >= 0) {
      const count = (this.#counts[slot] as number) - 1;
      this.#counts[slot] = count;
      if (count > 0) return;
      this.#words[this.#intentAt] = buffer + 1;
      this.#headers.unpin(buffer);
      this.#buffers[slot] = NONE;
      this.#free = slot;
    } else {
      const count = this.#overflow.get(buffer);
      if (count === undefined) throw notPinned(buffer);
      if (count > 1) {
        this.#overflow.set(buffer, count - 1);
        return;
      }
      this.#words[this.#intentAt] = buffer + 1;
      this.#headers.unpin(buffer);
      this.#overflow.delete(buffer);
    }
    this.#clearBit(buffer);
    this.#words[this.#intentAt] = 0;
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
    const slot = this.#find(buffer);
    if (slot >= 0) this.#buffers[slot] = NONE;
    else this.#overflow.delete(buffer);
    this.#clearBit(buffer);
    this.#words[this.#intentAt] = 0;
    if ((state & STATE.pinCountWaiter) !== 0) this.#headers.wakePinWaiter(buffer);
  }

  #find(buffer: number): number {
    const buffers = this.#buffers;
    for (let slot = 0; slot < PIN_SLOTS; slot++) if (buffers[slot] === buffer) return slot;
    return NONE;
  }

  #pinOverflow(buffer: number): boolean {
    const count = this.#overflow.get(buffer);
    if (count === undefined) return false;
    const slot = this.#takeSlot();
    this.#overflow.delete(buffer);
    this.#buffers[slot] = buffer;
    this.#counts[slot] = count + 1;
    return true;
  }

  /** A free slot, made by moving what is in the next one in turn if need be. */
  #takeSlot(): number {
    if (this.#buffers[this.#free] === NONE) return this.#free;
    for (let slot = 0; slot < PIN_SLOTS; slot++) if (this.#buffers[slot] === NONE) return slot;
    const slot = this.#victim;
    this.#victim = (slot + 1) % PIN_SLOTS;
    this.#overflow.set(this.#buffers[slot] as number, this.#counts[slot] as number);
    this.#buffers[slot] = NONE;
    return slot;
  }

  #add(slot: number, buffer: number): void {
    const at = this.#bitmapAt + (buffer >>> 5);
    this.#words[at] = (this.#words[at] as number) | (1 << (buffer & 31));
    this.#buffers[slot] = buffer;
    this.#counts[slot] = 1;
    this.#words[this.#intentAt] = 0;
  }

  #clearBit(buffer: number): void {
    const at = this.#bitmapAt + (buffer >>> 5);
    this.#words[at] = (this.#words[at] as number) & ~(1 << (buffer & 31));
  }
}

function notPinned(buffer: number): BufferError {
  return new BufferError("ERR_BUFFER_BAD_ID", `this backend has no pin on buffer ${buffer + 1}`);
}

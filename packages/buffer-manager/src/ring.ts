/**
 * Rings: the few buffers that a scan uses over and over, so that it does not drive everything else out of the pool.
 *
 * A ring is an array of buffers and a current slot, which is moved on before it is used: the first slot filled is 1, slot 0
 * comes last. It belongs to one backend. Somebody else may have taken over what a slot names; whoever uses it looks. A slot
 * whose buffer the pool no longer has (it has shrunk) counts as empty. After freelist.c of PostgreSQL 18.
 */
import { CONTEXT } from "./statistics.js";
import type { RingKind } from "./ring-sizes.js";

const EMPTY = -1;

/** A ring. Made by the buffer manager; for the thread that made it. */
export class Ring {
  readonly kind: RingKind;
  /** Buffer of each slot, from 0; -1 for none. */
  readonly #buffers: Int32Array;
  #current = 0;
  #isDropped = false;

  /** @param size at least 1 */
  constructor(kind: RingKind, size: number) {
    this.kind = kind;
    this.#buffers = new Int32Array(size).fill(EMPTY);
  }

  /** Slots. */
  get size(): number {
    return this.#buffers.length;
  }

  /** Buffers that whoever looks ahead may have pinned at a time: more would take over what is not yet used. */
  get pinLimit(): number {
    return this.kind === "bulkread" ? this.size : this.size >>> 1;
  }

  /** The context that I/O is charged to, of `CONTEXT`. */
  get context(): number {
    return this.#isDropped ? CONTEXT.normal : CONTEXT[this.kind];
  }

  /** Whether it was dropped: whoever still has it then works as without. */
  get isDropped(): boolean {
    return this.#isDropped;
  }

  /** Gives the ring up for good, also in streams that are under way: speed matters more now than what others have cached. */
  drop(): void {
    this.#isDropped = true;
  }

  /** Moves on to the next slot. @returns its buffer; -1 for none */
  advance(): number {
    const next = this.#current + 1;
    this.#current = next >= this.#buffers.length ? 0 : next;
    return this.#buffers[this.#current] as number;
  }

  /** Puts a buffer into the current slot. */
  put(buffer: number): void {
    this.#buffers[this.#current] = buffer;
  }

  /**
   * Rather gives a buffer up than have it written, if that means waiting for WAL. Only a bulk read can: it did not make the page
   * dirty on purpose, and finds another buffer; a bulk write would dirty the next one too.
   *
   * @param isFromRing whether the buffer came from the ring, not from elsewhere into it
   */
  reject(buffer: number, isFromRing: boolean): boolean {
    if (this.kind !== "bulkread" || !isFromRing) return false;
    if (this.#buffers[this.#current] !== buffer) return false;
    this.#buffers[this.#current] = EMPTY;
    return true;
  }

  /** What is in the slots, from slot 0; -1 for none. */
  buffers(): number[] {
    return [...this.#buffers];
  }
}

/** A ring, or null if it has been dropped. */
export function ringInUse(ring: Ring | null): Ring | null {
  return ring === null || ring.isDropped ? null : ring;
}

/** The context that I/O with a ring, or with none, is charged to. */
export function ringContext(ring: Ring | null): number {
  return ring === null ? CONTEXT.normal : ring.context;
}

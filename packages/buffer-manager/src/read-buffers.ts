/**
 * Buffers as a read needs them: those of the pool, and those that a backend has for its temporary relations.
 *
 * They are named as callers do: the pool's from 1 up, a backend's own from -1 down, 0 for none. See read-callbacks.ts for
 * what their I/Os do.
 */
import type { Allocator } from "./allocate.js";
import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import { Extents } from "./extents.js";
import { IO_LOCK } from "./io-lock.js";
import type { IoLockOutcome, IoLocks } from "./io-lock.js";
import { POOL_CALLBACK } from "./io-ids.js";
import type { OwnBuffers } from "./own-buffers.js";
import { ringContext } from "./ring.js";
import type { Ring } from "./ring.js";
import { CONTEXT } from "./statistics.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** Buffers that pages are read into. */
export interface ReadBuffers {
  /** Callback of their reads. */
  readonly callback: number;
  readonly isTemporary: boolean;
  /** Whether the page of the buffer that was pinned last is valid. */
  readonly found: boolean;
  /** The context that I/O is charged to. */
  context(ring: Ring | null): number;
  /**
   * Pins the buffer of a block, making one free for it if it has none. `found` says whether its page is valid.
   *
   * @returns 0 if something has to be waited for: `pin` goes on from there, and has to be called next
   */
  tryPin(relation: Relation, fork: Fork, block: number, ring: Ring | null): number;
  /** The same, waiting. */
  pin(relation: Relation, fork: Fork, block: number, ring: Ring | null): Waiting<number>;
  /** Blocks are about to be pinned, so many at most; nothing is waited for until `end`. */
  begin(wanted: number): void;
  end(): void;
  unpin(buffer: number): void;
  isValid(buffer: number): boolean;
  frame(buffer: number): number;
  /** Takes a buffer's I/O lock, for an I/O, to read it. */
  tryStart(buffer: number): IoLockOutcome;
  /** Waits for whoever has the I/O lock. */
  wait(buffer: number): Waiting<void>;
  /** Gives an I/O lock back that was taken for an I/O which is not started after all. */
  abort(buffer: number): void;
}

/** The pool's buffers. */
export class SharedReadBuffers implements ReadBuffers {
  readonly callback: number = POOL_CALLBACK.sharedRead;
  readonly isTemporary = false;
  found = false;
  readonly #context: BackendContext;
  readonly #allocator: Allocator;
  readonly #locks: IoLocks;
  readonly #extents: Extents | undefined;

  constructor(context: BackendContext, allocator: Allocator, locks: IoLocks) {
    this.#context = context;
    this.#allocator = allocator;
    this.#locks = locks;
    const { settings, layout, headers, pins, id } = context;
    if (!settings.contiguous) return;
    this.#extents = new Extents(headers, pins, settings.combineLimit, id / layout.backends);
    allocator.sweep.extents = this.#extents;
  }

  context(ring: Ring | null): number {
    return ringContext(ring);
  }

  tryPin(relation: Relation, fork: Fork, block: number, ring: Ring | null): number {
    const buffer = this.#allocator.tryAllocate(relation, fork, block, ring, ringContext(ring));
    this.found = this.#allocator.found;
    return buffer + 1;
  }

  *pin(relation: Relation, fork: Fork, block: number, ring: Ring | null): Waiting<number> {
    const buffer = yield* this.#allocator.allocate(relation, fork, block, ring, ringContext(ring));
    this.found = this.#allocator.found;
    return buffer + 1;
  }

  begin(wanted: number): void {
    this.#extents?.begin(wanted);
  }

  end(): void {
    this.#extents?.end();
  }

  unpin(buffer: number): void {
    this.#context.pins.unpin(buffer - 1);
  }

  isValid(buffer: number): boolean {
    return (this.#context.headers.state(buffer - 1) & STATE.valid) !== 0;
  }

  frame(buffer: number): number {
    return buffer - 1;
  }

  tryStart(buffer: number): IoLockOutcome {
    return this.#locks.tryStart(buffer - 1, true, true);
  }

  wait(buffer: number): Waiting<void> {
    return this.#locks.wait(buffer - 1);
  }

  abort(buffer: number): void {
    this.#locks.abort(buffer - 1, true);
  }
}

/** Those of a backend. */
export class LocalReadBuffers implements ReadBuffers {
  readonly callback: number = POOL_CALLBACK.localRead;
  readonly isTemporary = true;
  found = false;
  readonly #own: OwnBuffers;

  constructor(own: OwnBuffers) {
    this.#own = own;
  }

  context(): number {
    return CONTEXT.normal;
  }

  tryPin(relation: Relation, fork: Fork, block: number): number {
    const buffer = this.#own.lookupAndPin(relation, fork, block);
    if (buffer < 0) return 0;
    this.found = this.#own.isValid(buffer);
    return -1 - buffer;
  }

  *pin(relation: Relation, fork: Fork, block: number): Waiting<number> {
    const buffer = yield* this.#own.allocate(relation, fork, block);
    this.found = this.#own.isValid(buffer);
    return -1 - buffer;
  }

  begin(): void {
    // One thread's own buffers are few, and their reads too.
  }

  end(): void {
    // Nothing was begun.
  }

  unpin(buffer: number): void {
    this.#own.unpin(-1 - buffer);
  }

  isValid(buffer: number): boolean {
    return this.#own.isValid(-1 - buffer);
  }

  frame(buffer: number): number {
    return this.#own.frame(-1 - buffer);
  }

  tryStart(buffer: number): IoLockOutcome {
    if (this.#own.io(-1 - buffer) !== undefined) return IO_LOCK.busy;
    return this.#own.isValid(-1 - buffer) ? IO_LOCK.done : IO_LOCK.started;
  }

  *wait(buffer: number): Waiting<void> {
    for (let ref = this.#own.io(-1 - buffer); ref !== undefined; ref = this.#own.io(-1 - buffer)) {
      yield { kind: "io", ref };
    }
  }

  abort(buffer: number): void {
    this.#own.terminateIo(-1 - buffer, false, STATE.ioError, false);
  }
}

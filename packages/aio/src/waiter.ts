/**
 * Waiting for one I/O: sleeping on its handle, getting the method to make progress, or looking again on the event loop.
 *
 * An own I/O that is over is taken back as part of the wait; a foreign one is left alone. Nobody may sleep for an own I/O
 * that is not submitted: nobody else would ever submit it. A sleep is on the handle's state word as it was read, so that
 * a change in between ends it at once; the rules are pgaio_wref_wait's.
 */
import { AioError } from "./errors.js";
import { HANDLE_STATE, STATE_MASK } from "./handle-state.js";
import type { HandleTable } from "./handle-table.js";
import { BACKEND } from "./layout.js";
import type { Listener } from "./listener.js";
import type { IoMethod } from "./method.js";
import { FLAG } from "./operations.js";
import type { OwnHandles } from "./own-handles.js";
import { WAIT_EVENT } from "./wait-events.js";
import { checkWaitRef, INVALID_HANDLE } from "./wait-ref.js";
import type { WaitRef } from "./wait-ref.js";

/** What waiting needs of its backend. */
export interface WaiterContext {
  readonly table: HandleTable;
  readonly own: OwnHandles;
  readonly method: IoMethod;
  readonly listener: Listener;
  /** First word of the backend. */
  readonly backendAt: number;
  /** Whether this thread may sleep. */
  readonly mayBlock: boolean;
  /** Throws if there is no use in waiting any more. */
  check(): void;
  /** A sleep is about to begin. */
  onSleep(handle: number): void;
}

/** The waits of one backend. */
export class Waiter {
  readonly #context: WaiterContext;

  constructor(context: WaiterContext) {
    this.#context = context;
  }

  /** Whether an I/O is over; takes an own one back. */
  done(ref: WaitRef): boolean {
    const { table, own } = this.#context;
    checkWaitRef(ref, table.count);
    if (ref.handle === INVALID_HANDLE) return true;
    const isNow = table.generation(ref.handle) === ref.generation;
    const state = table.state(ref.handle);
    if (!isNow || state === HANDLE_STATE.idle) return true;
    if (state < HANDLE_STATE.completedShared) return false;
    if (own.owns(ref.handle) && state === HANDLE_STATE.completedShared) this.#takeForeign(ref.handle);
    return true;
  }

  /** Waits, sleeping if it must. */
  wait(ref: WaitRef): void {
    const { table, method, own } = this.#context;
    while (!this.done(ref)) {
      // The word before the check: a stop in between changes it, and whoever sleeps on the old one wakes at once.
      const word = table.stateWord(ref.handle);
      this.#context.check();
      const state = word & STATE_MASK;
      if (table.generation(ref.handle) !== ref.generation) return;
      this.#checkWaitable(ref.handle, state);
      const isInline = (table.flags(ref.handle) & FLAG.synchronous) !== 0;
      if (state === HANDLE_STATE.submitted && method.waitOne !== undefined && !isInline) {
        own.enter();
        try {
          method.waitOne(ref.handle, ref.generation);
        } finally {
          own.leave();
        }
      } else if (state < HANDLE_STATE.completedShared) {
        this.#sleep(ref.handle, word);
      }
    }
  }

  /** Waits on the event loop. */
  async waitAsync(ref: WaitRef): Promise<void> {
    const { table, own, listener } = this.#context;
    while (!this.done(ref)) {
      const word = table.stateWord(ref.handle);
      this.#context.check();
      if (table.generation(ref.handle) !== ref.generation) return;
      this.#checkWaitable(ref.handle, word & STATE_MASK);
      if (own.owns(ref.handle)) await listener.nextReclaim();
      else await listener.nextChange(ref.handle, word, this.#helpWith(ref.handle));
    }
  }

  #helpWith(handle: number): (() => void) | undefined {
    const { method } = this.#context;
    if (method.reapFor === undefined) return undefined;
    return () => {
      try {
        method.reapFor?.(handle);
      } catch {
        // An exception out of a completion has stopped the system; that wakes the waiter, who throws it.
      }
    };
  }

  #checkWaitable(handle: number, state: number): void {
    if (this.#context.own.owns(handle) && state < HANDLE_STATE.submitted) {
      throw new AioError(
        "ERR_AIO_WAIT_OWN_UNSUBMITTED",
        `handle ${handle} is this thread's own and not submitted`,
      );
    }
    if (state === HANDLE_STATE.idle || state === HANDLE_STATE.handedOut) {
      throw new AioError("ERR_AIO_BAD_STATE", `handle ${handle} has no I/O to wait for`);
    }
  }

  #sleep(handle: number, word: number): void {
    const { table, backendAt, mayBlock } = this.#context;
    if (!mayBlock) {
      throw new AioError("ERR_AIO_WOULD_BLOCK", "this thread must not sleep: use the asynchronous form");
    }
    const { words } = table;
    words[backendAt + BACKEND.waitEvent] = WAIT_EVENT.ioCompletion;
    table.addSleeper(handle);
    this.#context.onSleep(handle);
    Atomics.wait(words, table.at(handle), word);
    table.removeSleeper(handle);
    words[backendAt + BACKEND.waitEvent] = WAIT_EVENT.none;
  }

  /** An own I/O that another thread completed. */
  #takeForeign(handle: number): void {
    const { own } = this.#context;
    own.enter();
    try {
      own.foreignCompletions += 1;
      own.reclaim(handle);
    } finally {
      own.leave();
    }
  }
}

/**
 * Leaving a system: what a backend still owes is paid first.
 *
 * Its scopes are ended, batch mode is left and what is staged submitted, as at the end of a transaction; then all I/O in
 * flight is waited for, oldest first, since its memory and its ring go with the backend. A system that has stopped is left
 * without waiting: nobody completes anything there any more.
 */
import assert from "node:assert/strict";

import { BACKEND } from "./layout.js";
import type { HandleTable } from "./handle-table.js";
import type { Listener } from "./listener.js";
import type { IoMethod } from "./method.js";
import type { OwnHandles } from "./own-handles.js";
import { hasStopped } from "./panic.js";
import type { ScopeStack } from "./scope.js";
import type { Submission } from "./submission.js";
import type { WaitRef } from "./wait-ref.js";
import type { Waiter } from "./waiter.js";

/** What leaving needs of its backend. */
export interface DepartureContext {
  readonly table: HandleTable;
  readonly own: OwnHandles;
  readonly scopes: ScopeStack;
  readonly submission: Submission;
  readonly waiter: Waiter;
  readonly listener: Listener;
  readonly method: IoMethod;
  /** First word of the backend. */
  readonly at: number;
}

/** The end of one backend. */
export class Departure {
  readonly #context: DepartureContext;
  #isOver = false;

  constructor(context: DepartureContext) {
    this.#context = context;
  }

  /** Whether the backend has left. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Leaves, sleeping if it must. @throws {AioError} ERR_AIO_PANIC: the system stopped meanwhile; it has left all the same */
  leave(): void {
    if (this.#isOver) return;
    try {
      this.#begin();
      while (this.#mustWait) this.#context.waiter.wait(this.oldest());
    } finally {
      this.#endIfDone();
    }
  }

  /** As `leave`, without sleeping. */
  async leaveAsync(): Promise<void> {
    if (this.#isOver) return;
    try {
      this.#begin();
      while (this.#mustWait) await this.#context.waiter.waitAsync(this.oldest());
    } finally {
      this.#endIfDone();
    }
  }

  /** The I/O in flight that was submitted first; there is one. */
  oldest(): WaitRef {
    const { own, table } = this.#context;
    const handle = own.oldestInFlight;
    return { handle, generation: table.generation(handle) };
  }

  get #hasStopped(): boolean {
    return hasStopped(this.#context.table.words);
  }

  get #mustWait(): boolean {
    return this.#context.own.inFlightCount > 0 && !this.#hasStopped;
  }

  #begin(): void {
    if (this.#hasStopped) return;
    const { own, scopes, submission } = this.#context;
    scopes.endAll();
    if (submission.isBatch) submission.exitBatch();
    submission.submitStaged();
    assert.ok(!own.hasHandedOut, "a handle is still handed out");
  }

  #endIfDone(): void {
    if (this.#isOver || this.#mustWait) return;
    const { table, scopes, listener, method, at } = this.#context;
    this.#isOver = true;
    scopes.leave();
    listener.stop();
    method.close();
    Atomics.store(table.words, at + BACKEND.inUse, 0);
  }
}

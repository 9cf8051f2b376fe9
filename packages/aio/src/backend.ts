/**
 * A backend: one thread's part of a system. It acquires handles, stages and submits I/O, waits, and takes outcomes back.
 *
 * Acquiring always succeeds in the end, because at most one handle is undefined: all others are in flight or can be
 * submitted. Which handle is where is kept in own-handles.ts; what waits on an event loop is in listener.ts and has no
 * model in PostgreSQL. The rules are those of version 18 (aio.c).
 */
import assert from "node:assert/strict";

import { AcquireQueue } from "./acquire-queue.js";
import type { BackendOptions } from "./backend-options.js";
import { Completer } from "./completion.js";
import { Departure } from "./departure.js";
import { AioError } from "./errors.js";
import { submittedUnder } from "./file-closing.js";
import type { FileLease } from "./file-table.js";
import { HandleView } from "./handle-view.js";
import { IoHandle } from "./io-handle.js";
import type { HandleOwner } from "./io-handle.js";
import { BACKEND, HEADER, SUBMIT_BATCH } from "./layout.js";
import { Listener } from "./listener.js";
import type { IoMethod, MethodContext, MethodName } from "./method.js";
import { createMethod } from "./methods/create-method.js";
import { OwnHandles } from "./own-handles.js";
import { checkPanic, PANIC, panic } from "./panic.js";
import { reportResult } from "./report.js";
import type { AioRegistry, ReportLevel } from "./registry.js";
import type { IoReturn } from "./result.js";
import { ScopeStack } from "./scope.js";
import type { IoScope } from "./scope.js";
import { Statistics } from "./statistics.js";
import type { IoStatistics } from "./statistics.js";
import { Submission } from "./submission.js";
import type { AioShared, ThreadContext } from "./thread-context.js";
import type { WaitRef } from "./wait-ref.js";
import { Waiter } from "./waiter.js";

/** A backend. Made by `AioSystem` or `attachBackend`, used by one thread only. */
export class AioBackend implements HandleOwner {
  readonly id: number;
  readonly method: MethodName;
  readonly registry: AioRegistry;
  readonly combine: number;
  readonly mayBlock: boolean;
  readonly #context: ThreadContext;
  readonly #method: IoMethod;
  readonly #completer: Completer;
  readonly #view: HandleView;
  readonly #listener: Listener;
  readonly #statistics = new Statistics();
  readonly #at: number;
  readonly #own: OwnHandles;
  readonly #acquiring: AcquireQueue;
  readonly #handles: IoHandle[];
  readonly #waiter: Waiter;
  readonly #submission: Submission;
  readonly #departure: Departure;
  readonly #scopes: ScopeStack;

  /** For {@link attachBackend}: the slot is taken already. */
  constructor(
    context: ThreadContext,
    registry: AioRegistry,
    { method, fixBuffers }: AioShared,
    id: number,
    options: BackendOptions,
    mayBlock: boolean,
  ) {
    const { layout } = context;
    this.id = id;
    this.method = method;
    this.registry = registry;
    this.combine = layout.combine;
    this.mayBlock = mayBlock;
    this.#context = context;
    this.#at = layout.backendsAt + id * BACKEND.words;
    this.#view = new HandleView(context.table, context.segments, id);
    const first = id * layout.concurrency;
    this.#own = new OwnHandles(context.table, registry, this.#view, first);
    this.#acquiring = new AcquireQueue(this.#own);
    this.#completer = new Completer(context, registry, this.#view, id + 1, id);
    this.#completer.own = this.#own;
    this.#submission = new Submission({
      thread: context,
      registry,
      view: this.#view,
      own: this.#own,
      completer: this.#completer,
      statistics: this.#statistics,
      backend: id,
      at: this.#at,
      onSubmit: options.probe?.onSubmit,
    });
    this.#scopes = new ScopeStack(this.#own, this.#submission, options.onWarning);
    this.#handles = Array.from({ length: layout.concurrency }, (_, at) => new IoHandle(this, first + at));
    this.#method = createMethod(method, this.#methodContext(), { layout, registry, fixBuffers });
    this.#submission.method = this.#method;
    const isBusy = options.busyPoll ?? false;
    this.#listener = new Listener(context.table, this.#at, this.#method, isBusy, () => this.poll());
    this.#own.listener = this.#listener;
    this.#waiter = new Waiter({
      table: context.table,
      own: this.#own,
      method: this.#method,
      listener: this.#listener,
      backendAt: this.#at,
      mayBlock,
      check: () => this.#check(),
      onSleep: (handle) => {
        this.#statistics.waits += 1;
        options.probe?.onSleep?.(handle);
      },
    });
    this.#departure = new Departure({
      table: context.table,
      own: this.#own,
      scopes: this.#scopes,
      submission: this.#submission,
      waiter: this.#waiter,
      listener: this.#listener,
      method: this.#method,
      at: this.#at,
    });
  }

  get table(): ThreadContext["table"] {
    return this.#context.table;
  }

  get segments(): ThreadContext["segments"] {
    return this.#context.segments;
  }

  get files(): ThreadContext["files"] {
    return this.#context.files;
  }

  /** The fault hook, for tests. */
  get faults(): ThreadContext["faults"] {
    return this.#context.faults;
  }

  /** Handles of this backend. */
  get concurrency(): number {
    return this.#own.concurrency;
  }

  get idleCount(): number {
    return this.#own.idleCount;
  }

  get inFlightCount(): number {
    return this.#own.inFlightCount;
  }

  get stagedCount(): number {
    return this.#own.stagedCount;
  }

  /** Whether I/O waits for its submission: do not wait for another thread then, it may wait for you. */
  get haveStaged(): boolean {
    return this.#own.stagedCount > 0;
  }

  get isInBatch(): boolean {
    return this.#submission.isBatch;
  }

  /** What this backend has done so far. */
  statistics(): IoStatistics {
    return { ...this.#statistics.snapshot(), foreignCompletions: this.#own.foreignCompletions };
  }

  // --- scopes ---

  /** Opens a scope; whoever does ends it. */
  openScope(): IoScope {
    this.#check();
    return this.#scopes.open();
  }

  /** Runs `body` in a scope of its own, and ends that as failed if it throws. */
  scope<T>(body: (scope: IoScope) => T): T {
    const scope = this.openScope();
    let failed = true;
    try {
      const value = body(scope);
      failed = false;
      return value;
    } finally {
      scope.end(failed);
    }
  }

  // --- acquire and release ---

  /**
   * Takes a handle, waiting for one of the backend's own I/Os if none is idle.
   *
   * @param slot lent: filled when the I/O has been reclaimed, unless the scope ends before
   * @throws {AioError} ERR_AIO_HANDLE_ALREADY_OUT; ERR_AIO_WOULD_BLOCK on a thread that must not sleep;
   *   ERR_AIO_CLOSED, ERR_AIO_PANIC
   */
  acquire(scope: IoScope, slot?: IoReturn): IoHandle {
    for (;;) {
      const handle = this.tryAcquire(scope, slot);
      if (handle !== undefined) return handle;
      this.#waitForFree();
    }
  }

  /** Takes a handle if one is idle. @returns undefined if none is; errors as of `acquire`, but it never waits */
  tryAcquire(scope: IoScope, slot?: IoReturn): IoHandle | undefined {
    const own = this.#own;
    // Plain: a stop that is not seen yet is seen by the next call, and by whoever goes to sleep.
    if (this.#context.words[HEADER.panic] !== PANIC.none || this.#departure.isOver) this.#check();
    if (!scope.isOpen) throw new AioError("ERR_AIO_CLOSED", "the scope has ended");
    if (own.stagedCount >= SUBMIT_BATCH) this.submitStaged();
    if (own.hasHandedOut) {
      const message = `handle ${own.handedOut} is handed out already: define or release it first`;
      throw new AioError("ERR_AIO_HANDLE_ALREADY_OUT", message);
    }
    if (own.idleCount === 0) return undefined;
    return this.#handles[own.handOut(scope, slot)];
  }

  /**
   * As `acquire`, without sleeping: resolves when a handle could be taken. Calls are served in their order. While another
   * flow has a handle and has not started or released it, this waits for that too.
   */
  async acquireAsync(scope: IoScope, slot?: IoReturn): Promise<IoHandle> {
    return this.#acquiring.acquire(
      () => this.tryAcquire(scope, slot),
      async () => {
        this.submitStaged();
        if (this.#own.idleCount === 0) await this.#listener.nextReclaim();
      },
    );
  }

  /** For {@link IoHandle}: HANDED_OUT back to IDLE. */
  takeBack(): void {
    this.#own.takeBack();
  }

  /** Own handles that others completed, then the oldest in flight: after this, one is idle. */
  #waitForFree(): void {
    if (this.#own.reclaimCompleted() > 0) return;
    this.submitStaged();
    if (this.#own.idleCount > 0) return;
    const handle = this.#own.oldestInFlight;
    assert.ok(handle >= 0, "no handle is idle, and none in flight either");
    this.wait(this.#departure.oldest());
    assert.ok(this.#own.idleCount > 0, "no handle became idle by waiting for the oldest");
  }

  // --- stage and submit ---

  /** For {@link IoHandle}: a handle that has just been defined. */
  stage(handle: number): void {
    this.#submission.stage(handle);
  }

  /** Submits everything staged. @returns how many I/Os */
  submitStaged(): number {
    return this.#submission.submitStaged();
  }

  /** From now on I/O is held back until `exitBatch`, a full batch or the next wait. @throws ERR_AIO_NESTED_BATCH */
  enterBatch(): void {
    this.#check();
    this.#submission.enterBatch(this.#scopes.innermost);
  }

  /** Submits what is staged and leaves batch mode. @throws {AioError} ERR_AIO_NOT_IN_BATCH */
  exitBatch(): void {
    this.#submission.exitBatch();
  }

  // --- completion and waiting ---

  /** Completes and takes back what is ready, without waiting. @returns I/Os completed or taken back */
  poll(): number {
    this.#own.enter();
    try {
      const bell = Atomics.load(this.table.words, this.#at + BACKEND.bell);
      return (this.#method.poll?.() ?? 0) + this.#own.reclaimRung(bell);
    } finally {
      this.#own.leave();
    }
  }

  /** For {@link IoEngine}: takes back soon what is over at once, as `poll` does. */
  pollSoon(): void {
    this.#listener.lookSoon();
  }

  /** Whether an I/O is over. Takes it back if it is this backend's. @throws {AioError} ERR_AIO_BAD_STATE: no such handle */
  done(ref: WaitRef): boolean {
    return this.#waiter.done(ref);
  }

  /**
   * Waits until an I/O is over, whoever issued it, and takes it back if it is this backend's.
   *
   * @throws {AioError} ERR_AIO_WAIT_OWN_UNSUBMITTED: an own I/O that is only staged; ERR_AIO_BAD_STATE: a foreign handle
   *   that was not even defined; ERR_AIO_WOULD_BLOCK; ERR_AIO_PANIC
   */
  wait(ref: WaitRef): void {
    this.#waiter.wait(ref);
  }

  /** As `wait`, without sleeping. Keeps the process alive meanwhile. */
  async waitAsync(ref: WaitRef): Promise<void> {
    await this.#waiter.waitAsync(ref);
  }

  // --- files, reports, the end ---

  /** Registers an open descriptor. The descriptor stays the caller's. @throws {AioError} ERR_AIO_LIMIT */
  openLease(fd: number): FileLease {
    this.#check();
    return this.#context.files.lease(fd);
  }

  /**
   * Waits until no I/O uses a lease's descriptor any more and ends the lease: afterwards the descriptor can be closed.
   * What this backend has staged is submitted first; I/O that another one submits from now on fails with EBADF.
   */
  closingFile(lease: FileLease): void {
    for (const ref of this.#beginClosing(lease)) this.wait(ref);
    this.#method.forgetFile?.(lease);
    this.#context.files.end(lease);
  }

  /** As `closingFile`, without sleeping. */
  async closingFileAsync(lease: FileLease): Promise<void> {
    for (const ref of this.#beginClosing(lease)) await this.waitAsync(ref);
    this.#method.forgetFile?.(lease);
    this.#context.files.end(lease);
  }

  #beginClosing(lease: FileLease): WaitRef[] {
    this.submitStaged();
    this.#context.files.beginClosing(lease);
    return submittedUnder(this.table, lease);
  }

  /**
   * Raises or logs an outcome through the callback that it names.
   *
   * @throws what the callback throws; {AioIoError} for a result of no callback; {AioError} ERR_AIO_BAD_STATE: it is fine
   */
  report(slot: Readonly<IoReturn>, level: ReportLevel): void {
    reportResult(this.registry, slot, level, "a file");
  }

  /**
   * Submits what is staged, waits for all I/O in flight, oldest first, and leaves the system. One that has stopped is left
   * without waiting.
   *
   * @throws {AioError} ERR_AIO_PANIC: the system stopped meanwhile; the backend has left it all the same
   */
  detach(): void {
    this.#departure.leave();
  }

  /** As `detach`, without sleeping. */
  async detachAsync(): Promise<void> {
    await this.#departure.leaveAsync();
  }

  #methodContext(): MethodContext {
    const { table, files, segments, faults, calls } = this.#context;
    return {
      table,
      files,
      segments,
      faults,
      calls,
      backend: this.id,
      completer: this.#completer,
      own: this.#own,
      mayBlock: this.mayBlock,
      markSubmitted: (handles, count) => this.#submission.markSubmitted(handles, count),
      inFlight: () => this.#own.inFlightCount,
      panic: (reason) => panic(table, reason),
    };
  }

  #check(): void {
    checkPanic(this.table.words);
    if (this.#departure.isOver) throw new AioError("ERR_AIO_CLOSED", "the backend has left the system");
  }
}

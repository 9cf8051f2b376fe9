/**
 * From DEFINED to SUBMITTED: staging, batch mode, and the moment from which I/O is no longer its issuer's alone.
 *
 * Up to STAGED a handle is private, and its states are plain stores. A batch is made SUBMITTED in one go: all its states,
 * then one fence, then whatever has to be looked at after them. Two things have: sleepers, who may reap the completions
 * themselves from now on, and the leases, whose end is looked for after the state, as who ends one looks for states after
 * it (see file-table.ts): one look for each lease in the batch. An exception out of any of this stops the system.
 */
import type { Completer } from "./completion.js";
import { AioError } from "./errors.js";
import { executeNow, RESULT_CLOSED, settle } from "./execute.js";
import type { HandleTable } from "./handle-table.js";
import type { HandleView } from "./handle-view.js";
import { HANDLE_STATE } from "./handle-state.js";
import { BACKEND, byteAt, HANDLE, META } from "./layout.js";
import type { IoMethod } from "./method.js";
import { FLAG, OPERATION } from "./operations.js";
import type { OwnHandles } from "./own-handles.js";
import { PANIC, panic } from "./panic.js";
import type { AioRegistry } from "./registry.js";
import { runStageCallbacks } from "./run-callbacks.js";
import type { IoScope } from "./scope.js";
import type { Statistics } from "./statistics.js";
import type { ThreadContext } from "./thread-context.js";

/** What submitting needs of its backend. */
export interface SubmissionContext {
  readonly thread: ThreadContext;
  readonly registry: AioRegistry;
  readonly view: HandleView;
  readonly own: OwnHandles;
  readonly completer: Completer;
  readonly statistics: Statistics;
  /** Number of the backend, and its first word. */
  readonly backend: number;
  readonly at: number;
  readonly onSubmit: ((count: number) => void) | undefined;
}

/** The staged I/O of one backend. */
export class Submission {
  /** Set by the backend before the first handle is taken: it needs {@link markSubmitted}. */
  method: IoMethod | undefined;
  readonly #context: SubmissionContext;
  readonly #own: OwnHandles;
  readonly #table: HandleTable;
  readonly #statistics: Statistics;
  readonly #single = new Int32Array(1);
  #batches = 0;
  #isBatch = false;
  #batchScope: IoScope | undefined;

  constructor(context: SubmissionContext) {
    this.#context = context;
    this.#own = context.own;
    this.#table = context.thread.table;
    this.#statistics = context.statistics;
  }

  get isBatch(): boolean {
    return this.#isBatch;
  }

  /** From now on staged I/O is held back. @param scope the innermost one that is open */
  enterBatch(scope: IoScope | undefined): void {
    if (this.#isBatch) throw new AioError("ERR_AIO_NESTED_BATCH", "batch mode is entered already");
    this.#isBatch = true;
    this.#batchScope = scope;
  }

  /** Submits what is staged, and what is staged later at once. */
  exitBatch(): void {
    if (!this.#isBatch) throw new AioError("ERR_AIO_NOT_IN_BATCH", "batch mode is not entered");
    this.#isBatch = false;
    this.submitStaged();
  }

  /** Leaves a batch mode that was entered in a scope, which has ended. @returns whether there was one */
  abandonBatchOf(scope: IoScope): boolean {
    if (!this.#isBatch || this.#batchScope !== scope) return false;
    this.#isBatch = false;
    return true;
  }

  /** Takes a handle that has just been defined. */
  stage(handle: number): void {
    const own = this.#own;
    const table = this.#table;
    const { words } = table;
    const at = table.at(handle);
    own.defined();
    const meta = words[at + HANDLE.meta] as number;
    if (byteAt(meta, META.callbackCount) > 0) this.#runCallbacks(handle);
    table.step(handle, HANDLE_STATE.defined, HANDLE_STATE.staged);
    const bytes = words[at + HANDLE.lengthBytes] as number;
    this.#statistics.start(byteAt(meta, META.operation), byteAt(meta, META.targetId), bytes);
    const isInline =
      (meta & (FLAG.synchronous << META.flags)) !== 0 ||
      this.method?.needsSynchronousExecution?.(handle) === true;
    if (isInline) {
      this.#executeInline(handle);
      return;
    }
    own.staged[own.stagedCount] = handle;
    own.stagedCount += 1;
    if (!this.#isBatch) this.submitStaged();
  }

  /** Submits everything staged. @returns how many I/Os */
  submitStaged(): number {
    const own = this.#own;
    const count = own.stagedCount;
    if (count === 0) return 0;
    const { thread, statistics, onSubmit } = this.#context;
    own.enter();
    try {
      own.stagedCount = 0;
      statistics.batches += 1;
      statistics.submitted += count;
      onSubmit?.(count);
      this.method?.submit(own.staged, count);
    } catch (error) {
      panic(thread.table, PANIC.submitFailed, error);
      throw error;
    } finally {
      own.leave();
    }
    return count;
  }

  /**
   * Makes staged handles SUBMITTED. Those whose file is being closed, or is closed, are completed with EBADF at once.
   *
   * @returns how many are not: the first places of `handles`
   */
  markSubmitted(handles: Int32Array, count: number): number {
    const { backend, at } = this.#context;
    const table = this.#table;
    this.#own.markSubmitted(handles, count);
    this.#batches = (this.#batches + 1) | 0;
    Atomics.store(table.words, at + BACKEND.submissions, this.#batches);
    if (table.hasSleepers(backend)) {
      for (let index = 0; index < count; index++) table.wakeIfSlept(handles[index] as number);
    }
    return this.#checkLeases(handles, count);
  }

  /** One look for each lease; most batches have one. */
  #checkLeases(handles: Int32Array, count: number): number {
    const { thread, completer } = this.#context;
    const { files } = thread;
    const table = this.#table;
    const { words } = table;
    let accepted = 0;
    // A slot's generation is odd while it is open, so no lease has 0.
    let goodSlot = 0;
    let goodGeneration = 0;
    for (let index = 0; index < count; index++) {
      const handle = handles[index] as number;
      const at = table.at(handle);
      const slot = words[at + HANDLE.fileSlot] as number;
      const generation = words[at + HANDLE.fileGeneration] as number;
      const isGood = slot === goodSlot && generation === goodGeneration;
      if (!isGood && table.operation(handle) !== OPERATION.nop) {
        if (!files.accepts(slot, generation)) {
          completer.complete(handle, RESULT_CLOSED);
          continue;
        }
        goodSlot = slot;
        goodGeneration = generation;
      }
      handles[accepted] = handle;
      accepted += 1;
    }
    return accepted;
  }

  #runCallbacks(handle: number): void {
    const { thread, registry, view } = this.#context;
    try {
      runStageCallbacks(thread.table, registry, view, handle);
    } catch (error) {
      panic(thread.table, PANIC.callbackThrew, error);
      throw error;
    }
  }

  #executeInline(handle: number): void {
    const { thread, completer, statistics } = this.#context;
    statistics.inline += 1;
    this.#own.enter();
    try {
      this.#single[0] = handle;
      if (this.markSubmitted(this.#single, 1) === 1) {
        completer.complete(handle, settle(thread, handle, executeNow(thread, handle)));
      }
    } catch (error) {
      panic(thread.table, PANIC.callbackThrew, error);
      throw error;
    } finally {
      this.#own.leave();
    }
  }
}

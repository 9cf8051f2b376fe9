/**
 * What happens to the I/O of a thread that ended without leaving the system: `worker.terminate()`, an uncaught error.
 *
 * The process lives on, so nothing is released by itself. The supervisor ends the leases that the thread took, finishes
 * the completions it had recorded (of anybody's I/O), breaks its locks, gives back what it never submitted (those who wait
 * for it see ECANCELED), waits until the kernel and the workers have let go of the rest, and frees the slot. What was
 * SUBMITTED and got no further is executed here: a read or write at a position can be repeated. A thread may have died
 * between taking a sleeper's mark and waking it, so all sleepers are woken.
 *
 * Shared state is never torn by a death: each change under a lock takes effect by one store. PostgreSQL has no model for
 * this: a dead backend there restarts the server.
 */
import type { Completer } from "./completion.js";
import { executeNow, RESULT_CANCELLED, settle } from "./execute.js";
import { HANDLE_STATE } from "./handle-state.js";
import { BACKEND, BACKEND_RECOVERING, HANDLE, IO_WORKERS_MAX, QUEUE, WORKER } from "./layout.js";
import type { MethodName } from "./method.js";
import { announceEntered, attachIfOpen, drainRing } from "./methods/uring-completions.js";
import { breakLock, tryLock, unlock } from "./mutex.js";
import type { ThreadContext } from "./thread-context.js";
import { wakeAll } from "./wake-all.js";
import { WorkerQueue } from "./worker-queue.js";

/** Pause between two looks at I/O that the kernel or a worker still has. Device time is of this order. */
const LOOK_AGAIN_MS = 1;
const SUPERVISOR_ID = 2000;

/** Recovers the backends of dead threads. Lives with the supervisor. */
export class Recovery {
  readonly #context: ThreadContext;
  readonly #completer: Completer;
  readonly #method: MethodName;
  readonly #queue: WorkerQueue;

  constructor(context: ThreadContext, completer: Completer, method: MethodName) {
    this.#context = context;
    this.#completer = completer;
    this.#method = method;
    this.#queue = new WorkerQueue(context.words, context.layout, SUPERVISOR_ID, false);
  }

  /** Recovers every backend that a thread left attached. Resolves when their slots are free. */
  async recoverThread(threadId: number): Promise<void> {
    const { words, layout, files } = this.#context;
    files.endOfThread(threadId);
    for (let backend = 0; backend < layout.backends; backend++) {
      const at = layout.backendsAt + backend * BACKEND.words;
      const mine = threadId + 1;
      if (Atomics.compareExchange(words, at + BACKEND.inUse, mine, BACKEND_RECOVERING) !== mine) continue;
      await this.#recover(backend);
      Atomics.store(words, at + BACKEND.inUse, 0);
    }
  }

  async #recover(backend: number): Promise<void> {
    const { words, layout, table } = this.#context;
    const at = layout.backendsAt + backend * BACKEND.words;
    this.#finishRecorded(backend + 1);
    this.#breakLocks(backend + 1);
    this.#queue.wakeAll();
    wakeAll(table);
    const first = backend * layout.concurrency;
    const last = first + layout.concurrency - 1;
    for (let handle = first; handle <= last; handle++) this.#abandon(handle);
    await this.#settleSubmitted(backend, first, last);
    for (let handle = first; handle <= last; handle++) {
      if (table.state(handle) === HANDLE_STATE.completedShared) {
        table.step(handle, HANDLE_STATE.completedShared, HANDLE_STATE.completedLocal);
      }
      if (table.state(handle) === HANDLE_STATE.completedLocal) {
        table.recycle(handle, HANDLE_STATE.completedLocal);
      }
      // It may have died between publishing IDLE and clearing the rest.
      table.wipe(handle);
    }
    this.#closeRing(at);
    Atomics.store(words, at + BACKEND.waitEvent, 0);
    Atomics.store(words, at + BACKEND.sleeping, 0);
  }

  /** Results that the dead thread had taken from the kernel, its own I/O's and others', and not published yet. */
  #finishRecorded(completer: number): void {
    const { table } = this.#context;
    for (let handle = 0; handle < table.count; handle++) {
      const isRecorded = table.state(handle) === HANDLE_STATE.completedIo;
      if (isRecorded && table.get(handle, HANDLE.completer) === completer) this.#completer.finish(handle);
    }
  }

  #breakLocks(holder: number): void {
    const { words, layout } = this.#context;
    for (let backend = 0; backend < layout.backends; backend++) {
      breakLock(words, layout.backendsAt + backend * BACKEND.words + BACKEND.ringLock, holder);
    }
    breakLock(words, layout.queueAt + QUEUE.lock, holder);
  }

  /** What was never submitted: back to idle, or completed as cancelled for those who wait. */
  #abandon(handle: number): void {
    const { table } = this.#context;
    const state = table.state(handle);
    if (state === HANDLE_STATE.handedOut) table.recycle(handle, HANDLE_STATE.handedOut);
    if (state !== HANDLE_STATE.defined && state !== HANDLE_STATE.staged) return;
    this.#completer.complete(handle, RESULT_CANCELLED);
  }

  /** Waits until nothing of the backend's is SUBMITTED, or COMPLETED_IO in the hands of a living thread. */
  async #settleSubmitted(backend: number, first: number, last: number): Promise<void> {
    const { table } = this.#context;
    for (;;) {
      let open = 0;
      for (let handle = first; handle <= last; handle++) {
        const state = table.state(handle);
        if (state === HANDLE_STATE.submitted || state === HANDLE_STATE.completedIo) open += 1;
      }
      if (open === 0) return;
      if (this.#settleSome(backend, first, last) > 0) continue;
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }

  /** @returns how many I/Os were completed; 0 says that it is not worth looking again at once */
  #settleSome(backend: number, first: number, last: number): number {
    if (this.#method === "io_uring") return this.#drainOrphan(backend, first, last);
    if (this.#method === "worker") return this.#executeLost(first, last);
    // What a test has in hand it completes itself.
    return this.#method === "sync" ? this.#executeAll(first, last) : 0;
  }

  #drainOrphan(backend: number, first: number, last: number): number {
    const { words, layout } = this.#context;
    const at = layout.backendsAt + backend * BACKEND.words;
    if (!tryLock(words, at + BACKEND.ringLock, SUPERVISOR_ID)) return 0;
    let completed = 0;
    try {
      const id = (words[at + BACKEND.ring] as number) - 1;
      const ring = id < 0 ? undefined : attachIfOpen(id);
      if (ring !== undefined) completed = drainRing({ ...this.#context, completer: this.#completer }, ring);
      // Nothing is ready: what is neither in the kernel nor complete never got there.
      const isEmpty = ring === undefined || (ring.inKernel <= 0 && ring.ready <= 0);
      if (completed === 0 && isEmpty) completed = this.#executeAll(first, last);
    } finally {
      unlock(words, at + BACKEND.ringLock);
    }
    // Whoever saw an I/O that never entered the kernel sleeps until this word changes. It must not grow: what has not
    // entered by now never will.
    if (completed > 0) announceEntered(words, at, (Atomics.load(words, at + BACKEND.entered) - 1) | 0);
    return completed;
  }

  /** Executes what is SUBMITTED but in no queue and no worker's hands: its issuer died before or while it did so. */
  #executeLost(first: number, last: number): number {
    const { words, layout, table } = this.#context;
    if (!this.#queue.lock()) return 0;
    const known = new Set<number>(this.#queue.entries());
    for (let worker = 0; worker < IO_WORKERS_MAX; worker++) {
      known.add(Atomics.load(words, layout.workersAt + worker * WORKER.words + WORKER.current) - 1);
    }
    this.#queue.unlock();
    let executed = 0;
    for (let handle = first; handle <= last; handle++) {
      if (known.has(handle) || table.state(handle) !== HANDLE_STATE.submitted) continue;
      this.#execute(handle);
      executed += 1;
    }
    return executed;
  }

  #executeAll(first: number, last: number): number {
    let executed = 0;
    for (let handle = first; handle <= last; handle++) {
      if (this.#context.table.state(handle) !== HANDLE_STATE.submitted) continue;
      this.#execute(handle);
      executed += 1;
    }
    return executed;
  }

  #execute(handle: number): void {
    const { words } = this.#context;
    words[this.#context.table.at(handle) + HANDLE.partsLeft] = 0;
    this.#completer.complete(handle, settle(this.#context, handle, executeNow(this.#context, handle)));
  }

  #closeRing(at: number): void {
    const { words } = this.#context;
    const id = (words[at + BACKEND.ring] as number) - 1;
    if (id >= 0) attachIfOpen(id)?.closeOrphan();
    Atomics.store(words, at + BACKEND.ring, 0);
  }
}

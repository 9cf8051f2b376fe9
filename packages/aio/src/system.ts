/**
 * A system: the shared memory of asynchronous I/O, and its supervisor.
 *
 * The thread that makes it is the supervisor: it owns the I/O workers, and cleans up after threads that die. Backends,
 * its own among them, attach to what `shared` describes.
 */
import type { Worker } from "node:worker_threads";

import { createMemorySegment } from "@millrace/aligned-buffers";
import type { SharedMemory } from "@millrace/aligned-buffers";

import { attachBackend } from "./attach.js";
import type { AioBackend } from "./backend.js";
import type { BackendOptions } from "./backend-options.js";
import { Completer } from "./completion.js";
import { AioError } from "./errors.js";
import type { Faults } from "./faults.js";
import { createFileRegistry } from "./file-registry.js";
import { HandleView } from "./handle-view.js";
import { HandleTable } from "./handle-table.js";
import { BACKENDS_MAX, computeLayout, FILES_MAX, HEADER, writeHeader } from "./layout.js";
import { checkCombine, checkConcurrency } from "./limits.js";
import { METHOD_NUMBER } from "./method.js";
import { chooseMethod } from "./method-choice.js";
import type { MethodChoice, MethodWish, UringProbe } from "./method-choice.js";
import { Recovery } from "./recovery.js";
import { readBackendRows, readRows } from "./rows.js";
import type { AioRow, BackendRow } from "./rows.js";
import type { AioRegistry } from "./registry.js";
import { openThread } from "./thread-context.js";
import type { AioShared, ThreadContext } from "./thread-context.js";
import { checkWorkerCount, WorkerPool } from "./worker-pool.js";
import type { AutoSizing, PoolClock } from "./worker-pool.js";

const CONCURRENCY_DEFAULT = 64;
const COMBINE_DEFAULT = 16;
const BACKENDS_DEFAULT = 8;
const FILES_DEFAULT = 1024;
const IO_WORKERS_DEFAULT = 3;
/** The supervisor as a completer, and as a holder of locks. */
const SUPERVISOR_ID = 2000;

/** What a system is made of. */
export interface AioSystemOptions extends MethodWish {
  /** Memory that I/O may be done on: shared WebAssembly memories, by segment number. Fixed for the system's life. */
  readonly segments: readonly SharedMemory[];
  /** Callbacks and targets; those for plain files unless said otherwise. */
  readonly registry?: AioRegistry;
  /** URL of a module that exports `createRegistry(data): AioRegistry`, for the I/O workers; needed with `registry`. */
  readonly registryModule?: string | URL;
  /** What `createRegistry` is given in the I/O workers, as a structured clone: shared memory stays shared. */
  readonly registryData?: unknown;
  /** Flags of Node for the I/O workers' threads, such as a loader for `registryModule`; none is inherited. */
  readonly workerExecArgv?: readonly string[];
  /** Threads that can be attached at a time; 1..256, 8 unless said otherwise. */
  readonly backendsMax?: number;
  /** Handles of each backend, and so its I/Os in flight; 1..1024, 64 unless said otherwise. */
  readonly concurrency?: number;
  /** Pieces of memory of one I/O at most; 1..128, 16 unless said otherwise. */
  readonly combineMax?: number;
  /** Files open at a time; 1..65536, 1024 unless said otherwise. */
  readonly filesMax?: number;
  /** I/O workers of method worker; 1..32, 3 unless said otherwise. Or limits between which they follow the load. */
  readonly ioWorkers?: number | AutoSizing;
  /**
   * io_uring only: register the segments with every ring, which saves the kernel a page look-up for each I/O but pins all
   * of their memory. Where the limit on locked memory forbids it, nothing is registered. false unless said otherwise.
   */
  readonly fixBuffers?: boolean;
  /** For tests. */
  readonly probe?: UringProbe;
  /** For tests. */
  readonly clock?: PoolClock;
}

function checkCount(value: number, max: number, what: string): number {
  if (!Number.isInteger(value) || value < 1 || value > max) {
    throw new RangeError(`from 1 to ${max} ${what}, not ${value}`);
  }
  return value;
}

/** A system and its supervisor. */
export class AioSystem implements AsyncDisposable {
  /** What other threads attach to: structured-cloneable. */
  readonly shared: AioShared;
  readonly registry: AioRegistry;
  /** The method that runs, and why no better one. */
  readonly choice: MethodChoice;
  readonly #context: ThreadContext;
  readonly #recovery: Recovery;
  readonly #pool: WorkerPool | undefined;
  readonly #ownBackends: AioBackend[] = [];
  #closing: Promise<void> | undefined;

  private constructor(
    shared: AioShared,
    registry: AioRegistry,
    choice: MethodChoice,
    options: AioSystemOptions,
  ) {
    this.shared = shared;
    this.registry = registry;
    this.choice = choice;
    this.#context = openThread(shared, registry);
    const view = new HandleView(this.#context.table, this.#context.segments, -1);
    const completer = new Completer(this.#context, registry, view, SUPERVISOR_ID, -1);
    this.#recovery = new Recovery(this.#context, completer, shared.method);
    if (choice.method !== "worker") return;
    const registryModule = options.registryModule?.toString();
    const { workerExecArgv: execArgv = [], registryData, clock } = options;
    const more = { execArgv, registryData, ...(clock === undefined ? {} : { clock }) };
    this.#pool = new WorkerPool({ context: this.#context, shared, completer, registryModule, ...more });
    const workers = options.ioWorkers ?? IO_WORKERS_DEFAULT;
    if (typeof workers === "number") this.#pool.setSize(workers);
    else this.#pool.setAutoSizing(workers);
  }

  /**
   * Makes a system.
   *
   * @throws {RangeError} a count is out of its range
   * @throws {AioError} ERR_AIO_UNAVAILABLE: a required method cannot run here; ERR_AIO_MEMORY: not shared memory
   */
  static create(options: AioSystemOptions): AioSystem {
    const registry = options.registry ?? createFileRegistry();
    const choice = chooseMethod(options, options.probe);
    const layout = computeLayout({
      backends: checkCount(options.backendsMax ?? BACKENDS_DEFAULT, BACKENDS_MAX, "backends"),
      concurrency: checkConcurrency(options.concurrency ?? CONCURRENCY_DEFAULT),
      combine: checkCombine(options.combineMax ?? COMBINE_DEFAULT),
      files: checkCount(options.filesMax ?? FILES_DEFAULT, FILES_MAX, "files"),
    });
    if (typeof options.ioWorkers === "number") checkWorkerCount(options.ioWorkers);
    const { memory } = createMemorySegment(layout.words * Int32Array.BYTES_PER_ELEMENT);
    const words = new Int32Array(memory.buffer);
    new HandleTable(words, layout).initialise();
    writeHeader(words, layout, METHOD_NUMBER[choice.method], registry.freeze());
    const fixBuffers = options.fixBuffers ?? false;
    const shared = { memory, segments: options.segments, method: choice.method, fixBuffers };
    return new AioSystem(shared, registry, choice, options);
  }

  /** The fault hook, for tests. */
  get faults(): Faults {
    return this.#context.faults;
  }

  /** The I/O workers; undefined unless the method is worker. */
  get workers(): WorkerPool | undefined {
    return this.#pool;
  }

  /** Attaches a backend in this thread. It is detached when the system is closed. */
  attach(options: BackendOptions = {}): AioBackend {
    this.#checkOpen();
    const backend = attachBackend(this.shared, this.registry, options);
    this.#ownBackends.push(backend);
    return backend;
  }

  /**
   * Sets the number of I/O workers.
   *
   * @throws {RangeError} not 1..32
   * @throws {AioError} ERR_AIO_BAD_STATE: the method is not worker
   */
  setIoWorkers(count: number): void {
    this.#checkOpen();
    checkWorkerCount(count);
    if (this.#pool === undefined) {
      throw new AioError("ERR_AIO_BAD_STATE", `method ${this.choice.method} has no I/O workers`);
    }
    this.#pool.setSize(count);
  }

  /** Every handle in use. */
  rows(): AioRow[] {
    return readRows(this.#context, this.registry);
  }

  /** Every backend that is attached, and what it waits for. */
  backends(): BackendRow[] {
    return readBackendRows(this.#context);
  }

  /**
   * Watches over a thread: if it ends without having detached its backends, they are recovered. Call it right after
   * the thread was made.
   *
   * @returns a promise of the end of the recovery, if there was one
   */
  supervise(worker: Worker): Promise<void> {
    const { threadId } = worker;
    return new Promise((resolve, reject) => {
      worker.once("exit", () => void this.#recovery.recoverThread(threadId).then(resolve, reject));
    });
  }

  /**
   * Recovers what a thread has left that ended without detaching: what `supervise` does at its end. For a supervisor that has
   * to see to something of its own before. Resolves at once for a thread that left nothing.
   */
  async recover(threadId: number): Promise<void> {
    await this.#recovery.recoverThread(threadId);
  }

  /**
   * Ends the system: nobody can attach any more, this thread's backends finish their I/O and detach, the workers end.
   * Other threads' backends must have detached, or their threads have ended. A second call waits for the first.
   */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    Atomics.store(this.#context.words, HEADER.closing, 1);
    try {
      for (const backend of this.#ownBackends.reverse()) await backend.detachAsync();
    } finally {
      await this.#pool?.close();
    }
  }

  #checkOpen(): void {
    if (this.#closing !== undefined) throw new AioError("ERR_AIO_CLOSED", "the system is closed");
  }
}

/**
 * The reference for the handle core: what each operation does to the handles of a backend, without memory, I/O or threads.
 *
 * The dumbest correct thing: arrays for the lists, one object a handle. Where the core may sleep the model says that it
 * would (`wouldSleep`), and the test does not go there. Numbers of handles are the system's.
 */
import { HANDLE_STATE } from "../src/handle-state.js";
import { SUBMIT_BATCH } from "../src/layout.js";

const { idle, handedOut, staged, submitted, completedShared } = HANDLE_STATE;

/** One handle: its state, how often it was used, and whose outcome is awaited. */
export interface ModelHandle {
  readonly id: number;
  readonly owner: number;
  state: number;
  generation: number;
  scope: number;
  /** Number of the return slot, -1 once nobody wants the outcome. */
  slot: number;
  /** The outcome, from COMPLETED_SHARED on. */
  result: string;
}

/** One backend's lists. */
export interface ModelBackend {
  readonly idle: ModelHandle[];
  handedOut: ModelHandle | undefined;
  staged: ModelHandle[];
  inFlight: ModelHandle[];
  isBatch: boolean;
  batchScope: number;
  readonly scopes: number[];
  readonly warnings: string[];
  readonly submissions: number[];
}

/** All backends and handles of a system of method manual. */
export class HandleModel {
  readonly handles: readonly ModelHandle[];
  readonly backends: readonly ModelBackend[];
  /** The outcome in each return slot, by number. */
  readonly slots: string[] = [];
  #scopes = 0;

  constructor(backends: number, concurrency: number) {
    const handles: ModelHandle[] = [];
    for (let id = 0; id < backends * concurrency; id++) {
      const owner = Math.floor(id / concurrency);
      handles.push({ id, owner, state: idle, generation: 1, scope: -1, slot: -1, result: "" });
    }
    this.handles = handles;
    this.backends = Array.from({ length: backends }, (_, backend) => ({
      idle: handles.filter(({ owner }) => owner === backend).reverse(),
      handedOut: undefined,
      staged: [],
      inFlight: [],
      isBatch: false,
      batchScope: -1,
      scopes: [],
      warnings: [],
      submissions: [],
    }));
  }

  openScope({ scopes }: ModelBackend): number {
    scopes.push(this.#scopes);
    return this.#scopes++;
  }

  endScope(backend: ModelBackend, scope: number, failed: boolean): void {
    backend.scopes.splice(backend.scopes.indexOf(scope), 1);
    const warn = (code: string): void => void (failed || backend.warnings.push(code));
    if (backend.handedOut?.scope === scope) {
      warn("AIO_LEAKED_HANDLE");
      this.release(backend);
    }
    if (backend.isBatch && backend.batchScope === scope) {
      warn("AIO_OPEN_BATCH");
      this.exitBatch(backend);
    }
    if (backend.staged.some((handle) => handle.scope === scope)) {
      warn("AIO_NOT_SUBMITTED");
      this.submitStaged(backend);
    }
    for (const handle of backend.inFlight) {
      if (handle.scope === scope) [handle.scope, handle.slot] = [-1, -1];
    }
  }

  /** Whether `acquire` would have to sleep until something of the backend's completes. */
  wouldSleep(backend: ModelBackend): boolean {
    return backend.idle.length === 0 && backend.inFlight.every(({ state }) => state === submitted);
  }

  /** @returns undefined where an error is due */
  acquire(backend: ModelBackend, scope: number, isTry: boolean): ModelHandle | "none" | undefined {
    if (backend.staged.length >= SUBMIT_BATCH) this.submitStaged(backend);
    if (backend.handedOut !== undefined) return undefined;
    if (backend.idle.length === 0) {
      if (isTry) return "none";
      const over = backend.inFlight.filter(({ state }) => state === completedShared);
      for (const handle of over) this.#reclaim(backend, handle);
    }
    const handle = backend.idle.pop() as ModelHandle;
    [handle.state, handle.scope, handle.slot] = [handedOut, scope, this.slots.length];
    this.slots.push("unknown");
    backend.handedOut = handle;
    return handle;
  }

  release(backend: ModelBackend): void {
    const handle = backend.handedOut as ModelHandle;
    backend.handedOut = undefined;
    this.#recycle(backend, handle);
  }

  start(backend: ModelBackend, isSynchronous: boolean, result: string): void {
    const handle = backend.handedOut as ModelHandle;
    backend.handedOut = undefined;
    if (isSynchronous) {
      handle.result = result;
      this.#return(handle);
      this.#recycle(backend, handle);
      return;
    }
    handle.state = staged;
    backend.staged.push(handle);
    if (!backend.isBatch) this.submitStaged(backend);
  }

  submitStaged(backend: ModelBackend): void {
    if (backend.staged.length === 0) return;
    backend.submissions.push(backend.staged.length);
    for (const handle of backend.staged) handle.state = submitted;
    backend.inFlight.push(...backend.staged);
    backend.staged = [];
  }

  exitBatch(backend: ModelBackend): void {
    backend.isBatch = false;
    this.submitStaged(backend);
  }

  /** A stranger completes an I/O: it stays with its owner until that looks. */
  complete(handle: ModelHandle, result: string): void {
    handle.state = completedShared;
    handle.result = result;
  }

  /** What `done` says, and does if the asker is the owner. */
  done(asker: number, handle: ModelHandle, generation: number): boolean {
    if (handle.generation !== generation) return true;
    if (handle.state !== completedShared) return false;
    if (handle.owner === asker) this.#reclaim(this.backends[asker] as ModelBackend, handle);
    return true;
  }

  #reclaim(backend: ModelBackend, handle: ModelHandle): void {
    this.#return(handle);
    backend.inFlight.splice(backend.inFlight.indexOf(handle), 1);
    this.#recycle(backend, handle);
  }

  #return(handle: ModelHandle): void {
    if (handle.slot >= 0) this.slots[handle.slot] = handle.result;
  }

  #recycle(backend: ModelBackend, handle: ModelHandle): void {
    handle.generation += 1;
    [handle.state, handle.scope, handle.slot] = [idle, -1, -1];
    backend.idle.push(handle);
  }
}

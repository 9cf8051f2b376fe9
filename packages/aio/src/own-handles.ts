/**
 * Where each of a backend's handles is: idle, handed out, staged, or in flight; and the way back to idle.
 *
 * Private to the issuing thread; only the handles' words are shared. At every quiescent point idle + handed out (at most
 * one) + staged + in flight is the backend's concurrency. The idle ones are a stack, so that the handle used last, whose
 * words are in the cache, is used next. An outcome is handed over only when nothing is half done (`enter`, `leave`): what
 * a receiver starts then finds lists that agree with the states.
 */
import { HANDLE_STATE } from "./handle-state.js";
import type { HandleTable } from "./handle-table.js";
import { copyTarget } from "./handle-view.js";
import type { HandleView } from "./handle-view.js";
import { InFlightList } from "./in-flight-list.js";
import { HANDLE, SUBMIT_BATCH } from "./layout.js";
import type { Listener } from "./listener.js";
import { PANIC, panic } from "./panic.js";
import type { AioRegistry } from "./registry.js";
import { createIoResult, fillFromRaw } from "./result.js";
import type { IoReturn } from "./result.js";
import { runLocalCallbacks } from "./run-callbacks.js";
import type { IoScope } from "./scope.js";

const NONE = -1;

/** The handles of one backend. */
export class OwnHandles {
  readonly first: number;
  readonly concurrency: number;
  /** Handles staged, in order: numbers in the system. */
  readonly staged: Int32Array = new Int32Array(SUBMIT_BATCH);
  stagedCount = 0;
  idleCount = 0;
  /** Own I/O that another thread completed, counted. */
  foreignCompletions = 0;
  /** Set by the backend before the first handle is taken: it needs the method, which needs this. */
  listener: Listener | undefined;
  readonly #table: HandleTable;
  readonly #registry: AioRegistry;
  readonly #view: HandleView;
  readonly #idle: Int32Array;
  #handedOut = NONE;
  readonly #inFlight: InFlightList;
  readonly #scopeOf: (IoScope | undefined)[];
  readonly #returnOf: (IoReturn | undefined)[];
  /** 1 where the outcome is waited for on the event loop. */
  readonly #isWanted: Uint8Array;
  #noneIsOut: (() => void) | undefined;
  #depth = 0;
  /** Something was taken back since the last `leave`: those who wait for that look again. */
  #hasNews = false;
  /** Outcomes to be handed over; those below `#handedTo` are, or somebody further out has taken it on. */
  readonly #returned: (IoReturn | undefined)[] = [];
  #returnedTo = 0;
  #handedTo = 0;
  #handOverDepth = 0;
  /** The backend's bell when own handles were last looked through. */
  #heardBell = 0;
  #submitTick = 0;
  readonly #scratch = createIoResult();

  /** @param first the backend's first handle */
  constructor(table: HandleTable, registry: AioRegistry, view: HandleView, first: number) {
    const { concurrency } = table.layout;
    this.first = first;
    this.concurrency = concurrency;
    this.#table = table;
    this.#registry = registry;
    this.#view = view;
    this.#inFlight = new InFlightList(concurrency);
    this.#idle = Int32Array.from({ length: concurrency }, (_, index) => concurrency - 1 - index);
    this.idleCount = concurrency;
    this.#scopeOf = Array.from({ length: concurrency }, () => undefined);
    this.#isWanted = new Uint8Array(concurrency);
    this.#returnOf = Array.from({ length: concurrency }, () => undefined);
  }

  get inFlightCount(): number {
    return this.#inFlight.size;
  }

  /** The handle handed out; -1 if there is none. */
  get handedOut(): number {
    return this.#handedOut === NONE ? NONE : this.first + this.#handedOut;
  }

  /** Whether one is. */
  get hasHandedOut(): boolean {
    return this.#handedOut !== NONE;
  }

  /** The handle submitted longest ago; -1 if none is in flight. */
  get oldestInFlight(): number {
    return this.#inFlight.oldest === NONE ? NONE : this.first + this.#inFlight.oldest;
  }

  owns(handle: number): boolean {
    return handle >= this.first && handle < this.first + this.concurrency;
  }

  /** Hands out an idle handle; there is one, and none is handed out. @returns its position */
  handOut(scope: IoScope, slot: IoReturn | undefined): number {
    this.idleCount -= 1;
    const position = this.#idle[this.idleCount] as number;
    this.#table.step(this.first + position, HANDLE_STATE.idle, HANDLE_STATE.handedOut);
    this.#handedOut = position;
    this.#scopeOf[position] = scope;
    if (slot !== undefined) {
      slot.result.status = "unknown";
      this.#returnOf[position] = slot;
      if (slot.onReturn !== undefined) this.#want(position);
    }
    return position;
  }

  /** The handle handed out is about to be defined. */
  defined(): void {
    this.#handedOut = NONE;
    if (this.#noneIsOut !== undefined) this.#tellNoneIsOut();
  }

  /** Resolves when the handle that is handed out is not any more. For one caller at a time. */
  async untilNoneIsOut(): Promise<void> {
    return new Promise((resolve) => {
      this.#noneIsOut = resolve;
    });
  }

  /** HANDED_OUT back to IDLE. */
  takeBack(): void {
    const position = this.#handedOut;
    this.#handedOut = NONE;
    this.#table.recycle(this.first + position, HANDLE_STATE.handedOut);
    this.#toIdle(position);
    if (this.#noneIsOut !== undefined) this.#tellNoneIsOut();
  }

  /**
   * STAGED to SUBMITTED, and into the list of those in flight, all as one batch: see `HandleTable.publish`.
   *
   * @param handles in order
   */
  markSubmitted(handles: Int32Array, count: number): void {
    const table = this.#table;
    const { words } = table;
    const inFlight = this.#inFlight;
    let tick = this.#submitTick;
    for (let index = 0; index < count; index++) {
      const handle = handles[index] as number;
      words[table.at(handle) + HANDLE.submitTick] = tick;
      tick = (tick + 1) | 0;
      inFlight.push(handle - this.first);
      table.publish(handle, HANDLE_STATE.staged, HANDLE_STATE.submitted);
    }
    this.#submitTick = tick;
  }

  /**
   * Takes back own handles that other threads have completed, if the backend's bell says that there may be some: it is
   * counted up after each. @returns how many
   */
  reclaimRung(bell: number): number {
    if (bell === this.#heardBell) return 0;
    this.#heardBell = bell;
    return this.reclaimCompleted();
  }

  /** Takes back every own handle that another thread has completed, and hands the outcomes over. @returns how many */
  reclaimCompleted(): number {
    let reclaimed = 0;
    this.enter();
    try {
      for (let at = this.#inFlight.oldest; at !== NONE;) {
        const next = this.#inFlight.after(at);
        if (this.#table.state(this.first + at) === HANDLE_STATE.completedShared) {
          this.foreignCompletions += 1;
          this.reclaim(this.first + at);
          reclaimed += 1;
        }
        at = next;
      }
    } finally {
      this.leave();
    }
    return reclaimed;
  }

  /** COMPLETED_SHARED to IDLE; the outcome goes to the return slot. */
  reclaim(handle: number): void {
    const position = handle - this.first;
    const slot = this.#returnOf[position];
    try {
      const into = slot?.result ?? this.#scratch;
      runLocalCallbacks(this.#table, this.#registry, this.#view, handle, into);
    } catch (error) {
      panic(this.#table, PANIC.callbackThrew, error);
      throw error;
    }
    if (slot !== undefined) {
      copyTarget(this.#table, handle, slot.target);
      if (slot.onReturn !== undefined || this.#isWanted[position] !== 0) this.#hasReturned(position, slot);
    }
    this.#table.step(handle, HANDLE_STATE.completedShared, HANDLE_STATE.completedLocal);
    this.#inFlight.remove(position);
    this.#table.recycle(handle, HANDLE_STATE.completedLocal);
    this.#hasNews = true;
    this.#toIdle(position);
  }

  /** An I/O without callbacks that this thread found to be over: SUBMITTED to IDLE, as one of a batch. */
  endPlain(handle: number, rawResult: number): void {
    const position = handle - this.first;
    const slot = this.#returnOf[position];
    if (slot !== undefined) {
      fillFromRaw(rawResult, slot.result);
      copyTarget(this.#table, handle, slot.target);
      this.#returnOf[position] = undefined;
      if (slot.onReturn !== undefined || this.#isWanted[position] !== 0) this.#hasReturned(position, slot);
    }
    this.#inFlight.remove(position);
    this.#table.endPlain(handle);
    this.#hasNews = true;
    this.#idle[this.idleCount] = position;
    this.idleCount += 1;
  }

  /** Whether the handle handed out was acquired in a scope. */
  isHandedOutIn(scope: IoScope): boolean {
    return this.#handedOut !== NONE && this.#scopeOf[this.#handedOut] === scope;
  }

  /** Whether a staged handle was acquired in a scope. */
  hasStagedIn(scope: IoScope): boolean {
    for (let index = 0; index < this.stagedCount; index++) {
      if (this.#scopeOf[(this.staged[index] as number) - this.first] === scope) return true;
    }
    return false;
  }

  /** Lets I/O in flight go on without a scope: its return slots are never written. */
  detachScope(scope: IoScope): void {
    for (let at = this.#inFlight.oldest; at !== NONE; at = this.#inFlight.after(at)) {
      if (this.#scopeOf[at] !== scope) continue;
      this.#scopeOf[at] = undefined;
      this.#detachReturn(at);
    }
  }

  /** Something is being submitted, completed or taken back. */
  enter(): void {
    this.#depth += 1;
  }

  /**
   * The counterpart of `enter`; the outermost one hands over what has come back. A receiver may come here again, and
   * then gets what has come back since. The list is emptied by the first to begin, so its places are used again.
   */
  leave(): void {
    this.#depth -= 1;
    if (this.#depth > 0) return;
    if (this.#hasNews) {
      this.#hasNews = false;
      this.listener?.publish();
    }
    if (this.#handedTo === this.#returnedTo) return;
    this.#handOverDepth += 1;
    try {
      while (this.#handedTo < this.#returnedTo) {
        const end = this.#returnedTo;
        let at = this.#handedTo;
        this.#handedTo = end;
        for (; at < end; at++) this.#handOver(at);
      }
    } finally {
      this.#handOverDepth -= 1;
      if (this.#handOverDepth === 0) this.#returnedTo = this.#handedTo = 0;
    }
  }

  #tellNoneIsOut(): void {
    const tell = this.#noneIsOut;
    this.#noneIsOut = undefined;
    tell?.();
  }

  /** The outcome is in its slot: whom to tell. */
  #hasReturned(position: number, slot: IoReturn): void {
    this.#returned[this.#returnedTo] = slot;
    this.#returnedTo += 1;
    this.#unwant(position);
  }

  #handOver(at: number): void {
    const slot = this.#returned[at];
    this.#returned[at] = undefined;
    slot?.onReturn?.(slot);
  }

  /** What its scope was does not matter any more: nobody asks for that of an idle handle. */
  #toIdle(position: number): void {
    this.#detachReturn(position);
    this.#idle[this.idleCount] = position;
    this.idleCount += 1;
  }

  #want(position: number): void {
    this.#isWanted[position] = 1;
    this.listener?.want();
  }

  #detachReturn(position: number): void {
    this.#returnOf[position] = undefined;
    this.#unwant(position);
  }

  #unwant(position: number): void {
    if (this.#isWanted[position] === 0) return;
    this.#isWanted[position] = 0;
    this.listener?.unwant();
  }
}

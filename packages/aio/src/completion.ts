/**
 * Completing an I/O, in whatever thread finds that it is done: raw result, shared callbacks, publication, wake-ups.
 *
 * Two steps, because a thread can die between them: `record` stores the raw result and the state COMPLETED_IO, after
 * which the result cannot be lost with the thread that took it from the kernel; `finish` runs the shared callbacks and
 * publishes COMPLETED_SHARED. An exception out of a callback stops the whole system (panic): a resource under I/O would
 * otherwise stay marked as such for ever. Errors are data here; only the issuer raises them.
 */
import { zeroTail } from "./execute.js";
import type { ExecutionContext } from "./execute.js";
import { HANDLE_STATE, STATE_MASK } from "./handle-state.js";
import type { HandleView } from "./handle-view.js";
import { BACKEND, HANDLE } from "./layout.js";
import type { OwnHandles } from "./own-handles.js";
import { PANIC, panic } from "./panic.js";
import { knownCallbacks } from "./registry.js";
import type { AioRegistry } from "./registry.js";
import { createIoResult, fillFromRaw, packResult } from "./result.js";
import type { IoResult } from "./result.js";

/** Completes I/O in one thread. */
export class Completer {
  readonly #context: ExecutionContext;
  readonly #registry: AioRegistry;
  readonly #view: HandleView;
  /** Who completes, for the row: a backend's number plus one; workers and the supervisor have theirs above. */
  readonly #id: number;
  /** This thread's backend, or -1. */
  readonly #backend: number;
  readonly #result: IoResult = createIoResult();
  /** The handles of this thread's backend, where there is one; set by it. */
  own: OwnHandles | undefined;

  constructor(
    context: ExecutionContext,
    registry: AioRegistry,
    view: HandleView,
    id: number,
    backend: number,
  ) {
    this.#context = context;
    this.#registry = registry;
    this.#view = view;
    this.#id = id;
    this.#backend = backend;
  }

  /** SUBMITTED, with its result known, to COMPLETED_SHARED. */
  complete(handle: number, rawResult: number): void {
    this.record(handle, rawResult);
    this.finish(handle);
  }

  /**
   * The same for an own I/O that this thread took from its own ring, and to IDLE: as one of a batch, see
   * `HandleTable.publish`.
   */
  completeOwn(own: OwnHandles, handle: number, rawResult: number): void {
    const { table, faults } = this.#context;
    if (table.callbackCount(handle) === 0 && !faults.isArmed) {
      own.endPlain(handle, rawResult);
      return;
    }
    this.record(handle, rawResult);
    this.#distilInto(handle);
    table.publish(handle, HANDLE_STATE.completedIo, HANDLE_STATE.completedShared);
    own.reclaim(handle);
  }

  /** Keeps a raw result: to COMPLETED_IO. */
  record(handle: number, rawResult: number): void {
    const { table, faults } = this.#context;
    const raw = faults.isArmed ? this.#afterwards(handle, rawResult) : rawResult;
    const at = table.at(handle);
    table.words[at + HANDLE.rawResult] = raw;
    table.words[at + HANDLE.completer] = this.#id;
    // Plain: whoever records has taken the I/O over, by a lock or a queue, and so sees its state.
    table.step(handle, (table.words[at] as number) & STATE_MASK, HANDLE_STATE.completedIo);
    if (faults.isArmed) {
      faults.holdHere("recorded", table.operation(handle), table.get(handle, HANDLE.fd));
    }
  }

  /** Distils a recorded result and publishes it: to COMPLETED_SHARED. */
  finish(handle: number): void {
    const { table } = this.#context;
    this.#distilInto(handle);
    const owner = table.get(handle, HANDLE.owner);
    table.move(handle, HANDLE_STATE.completedIo, HANDLE_STATE.completedShared);
    if (owner === this.#backend) this.own?.reclaim(handle);
    else this.#ring(owner);
  }

  #distilInto(handle: number): void {
    const { table } = this.#context;
    const { words } = table;
    const at = table.at(handle);
    const result = this.#distil(handle, words[at + HANDLE.rawResult] as number);
    words[at + HANDLE.distilled] = packResult(result);
    words[at + HANDLE.distilledResult] = result.result;
  }

  #distil(handle: number, rawResult: number): IoResult {
    const { table } = this.#context;
    const result = this.#result;
    const count = table.callbackCount(handle);
    if (count === 0) {
      fillFromRaw(rawResult, result);
      return result;
    }
    startResult(rawResult, result);
    const ids = table.get(handle, HANDLE.callbackIds);
    const data = table.get(handle, HANDLE.callbackData);
    const view = this.#view.of(handle);
    let distilled = result;
    for (let index = count - 1; index >= 0; index--) {
      const callbacks = knownCallbacks(this.#registry, byteOf(ids, index));
      if (callbacks.completeShared === undefined) continue;
      try {
        distilled = callbacks.completeShared(view, distilled, byteOf(data, index));
        if (distilled.status === "unknown") throw new TypeError("a completion returned an unknown status");
      } catch (error) {
        panic(table, PANIC.callbackThrew, error);
        throw error;
      }
    }
    return distilled;
  }

  #afterwards(handle: number, rawResult: number): number {
    const { table, faults } = this.#context;
    const struck = faults.strike("afterwards", table.operation(handle), table.get(handle, HANDLE.fd));
    if (struck === undefined || struck >= rawResult) return rawResult;
    zeroTail(this.#context, handle, struck);
    return struck;
  }

  /** Counts up an owner's bell, by which it knows that it has to look, and wakes it if its event loop waits for that. */
  #ring(owner: number): void {
    const { words, layout } = this.#context.table;
    const at = layout.backendsAt + owner * BACKEND.words;
    Atomics.add(words, at + BACKEND.bell, 1);
    if (Atomics.load(words, at + BACKEND.sleeping) !== 0) Atomics.notify(words, at + BACKEND.bell);
  }
}

/** What the first callback gets: the raw result, nothing judged yet. */
function startResult(rawResult: number, into: IoResult): void {
  into.callback = 0;
  into.status = "ok";
  into.error = 0;
  into.result = rawResult;
}

/** Byte `index` of a word that holds four. */
export function byteOf(word: number, index: number): number {
  return (word >>> (index * 8)) & 0xff;
}

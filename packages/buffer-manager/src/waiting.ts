/**
 * Waiting, written once for threads that may sleep and for the one that may not.
 *
 * Whatever can have to wait is a generator: it yields what it waits for, and goes on when that may have come. A worker thread
 * runs it to its end and sleeps at each step; the main thread runs it as a promise. What does not have to wait is a plain
 * function, tried first, so that neither a generator nor a promise is made on the way of a hit.
 *
 * Rules. A step may return too early: whoever yields looks again. Between two steps of one flow others of the same thread
 * run, so nothing that only one flow may have at a time (a handle that is handed out, a header lock, a mapping partition)
 * is kept across a step. What this backend has staged is submitted before each wait: whoever we wait for may wait for it.
 */
import type { AioBackend, IoHandle, IoReturn, IoScope, WaitRef } from "@millrace/aio";

import { BufferError } from "./errors.js";
import type { FileLayer, WalHooks } from "./file-layer.js";
import type { BufferHeaders } from "./headers.js";
import { BACKEND } from "./layout.js";
import { checkPoolPanic } from "./pool-core.js";
import { acknowledgeResize } from "./resize-barrier.js";
import type { Fork, Relation } from "./tag.js";
import { waitEventNumber } from "./wait-events.js";
import type { WaitEvent } from "./wait-events.js";

/** Until a word of shared memory is something else, or for some time. */
export interface WordWait {
  readonly kind: "word";
  /** Index of the word in the pool's words. */
  readonly at: number;
  /** What it was. */
  readonly value: number;
  readonly event: WaitEvent;
  /** Forever unless given. */
  readonly timeoutMs?: number;
  /** Another flow of this thread has to change it: a blocking wait would never end, and is refused. */
  readonly isOwn?: boolean;
}

/** Until an I/O is over, whoever issued it. */
export interface IoWait {
  readonly kind: "io";
  readonly ref: WaitRef;
}

/** Until a handle can be had; the step's value is the handle. It is used or given back before the next step. */
export interface HandleWait {
  readonly kind: "handle";
  readonly scope: IoScope;
  readonly slot: IoReturn;
}

/** Until the WAL is durable up to a position; an error of the log is thrown into the flow. */
export interface WalWait {
  readonly kind: "wal";
  readonly lsn: bigint;
}

/** Until everything written to a fork is durable; an error of the files is thrown into the flow. */
export interface SyncWait {
  readonly kind: "sync";
  readonly relation: Relation;
  readonly fork: Fork;
}

/** What a flow waits for. */
export type Wait = WordWait | IoWait | HandleWait | WalWait | SyncWait;

/** A computation that may have to wait. */
export type Waiting<T> = Generator<Wait, T, unknown>;

/** Node keeps running while this is pending, unlike with `Atomics.waitAsync` alone. */
const KEEP_ALIVE_MS = 0x7fff_ffff;

type AsyncAtomics = typeof Atomics & {
  waitAsync(
    words: Int32Array,
    at: number,
    value: number,
    timeoutMs?: number,
  ): { readonly async: boolean; readonly value: string | Promise<string> };
};

/** Runs the flows of one backend. */
export class Waiter {
  readonly #headers: BufferHeaders;
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #aio: AioBackend;
  readonly #wal: WalHooks;
  readonly #files: FileLayer;
  readonly #mayBlock: boolean;

  /** @param at the backend's first word */
  constructor(
    headers: BufferHeaders,
    at: number,
    { aio, wal, files }: { readonly aio: AioBackend; readonly wal: WalHooks; readonly files: FileLayer },
    mayBlock: boolean,
  ) {
    this.#headers = headers;
    this.#words = headers.words;
    this.#at = at;
    this.#aio = aio;
    this.#wal = wal;
    this.#files = files;
    this.#mayBlock = mayBlock;
  }

  /**
   * Runs a flow to its end, sleeping where it waits.
   *
   * @throws {BufferError} ERR_BUFFER_WOULD_BLOCK: it has to wait, and this thread must not; thrown into the flow, which
   *   undoes what it has to undo
   */
  run<T>(flow: Waiting<T>): T {
    let step = flow.next();
    while (step.done !== true) {
      let value: unknown;
      try {
        value = this.#block(step.value);
      } catch (error) {
        step = flow.throw(error);
        continue;
      }
      step = flow.next(value);
    }
    return step.value;
  }

  /** Runs a flow to its end, letting the event loop turn where it waits. */
  async runAsync<T>(flow: Waiting<T>): Promise<T> {
    let step = flow.next();
    while (step.done !== true) {
      let value: unknown;
      try {
        value = await this.#later(step.value);
      } catch (error) {
        step = flow.throw(error);
        continue;
      }
      step = flow.next(value);
    }
    return step.value;
  }

  #block(wait: Wait): IoHandle | undefined {
    checkPoolPanic(this.#words);
    acknowledgeResize(this.#headers, this.#at);
    if (this.#aio.haveStaged) this.#aio.submitStaged();
    if (!this.#mayBlock) {
      throw new BufferError(
        "ERR_BUFFER_WOULD_BLOCK",
        "this thread must not sleep: use the asynchronous form",
      );
    }
    if (wait.kind === "handle") return this.#aio.acquire(wait.scope, wait.slot);
    if (wait.kind === "io") this.#aio.wait(wait.ref);
    else if (wait.kind === "wal") this.#wal.flush(wait.lsn);
    else if (wait.kind === "sync") this.#files.sync(wait.relation, wait.fork);
    else this.#sleep(wait);
    return undefined;
  }

  #sleep({ at, value, event, timeoutMs, isOwn }: WordWait): void {
    if (isOwn === true) {
      const message = "an asynchronous call of this thread has to end first, and would never do so";
      throw new BufferError("ERR_BUFFER_WOULD_BLOCK", message);
    }
    const eventAt = this.#at + BACKEND.waitEvent;
    Atomics.store(this.#words, eventAt, waitEventNumber(event));
    Atomics.wait(this.#words, at, value, timeoutMs);
    Atomics.store(this.#words, eventAt, 0);
  }

  async #later(wait: Wait): Promise<unknown> {
    checkPoolPanic(this.#words);
    acknowledgeResize(this.#headers, this.#at);
    if (this.#aio.haveStaged) this.#aio.submitStaged();
    if (wait.kind === "handle") return this.#aio.acquireAsync(wait.scope, wait.slot);
    if (wait.kind === "io") return this.#aio.waitAsync(wait.ref);
    if (wait.kind === "wal") return this.#wal.flushAsync?.(wait.lsn) ?? this.#wal.flush(wait.lsn);
    if (wait.kind === "sync") return this.#sync(wait);
    return waitForWord(this.#words, wait);
  }

  async #sync({ relation, fork }: SyncWait): Promise<void> {
    const files = this.#files;
    if (files.syncAsync === undefined) files.sync(relation, fork);
    else await files.syncAsync(relation, fork);
  }
}

async function waitForWord(words: Int32Array, { at, value, timeoutMs }: WordWait): Promise<void> {
  const outcome = (Atomics as AsyncAtomics).waitAsync(words, at, value, timeoutMs);
  if (!outcome.async) return;
  const keepAlive = setInterval(() => undefined, KEEP_ALIVE_MS);
  try {
    await outcome.value;
  } finally {
    clearInterval(keepAlive);
  }
}

/**
 * Takes a handle, at once if one is idle. It must be started or released before the flow's next step.
 *
 * On the event loop another flow may have been promised the next handle and not taken it yet: then this one queues behind.
 */
export function* acquireHandle(aio: AioBackend, scope: IoScope, slot: IoReturn): Waiting<IoHandle> {
  if (aio.mayBlock) {
    const handle = aio.tryAcquire(scope, slot);
    if (handle !== undefined) return handle;
  }
  return (yield { kind: "handle", scope, slot }) as IoHandle;
}

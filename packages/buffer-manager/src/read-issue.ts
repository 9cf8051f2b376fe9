/**
 * The second half of a read: its I/O is started, for as many of its blocks as nobody else reads.
 *
 * A handle is acquired before any I/O lock is taken, and no lock is held while this backend waits. Where the method executes
 * I/O at once, a read is started when it is waited for, and the kernel may be advised before.
 */
import { performance } from "node:perf_hooks";
import { AioError } from "@millrace/aio";
import type { IoHandle } from "@millrace/aio";

import type { BackendContext } from "./backend-context.js";
import { IO_LOCK } from "./io-lock.js";
import type { ReadBuffers } from "./read-buffers.js";
import { READ_FLAG } from "./read-callbacks.js";
import type { ReadOperation } from "./read-operation.js";
import { countReadHit } from "./read-pins.js";
import type { Session } from "./session.js";
import { PAGE_BYTES } from "./settings.js";
import { COUNTED } from "./statistics.js";
import { acquireHandle } from "./waiting.js";
import type { Waiting } from "./waiting.js";

/** The flags that the callbacks need to know. */
const CALLBACK_FLAGS = READ_FLAG.zeroOnError | READ_FLAG.ignoreChecksum;

/** Starts the I/O of one backend's reads. */
export class ReadIssuer {
  readonly #context: BackendContext;
  readonly #session: Session;
  readonly #isSynchronous: boolean;

  /** @param session looked at when an I/O is started: it may be completed by a thread that has other settings */
  constructor(context: BackendContext, session: Session) {
    this.#context = context;
    this.#session = session;
    this.#isSynchronous = context.aio.method === "sync";
  }

  /** Starts the I/O, or leaves it to whoever waits for it. @returns false if a handle or an I/O lock has to be waited for */
  issueNow(operation: ReadOperation, pool: ReadBuffers): boolean {
    if (this.#isSynchronous) {
      this.#postpone(operation);
      return true;
    }
    const { aio, ioScope } = this.#context;
    // On an event loop handles are had in the order of those who wait for one.
    const handle = aio.mayBlock ? aio.tryAcquire(ioScope, operation.slot) : undefined;
    if (handle === undefined) return false;
    const progress = this.#issueWith(operation, pool, handle);
    if (progress === 0) return false;
    operation.count = progress;
    operation.needWait = operation.ref !== undefined;
    return true;
  }

  /** The method executes I/O at once: the read is made by whoever waits for it. */
  #postpone(operation: ReadOperation): void {
    operation.needWait = true;
    if ((operation.flags & READ_FLAG.issueAdvice) === 0) return;
    const { relation, fork, block, count } = operation;
    this.#context.files.advise(relation, fork, block, count);
  }

  /** Starts one I/O for what is left, or finds that somebody else has read the next block. @returns blocks of either */
  *issue(operation: ReadOperation, pool: ReadBuffers): Waiting<number> {
    const { aio, ioScope } = this.#context;
    for (;;) {
      const handle = yield* acquireHandle(aio, ioScope, operation.slot);
      const progress = this.#issueWith(operation, pool, handle);
      if (progress > 0) return progress;
      yield* pool.wait(operation.buffers[operation.at + operation.done] as number);
    }
  }

  /** The same with a handle, which is given back if it is not used. @returns 0 if somebody else has the I/O lock */
  #issueWith(operation: ReadOperation, pool: ReadBuffers, handle: IoHandle): number {
    const outcome = pool.tryStart(operation.buffers[operation.at + operation.done] as number);
    if (outcome === IO_LOCK.started) return this.#issueFrom(operation, pool, handle);
    handle.release();
    if (outcome === IO_LOCK.busy) return 0;
    operation.done += 1;
    operation.ref = undefined;
    countReadHit(this.#context, operation, pool);
    return 1;
  }

  /** Has the I/O lock of the first buffer; takes those of the following ones as far as they are to be had, and starts. */
  #issueFrom(operation: ReadOperation, pool: ReadBuffers, handle: IoHandle): number {
    const { buffers, block, done, vectors, data } = operation;
    const { frames, files, reach, counters } = this.#context;
    const at = operation.at + done;
    const left = operation.count - done;
    const sign = pool.isTemporary ? -1 : 1;
    operation.clearPieces();
    let count = 0;
    do {
      const buffer = buffers[at + count] as number;
      const frame = pool.frame(buffer);
      operation.addPiece(frames.segmentIndexOf(frame), frames.byteOffsetOf(frame), PAGE_BYTES);
      data[count] = buffer * sign - 1;
      count += 1;
    } while (count < left && pool.tryStart(buffers[at + count] as number) === IO_LOCK.started);
    operation.closePieces(count);
    try {
      operation.ref = handle.ref();
      reach("read:before-start", data[0] as number);
      handle.setData(data).addCallback(pool.callback, this.#callbackFlags(operation.flags));
      if (pool.isTemporary) handle.flag("referencesLocal");
      const isExecuted = this.#isSynchronous || (operation.flags & READ_FLAG.synchronously) !== 0;
      if (isExecuted) handle.flag("synchronous");
      const begun = isExecuted ? performance.now() : 0;
      files.startRead(handle, operation.relation, operation.fork, block + done, vectors, count);
      if (isExecuted) this.#countTime(operation, pool, begun);
    } catch (error) {
      // What is staged belongs to the I/O; before that it is all ours.
      if (tryRelease(handle)) {
        for (let index = 0; index < count; index++) pool.abort(buffers[at + index] as number);
      }
      operation.ref = undefined;
      throw error;
    }
    counters.count(COUNTED.read, pool.context(operation.ring), pool.isTemporary, 1, count * PAGE_BYTES);
    return count;
  }

  /** Time of a read that was executed when it was started; others take the time that they are waited for. */
  #countTime({ ring }: ReadOperation, pool: ReadBuffers, begun: number): void {
    const ms = performance.now() - begun;
    this.#context.counters.time(COUNTED.read, pool.context(ring), pool.isTemporary, ms);
  }

  #callbackFlags(flags: number): number {
    const zero = this.#session.zeroDamagedPages ? READ_FLAG.zeroOnError : 0;
    const ignore = this.#session.ignoreChecksumFailure ? READ_FLAG.ignoreChecksum : 0;
    return (flags & CALLBACK_FLAGS) | zero | ignore;
  }
}

/** Gives a handle back. @returns false if its I/O has been staged */
function tryRelease(handle: IoHandle): boolean {
  try {
    handle.release();
    return true;
  } catch (error) {
    if (error instanceof AioError && error.code === "ERR_AIO_BAD_RELEASE") return false;
    throw error;
  }
}

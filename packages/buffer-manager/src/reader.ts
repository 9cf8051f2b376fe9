/**
 * Reading blocks into buffers: neighbours in one I/O, started now and waited for later.
 *
 * A read stops at the first block that is there already, at the end of a segment, and at a block that somebody else reads;
 * buffers that were pinned beyond the stop stay in the caller's array and are accepted at the next call. The handle of an I/O
 * is acquired before any I/O lock is taken, and no lock is held while this backend waits. Where the method executes I/O at
 * once, a read is started when it is waited for, and the kernel may be advised before. After bufmgr.c of PostgreSQL 18.
 */
import { performance } from "node:perf_hooks";
import { AioError } from "@millrace/aio";
import type { IoHandle } from "@millrace/aio";

import type { BackendContext } from "./backend-context.js";
import { BufferError } from "./errors.js";
import { IO_LOCK } from "./io-lock.js";
import type { ReadBuffers } from "./read-buffers.js";
import { READ_FLAG } from "./read-callbacks.js";
import type { ReadOperation } from "./read-operation.js";
import { publishReadWarning, readFailure } from "./read-result.js";
import type { Session } from "./session.js";
import { PAGE_BYTES } from "./settings.js";
import { COUNTED } from "./statistics.js";
import { acquireHandle } from "./waiting.js";
import type { Waiting } from "./waiting.js";

/** The flags that the callbacks need to know. */
const CALLBACK_FLAGS = READ_FLAG.zeroOnError | READ_FLAG.ignoreChecksum;

/** Reads of one backend. */
export class Reader {
  readonly #context: BackendContext;
  readonly #shared: ReadBuffers;
  readonly #local: () => ReadBuffers;
  #own: ReadBuffers | undefined;
  readonly #session: Session;
  readonly #isSynchronous: boolean;

  /**
   * @param local the backend's own buffers, asked for with the first temporary relation
   * @param session looked at when an I/O is started: it may be completed by a thread that has other settings
   */
  constructor(context: BackendContext, shared: ReadBuffers, local: () => ReadBuffers, session: Session) {
    this.#context = context;
    this.#shared = shared;
    this.#local = local;
    this.#isSynchronous = context.aio.method === "sync";
    this.#session = session;
  }

  /**
   * Pins blocks and starts to read them. See `start`; blocking.
   *
   * @throws {BufferError} ERR_BUFFER_WOULD_BLOCK; as `start`
   */
  startRead(
    operation: ReadOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags: number,
  ): number {
    const pool = this.#begin(operation, buffers, at, block, count, flags);
    if (this.#startNow(operation, pool)) return operation.count;
    return this.#context.waiter.run(this.#startWaiting(operation, pool));
  }

  /** The same without blocking. */
  async startReadAsync(
    operation: ReadOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags: number,
  ): Promise<number> {
    const pool = this.#begin(operation, buffers, at, block, count, flags);
    if (this.#startNow(operation, pool)) return operation.count;
    return this.#context.waiter.runAsync(this.#startWaiting(operation, pool));
  }

  /**
   * Pins blocks and starts to read them.
   *
   * @param buffers lent until the read is over. Its entries from `at` on are 0, or buffers that an earlier call has pinned
   *   and not read; afterwards those of the read are set, and perhaps some after them, to be handed in again. On an error
   *   what this call has pinned is unpinned and 0 again
   * @param count blocks; of more than the combine limit a part is read
   * @param flags of READ_FLAG
   * @returns how many blocks the read has; `operation.needWait` says whether it has to be waited for
   * @throws {BufferError} ERR_BUFFER_NO_UNPINNED, ERR_BUFFER_NO_LOCAL, ERR_BUFFER_FILE; what writing a victim throws
   */
  *start(
    operation: ReadOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags: number,
  ): Waiting<number> {
    const pool = this.#begin(operation, buffers, at, block, count, flags);
    if (this.#startNow(operation, pool)) return operation.count;
    return yield* this.#startWaiting(operation, pool);
  }

  /** Waits for a read to be over. Blocking. @throws as `wait`; {BufferError} ERR_BUFFER_WOULD_BLOCK */
  waitRead(operation: ReadOperation): void {
    this.#checkWait(operation);
    const { aio, waiter, mayBlock } = this.#context;
    const { ref, slot } = operation;
    if (ref !== undefined && mayBlock) {
      if (slot.result.status === "unknown" && !aio.done(ref)) this.#waitTimed(operation);
      this.#process(operation);
      if (operation.done === operation.count) {
        operation.needWait = false;
        return;
      }
    }
    waiter.run(this.#wait(operation));
  }

  /** The same without blocking. */
  async waitReadAsync(operation: ReadOperation): Promise<void> {
    this.#checkWait(operation);
    await this.#context.waiter.runAsync(this.#wait(operation));
  }

  /**
   * Waits for a read to be over: its pages are valid then. What came only in part is read on.
   *
   * @throws {BufferError} ERR_BUFFER_NO_READ: there is nothing to wait for; ERR_BUFFER_READ_FAILED, ERR_BUFFER_SHORT_READ,
   *   ERR_BUFFER_INVALID_PAGE: the buffers stay pinned, and a later read tries again
   */
  *wait(operation: ReadOperation): Waiting<void> {
    this.#checkWait(operation);
    yield* this.#wait(operation);
  }

  /** The buffers of an operation's relation. */
  buffersOf({ relation }: Pick<ReadOperation, "relation">): ReadBuffers {
    if (relation.persistence !== "temporary") return this.#shared;
    this.#own ??= this.#local();
    return this.#own;
  }

  #begin(
    operation: ReadOperation,
    buffers: Int32Array,
    at: number,
    block: number,
    count: number,
    flags: number,
  ): ReadBuffers {
    operation.buffers = buffers;
    operation.at = at;
    operation.block = block;
    operation.count = Math.min(count, this.#session.combineLimit);
    operation.flags = flags;
    operation.done = 0;
    operation.pinned = 0;
    operation.ref = undefined;
    operation.needWait = false;
    let known = 0;
    while (known < operation.count && buffers[at + known] !== 0) known += 1;
    operation.known = known;
    return this.buffersOf(operation);
  }

  /** Pins the blocks as far as nothing has to be waited for. @returns whether that is all */
  #pinNow(operation: ReadOperation, pool: ReadBuffers): boolean {
    pool.begin(operation.count - operation.pinned);
    try {
      while (operation.pinned < operation.count) {
        if (!this.#pinNext(operation, pool)) return false;
      }
      return true;
    } finally {
      pool.end();
    }
  }

  /** Starts a read if nothing has to be waited for. @returns whether that is so; `#startWaiting` goes on if not */
  #startNow(operation: ReadOperation, pool: ReadBuffers): boolean {
    try {
      return this.#pinNow(operation, pool) && (this.#isHit(operation) || this.#issueNow(operation, pool));
    } catch (error) {
      this.#unpinNew(operation, pool);
      throw error;
    }
  }

  *#startWaiting(operation: ReadOperation, pool: ReadBuffers): Waiting<number> {
    const { relation, fork, ring, buffers, at, block } = operation;
    try {
      while (!this.#pinNow(operation, pool)) {
        const index = operation.pinned;
        buffers[at + index] = yield* pool.pin(relation, fork, block + index, ring);
        this.#notePinned(operation, pool, true, pool.found);
      }
      if (!this.#isHit(operation) && !this.#issueNow(operation, pool)) {
        operation.count = yield* this.#issue(operation, pool);
        operation.needWait = operation.ref !== undefined;
      }
      return operation.count;
    } catch (error) {
      this.#unpinNew(operation, pool);
      throw error;
    }
  }

  /** Pins the next block. @returns false if that has to wait */
  #pinNext(operation: ReadOperation, pool: ReadBuffers): boolean {
    const { buffers, at, pinned } = operation;
    const known = buffers[at + pinned] as number;
    if (known !== 0) {
      this.#notePinned(operation, pool, false, pool.isValid(known));
      return true;
    }
    const { relation, fork, ring, block } = operation;
    const buffer = pool.tryPin(relation, fork, block + pinned, ring);
    if (buffer === 0) return false;
    buffers[at + pinned] = buffer;
    this.#notePinned(operation, pool, true, pool.found);
    return true;
  }

  /** A block is pinned. One that is there already ends the read; if it is the first, there is nothing to read. */
  #notePinned(operation: ReadOperation, pool: ReadBuffers, isNew: boolean, isValid: boolean): void {
    const index = operation.pinned;
    operation.pinned = index + 1;
    if (isValid) {
      if (isNew) this.#countHit(operation, pool);
      operation.count = Math.max(1, index);
      if (index === 0) operation.done = 1;
    } else if (index === 0) {
      operation.count = Math.min(operation.count, this.#context.files.runMax(operation.block));
    }
  }

  /** Whether the first block was there, so that there is nothing to read. */
  #isHit(operation: ReadOperation): boolean {
    return operation.done > 0;
  }

  #unpinNew({ buffers, at, known, pinned }: ReadOperation, pool: ReadBuffers): void {
    for (let index = known; index < pinned; index++) {
      pool.unpin(buffers[at + index] as number);
      buffers[at + index] = 0;
    }
  }

  /** Starts the I/O, or leaves it to whoever waits for it. @returns false if a handle or an I/O lock has to be waited for */
  #issueNow(operation: ReadOperation, pool: ReadBuffers): boolean {
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
  *#issue(operation: ReadOperation, pool: ReadBuffers): Waiting<number> {
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
    this.#countHit(operation, pool);
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
      if (this.#isSynchronous || (operation.flags & READ_FLAG.synchronously) !== 0)
        handle.flag("synchronous");
      files.startRead(handle, operation.relation, operation.fork, block + done, vectors, count);
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

  #callbackFlags(flags: number): number {
    const zero = this.#session.zeroDamagedPages ? READ_FLAG.zeroOnError : 0;
    const ignore = this.#session.ignoreChecksumFailure ? READ_FLAG.ignoreChecksum : 0;
    return (flags & CALLBACK_FLAGS) | zero | ignore;
  }

  *#wait(operation: ReadOperation): Waiting<void> {
    const { aio } = this.#context;
    while (operation.done < operation.count) {
      const { ref, slot } = operation;
      if (ref === undefined) {
        yield* this.#issue(operation, this.buffersOf(operation));
        continue;
      }
      if (slot.result.status === "unknown" && !aio.done(ref)) {
        const start = performance.now();
        yield { kind: "io", ref };
        this.#countTime(operation, start);
      }
      this.#process(operation);
    }
    operation.needWait = false;
  }

  #waitTimed(operation: ReadOperation): void {
    const { aio } = this.#context;
    const start = performance.now();
    if (aio.haveStaged) aio.submitStaged();
    if (operation.ref !== undefined) aio.wait(operation.ref);
    this.#countTime(operation, start);
  }

  #checkWait(operation: ReadOperation): void {
    if (operation.needWait) return;
    throw new BufferError("ERR_BUFFER_NO_READ", "there is no read to wait for: startRead said so");
  }

  /** Takes note of what the I/O came to. @throws {BufferError} it failed */
  #process(operation: ReadOperation): void {
    const { result } = operation.slot;
    operation.ref = undefined;
    if (result.status === "error") {
      operation.needWait = false;
      throw readFailure(this.#context, operation);
    }
    if (result.status === "warning") publishReadWarning(this.#context, operation);
    operation.done += result.result;
  }

  #countHit(operation: ReadOperation, pool: ReadBuffers): void {
    this.#context.counters.count(COUNTED.hit, pool.context(operation.ring), pool.isTemporary);
  }

  #countTime(operation: ReadOperation, start: number): void {
    const pool = this.buffersOf(operation);
    const ms = performance.now() - start;
    this.#context.counters.time(COUNTED.read, pool.context(operation.ring), pool.isTemporary, ms);
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

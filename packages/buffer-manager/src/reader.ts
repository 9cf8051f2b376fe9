/**
 * Reading blocks into buffers: neighbours in one I/O, started now and waited for later.
 *
 * A read stops at the first block that is there already, at the end of a segment, and at a block that somebody else reads;
 * buffers that were pinned beyond the stop stay in the caller's array and are accepted at the next call. What has to be waited
 * for in between is left to a generator, which goes on where it stopped. After bufmgr.c of PostgreSQL 18.
 */
import { performance } from "node:perf_hooks";

import type { BackendContext } from "./backend-context.js";
import { BufferError } from "./errors.js";
import type { ReadBuffers } from "./read-buffers.js";
import { ReadIssuer } from "./read-issue.js";
import type { ReadOperation } from "./read-operation.js";
import { ReadPins } from "./read-pins.js";
import { publishReadWarning, readFailure } from "./read-result.js";
import type { Session } from "./session.js";
import { COUNTED } from "./statistics.js";
import type { Waiting } from "./waiting.js";

/** Reads of one backend. */
export class Reader {
  readonly #context: BackendContext;
  readonly #shared: ReadBuffers;
  readonly #local: () => ReadBuffers;
  #own: ReadBuffers | undefined;
  readonly #session: Session;
  readonly #pins: ReadPins;
  readonly #issuer: ReadIssuer;

  /**
   * @param local the backend's own buffers, asked for with the first temporary relation
   * @param session looked at when an I/O is started: it may be completed by a thread that has other settings
   */
  constructor(context: BackendContext, shared: ReadBuffers, local: () => ReadBuffers, session: Session) {
    this.#context = context;
    this.#shared = shared;
    this.#local = local;
    this.#session = session;
    this.#pins = new ReadPins(context);
    this.#issuer = new ReadIssuer(context, session);
  }

  /**
   * Pins the blocks of a read that has begun, and starts to read them. See `start`; blocking.
   *
   * @throws {BufferError} ERR_BUFFER_WOULD_BLOCK; as `start`
   */
  startRead(operation: ReadOperation): number {
    const pool = this.#prepare(operation);
    if (this.#startNow(operation, pool)) return operation.count;
    return this.#context.waiter.run(this.#startWaiting(operation, pool));
  }

  /** The same without blocking. */
  async startReadAsync(operation: ReadOperation): Promise<number> {
    const pool = this.#prepare(operation);
    if (this.#startNow(operation, pool)) return operation.count;
    return this.#context.waiter.runAsync(this.#startWaiting(operation, pool));
  }

  /**
   * Pins the blocks of a read that has begun, and starts to read them.
   *
   * @param operation whose array is lent until the read is over. Of the entries of the read some may be buffers that an earlier
   *   call has pinned and not read, the others 0; afterwards those of the read are set, and perhaps some after them, to be
   *   handed in again. On an error what this call has pinned is unpinned and 0 again. Of more blocks than the combine limit a
   *   part is read
   * @returns how many blocks the read has; `operation.needWait` says whether it has to be waited for
   * @throws {BufferError} ERR_BUFFER_NO_UNPINNED, ERR_BUFFER_NO_LOCAL, ERR_BUFFER_FILE; what writing a victim throws
   */
  *start(operation: ReadOperation): Waiting<number> {
    const pool = this.#prepare(operation);
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

  #prepare(operation: ReadOperation): ReadBuffers {
    operation.count = Math.min(operation.count, this.#session.combineLimit);
    const { buffers, at, count } = operation;
    let known = 0;
    while (known < count && buffers[at + known] !== 0) known += 1;
    operation.known = known;
    return this.buffersOf(operation);
  }

  /** Starts a read if nothing has to be waited for. @returns whether that is so; `#startWaiting` goes on if not */
  #startNow(operation: ReadOperation, pool: ReadBuffers): boolean {
    try {
      if (!this.#pins.pinNow(operation, pool)) return false;
      return operation.isHit || this.#issuer.issueNow(operation, pool);
    } catch (error) {
      this.#pins.unpinNew(operation, pool);
      throw error;
    }
  }

  *#startWaiting(operation: ReadOperation, pool: ReadBuffers): Waiting<number> {
    try {
      yield* this.#pins.pin(operation, pool);
      if (!operation.isHit && !this.#issuer.issueNow(operation, pool)) {
        operation.count = yield* this.#issuer.issue(operation, pool);
        operation.needWait = operation.ref !== undefined;
      }
      return operation.count;
    } catch (error) {
      this.#pins.unpinNew(operation, pool);
      throw error;
    }
  }

  *#wait(operation: ReadOperation): Waiting<void> {
    const { aio } = this.#context;
    while (operation.done < operation.count) {
      const { ref, slot } = operation;
      if (ref === undefined) {
        yield* this.#issuer.issue(operation, this.buffersOf(operation));
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

  #countTime(operation: ReadOperation, start: number): void {
    const pool = this.buffersOf(operation);
    const ms = performance.now() - start;
    this.#context.counters.time(COUNTED.read, pool.context(operation.ring), pool.isTemporary, ms);
  }
}

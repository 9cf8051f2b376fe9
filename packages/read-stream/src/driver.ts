/**
 * Brings about what a core asks for, on a thread that may sleep and on one that may not.
 *
 * The two forms of each loop differ in nothing but their awaits. What is special about the asynchronous form: a batch is
 * never open across an await, as the backend, which has one batch, belongs to whoever runs meanwhile. What is special
 * about emptying a stream: an error of a read that nobody asked for is nobody's error, so it is published, not thrown.
 */
import { publish } from "./diagnostics.js";
import { isWouldBlock, ReadStreamError } from "./errors.js";
import type { ReadOperation, StreamFork, StreamPool, StreamRelation, StreamRing } from "./pool.js";
import { EFFECT } from "./stream-core.js";
import type { StreamCore } from "./stream-core.js";

/** One stream's connection to its pool. */
export class StreamDriver<T> {
  readonly core: StreamCore<T>;
  readonly pool: StreamPool;
  /** Set when the scope has ended under the stream, perhaps while it waits. */
  isDead = false;
  readonly #relation: StreamRelation;
  readonly #fork: StreamFork;
  #ring: StreamRing | null;
  /** By I/O slot; made when a slot is first used, and used again from then on. */
  readonly #operations: ReadOperation[] = [];
  /** Whether the backend's batch is this stream's, at this moment. */
  #isBatchOpen = false;

  constructor(
    core: StreamCore<T>,
    pool: StreamPool,
    relation: StreamRelation,
    fork: StreamFork,
    ring: StreamRing | null,
  ) {
    this.core = core;
    this.pool = pool;
    this.#relation = relation;
    this.#fork = fork;
    this.#ring = ring;
  }

  get ring(): StreamRing | null {
    return this.#ring;
  }

  /** Leaves the ring alone from here on, also in reads that are prepared already. */
  clearRing(): void {
    this.#ring = null;
    for (const operation of this.#operations) operation.ring = null;
  }

  /** Runs one call for the next buffer. @returns the buffer, 0 at the end */
  run(): number {
    const { core, pool } = this;
    try {
      for (let effect = core.begin(); effect !== EFFECT.done; effect = core.resume()) {
        if (effect >= EFFECT.askPins) {
          if (effect === EFFECT.askPins && !core.permit(pool.additionalPins(core.limits.isLocal))) continue;
          this.#start();
        } else if (effect === EFFECT.wait) this.#wait();
        else if (effect === EFFECT.enterBatch) this.#enterBatch();
        else this.#exitBatch();
      }
      this.checkAlive();
      return core.result;
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** The same for a thread that must not sleep. */
  async runAsync(): Promise<number> {
    const { core, pool } = this;
    try {
      for (let effect = core.begin(); effect !== EFFECT.done; effect = core.resume()) {
        if (effect >= EFFECT.askPins) {
          if (effect === EFFECT.askPins && !core.permit(pool.additionalPins(core.limits.isLocal))) continue;
          // On the fast path the block is most likely there, and takes no promise.
          if (effect === EFFECT.start && this.#startNow()) continue;
          await this.#startAsync();
          // Not before: others have run meanwhile, up to this very line.
          if (core.isInBatch) this.#enterBatch();
        } else if (effect === EFFECT.wait) await this.#waitAsync();
        else if (effect === EFFECT.enterBatch) this.#enterBatch();
        else this.#exitBatch();
      }
      this.checkAlive();
      return core.result;
    } catch (error) {
      throw this.#failed(error);
    }
  }

  /** Throws everything away: waits for what was started, lets go of every pin. */
  drain(): void {
    const { core, pool } = this;
    core.beginDrain();
    for (let buffer = this.run(); buffer !== 0; buffer = this.run()) pool.release(buffer);
    this.#releaseStrays();
  }

  /** The same for a thread that must not sleep. */
  async drainAsync(): Promise<void> {
    const { core, pool } = this;
    core.beginDrain();
    for (let buffer = await this.runAsync(); buffer !== 0; buffer = await this.runAsync())
      pool.release(buffer);
    this.#releaseStrays();
  }

  /** The scope has ended: its pins are gone, and so is everything that could be done with the stream. */
  kill(): void {
    this.isDead = true;
    this.core.abandon();
    if (!this.#isBatchOpen) return;
    // It was the callback that ended the scope, in the middle of a look-ahead.
    try {
      this.#exitBatch();
    } catch {
      // The scope has left the batch already.
    }
  }

  /** @throws {ReadStreamError} ERR_STREAM_DEAD: the scope has ended meanwhile, in an await or in the callback */
  checkAlive(): void {
    if (this.isDead)
      throw new ReadStreamError("ERR_STREAM_DEAD", "the scope of the stream has ended during the call");
  }

  #releaseStrays(): void {
    for (let buffer = this.core.takeStray(); buffer !== 0; buffer = this.core.takeStray())
      this.pool.release(buffer);
    this.core.endDrain();
  }

  #operation(io: number): ReadOperation {
    const known = this.#operations[io];
    if (known !== undefined) return known;
    const operation = this.pool.createReadOperation(this.#relation, this.#fork, this.#ring);
    this.#operations[io] = operation;
    return operation;
  }

  #start(): void {
    const { core, pool } = this;
    const operation = this.#operation(core.ios.next);
    const { slots } = core.queue;
    try {
      core.started(
        pool.startRead(operation, slots, core.startSlot, core.startBlock, core.startCount, core.startFlags),
        operation.needWait,
      );
    } catch (error) {
      this.#startFailed(error);
    }
  }

  /** Starts the read if it needs no sleep. @returns whether it did not; if it did, nothing has happened */
  #startNow(): boolean {
    try {
      this.#start();
      return true;
    } catch (error) {
      if (isWouldBlock(error)) return false;
      throw error;
    }
  }

  async #startAsync(): Promise<void> {
    const { core, pool } = this;
    const operation = this.#operation(core.ios.next);
    const { slots } = core.queue;
    try {
      const starting = pool.startReadAsync(
        operation,
        slots,
        core.startSlot,
        core.startBlock,
        core.startCount,
        core.startFlags,
      );
      if (this.#isBatchOpen) {
        // Should leaving the batch fail, nobody would be left to hear how the read fared.
        starting.catch(() => undefined);
        this.#exitBatch();
      }
      const covered = await starting;
      this.checkAlive();
      core.started(covered, operation.needWait);
    } catch (error) {
      this.#startFailed(error);
    }
  }

  #wait(): void {
    const { core, pool } = this;
    let hadToWait = true;
    if (!core.isOldestSettled) {
      try {
        hadToWait = pool.waitRead(this.#operation(core.ios.oldest)) !== false;
      } catch (error) {
        this.#waitFailed(error);
      }
    }
    core.waited(hadToWait || pool.isSynchronous);
  }

  async #waitAsync(): Promise<void> {
    const { core, pool } = this;
    let hadToWait = true;
    if (!core.isOldestSettled) {
      try {
        hadToWait = (await pool.waitReadAsync(this.#operation(core.ios.oldest))) !== false;
      } catch (error) {
        this.#waitFailed(error);
      }
      this.checkAlive();
    }
    core.waited(hadToWait || pool.isSynchronous);
  }

  #startFailed(error: unknown): void {
    if (!this.core.isDraining || this.isDead) throw error;
    this.core.dropStart();
    publish({ type: "discarded-error", error });
  }

  #waitFailed(error: unknown): void {
    if (!this.core.isDraining || this.isDead || isWouldBlock(error)) throw error;
    publish({ type: "discarded-error", error });
  }

  #enterBatch(): void {
    this.pool.enterBatch();
    this.#isBatchOpen = true;
  }

  /** Submits what is staged. Whatever goes wrong, the batch is not this stream's any more. */
  #exitBatch(): void {
    this.#isBatchOpen = false;
    this.pool.exitBatch();
  }

  /** After an exception: leaves the batch, so that what is staged gets under way, and gives the error to be thrown. */
  #failed(error: unknown): unknown {
    const { core } = this;
    if (this.isDead) return error;
    if (core.isWaiting && isWouldBlock(error)) {
      core.retreat();
      return error;
    }
    core.fail();
    if (!this.#isBatchOpen) return error;
    try {
      this.#exitBatch();
    } catch (batchError) {
      publish({ type: "discarded-error", error: batchError });
    }
    return error;
  }
}

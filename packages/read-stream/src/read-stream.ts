/**
 * A stream of pinned buffers: the caller gives block numbers ahead of time and gets the blocks back in order, while
 * neighbours are read together and reads are started as early as it pays.
 *
 * A stream belongs to one backend, so to one thread. The pin of a returned buffer is the caller's; all others are the
 * stream's until `end`. A call that throws leaves the stream failed: pins are where they were, and `reset` or `end`
 * lets go of them. This file is the outside of it; the decisions are in the core, the calls to the pool in the driver.
 */
import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { NO_BLOCK } from "./block-source.js";
import { watch } from "./diagnostics.js";
import { StreamDriver } from "./driver.js";
import { ReadStreamError } from "./errors.js";
import { checkInvariants } from "./invariants.js";
import { streamLimits } from "./limits.js";
import { LookAhead18 } from "./look-ahead-18.js";
import { LookAhead19 } from "./look-ahead-19.js";
import { checkOptions, checkPool, STREAM_FLAG } from "./options.js";
import type { NextBlock, ReadStreamOptions } from "./options.js";
import type { StreamPool, StreamRing } from "./pool.js";
import { createStatistics } from "./statistics.js";
import type { StreamStatistics } from "./statistics.js";
import { StreamCore } from "./stream-core.js";
import { StreamTracer } from "./trace.js";

/**
 * How many buffers `nextAsync` gives before it lets the event loop turn, come what may: what is cached, or is read within a
 * system call, would otherwise come from one microtask to the next, and timers and sockets would wait for the whole scan.
 * That is 1 MiB of pages, some fraction of a millisecond.
 */
const BUFFERS_PER_TURN = 128;

/** A buffer of the pool: 1 to N shared, negative the backend's own, 0 none. */
export type Buffer = number;

/** What an iterator gives. */
export interface StreamItem<T> {
  readonly buffer: Buffer;
  readonly data: T;
}

/** A look at a stream from outside; a snapshot. */
export interface StreamInfo {
  readonly maxIos: number;
  readonly maxPinned: number;
  readonly queueSize: number;
  /** How far the stream looks ahead now, in blocks; 0 once the end was seen. */
  readonly distance: number;
  /** Buffers pinned and not returned yet, and pins taken for reads that are still to be started. */
  readonly pinned: number;
  readonly forwarded: number;
  /** Blocks of the read that is being prepared. */
  readonly pending: number;
  /** I/Os started and not waited for. */
  readonly inProgress: number;
  /** Slots of the buffer to be returned next, and of the one to be pinned next. */
  readonly oldestSlot: number;
  readonly nextSlot: number;
  readonly fastPath: boolean;
  readonly adviceEnabled: boolean;
}

/** Look-ahead reads of one fork of one relation. @template T the record that comes with each buffer */
export class ReadStream<T = void> implements Iterable<StreamItem<T>>, AsyncIterable<StreamItem<T>> {
  readonly #driver: StreamDriver<T>;
  readonly #core: StreamCore<T>;
  readonly #isAutoReleasing: boolean;
  readonly #isDebug: boolean;
  #isEnded = false;
  /** Buffers that `nextAsync` has given since it last let the event loop turn. */
  #sinceTurn = 0;
  #isBusy = false;
  #error: unknown;

  private constructor(driver: StreamDriver<T>, options: ReadStreamOptions<T>) {
    this.#driver = driver;
    this.#core = driver.core;
    this.#isAutoReleasing = options.autoRelease === true;
    this.#isDebug = options.debug === true;
  }

  /**
   * Begins a stream. Nothing is asked for or read yet.
   *
   * @param pool the backend's view of its buffer pool; its settings are looked at now, later changes do not matter
   * @throws {ReadStreamError} ERR_STREAM_FOREIGN_TEMPORARY
   */
  static begin<T = void>(pool: StreamPool, options: ReadStreamOptions<T>): ReadStream<T> {
    checkOptions(options);
    checkPool(pool);
    const { relation, flags = 0, scope, trace } = options;
    if (pool.isForeignTemporary(relation))
      throw new ReadStreamError(
        "ERR_STREAM_FOREIGN_TEMPORARY",
        `relation ${relation.relation} is a temporary one of another session`,
      );
    const limits = streamLimits(pool, options);
    const LookAhead = options.lookahead === "pg19" ? LookAhead19 : LookAhead18;
    const core = new StreamCore<T>({
      limits,
      flags,
      lookAhead: new LookAhead(limits, (flags & STREAM_FLAG.full) !== 0),
      next: options.next,
      perBuffer: options.perBuffer,
      tracer: trace === undefined ? undefined : new StreamTracer(trace, pool.isSynchronous, limits.queueSize),
      statistics: options.statistics === true ? createStatistics(limits.maxPinned) : undefined,
      debug: options.debug === true,
    });
    const driver = new StreamDriver(core, pool, relation, options.fork ?? 0, options.ring ?? null);
    scope?.onEnd(() => driver.kill());
    const stream = new ReadStream(driver, options);
    watch(stream, core);
    return stream;
  }

  /** A callback for the blocks from `first` up to, but not including, `endExclusive`. */
  static range(first: number, endExclusive: number): NextBlock<unknown> {
    let block = first;
    return () => (block < endExclusive ? block++ : NO_BLOCK);
  }

  /**
   * The next buffer, pinned, its pin now the caller's; sleeps if it has to. 0 at the end, as often as it is asked for.
   *
   * @throws what the callback threw; the pool's errors, those of a read when its first buffer is due
   * @throws {ReadStreamError} ERR_STREAM_DEAD, ERR_STREAM_FAILED, ERR_STREAM_BUSY
   */
  next(): Buffer {
    // On the fast path the stream can certainly be used.
    if (this.#isBusy || (!this.#core.isFast && this.#isUnusable)) return this.#refuseNext();
    this.#isBusy = true;
    try {
      const buffer = this.#driver.run();
      if (this.#isDebug) checkInvariants(this.#core);
      return buffer;
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#isBusy = false;
    }
  }

  /** `next` for a thread that must not sleep. One call at a time; every 128th lets the event loop turn in any case. */
  async nextAsync(): Promise<Buffer> {
    if (this.#isBusy || this.#isUnusable) return this.#refuseNext();
    this.#isBusy = true;
    try {
      this.#sinceTurn += 1;
      if (this.#sinceTurn > BUFFERS_PER_TURN) {
        this.#sinceTurn = 1;
        await turn();
        this.#driver.checkAlive();
      }
      const buffer = await this.#driver.runAsync();
      if (this.#isDebug) checkInvariants(this.#core);
      return buffer;
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#isBusy = false;
    }
  }

  /** The record of the buffer returned last. The caller's until the next call; then it may be filled for another block. */
  get data(): T {
    return this.#core.records[this.#core.resultSlot] as T;
  }

  /**
   * Takes the next block number out of the stream, for a caller that reads the block himself.
   *
   * @returns block -1 at the end; the ring that the stream would have used
   */
  nextBlock(): { block: number; ring: StreamRing | null } {
    this.#enter();
    try {
      return { block: this.#core.takeBlock(), ring: this.#driver.ring };
    } catch (error) {
      this.#core.fail();
      throw this.#failed(error);
    } finally {
      this.#isBusy = false;
    }
  }

  /** Uses the ring no more. The ring stays the caller's and is not touched; reads in flight finish. */
  clearRing(): void {
    this.#driver.clearRing();
  }

  /**
   * Stops asking for blocks without ending the stream: for blocks whose numbers are found in the blocks before them.
   *
   * @returns -1, for a callback that has to give a number and has none yet
   */
  pause(): number {
    this.#core.lookAhead.pause();
    return NO_BLOCK;
  }

  /** Asks for blocks again after `pause`, looking ahead as far as before. */
  resume(): void {
    this.#core.lookAhead.resume();
  }

  /**
   * Throws away what was read ahead and begins anew, as if all were cached. Waits for reads in flight.
   *
   * Also the way out after an error. An error of a read that nobody asked for is not thrown but published.
   */
  reset(): void {
    this.#drain(false);
  }

  /** `reset` for a thread that must not sleep. */
  async resetAsync(): Promise<void> {
    await this.#drainAsync(false);
  }

  /** Throws away what was read ahead, for good. Waits for reads in flight. A second call does nothing. */
  end(): void {
    if (!this.#isEnded && !this.#driver.isDead) this.#drain(true);
  }

  /** `end` for a thread that must not sleep. */
  async endAsync(): Promise<void> {
    if (this.#isEnded || this.#driver.isDead) return;
    try {
      await this.#drainAsync(true);
    } catch (error) {
      // Dead meanwhile, so that there is nothing left to let go of.
      if (!this.#driver.isDead) throw error;
    }
  }

  get info(): StreamInfo {
    const { limits, lookAhead, queue, ios, pending, isFast } = this.#core;
    return {
      maxIos: limits.maxIos,
      maxPinned: limits.maxPinned,
      queueSize: limits.queueSize,
      distance: lookAhead.distance,
      pinned: queue.pinned,
      forwarded: queue.forwarded,
      pending,
      inProgress: ios.inProgress,
      oldestSlot: queue.oldest,
      nextSlot: queue.next,
      fastPath: isFast,
      adviceEnabled: limits.adviceEnabled,
    };
  }

  /** Counters, if the stream was made with `statistics`; they go on counting. */
  get statistics(): Readonly<StreamStatistics> | undefined {
    return this.#core.statistics;
  }

  /** Buffers until the end. Leaving the loop early ends the stream. */
  *[Symbol.iterator](): Generator<StreamItem<T>, void, undefined> {
    let isOver = false;
    try {
      for (;;) {
        const buffer = this.next();
        if (buffer === 0) break;
        try {
          yield { buffer, data: this.data };
        } finally {
          if (this.#isAutoReleasing && !this.#driver.isDead) this.#driver.pool.release(buffer);
        }
      }
      isOver = true;
    } finally {
      if (!isOver) this.end();
    }
  }

  /** Buffers until the end, for a thread that must not sleep. Leaving the loop early ends the stream. */
  async *[Symbol.asyncIterator](): AsyncGenerator<StreamItem<T>, void, undefined> {
    let isOver = false;
    try {
      for (;;) {
        const buffer = await this.nextAsync();
        if (buffer === 0) break;
        try {
          yield { buffer, data: this.data };
        } finally {
          if (this.#isAutoReleasing && !this.#driver.isDead) this.#driver.pool.release(buffer);
        }
      }
      isOver = true;
    } finally {
      if (!isOver) await this.endAsync();
    }
  }

  [Symbol.dispose](): void {
    this.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.endAsync();
  }

  /** Throws everything away. @param isFinal for good: nobody gets in between */
  #drain(isFinal: boolean): void {
    this.#enter(true);
    try {
      this.#driver.drain();
      if (isFinal) this.#finish();
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#isBusy = false;
    }
  }

  async #drainAsync(isFinal: boolean): Promise<void> {
    this.#enter(true);
    try {
      await this.#driver.drainAsync();
      if (isFinal) this.#finish();
    } catch (error) {
      throw this.#failed(error);
    } finally {
      this.#isBusy = false;
    }
  }

  #finish(): void {
    this.#isEnded = true;
    this.#core.lookAhead.atEnd();
  }

  /** Whether `next` has nothing to go on with, for one reason or another. */
  get #isUnusable(): boolean {
    return this.#core.isFailed || this.#core.isDraining || this.#isEnded || this.#driver.isDead;
  }

  /** Checks that a call may run now, and keeps others out. @param isReset which is what helps a failed stream */
  #enter(isReset = false): void {
    if (this.#isBusy) throw new ReadStreamError("ERR_STREAM_BUSY", "another call of the stream is running");
    if (this.#driver.isDead)
      throw new ReadStreamError("ERR_STREAM_DEAD", "the scope of the stream's pins has ended");
    if (this.#isEnded) throw new ReadStreamError("ERR_STREAM_ENDED", "the stream was ended");
    if (!isReset && (this.#core.isFailed || this.#core.isDraining))
      throw new ReadStreamError("ERR_STREAM_FAILED", "an earlier call failed and the stream was not reset", {
        cause: this.#error,
      });
    this.#isBusy = true;
  }

  /** Why `next` cannot run; only an ended stream has an answer instead. */
  #refuseNext(): Buffer {
    if (this.#isEnded && !this.#driver.isDead) return 0;
    this.#enter();
    return assert.fail("a usable stream was refused");
  }

  /** Keeps an error that the stream does not survive. */
  #failed(error: unknown): unknown {
    this.#error = error;
    return error;
  }
}

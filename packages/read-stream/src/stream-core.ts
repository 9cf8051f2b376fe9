/**
 * The state machine of a stream: which block is asked for, which read is started, which I/O is waited for, what is
 * returned. It does none of it.
 *
 * A step ends with an effect that the driver has to bring about before it resumes the core. Only two of them can take
 * time (`start` and `wait`), so the same machine serves a thread that may sleep and one that may not. Nothing is
 * allocated for a block.
 *
 * After PostgreSQL 18's read_stream.c; the rules of look-ahead are apart, as version 19 has others.
 */
import assert from "node:assert/strict";
import { AdviceTracker } from "./advice.js";
import { BlockSource, NO_BLOCK } from "./block-source.js";
import { BufferQueue } from "./buffer-queue.js";
import { IoQueue } from "./io-queue.js";
import type { StreamLimits } from "./limits.js";
import type { LookAhead } from "./look-ahead.js";
import { STREAM_FLAG } from "./options.js";
import type { NextBlock } from "./options.js";
import { poison } from "./poison.js";
import { READ_FLAG } from "./pool.js";
import { countRead, countReturn } from "./statistics.js";
import type { StreamStatistics } from "./statistics.js";
import type { StreamTracer } from "./trace.js";

/** What has to happen before the core is resumed; the last two are about a read. */
export const EFFECT = { done: 0, enterBatch: 1, exitBatch: 2, wait: 3, askPins: 4, start: 5 } as const;
export type Effect = (typeof EFFECT)[keyof typeof EFFECT];

/** Where a call is. Look-ahead happens after a buffer is taken, and before that if there is none to take. */
const PHASE = { idle: 0, waiting: 1, looking: 2, finishing: 3, leaving: 4, fast: 5 } as const;
/** The pool's answer is cut to this, as in PostgreSQL. */
const INT16_MAX = 32_767;

/** What a core is made of. */
export interface CoreOptions<T> {
  readonly limits: StreamLimits;
  readonly flags: number;
  readonly lookAhead: LookAhead;
  readonly next: NextBlock<T>;
  readonly perBuffer: (() => T) | undefined;
  readonly tracer: StreamTracer | undefined;
  readonly statistics: StreamStatistics | undefined;
  readonly debug: boolean;
}

/** The machine. Its fields are the driver's to read; only its methods change them. */
export class StreamCore<T> {
  readonly limits: StreamLimits;
  readonly lookAhead: LookAhead;
  readonly source: BlockSource<T>;
  readonly queue: BufferQueue;
  readonly ios: IoQueue;
  readonly records: readonly T[];
  readonly statistics: StreamStatistics | undefined;
  /** The read that is being prepared. */
  pendingBlock = 0;
  pending = 0;
  /** The read to start, from slot `queue.next` on: filled in before the effect `start`. */
  startSlot = 0;
  startBlock = 0;
  startCount = 0;
  startFlags = 0;
  /** What the call returns once it is done, 0 at the end; and the slot it was in. */
  result = 0;
  resultSlot = 0;
  /** Whether the caller's next buffer is the only one pinned, and all was cached lately. */
  isFast = false;
  isInBatch = false;
  /** Whether buffers are being thrown away: a reset. */
  isDraining = false;
  /** Whether a call has thrown in the middle, so that only a drain can help. */
  isFailed = false;
  /** Whether the wait for the oldest I/O has thrown, so that it must not be waited for again. */
  isOldestSettled = false;

  readonly #isBatching: boolean;
  readonly #baseFlags: number;
  readonly #fastFlags: number;
  readonly #advice: AdviceTracker | undefined;
  readonly #tracer: StreamTracer | undefined;
  readonly #poisons: boolean;
  #phase: number = PHASE.idle;
  /** Whether this look-ahead comes before a buffer is taken. */
  #isFirstLook = false;
  /** A block that does not continue the pending read, which has to be started first. */
  #held = NO_BLOCK;
  #isStuck = false;
  #isStarting = false;
  /** A buffer taken out of the queue by a call that then threw. */
  #orphan = 0;

  constructor(options: CoreOptions<T>) {
    const { limits, flags, lookAhead, perBuffer } = options;
    this.limits = limits;
    this.lookAhead = lookAhead;
    this.source = new BlockSource(options.next);
    this.queue = new BufferQueue(limits.queueSize, limits.overflow);
    this.ios = new IoQueue(limits.maxIos);
    this.records = perBuffer === undefined ? [] : Array.from({ length: limits.queueSize }, perBuffer);
    this.statistics = options.statistics;
    this.#isBatching = (flags & STREAM_FLAG.useBatching) !== 0;
    this.#baseFlags = limits.isSynchronous ? READ_FLAG.synchronously : 0;
    this.#fastFlags =
      this.#baseFlags |
      (limits.adviceEnabled ? READ_FLAG.issueAdvice : 0) |
      (lookAhead.readsSynchronouslyOnFastPath ? READ_FLAG.synchronously : 0);
    this.#advice = limits.adviceEnabled ? new AdviceTracker() : undefined;
    this.#tracer = options.tracer;
    this.#poisons = options.debug && this.records.length > 0;
  }

  /** Begins a call for the next buffer. */
  begin(): Effect {
    if (this.isFast) return this.#beginFast();
    if (this.queue.pinned > 0) return this.#take();
    if (this.lookAhead.distance === 0) {
      this.result = 0;
      return EFFECT.done;
    }
    this.#isFirstLook = true;
    return this.#enterLookAhead();
  }

  /** Goes on when the effect has been brought about. */
  resume(): Effect {
    switch (this.#phase) {
      case PHASE.looking:
        return this.#look();
      case PHASE.finishing:
        return this.#leave();
      case PHASE.leaving:
        return this.#afterLook();
      case PHASE.waiting:
        return this.#give();
      default: // the fast path has nothing left to do
        this.#phase = PHASE.idle;
        return EFFECT.done;
    }
  }

  /**
   * Fills in the read to start, given how many more pins the pool allows.
   *
   * @returns false if it must not start now; the distance then keeps look-ahead away until pins are released
   */
  permit(additionalPins: number): boolean {
    const { queue } = this;
    const { pinned } = queue;
    if (pinned + this.pending > this.limits.maxPinned) assert.fail("a read beyond the limit of pins");
    let flags = this.#baseFlags;
    if (this.#advice?.wantsAdvice(this.pendingBlock, pinned > 0) === true) flags |= READ_FLAG.issueAdvice;
    // Forwarded pins are for the first blocks of this read, and the pool has counted them as held.
    let allowed = Math.min(Math.min(additionalPins, INT16_MAX) + queue.forwarded, INT16_MAX);
    if (allowed === 0 && pinned === 0) allowed = 1;
    let count = this.pending;
    if (allowed < count) {
      this.lookAhead.shrinkTo(pinned + allowed);
      this.#isStuck = pinned > 0;
      if (this.#isStuck) return false;
      count = allowed;
    }
    this.#setStart(queue.next, this.pendingBlock, count, flags);
    return true;
  }

  /** The read has started. @param covered blocks it covers @param needWait false if that is one block, and valid */
  started(covered: number, needWait: boolean): void {
    this.#isStarting = false;
    const isFast = this.#phase === PHASE.fast;
    this.#tracer?.started(this.startSlot, this.startBlock, covered, needWait, this.startFlags, isFast);
    if (needWait) this.#addIo(covered);
    if (isFast) {
      this.isFast = !needWait;
      return;
    }
    if (!needWait) this.lookAhead.afterHit(this.ios.inProgress);
    this.queue.add(covered, this.startCount);
    this.pendingBlock += covered;
    this.pending -= covered;
  }

  /** The oldest I/O has been waited for. @param hadToWait whether that took time, as far as the pool can tell */
  waited(hadToWait: boolean): void {
    const { ios } = this;
    const isWait = hadToWait || ios.oldestIsSynchronous;
    this.#tracer?.waited(ios.blocks[ios.oldest] as number, ios.counts[ios.oldest] as number);
    const block = ios.shift();
    if (isWait && this.statistics !== undefined) this.statistics.waits += 1;
    this.lookAhead.afterWait(isWait);
    this.#advice?.afterWait(block);
    this.isOldestSettled = false;
  }

  /** A block number for a caller that reads it without the stream. */
  takeBlock(): number {
    if (this.lookAhead.distance === 0) return NO_BLOCK;
    const block = this.source.take(undefined);
    if (block === NO_BLOCK) this.lookAhead.atEnd();
    return block;
  }

  /** Whether the last effect was a wait. If that was refused, nothing has happened and `retreat` is all there is to do. */
  get isWaiting(): boolean {
    return this.#phase === PHASE.waiting;
  }

  /** Gives up the call whose wait was refused. */
  retreat(): void {
    this.#phase = PHASE.idle;
  }

  /** A call has thrown: puts into order what can be, so that a reset finds every pin. */
  fail(): void {
    const { queue } = this;
    const phase = this.#phase;
    this.#phase = PHASE.idle;
    this.isFailed = true;
    this.isInBatch = false;
    this.isFast = false;
    this.#held = NO_BLOCK;
    if (phase === PHASE.waiting) this.isOldestSettled = true;
    else if (phase !== PHASE.idle && !this.#isFirstLook) this.#orphan = this.result;
    if (!this.#isStarting) return;
    this.#isStarting = false;
    if (phase !== PHASE.fast) queue.add(0, this.startCount);
    else if (queue.slots[queue.oldest] === 0) queue.shift();
  }

  /** A read could not even be started while buffers are thrown away: nobody needs it. */
  dropStart(): void {
    this.#isStarting = false;
    this.queue.add(0, this.startCount);
    this.pending = 0;
  }

  /** Begins to throw everything away; after a failure no read is started any more. */
  beginDrain(): void {
    this.isDraining = true;
    this.isFast = false;
    this.lookAhead.atEnd();
    this.source.clear();
    if (this.isFailed || this.lookAhead.dropsPendingOnReset) this.pending = 0;
  }

  /** Takes out a pin that is not in the queue. @returns 0 if there is none */
  takeStray(): number {
    const orphan = this.#orphan;
    this.#orphan = 0;
    return orphan === 0 ? this.queue.takeForwarded() : orphan;
  }

  /** All has been thrown away; begins anew, as if all were cached. */
  endDrain(): void {
    const { pinned, forwarded } = this.queue;
    assert(pinned === 0 && forwarded === 0 && this.ios.inProgress === 0, "something is left in the stream");
    this.pending = 0;
    this.isDraining = false;
    this.isFailed = false;
    this.lookAhead.restart();
  }

  /** The pins are gone with their scope; nothing here means anything any more. */
  abandon(): void {
    this.queue.abandon();
    this.ios.inProgress = 0;
    this.pending = 0;
    this.#orphan = 0;
    this.#held = NO_BLOCK;
    this.isFast = false;
    this.isInBatch = false;
    this.#phase = PHASE.idle;
    this.lookAhead.atEnd();
  }

  #take(): Effect {
    if (!this.ios.isDue(this.queue.oldest)) return this.#give();
    this.#phase = PHASE.waiting;
    return EFFECT.wait;
  }

  /** The oldest buffer leaves the queue; before it is returned, reads for those after it are started. */
  #give(): Effect {
    const { queue } = this;
    const slot = queue.oldest;
    if (this.statistics !== undefined && !this.isDraining) countReturn(this.statistics, queue.pinned);
    if (this.#poisons) poison(this.records[slot === 0 ? queue.size - 1 : slot - 1]);
    this.result = queue.shift();
    this.resultSlot = slot;
    this.#isFirstLook = false;
    return this.#enterLookAhead();
  }

  #enterLookAhead(): Effect {
    this.#phase = PHASE.looking;
    this.#isStuck = false;
    if (!this.#isBatching) return this.#look();
    this.isInBatch = true;
    return EFFECT.enterBatch;
  }

  /** Asks for blocks and merges them until enough are in hand, or a read has to start. */
  #look(): Effect {
    const { lookAhead, ios, queue } = this;
    for (;;) {
      if (this.#held !== NO_BLOCK) {
        if (this.#isStuck || ios.inProgress === this.limits.maxIos) {
          this.source.putBack(this.#held);
          this.#held = NO_BLOCK;
          return this.#leave();
        }
        if (this.pending > 0) return EFFECT.askPins;
        this.pendingBlock = this.#held;
        this.pending = 1;
        this.#held = NO_BLOCK;
      }
      if (!lookAhead.wantsBlock(queue.pinned, this.pending, ios.inProgress)) break;
      if (lookAhead.isComplete(this.pending)) return EFFECT.askPins;
      // Writes into the slot that the block will have, also if it has to be put back in between.
      const record =
        this.records.length === 0 ? undefined : this.records[queue.after(queue.next, this.pending)];
      const block = this.source.take(record);
      if (block === NO_BLOCK) {
        lookAhead.atEnd();
        break;
      }
      if (this.pending > 0 && this.pendingBlock + this.pending === block) this.pending += 1;
      else this.#held = block;
    }
    if (!lookAhead.mustStart(queue.pinned, this.pending, ios.inProgress)) return this.#leave();
    this.#phase = PHASE.finishing;
    return EFFECT.askPins;
  }

  #leave(): Effect {
    if (!this.isInBatch) return this.#afterLook();
    this.#phase = PHASE.leaving;
    this.isInBatch = false;
    return EFFECT.exitBatch;
  }

  #afterLook(): Effect {
    const { queue } = this;
    this.#phase = PHASE.idle;
    if (queue.pinned === 0 && this.lookAhead.distance > 0) assert.fail("nothing is pinned before the end");
    if (this.#isFirstLook) {
      if (queue.pinned > 0) return this.#take();
      this.result = 0;
      return EFFECT.done;
    }
    if (!this.isDraining) this.#tracer?.returned(this.resultSlot);
    // Pins that were forwarded belong to the pending read: without one there are none.
    this.isFast =
      queue.pinned === 1 &&
      this.ios.inProgress === 0 &&
      this.pending === 0 &&
      this.records.length === 0 &&
      this.lookAhead.isResting;
    if (this.isFast) queue.forgetCopyOfOldest();
    return EFFECT.done;
  }

  /** Returns the only buffer and puts the next one into its slot. Pins are not asked for: one is always allowed. */
  #beginFast(): Effect {
    const { queue } = this;
    const slot = queue.oldest;
    const block = this.source.take(undefined);
    if (this.statistics !== undefined) countReturn(this.statistics, queue.pinned);
    if (block === NO_BLOCK) {
      this.lookAhead.atEnd();
      this.isFast = false;
      this.result = queue.shift();
      this.#tracer?.returned(slot);
      return EFFECT.done;
    }
    this.result = queue.slots[slot] as number;
    queue.slots[slot] = 0;
    this.#phase = PHASE.fast;
    this.#isFirstLook = false;
    this.#setStart(slot, block, 1, this.#fastFlags);
    return EFFECT.start;
  }

  #setStart(slot: number, block: number, count: number, flags: number): void {
    this.startSlot = slot;
    this.startBlock = block;
    this.startCount = count;
    this.startFlags = flags;
    this.#isStarting = true;
  }

  #addIo(covered: number): void {
    const { ios } = this;
    ios.push(this.startSlot, this.startBlock, covered, (this.startFlags & READ_FLAG.synchronously) !== 0);
    this.#advice?.afterMiss(this.startBlock + covered);
    if (this.statistics !== undefined) countRead(this.statistics, covered, ios.inProgress);
  }
}

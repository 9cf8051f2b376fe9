/**
 * Changing the number of buffers while the pool is used, up to what it has reserved.
 *
 * Growing: the new buffers are initialised already; they come below both marks and onto the free list. Shrinking: first the
 * mark of allocation goes down, so that nobody takes a doomed buffer anew, and every backend says that it has seen that, at
 * its next call, before its next sleep or when its event loop turns. Who had selected a doomed buffer until then has it pinned.
 * Then each doomed page is written if it is dirty and thrown out; one that is pinned is waited for. When none holds a page or a
 * pin the other mark goes down too, and the frames' memory is given back. Until then a page in a doomed buffer is found and
 * used as ever, but a pin does not make it worth keeping: its usage count stays what it is, should the size be restored.
 */
import type { Allocator } from "./allocate.js";
import type { BackendContext } from "./backend-context.js";
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import type { ContentLocks } from "./content-locks.js";
import { BufferError } from "./errors.js";
import type { FrameRelease } from "./frame-release.js";
import { BACKEND, BACKEND_RECOVERING, BUFFERS_MIN, DESCRIPTOR, HEADER } from "./layout.js";
import { acknowledgeResize } from "./resize-barrier.js";
import {
  foldHand,
  nextGeneration,
  purgeFreeList,
  pushEmpty,
  RESIZE_PHASE,
  restoreSizes,
  underStrategy,
} from "./resize-sizes.js";
import { CONTEXT } from "./statistics.js";
import type { VictimWriter } from "./victim.js";
import type { Waiting } from "./waiting.js";

/** How a pool is resized. */
export interface ResizeOptions {
  /**
   * What to do about pages that are still pinned, or backends that have not been heard of, when the time is over: "wait" on,
   * "fail", or "rollback" to the old size without an error. "wait" unless said otherwise.
   */
  readonly onPinned?: "wait" | "fail" | "rollback";
  /** How long to wait before "fail" or "rollback", in milliseconds; 10 000 unless said otherwise. */
  readonly timeoutMs?: number;
  /** The time in milliseconds, for tests. */
  readonly now?: () => number;
}

/** What a resize came to; the last two are about the memory of the buffers that went. */
export interface ResizeReport extends FrameRelease {
  readonly before: number;
  /** Buffers now: what was asked for, or `before` after a rollback. */
  readonly buffers: number;
  /** Pages thrown out. */
  readonly evicted: number;
  /** Those of them that had to be written. */
  readonly written: number;
}

/** What resizing needs of its backend. */
export interface ResizeParts {
  readonly context: Pick<
    BackendContext,
    "words" | "layout" | "headers" | "pins" | "id" | "at" | "mayBlock" | "reach"
  >;
  readonly allocator: Pick<Allocator, "invalidateVictim">;
  readonly locks: ContentLocks;
  readonly writer: VictimWriter;
  /** Gives back the memory of frames that nobody uses. */
  readonly release?: (from: number, to: number) => FrameRelease;
}

const TIMEOUT_MS = 10_000;
/** Pause before the next look at a buffer for whose only pin somebody else waits. */
const LOOK_AGAIN_MS = 10;
const NONE = -1;
const NOTHING: FrameRelease = { releasedBytes: 0 };

/** Resizes a pool, as one backend. */
export class Resizer {
  readonly #parts: ResizeParts;
  #evicted = 0;
  #written = 0;
  #release: FrameRelease = NOTHING;

  constructor(parts: ResizeParts) {
    this.#parts = parts;
  }

  /**
   * Makes the pool have so many buffers.
   *
   * @throws {RangeError} fewer than 16, or more than the pool has reserved
   * @throws {BufferError} ERR_BUFFER_RESIZE_BUSY: the pool is being resized; ERR_BUFFER_RESIZE_PINNED: "fail"; what writing a
   *   page throws. The size is what it was before, then
   */
  *resize(buffers: number, options: ResizeOptions = {}): Waiting<ResizeReport> {
    const { words, layout, id, mayBlock } = this.#parts.context;
    if (!Number.isInteger(buffers) || buffers < BUFFERS_MIN || buffers > layout.buffersMax) {
      throw new RangeError(`from ${BUFFERS_MIN} to ${layout.buffersMax} buffers, not ${buffers}`);
    }
    if (Atomics.compareExchange(words, HEADER.resizer, 0, id + 1) !== 0) {
      throw new BufferError("ERR_BUFFER_RESIZE_BUSY", "the pool is being resized already");
    }
    const before = Atomics.load(words, HEADER.high);
    this.#evicted = this.#written = 0;
    this.#release = NOTHING;
    let isDone = false;
    try {
      if (buffers > before) this.#grow(before, buffers);
      if (buffers >= before) isDone = true;
      else isDone = yield* this.#shrink(before, buffers, options);
    } finally {
      if (!isDone) restoreSizes(words, layout, id, mayBlock);
      Atomics.store(words, HEADER.resizePhase, RESIZE_PHASE.none);
      Atomics.store(words, HEADER.resizer, 0);
    }
    return {
      before,
      buffers: isDone ? buffers : before,
      evicted: this.#evicted,
      written: this.#written,
      ...this.#release,
    };
  }

  #grow(before: number, buffers: number): void {
    const { words, layout, id, mayBlock } = this.#parts.context;
    this.#enter(RESIZE_PHASE.growing);
    underStrategy(words, layout, id, mayBlock, () => {
      foldHand(words, layout, before, buffers);
      Atomics.store(words, HEADER.high, buffers);
      Atomics.store(words, HEADER.low, buffers);
      pushEmpty(words, layout, before, buffers);
    });
    nextGeneration(words);
    Atomics.notify(words, HEADER.resizeGeneration);
  }

  /** @returns false if the time is over, and that means to go back */
  *#shrink(before: number, buffers: number, options: ResizeOptions): Waiting<boolean> {
    const { words, layout, id, at, mayBlock, headers } = this.#parts.context;
    const { onPinned = "wait", timeoutMs = TIMEOUT_MS, now = () => performance.now() } = options;
    const deadline = onPinned === "wait" ? Infinity : now() + timeoutMs;
    const left = (): number => deadline - now();
    underStrategy(words, layout, id, mayBlock, () => {
      foldHand(words, layout, before, buffers);
      Atomics.store(words, HEADER.low, buffers);
      purgeFreeList(words, layout, buffers);
    });
    const generation = nextGeneration(words);
    Atomics.notify(words, HEADER.resizeGeneration);
    this.#enter(RESIZE_PHASE.marked);
    acknowledgeResize(headers, at);
    let isReady = yield* this.#awaitBackends(generation, left);
    if (isReady) this.#enter(RESIZE_PHASE.acknowledged);
    while (isReady) {
      const pinned = yield* this.#evictAll(buffers, before);
      if (pinned === NONE) break;
      isReady = left() > 0;
      if (isReady) yield* this.#awaitPin(pinned, left());
    }
    if (!isReady && onPinned === "fail") {
      const message = `buffers above ${buffers} are still in use, the pool keeps ${before}`;
      throw new BufferError("ERR_BUFFER_RESIZE_PINNED", message);
    }
    if (!isReady) return false;
    this.#enter(RESIZE_PHASE.evicted);
    underStrategy(words, layout, id, mayBlock, () => purgeFreeList(words, layout, buffers));
    Atomics.store(words, HEADER.high, buffers);
    // Before anybody else may resize: who grows the pool again uses them.
    this.#release = this.#parts.release?.(buffers, before) ?? NOTHING;
    return true;
  }

  #enter(phase: number): void {
    const { words, reach } = this.#parts.context;
    Atomics.store(words, HEADER.resizePhase, phase);
    reach("resize:phase", phase);
  }

  /** Waits until every backend has seen the new mark. @returns false if the time is over */
  *#awaitBackends(generation: number, left: () => number): Waiting<boolean> {
    const { words, at } = this.#parts.context;
    for (;;) {
      const value = Atomics.load(words, at + BACKEND.wake);
      if (this.#haveAllSeen(generation)) return true;
      const timeoutMs = left();
      if (timeoutMs <= 0) return false;
      const limit = timeoutMs === Infinity ? {} : { timeoutMs };
      yield { kind: "word", at: at + BACKEND.wake, value, event: "PoolResizeBarrier", ...limit };
    }
  }

  #haveAllSeen(generation: number): boolean {
    const { words, layout } = this.#parts.context;
    for (let backend = 0; backend < layout.backends; backend++) {
      const at = layout.backendsAt + backend * layout.backendWords;
      const inUse = Atomics.load(words, at + BACKEND.inUse);
      if (inUse === 0 || inUse === BACKEND_RECOVERING) continue;
      if (((generation - Atomics.load(words, at + BACKEND.resizeSeen)) | 0) > 0) return false;
    }
    return true;
  }

  /** Throws out what can be thrown out. @returns a buffer that could not be emptied; -1 if all are empty */
  *#evictAll(from: number, to: number): Waiting<number> {
    let pinned = NONE;
    for (let buffer = from; buffer < to; buffer++) {
      if (!(yield* this.#evict(buffer))) pinned = buffer;
    }
    return pinned;
  }

  *#evict(buffer: number): Waiting<boolean> {
    const { context, allocator, locks, writer } = this.#parts;
    const { headers, pins } = context;
    const state = headers.lock(buffer);
    if ((state & (REFCOUNT_MASK | STATE.tagValid)) === 0 || (state & REFCOUNT_MASK) !== 0) {
      headers.unlock(buffer, state);
      return (state & REFCOUNT_MASK) === 0;
    }
    pins.pinLocked(buffer, state);
    try {
      if ((state & STATE.dirty) !== 0) {
        if (!locks.tryLock(buffer, "shared")) return false;
        try {
          yield* writer.flush(buffer, CONTEXT.normal);
        } finally {
          locks.unlock(buffer);
        }
        this.#written += 1;
      }
      if (!(yield* allocator.invalidateVictim(buffer))) return false;
      this.#evicted += 1;
      return true;
    } finally {
      pins.unpin(buffer);
    }
  }

  /** Waits until a pin of a buffer goes, or until it is worth looking again. */
  *#awaitPin(buffer: number, leftMs: number): Waiting<void> {
    const { words, headers, pins, id, at } = this.#parts.context;
    const wakeAt = at + BACKEND.wake;
    const value = Atomics.load(words, wakeAt);
    const state = headers.lock(buffer);
    const waiterAt = headers.at(buffer) + DESCRIPTOR.pinWaiter;
    const isWaited = (state & STATE.pinCountWaiter) !== 0 || pins.count(buffer) > 0;
    if ((state & REFCOUNT_MASK) === 0 || isWaited) {
      headers.unlock(buffer, state);
      const timeoutMs = Math.min(LOOK_AGAIN_MS, leftMs);
      if (isWaited) yield { kind: "word", at: wakeAt, value, event: "BufferPin", timeoutMs };
      return;
    }
    words[waiterAt] = id + 1;
    pins.pinLocked(buffer, state | STATE.pinCountWaiter);
    try {
      const limit = leftMs === Infinity ? {} : { timeoutMs: leftMs };
      yield { kind: "word", at: wakeAt, value, event: "BufferPin", ...limit };
    } finally {
      const now = headers.lock(buffer);
      const isOurs = words[waiterAt] === id + 1;
      headers.unlock(buffer, isOurs ? now & ~STATE.pinCountWaiter : now);
      pins.unpin(buffer);
    }
  }
}

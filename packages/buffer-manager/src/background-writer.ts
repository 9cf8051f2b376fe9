/**
 * The background writer: cleans pages just ahead of the clock hand, so that whoever needs a buffer finds one that is clean.
 *
 * How many and which is decided in background-writer-pace.ts; here it is done, several writes in flight. A page is skipped if
 * it is pinned or was used lately, whatever its state: the hand will not take it this time. After BgBufferSync, SyncOneBuffer
 * and the main loop of PostgreSQL 18.
 */
import type { BackendContext } from "./backend-context.js";
import { BackgroundWriterPace } from "./background-writer-pace.js";
import type { BackgroundWriterPaceOptions, BufferVerdict } from "./background-writer-pace.js";
import { REFCOUNT_MASK, STATE, USAGE_MASK } from "./buffer-state.js";
import type { ClockSweep } from "./clock-sweep.js";
import { publish } from "./diagnostics.js";
import { BufferError } from "./errors.js";
import { BACKEND, HEADER } from "./layout.js";
import type { PoolLayout } from "./layout.js";
import type { WriteParts } from "./sorted-writes.js";
import { CONTEXT } from "./statistics.js";
import type { WaitEvent } from "./wait-events.js";
import type { Waiting } from "./waiting.js";
import { WRITE_BACK_AFTER, WriteBack } from "./write-back.js";
import type { WriteRun } from "./write-run.js";

/** Times the delay that it sleeps when there is nothing to do. */
const HIBERNATE_FACTOR = 50;
/** Shortest sleep after an error, so that a full disk is not asked five times a second. */
const ERROR_DELAY_MS = 1000;

/** How a background writer works. */
export interface BackgroundWriterOptions extends BackgroundWriterPaceOptions {
  /** Pages after which the kernel is asked to write back: 64 unless said otherwise, 0 for never. */
  readonly flushAfter?: number;
}

/** What a round came to. */
export interface BackgroundWriterRound {
  /** Buffers looked at. */
  readonly scanned: number;
  /** Pages written. */
  readonly written: number;
  /** Whether the next round may be far off. */
  readonly canHibernate: boolean;
}

/** What a background writer works with. */
export interface BackgroundWriterParts extends WriteParts {
  readonly sweep: Pick<ClockSweep, "buffers" | "syncStart" | "notifyNextAllocation">;
}

/**
 * Asks the background writer of a pool to end, in whatever thread it runs, after the round that runs. One that has been made
 * and does not run yet ends when it begins to.
 *
 * @returns false if the pool has none
 */
export function stopBackgroundWriter(words: Int32Array, layout: PoolLayout): boolean {
  const backend = Atomics.load(words, HEADER.backgroundWriter) - 1;
  if (backend < 0) return false;
  Atomics.store(words, HEADER.backgroundWriterStop, backend + 1);
  const wakeAt = layout.backendsAt + backend * layout.backendWords + BACKEND.wake;
  Atomics.add(words, wakeAt, 1);
  Atomics.notify(words, wakeAt);
  return true;
}

/** The background writer of a pool, which has at most one. It works in the thread of its backend. */
export class BackgroundWriter {
  readonly #parts: BackgroundWriterParts;
  readonly #pace: BackgroundWriterPace;
  readonly #writeBack: WriteBack;

  /**
   * @throws {RangeError} a setting is out of its range
   * @throws {BufferError} ERR_BUFFER_LIMIT: another backend has the pool's background writer
   */
  constructor(parts: BackgroundWriterParts, options: BackgroundWriterOptions = {}) {
    const { files, counters } = parts.context;
    claim(parts.context);
    this.#parts = parts;
    this.#pace = new BackgroundWriterPace(options);
    this.#writeBack = new WriteBack(files, counters, options.flushAfter ?? WRITE_BACK_AFTER.backgroundWriter);
  }

  /** Rounds that ended because they had written as much as they may: pg_stat_bgwriter.maxwritten_clean. */
  get hitMax(): number {
    return this.#pace.hitMax;
  }

  /** Most pages written in a round; may be changed at any time. */
  get pagesMax(): number {
    return this.#pace.pagesMax;
  }

  set pagesMax(pages: number) {
    this.#pace.pagesMax = pages;
  }

  /** One round. @throws {BufferError} ERR_BUFFER_WRITE: a page could not be written, and stays dirty */
  cycle(): BackgroundWriterRound {
    return this.#parts.context.waiter.run(this.#round());
  }

  /** As `cycle`, without sleeping. */
  async cycleAsync(): Promise<BackgroundWriterRound> {
    return this.#parts.context.waiter.runAsync(this.#round());
  }

  /**
   * Works round after round in this thread, which may sleep, until `BufferPool.stopBackgroundWriter` is called in whatever
   * thread. Errors are published, see `BufferEvent`, and end nothing.
   */
  run(): void {
    this.#parts.context.waiter.run(this.#loop());
  }

  /** As `run`, without sleeping; `stop` ends it too. */
  async runAsync(): Promise<void> {
    await this.#parts.context.waiter.runAsync(this.#loop());
  }

  /** Ends `runAsync` after the round that runs. */
  stop(): void {
    stopBackgroundWriter(this.#parts.context.words, this.#parts.context.layout);
  }

  *#loop(): Waiting<void> {
    const { words, id } = this.#parts.context;
    const isOver = (): boolean =>
      Atomics.load(words, HEADER.backgroundWriterStop) === id + 1 ||
      Atomics.load(words, HEADER.closing) !== 0;
    try {
      yield* this.#rounds(isOver);
    } finally {
      Atomics.compareExchange(words, HEADER.backgroundWriterStop, id + 1, 0);
    }
  }

  *#rounds(isOver: () => boolean): Waiting<void> {
    let couldHibernate = false;
    while (!isOver()) {
      let canHibernate = false;
      let delayMs = this.#pace.delayMs;
      try {
        ({ canHibernate } = yield* this.#round());
      } catch (error) {
        const message = `a round of the background writer failed: ${String(error)}`;
        publish(() => ({ type: "background-writer-failed", level: "error", message, error }));
        delayMs = Math.max(delayMs, ERROR_DELAY_MS);
      }
      const isWoken = yield* this.#sleep(delayMs, "BgWriterMain", isOver);
      if (!isWoken && canHibernate && couldHibernate) yield* this.#hibernate(isOver);
      couldHibernate = canHibernate;
    }
  }

  *#hibernate(isOver: () => boolean): Waiting<void> {
    const { sweep, context } = this.#parts;
    sweep.notifyNextAllocation(context.id);
    try {
      yield* this.#sleep(this.#pace.delayMs * HIBERNATE_FACTOR, "BgWriterHibernate", isOver);
    } finally {
      sweep.notifyNextAllocation(-1);
    }
  }

  /** @returns whether it was woken before the time was over */
  *#sleep(timeoutMs: number, event: WaitEvent, isOver: () => boolean): Waiting<boolean> {
    const { words, at } = this.#parts.context;
    const value = Atomics.load(words, at + BACKEND.wake);
    // Whoever stops this sets his word first and wakes second: one of both is seen.
    if (isOver()) return true;
    yield { kind: "word", at: at + BACKEND.wake, value, event, timeoutMs };
    return Atomics.load(words, at + BACKEND.wake) !== value;
  }

  *#round(): Waiting<BackgroundWriterRound> {
    const { sweep, writer } = this.#parts;
    const pace = this.#pace;
    const { hand, passes, allocations } = sweep.syncStart();
    pace.begin(hand, passes, allocations, sweep.buffers);
    const runs: WriteRun[] = [];
    let failure: { error: unknown } | undefined;
    try {
      for (let buffer = pace.next; buffer >= 0; buffer = pace.next) {
        pace.found(yield* this.#look(buffer, runs));
      }
    } catch (error) {
      failure = { error };
    }
    for (const run of runs) {
      try {
        yield* writer.finish(run);
        this.#writeBack.note(run.relation, run.fork, run.block, run.buffers.length, CONTEXT.normal);
      } catch (error) {
        failure ??= { error };
      }
    }
    const canHibernate = pace.end();
    if (failure !== undefined) {
      // What failed is still dirty and behind the place where this goes on: back to the hand.
      pace.forget();
      throw failure.error;
    }
    return { scanned: pace.scanned, written: pace.written, canHibernate };
  }

  /** Looks at a buffer, and starts to write it if it is about to be taken and dirty. */
  *#look(buffer: number, runs: WriteRun[]): Waiting<BufferVerdict> {
    const { context, writer } = this.#parts;
    const { headers, pins } = context;
    if ((headers.state(buffer) & (REFCOUNT_MASK | USAGE_MASK)) !== 0) return "busy";
    const state = headers.lock(buffer);
    const isReusable = (state & (REFCOUNT_MASK | USAGE_MASK)) === 0;
    const isDirty = (state & STATE.valid) !== 0 && (state & STATE.dirty) !== 0;
    if (!isReusable || !isDirty) {
      headers.unlock(buffer, state);
      return isReusable ? "reusable" : "busy";
    }
    pins.pinLocked(buffer, state);
    try {
      const run = yield* this.#copy(buffer);
      if (run === undefined) return "reusable";
      yield* writer.start(run, CONTEXT.normal);
      runs.push(run);
      return "written";
    } finally {
      pins.unpin(buffer);
    }
  }

  *#copy(buffer: number): Waiting<WriteRun | undefined> {
    const { locks, ioLocks, writer } = this.#parts;
    yield* locks.lock(buffer, "shared");
    try {
      if (!(yield* ioLocks.start(buffer, false, true))) return undefined;
      const run = yield* writer.begin(buffer, 1);
      writer.add(run, buffer);
      return run;
    } finally {
      locks.unlock(buffer);
    }
  }
}

/** Makes a backend the one that has the background writer. */
function claim({ words, layout, id }: BackendContext): void {
  for (;;) {
    const seen = Atomics.load(words, HEADER.backgroundWriter);
    const isOther = seen !== 0 && seen !== id + 1;
    const inUse = layout.backendsAt + (seen - 1) * layout.backendWords + BACKEND.inUse;
    if (isOther && Atomics.load(words, inUse) !== 0) {
      throw new BufferError("ERR_BUFFER_LIMIT", "another backend has the pool's background writer");
    }
    if (Atomics.compareExchange(words, HEADER.backgroundWriter, seen, id + 1) === seen) return;
  }
}

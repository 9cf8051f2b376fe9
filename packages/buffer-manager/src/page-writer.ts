/**
 * Writes of pages: WAL first, from a private copy, as many in flight as there are scratch frames.
 *
 * A run is one write of neighbouring blocks. Its life: `begin` reserves scratch frames; `add` copies a page, whose I/O lock and
 * content lock the caller has; `start` makes WAL durable up to the newest LSN of the copies, sets their checksums and starts
 * the write, which owns the I/O locks from then on; `finish` waits for it and raises its failure. Content locks may be let go
 * of after `add`: what changes the page afterwards sets JUST_DIRTIED, and so keeps it dirty.
 *
 * WAL before data: the LSN is read after the copy was made, under the header lock, and the copy is given that LSN. Changes
 * to the page need its exclusive lock, so that only hints can slip in between, whose full-page image then is durable too. A
 * page goes out only once the log says that it is durable up to there; if it never says so, the write fails.
 *
 * After FlushBuffer of PostgreSQL 18, which writes one page at a time, keeps its content lock until it is written, and uses a
 * copy only where there are checksums.
 */
import type { IoHandle } from "@millrace/aio";

import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import { publish } from "./diagnostics.js";
import { BufferError } from "./errors.js";
import { POOL_CALLBACK } from "./io-ids.js";
import { terminateIo } from "./io-lock.js";
import type { IoLocks } from "./io-lock.js";
import { BACKEND, SCRATCH_FRAMES } from "./layout.js";
import { PageChecksums } from "./page-checksums.js";
import { pageLsn, setPageLsn } from "./page-lsn.js";
import { scratchFrame } from "./pool-core.js";
import { ScratchFrames } from "./scratch-frames.js";
import { PAGE_BYTES } from "./settings.js";
import { COUNTED } from "./statistics.js";
import { SyncRequests } from "./sync-requests.js";
import { acquireHandle } from "./waiting.js";
import type { Waiting } from "./waiting.js";
import { WriteBack } from "./write-back.js";
import { asRun, Run } from "./write-run.js";
import type { WriteRun } from "./write-run.js";

/** Most blocks of one write: two of them fit into the scratch frames, so that one is made while the other is written. */
const RUN_MAX: number = SCRATCH_FRAMES / 2;

/** Scratch frames that lie side by side. */
export interface ScratchRun {
  /** The first. */
  readonly frame: number;
  readonly count: number;
}

/** The writes of one backend. */
export class PageWriter {
  /** The forks that have been written to. */
  readonly syncs: SyncRequests;
  readonly #context: BackendContext;
  readonly #ioLocks: IoLocks;
  readonly #scratch: ScratchFrames;
  readonly #checksums: PageChecksums;
  readonly #writeBack: WriteBack;
  readonly #running = new Set<Run>();
  #waiting = 0;

  constructor(context: BackendContext, ioLocks: IoLocks) {
    this.#context = context;
    this.#ioLocks = ioLocks;
    this.syncs = new SyncRequests(context);
    this.#scratch = new ScratchFrames(context.frames, scratchFrame(context.layout, context.id));
    this.#checksums = new PageChecksums(context.frames);
    this.#writeBack = new WriteBack(context.files, context.counters, context.writeBackAfter);
  }

  /** Most blocks that one write may have. */
  get runMax(): number {
    return Math.min(this.#context.settings.combineLimit, RUN_MAX);
  }

  /** Takes scratch frames for something else than a write, `most` at most and one at least; to be given back. */
  *takeScratch(most: number): Waiting<ScratchRun> {
    const frame = yield* this.#takeFrames(Math.min(most, RUN_MAX));
    return { frame, count: this.#scratch.count };
  }

  /** Gives back what `takeScratch` took. */
  giveScratch({ frame, count }: ScratchRun): void {
    this.#scratch.give(frame, count);
    if (this.#waiting > 0) this.#context.headers.wakeBackend(this.#context.id);
  }

  /** Writes that are in flight. */
  get inFlight(): readonly WriteRun[] {
    return [...this.#running];
  }

  /** Scratch frames in use. */
  get scratchCount(): number {
    return this.#scratch.takenCount;
  }

  /**
   * Writes one page, if it is dirty, and waits for it.
   *
   * The caller has the buffer pinned and its content lock, shared at least. Afterwards the page was written since the call
   * began; it may be dirty again.
   *
   * @param context that the write is charged to, of `CONTEXT`
   * @throws {BufferError} ERR_BUFFER_WRITE: the page is still dirty, and a later write will try again
   */
  *flush(buffer: number, context: number): Waiting<void> {
    const isMine = yield* this.#ioLocks.start(buffer, false, true);
    if (!isMine) return;
    const run = yield* this.begin(buffer, 1);
    this.add(run, buffer);
    yield* this.start(run, context);
    yield* this.finish(run);
  }

  /** After a victim was flushed, still pinned: may have the kernel begin to write back. */
  flushed(buffer: number, context: number): void {
    const { headers, writeBackAfter } = this.#context;
    if (writeBackAfter === 0) return;
    const { fork, block, ...relation } = headers.tag(buffer);
    this.#writeBack.note(relation, fork, block, 1, context);
  }

  /**
   * Begins a run with the block of a buffer, whose I/O lock the caller has taken for an I/O. If that fails the lock is given
   * back.
   *
   * @param most blocks; fewer if there is no room for so many side by side
   */
  *begin(buffer: number, most: number): Waiting<WriteRun> {
    let frame: number;
    try {
      frame = yield* this.#takeFrames(most);
    } catch (error) {
      this.#ioLocks.abort(buffer, true);
      throw error;
    }
    const { headers } = this.#context;
    const { tablespace, database, relation, fork, block } = headers.tag(buffer);
    const { count } = this.#scratch;
    return new Run(frame, count, { tablespace, database, relation }, fork, block, (run) => this.#end(run));
  }

  /** Whether there is room for one more block. */
  hasRoom(run: WriteRun): boolean {
    return run.buffers.length < asRun(run).frames;
  }

  /**
   * Copies a page: the next block of the run, of whose buffer the caller has the I/O lock, taken for an I/O, and the content
   * lock. Later changes of the page are not part of this write.
   */
  add(write: WriteRun, buffer: number): void {
    const run = asRun(write);
    const { headers, frames } = this.#context;
    const frame = run.frame + run.buffers.length;
    const state = headers.lock(buffer) & ~STATE.justDirtied;
    headers.unlock(buffer, state);
    run.buffers.push(buffer);
    if ((state & STATE.ioError) !== 0) run.hadFailed = true;
    frames.copyFrame(frame, buffer);
    if ((state & STATE.permanent) === 0) return;
    const now = headers.lock(buffer);
    const lsn = pageLsn(frames, buffer);
    headers.unlock(buffer, now);
    setPageLsn(frames, frame, lsn);
    if (lsn > run.lsn) run.lsn = lsn;
  }

  /**
   * Starts a write. From then on it owns the I/O locks and its pins; if it cannot be started they are given back, the pages
   * stay dirty and the failure is theirs.
   *
   * @param context that it is charged to, of `CONTEXT`
   */
  *start(write: WriteRun, context: number): Waiting<void> {
    const run = asRun(write);
    run.context = context;
    this.#giveRest(run);
    try {
      yield* this.#flushWal(run);
      this.#reach("flush:after-wal", run);
      this.#seal(run);
      this.#reach("flush:before-write", run);
      const { aio, ioScope } = this.#context;
      run.sync = yield* this.syncs.begin(run.relation, run.fork);
      const handle = yield* acquireHandle(aio, ioScope, run.slot);
      const begun = performance.now();
      this.#startWrite(run, handle);
      this.#countTime(run, begun);
    } catch (error) {
      this.#giveUp(run, error);
    }
    const count = run.buffers.length;
    this.#context.counters.count(COUNTED.write, context, false, 1, count * PAGE_BYTES);
  }

  /** Waits until a write is over. @throws {BufferError} ERR_BUFFER_WRITE: none of its pages is clean */
  *finish(write: WriteRun): Waiting<void> {
    const run = asRun(write);
    yield* this.#wait(run);
    if (run.slot.result.status !== "error") return;
    let cause: unknown;
    try {
      this.#context.aio.report(run.slot, "error");
    } catch (error) {
      cause = error;
    }
    throw this.#failure(run, cause);
  }

  /** Gives up a run that has not been started: its pages stay dirty, their I/O locks are given back. */
  abandon(write: WriteRun): void {
    const run = asRun(write);
    for (const buffer of run.buffers) terminateIo(this.#context.headers, buffer, false, 0, true);
    this.#end(run);
  }

  *#wait(run: Run): Waiting<void> {
    if (run.isDone || run.ref === undefined) return;
    const begun = performance.now();
    try {
      while (!run.isDone) yield { kind: "io", ref: run.ref };
    } finally {
      this.#countTime(run, begun);
    }
  }

  /** Time that this thread spent for a write: while it was started, and while it was waited for. */
  #countTime({ context }: Run, begun: number): void {
    this.#context.counters.time(COUNTED.write, context, false, performance.now() - begun);
  }

  *#takeFrames(most: number): Waiting<number> {
    const { words, at } = this.#context;
    const wakeAt = at + BACKEND.wake;
    for (;;) {
      const value = Atomics.load(words, wakeAt);
      const frame = this.#scratch.tryTake(most);
      const [oldest] = this.#running;
      if (frame >= 0) {
        // A short run costs an I/O more; what is in flight will make room for a longer one.
        if (this.#scratch.count === most || oldest === undefined) return frame;
        this.#scratch.give(frame, this.#scratch.count);
      }
      this.#waiting += 1;
      try {
        if (oldest === undefined) yield { kind: "word", at: wakeAt, value, event: "BufferIo" };
        else yield* this.#wait(oldest);
      } finally {
        this.#waiting -= 1;
      }
    }
  }

  *#flushWal({ lsn }: Run): Waiting<void> {
    const { wal } = this.#context;
    if (lsn === 0n || wal.isDurable(lsn)) return;
    yield { kind: "wal", lsn };
    if (wal.isDurable(lsn)) return;
    throw new Error(`the WAL is not durable up to ${lsn.toString(16).toUpperCase()} after it was flushed`);
  }

  #seal(run: Run): void {
    if (!this.#context.settings.checksums) return;
    for (let index = 0; index < run.buffers.length; index++) {
      this.#checksums.set(run.frame + index, run.block + index);
    }
  }

  #reach(point: "flush:after-wal" | "flush:before-write", { buffers }: Run): void {
    for (const buffer of buffers) this.#context.reach(point, buffer);
  }

  #startWrite(run: Run, handle: IoHandle): void {
    const { files, frames } = this.#context;
    const { relation, fork, block, buffers, frame } = run;
    const ref = handle.ref();
    const vector = {
      segment: frames.segmentIndexOf(frame),
      offsetBytes: frames.byteOffsetOf(frame),
      lengthBytes: buffers.length * PAGE_BYTES,
    };
    try {
      handle.setData(buffers).addCallback(POOL_CALLBACK.sharedWrite);
      files.startWrite(handle, relation, fork, block, [vector], buffers.length);
    } catch (error) {
      // A handle that was started is no longer to be released, and whoever threw after that has stopped the system.
      handle.release();
      throw error;
    }
    run.ref = ref;
    if (!run.isDone) this.#running.add(run);
  }

  /** Over, in this thread: its copies are not needed any more. */
  #end(run: Run): void {
    run.isDone = true;
    if (run.sync >= 0) this.syncs.end(run.sync);
    run.sync = -1;
    this.#running.delete(run);
    this.#scratch.give(run.frame, run.frames);
    if (this.#waiting > 0) this.#context.headers.wakeBackend(this.#context.id);
  }

  /** Frames that were reserved and are not used. */
  #giveRest(run: Run): void {
    const { length } = run.buffers;
    this.#scratch.give(run.frame + length, run.frames - length);
    run.frames = length;
  }

  #giveUp(run: Run, error: unknown): never {
    // Having to wait where one must not is no fault of the page.
    if (error instanceof BufferError && error.code === "ERR_BUFFER_WOULD_BLOCK") {
      this.abandon(run);
      throw error;
    }
    for (const buffer of run.buffers) this.#ioLocks.abort(buffer, true);
    this.#end(run);
    throw this.#failure(run, error);
  }

  #failure(run: Run, cause: unknown): BufferError {
    const { relation, fork, block, buffers, hadFailed } = run;
    const last = block + buffers.length - 1;
    const blocks = buffers.length === 1 ? `block ${block}` : `blocks ${block}..${last}`;
    const why = cause instanceof Error ? cause.message : String(cause);
    const file = this.#context.files.fileName(relation, fork, block);
    const message = `could not write ${blocks} of "${file}": ${why}`;
    if (hadFailed) {
      const what = { relation, fork, block, blocks: buffers.length, message };
      publish(() => ({ type: "write-failed-again", level: "warn", ...what }));
    }
    if (cause instanceof BufferError) return cause;
    return new BufferError("ERR_BUFFER_WRITE", message, { cause });
  }
}

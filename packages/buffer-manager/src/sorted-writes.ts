/**
 * Writing many pages in the order of the files: neighbours in one write, several writes in flight.
 *
 * Which pages is what a sorted list says, made before; each is looked at again, and written if a flag of its state still wants
 * it. A page's content lock is held while it is copied and no longer. If a write fails, those in flight are waited for and the
 * first failure is raised; pages that were not reached stay as they are.
 *
 * PostgreSQL 18 has one write of one page in flight at a time here.
 */
import type { BackendContext } from "./backend-context.js";
import type { CheckpointList } from "./checkpoint-list.js";
import { CheckpointOrder } from "./checkpoint-order.js";
import type { ContentLocks } from "./content-locks.js";
import { IO_LOCK } from "./io-lock.js";
import type { IoLocks } from "./io-lock.js";
import { DESCRIPTOR } from "./layout.js";
import type { PageWriter } from "./page-writer.js";
import { CONTEXT } from "./statistics.js";
import type { Waiting } from "./waiting.js";
import type { WriteBack } from "./write-back.js";
import type { WriteRun } from "./write-run.js";

/** The parts of a backend that write. */
export interface WriteParts {
  readonly context: BackendContext;
  readonly locks: ContentLocks;
  readonly ioLocks: IoLocks;
  readonly writer: PageWriter;
}

/** Adds a buffer to a list. Under its header lock, which stays the caller's. */
export function listBuffer({ headers, words }: BackendContext, list: CheckpointList, buffer: number): void {
  const at = headers.at(buffer);
  list.push(
    buffer,
    words[at + DESCRIPTOR.tablespace] as number,
    words[at + DESCRIPTOR.database] as number,
    words[at + DESCRIPTOR.relation] as number,
    words[at + DESCRIPTOR.fork] as number,
    words[at + DESCRIPTOR.block] as number,
  );
}

/** Writes the pages of one list. */
export class SortedWrites {
  /** Pages written. */
  written = 0;
  /** Writes that took. */
  writes = 0;
  readonly #parts: WriteParts;
  readonly #list: CheckpointList;
  readonly #needed: number;
  readonly #writeBack: WriteBack;
  readonly #inFlight = new Set<WriteRun>();

  /**
   * @param list sorted
   * @param needed a flag of STATE: a page without it needs no write any more
   */
  constructor(parts: WriteParts, list: CheckpointList, needed: number, writeBack: WriteBack) {
    this.#parts = parts;
    this.#list = list;
    this.#needed = needed;
    this.#writeBack = writeBack;
  }

  /**
   * Writes what still needs it, and waits until it is written.
   *
   * @param pause called after each step but the last, with the part that is done and the entries of the step
   * @throws {BufferError} ERR_BUFFER_WRITE
   */
  *run(pause?: (progress: number, entries: number) => Waiting<void>): Waiting<void> {
    const order = new CheckpointOrder(this.#list);
    let done = 0;
    try {
      while (order.next >= 0) {
        const count = yield* this.#write(order.next, order.left);
        order.advance(count);
        done += count;
        if (pause !== undefined && order.next >= 0) yield* pause(done / this.#list.count, count);
      }
    } finally {
      yield* this.drain();
    }
    this.#writeBack.issue(CONTEXT.normal);
  }

  /** Waits for all writes in flight. @throws what the first that failed throws */
  *drain(): Waiting<void> {
    let failure: { error: unknown } | undefined;
    for (const run of this.#inFlight) {
      try {
        yield* this.#finish(run);
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure !== undefined) throw failure.error;
  }

  /** Writes the entry at a position, and neighbours behind it. @returns entries that are dealt with */
  *#write(position: number, left: number): Waiting<number> {
    const { context, locks, writer } = this.#parts;
    const buffer = this.#list.buffer(position);
    if (!(yield* this.#take(buffer))) return 1;
    let run: WriteRun;
    try {
      run = yield* writer.begin(buffer, this.#wanted(position, left));
      writer.add(run, buffer);
    } catch (error) {
      context.pins.unpin(buffer);
      throw error;
    } finally {
      locks.unlock(buffer);
    }
    try {
      this.#addNeighbours(run, position);
      yield* writer.start(run, CONTEXT.normal);
    } finally {
      for (const each of run.buffers) context.pins.unpin(each);
    }
    this.written += run.buffers.length;
    this.writes += 1;
    this.#inFlight.add(run);
    yield* this.#collect();
    return run.buffers.length;
  }

  /** Pins a page and takes its locks for a write. @returns false if it needs none any more */
  *#take(buffer: number): Waiting<boolean> {
    const { context, locks, ioLocks } = this.#parts;
    const { headers, pins } = context;
    if ((headers.state(buffer) & this.#needed) === 0) return false;
    const state = headers.lock(buffer);
    if ((state & this.#needed) === 0) {
      headers.unlock(buffer, state);
      return false;
    }
    pins.pinLocked(buffer, state);
    let isLocked = false;
    let isTaken = false;
    try {
      yield* locks.lock(buffer, "shared");
      isLocked = true;
      isTaken = yield* ioLocks.start(buffer, false, true);
    } finally {
      if (!isTaken) {
        if (isLocked) locks.unlock(buffer);
        pins.unpin(buffer);
      }
    }
    return isTaken;
  }

  /** Blocks in a row that the list has from a position on, as many as one write may have. */
  #wanted(position: number, left: number): number {
    const { context, writer } = this.#parts;
    const most = Math.min(left, writer.runMax, context.files.runMax(this.#list.block(position)));
    let count = 1;
    while (count < most && this.#list.isFollowed(position + count - 1)) count += 1;
    return count;
  }

  #addNeighbours(run: WriteRun, position: number): void {
    const { locks, writer } = this.#parts;
    while (writer.hasRoom(run)) {
      const count = run.buffers.length;
      const buffer = this.#list.buffer(position + count);
      if (!this.#tryTake(buffer, run, run.block + count)) return;
      writer.add(run, buffer);
      locks.unlock(buffer);
    }
  }

  /** As `#take`, of a neighbour; without waiting, because the run has its own locks already. */
  #tryTake(buffer: number, { relation, fork }: WriteRun, block: number): boolean {
    const { context, locks, ioLocks } = this.#parts;
    const { headers, pins } = context;
    const state = headers.lock(buffer);
    if ((state & this.#needed) === 0 || !headers.hasTag(buffer, relation, fork, block)) {
      headers.unlock(buffer, state);
      return false;
    }
    pins.pinLocked(buffer, state);
    if (locks.tryLock(buffer, "shared")) {
      if (ioLocks.tryStart(buffer, false, true) === IO_LOCK.started) return true;
      locks.unlock(buffer);
    }
    pins.unpin(buffer);
    return false;
  }

  /** Sees to the writes that are over. */
  *#collect(): Waiting<void> {
    for (const run of this.#inFlight) if (run.isDone) yield* this.#finish(run);
  }

  *#finish(run: WriteRun): Waiting<void> {
    this.#inFlight.delete(run);
    yield* this.#parts.writer.finish(run);
    this.#writeBack.note(run.relation, run.fork, run.block, run.buffers.length, CONTEXT.normal);
  }
}

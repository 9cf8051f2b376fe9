/**
 * Marking pages dirty: for good, under the exclusive lock, or for a hint, under the shared one.
 *
 * A hint is something that can be found out again, such as that a transaction has committed; losing it costs nothing, but a
 * torn write of a page that only a hint changed would spoil its checksum. The log may therefore want a full image of the
 * page before it gets dirty. Between that and the mark no checkpoint may begin: it would take the image for one of its own
 * time, and not write the page; `delayCheckpoint` of the backend says so. After MarkBufferDirty and MarkBufferDirtyHint.
 */
import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import type { ContentLocks } from "./content-locks.js";
import { BufferError } from "./errors.js";
import type { BufferHeaders } from "./headers.js";
import { BACKEND, DESCRIPTOR } from "./layout.js";
import { setPageLsn } from "./page-lsn.js";

const BOTH: number = STATE.dirty | STATE.justDirtied;

/** Sets DIRTY and JUST_DIRTIED. @returns whether the page was clean */
export function setDirty(headers: BufferHeaders, buffer: number): boolean {
  const { words } = headers;
  const at = headers.at(buffer) + DESCRIPTOR.state;
  let seen = Atomics.load(words, at);
  for (;;) {
    if ((seen & STATE.locked) !== 0) {
      seen = headers.awaitUnlocked(at);
      continue;
    }
    const before = Atomics.compareExchange(words, at, seen, seen | BOTH);
    if (before === seen) return (seen & STATE.dirty) === 0;
    seen = before;
  }
}

/** Marks pages dirty for one backend. */
export class DirtyMarks {
  readonly #context: BackendContext;
  readonly #locks: ContentLocks;

  constructor(context: BackendContext, locks: ContentLocks) {
    this.#context = context;
    this.#locks = locks;
  }

  /**
   * Marks a page dirty.
   *
   * @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has not pinned it and locked it exclusively
   */
  mark(buffer: number): void {
    if (this.#context.pins.count(buffer) === 0 || this.#locks.modeOf(buffer) !== "exclusive") {
      throw new BufferError("ERR_BUFFER_BAD_ID", `buffer ${buffer + 1} is not pinned and locked exclusively`);
    }
    setDirty(this.#context.headers, buffer);
  }

  /**
   * Marks a page dirty because of a hint on it. May do nothing.
   *
   * @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has not pinned it, or not locked it at all
   */
  markHint(buffer: number): void {
    const { headers, pins, wal, words, at } = this.#context;
    if (pins.count(buffer) === 0 || this.#locks.modeOf(buffer) === undefined) {
      throw new BufferError("ERR_BUFFER_BAD_ID", `buffer ${buffer + 1} is not pinned and locked`);
    }
    const state = headers.state(buffer);
    if ((state & BOTH) === BOTH) return;
    if ((state & STATE.permanent) === 0 || wal.logHint === undefined) {
      setDirty(headers, buffer);
      return;
    }
    Atomics.store(words, at + BACKEND.delayCheckpoint, 1);
    try {
      const lsn = wal.logHint(headers.tag(buffer), this.#context.frames.view(buffer));
      const now = headers.lock(buffer);
      if (lsn !== undefined) setPageLsn(this.#context.frames, buffer, lsn);
      headers.unlock(buffer, now | BOTH);
    } finally {
      Atomics.store(words, at + BACKEND.delayCheckpoint, 0);
      Atomics.notify(words, at + BACKEND.delayCheckpoint);
    }
  }
}

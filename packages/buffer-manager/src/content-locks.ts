/**
 * Content locks: many readers or one writer of a page. Whoever takes one has the page pinned.
 *
 * The latch is in the descriptor; what this backend holds is noted in its own words, so that its supervisor can give back
 * what a dead thread held. A backend that holds an exclusive lock on a page and asks for another one in a blocking call would
 * wait for itself, which is refused; two flows of one thread may wait for each other, as two threads do.
 */
import type { BackendContext } from "./backend-context.js";
import { BufferError } from "./errors.js";
import { markSleeper, tryLatchExclusive, tryLatchShared, unlatchExclusive, unlatchShared } from "./latch.js";
import type { LatchMode } from "./latch.js";
import { BACKEND, DESCRIPTOR, HELD_LOCKS_MAX } from "./layout.js";
import type { Waiting } from "./waiting.js";

/** The content locks of one backend. */
export class ContentLocks {
  readonly #words: Int32Array;
  readonly #id: number;
  readonly #firstAt: number;
  readonly #intentAt: number;
  readonly #countAt: number;
  readonly #heldAt: number;

  constructor({ words, layout, id, at }: Pick<BackendContext, "words" | "layout" | "id" | "at">) {
    this.#words = words;
    this.#id = id;
    this.#firstAt = layout.descriptorsAt + DESCRIPTOR.contentLock;
    this.#intentAt = at + BACKEND.lockIntent;
    this.#countAt = at + BACKEND.heldCount;
    this.#heldAt = at + BACKEND.held;
  }

  /** Locks that this backend holds. */
  get heldCount(): number {
    return this.#words[this.#countAt] as number;
  }

  /** How this backend holds a page's lock; undefined if it does not. */
  modeOf(buffer: number): LatchMode | undefined {
    const slot = this.#find(buffer);
    if (slot < 0) return undefined;
    return (this.#words[this.#heldAt + slot] as number) < 0 ? "exclusive" : "shared";
  }

  /**
   * Locks a page if that is possible at once.
   *
   * @throws {BufferError} ERR_BUFFER_LIMIT: this backend holds as many locks as it can note
   */
  tryLock(buffer: number, mode: LatchMode): boolean {
    const words = this.#words;
    const count = words[this.#countAt] as number;
    if (count >= HELD_LOCKS_MAX)
      throw new BufferError("ERR_BUFFER_LIMIT", `more than ${HELD_LOCKS_MAX} locks on pages`);
    const at = this.#firstAt + buffer * DESCRIPTOR.words;
    const isShared = mode === "shared";
    words[this.#intentAt] = isShared ? buffer + 1 : -buffer - 1;
    const isTaken = isShared ? tryLatchShared(words, at) : tryLatchExclusive(words, at, this.#id);
    if (isTaken) {
      words[this.#heldAt + count] = isShared ? buffer + 1 : -buffer - 1;
      words[this.#countAt] = count + 1;
    }
    words[this.#intentAt] = 0;
    return isTaken;
  }

  /** Locks a page, waiting as long as it takes. */
  *lock(buffer: number, mode: LatchMode): Waiting<void> {
    const words = this.#words;
    const at = this.#firstAt + buffer * DESCRIPTOR.words;
    for (;;) {
      const value = Atomics.load(words, at + 1);
      if (this.tryLock(buffer, mode)) return;
      if (markSleeper(words, at, mode)) yield { kind: "word", at: at + 1, value, event: "BufferContent" };
    }
  }

  /** Whether a blocking `lock` would wait for this backend itself, and so for ever. */
  wouldWaitForSelf(buffer: number, mode: LatchMode): boolean {
    const held = this.modeOf(buffer);
    return held === "exclusive" || (held === "shared" && mode === "exclusive");
  }

  /** Lets go of the lock taken last on a page. @throws {BufferError} ERR_BUFFER_BAD_ID: this backend has none */
  unlock(buffer: number): void {
    const words = this.#words;
    const slot = this.#find(buffer);
    if (slot < 0) {
      throw new BufferError("ERR_BUFFER_BAD_ID", `this backend has not locked buffer ${buffer + 1}`);
    }
    const at = this.#firstAt + buffer * DESCRIPTOR.words;
    const entry = words[this.#heldAt + slot] as number;
    words[this.#intentAt] = entry;
    const last = (words[this.#countAt] as number) - 1;
    words[this.#heldAt + slot] = words[this.#heldAt + last] as number;
    words[this.#countAt] = last;
    if (entry < 0) unlatchExclusive(words, at, at + 1);
    else unlatchShared(words, at, at + 1);
    words[this.#intentAt] = 0;
  }

  /** Lets go of all locks on a page, as whoever gives its last pin back has to. @returns how many there were */
  unlockAll(buffer: number): number {
    let count = 0;
    for (; this.#find(buffer) >= 0; count++) this.unlock(buffer);
    return count;
  }

  #find(buffer: number): number {
    const words = this.#words;
    for (let slot = (words[this.#countAt] as number) - 1; slot >= 0; slot--) {
      const entry = words[this.#heldAt + slot] as number;
      if (entry === buffer + 1 || entry === -buffer - 1) return slot;
    }
    return -1;
  }
}

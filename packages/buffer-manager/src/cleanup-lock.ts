/**
 * Cleanup locks: an exclusive lock on a page that nobody else has pinned, so that its items can be moved.
 *
 * A pin alone allows to look at items that were found before, so a lock is not enough to move them. Whoever has the lock and
 * sees only its own pin may go on: new pins may come, but who takes one has to lock the page before it looks. One
 * backend a buffer can wait for that; it is named in the descriptor and woken by whoever gives the last other pin back, a
 * completing I/O included. After LockBufferForCleanup of PostgreSQL 18.
 */
import type { BackendContext } from "./backend-context.js";
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import type { ContentLocks } from "./content-locks.js";
import { BufferError } from "./errors.js";
import { BACKEND, DESCRIPTOR } from "./layout.js";
import type { Waiting } from "./waiting.js";

type CleanupContext = Pick<BackendContext, "words" | "headers" | "pins" | "id" | "at" | "reach">;

/** The cleanup locks of one backend. Released like any content lock. */
export class CleanupLocks {
  readonly #context: CleanupContext;
  readonly #locks: ContentLocks;

  constructor(context: CleanupContext, locks: ContentLocks) {
    this.#context = context;
    this.#locks = locks;
  }

  /** Takes the lock if nobody else has the page locked or pinned, and this backend once. */
  tryLock(buffer: number): boolean {
    const { pins } = this.#context;
    if (pins.count(buffer) !== 1 || !this.#locks.tryLock(buffer, "exclusive")) return false;
    if (this.#isAlone(buffer)) return true;
    this.#locks.unlock(buffer);
    return false;
  }

  /** Whether the exclusive lock that this backend has is as good as a cleanup lock. */
  isOk(buffer: number): boolean {
    if (this.#context.pins.count(buffer) !== 1) return false;
    return this.#locks.modeOf(buffer) === "exclusive" && this.#isAlone(buffer);
  }

  /**
   * Takes the lock, waiting until all other pins are gone.
   *
   * @throws {BufferError} ERR_BUFFER_PIN_COUNT: this backend has not exactly one pin; ERR_BUFFER_CLEANUP_WAITER: another
   *   backend waits already
   */
  *lock(buffer: number): Waiting<void> {
    const { words, at, reach } = this.#context;
    for (;;) {
      this.#checkPins(buffer);
      if (!this.#locks.tryLock(buffer, "exclusive")) yield* this.#locks.lock(buffer, "exclusive");
      const value = Atomics.load(words, at + BACKEND.wake);
      if (this.#isAloneOrRegistered(buffer)) return;
      this.#locks.unlock(buffer);
      try {
        reach("cleanup:registered", buffer);
        yield { kind: "word", at: at + BACKEND.wake, value, event: "BufferPin" };
      } finally {
        this.#deregister(buffer);
      }
    }
  }

  /** @returns whether only this backend has a pin; if not, it is now registered as the one that waits for that */
  #isAloneOrRegistered(buffer: number): boolean {
    const { words, headers, id } = this.#context;
    const state = headers.lock(buffer);
    if ((state & REFCOUNT_MASK) === 1) {
      headers.unlock(buffer, state);
      try {
        this.#checkPins(buffer);
      } catch (error) {
        this.#locks.unlock(buffer);
        throw error;
      }
      return true;
    }
    if ((state & STATE.pinCountWaiter) !== 0) {
      headers.unlock(buffer, state);
      this.#locks.unlock(buffer);
      const message = `another backend waits already for the only pin on buffer ${buffer + 1}`;
      throw new BufferError("ERR_BUFFER_CLEANUP_WAITER", message);
    }
    words[headers.at(buffer) + DESCRIPTOR.pinWaiter] = id + 1;
    headers.unlock(buffer, state | STATE.pinCountWaiter);
    return false;
  }

  #deregister(buffer: number): void {
    const { words, headers, id } = this.#context;
    const state = headers.lock(buffer);
    const isOurs = words[headers.at(buffer) + DESCRIPTOR.pinWaiter] === id + 1;
    headers.unlock(buffer, isOurs ? state & ~STATE.pinCountWaiter : state);
  }

  #isAlone(buffer: number): boolean {
    return (this.#context.headers.state(buffer) & REFCOUNT_MASK) === 1;
  }

  #checkPins(buffer: number): void {
    const count = this.#context.pins.count(buffer);
    if (count === 1) return;
    const message = `a cleanup lock needs one pin of this backend on buffer ${buffer + 1}, not ${count}`;
    throw new BufferError("ERR_BUFFER_PIN_COUNT", message);
  }
}

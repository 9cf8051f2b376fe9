/**
 * Mutexes in the pool's words: the strategy's and one for each partition of the mapping table.
 *
 * What is done under one takes less than a microsecond and never waits. A flow takes it with `tryLock`, and waits with `lock`
 * if that fails; code that cannot wait uses `lockNow`, which sleeps on a thread that may and spins on one that must not.
 * The word behind the mutex is its wake sequence. The word names the holder, for whoever cleans up after a dead thread.
 */
import type { BackendContext } from "./backend-context.js";
import { BufferError } from "./errors.js";
import { latch, lockMutex, tryLatchExclusive, unlatchExclusive } from "./latch.js";
import type { Waiting } from "./waiting.js";

/** Attempts of `tryLock`: what is done under a mutex takes less than these. */
const SPINS = 100;
/** Rounds of some 10 ms that a thread which must not sleep tries for: a holder that runs at all is done by then. */
const ROUNDS = 200;

/** The mutexes of a pool, as one backend takes them. */
export class Mutexes {
  readonly #words: Int32Array;
  readonly #holder: number;
  readonly #mayBlock: boolean;

  constructor({ words, id, mayBlock }: Pick<BackendContext, "words" | "id" | "mayBlock">) {
    this.#words = words;
    this.#holder = id;
    this.#mayBlock = mayBlock;
  }

  /** Takes a mutex, unless its holder keeps it for longer than it should need. */
  tryLock(at: number): boolean {
    for (let spin = 0; spin < SPINS; spin++) {
      if (tryLatchExclusive(this.#words, at, this.#holder)) return true;
    }
    return false;
  }

  /** Takes a mutex, waiting if need be. The caller has nothing that must not be kept across a wait. */
  *lock(at: number): Waiting<void> {
    yield* latch(this.#words, at, at + 1, "exclusive", this.#holder, "BufferMapping");
  }

  /** Takes a mutex. @throws {BufferError} ERR_BUFFER_PANIC: its holder is gone, and this thread must not sleep */
  lockNow(at: number): void {
    for (let round = 0; round < ROUNDS; round++) {
      if (lockMutex(this.#words, at, at + 1, this.#holder, this.#mayBlock)) return;
    }
    throw new BufferError(
      "ERR_BUFFER_PANIC",
      "a lock of the pool stays taken: the thread that has it is gone",
    );
  }

  /** Lets go of a mutex. */
  unlock(at: number): void {
    unlatchExclusive(this.#words, at, at + 1);
  }
}

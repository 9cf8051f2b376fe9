/**
 * The I/O lock of a buffer: its IO_IN_PROGRESS flag. Whoever sets it reads or writes the page, and nobody else does.
 *
 * A backend has the lock from `tryStart` until the I/O that it stages takes it over, or until it ends it itself. The owner
 * word names the backend meanwhile, so that a supervisor can end what a dead thread left; under an I/O the word is 0 and
 * the buffer carries the I/O's wait reference and a pin for it, because any thread may complete that one. All of it is
 * done by compare-exchange: a read of 16 pages takes and gives 16 locks. Who waits sets the low bit of the buffer's
 * sequence word before it looks at the state; who ends an I/O changes the state before it looks at that bit, and counts the
 * word on if it is set. So one of them sees the other, and nobody is woken who does not sleep.
 *
 * After StartBufferIO, WaitIO, TerminateBufferIO and AbortBufferIO of PostgreSQL 18. `buffer` is an index from 0 in all of it.
 */
import type { WaitRef } from "@millrace/aio";

import { REFCOUNT_ONE, STATE } from "./buffer-state.js";
import type { BufferHeaders } from "./headers.js";
import { BACKEND, DESCRIPTOR } from "./layout.js";
import type { Waiting } from "./waiting.js";

/** What trying for the lock came to. */
export const IO_LOCK = {
  /** The caller has it. */
  started: 0,
  /** There is nothing to do: the page is valid already, or not dirty any more. */
  done: 1,
  /** Somebody else has it. */
  busy: 2,
} as const;

/** One of {@link IO_LOCK}. */
export type IoLockOutcome = (typeof IO_LOCK)[keyof typeof IO_LOCK];

/** The bit of a sequence word that says that somebody sleeps on it. */
const SLEEPER = 1;

/** I/O locks as one backend takes them. */
export class IoLocks {
  readonly #headers: BufferHeaders;
  readonly #backend: number;
  readonly #intentAt: number;

  constructor(headers: BufferHeaders, backend: number) {
    this.#headers = headers;
    this.#backend = backend;
    const { layout } = headers;
    this.#intentAt = layout.backendsAt + backend * layout.backendWords + BACKEND.headerIntent;
  }

  /**
   * Takes the lock if nobody has it and there is something to do. The caller has the buffer pinned, and no header lock.
   *
   * @param isInput whether the page is to be read; otherwise it is to be written
   * @param forIo for an I/O that is handed the lock with `handOverToIo`: the buffer is pinned for it in the same step, and
   *   whoever ends it, or gives up before it is staged, says so with `releaseAio`
   */
  tryStart(buffer: number, isInput: boolean, forIo = false): IoLockOutcome {
    const headers = this.#headers;
    const { words } = headers;
    const first = headers.at(buffer);
    const at = first + DESCRIPTOR.state;
    const pin = forIo ? REFCOUNT_ONE : 0;
    words[this.#intentAt] = buffer + 1;
    let seen = words[at] as number;
    for (;;) {
      if ((seen & STATE.locked) !== 0) {
        seen = headers.awaitUnlocked(at);
        continue;
      }
      // A plain load may be old, but then the exchange fails; what ends here without one is looked at again.
      const isBusy = (seen & STATE.ioInProgress) !== 0;
      const isDone = isInput ? (seen & STATE.valid) !== 0 : (seen & STATE.dirty) === 0;
      if (isBusy || isDone) {
        const now = Atomics.load(words, at);
        if (now === seen) {
          words[this.#intentAt] = 0;
          return isBusy ? IO_LOCK.busy : IO_LOCK.done;
        }
        seen = now;
        continue;
      }
      const before = Atomics.compareExchange(words, at, seen, (seen | STATE.ioInProgress) + pin);
      if (before === seen) break;
      seen = before;
    }
    words[first + DESCRIPTOR.ioOwner] = forIo ? -this.#backend - 1 : this.#backend + 1;
    words[this.#intentAt] = 0;
    return IO_LOCK.started;
  }

  /**
   * As `tryStart`, waiting for whoever has the lock.
   *
   * @returns whether the caller has the lock; without it there is nothing to do
   */
  *start(buffer: number, isInput: boolean, forIo = false): Waiting<boolean> {
    for (;;) {
      const outcome = this.tryStart(buffer, isInput, forIo);
      if (outcome !== IO_LOCK.busy) return outcome === IO_LOCK.started;
      yield* this.wait(buffer);
    }
  }

  /** Waits until nobody has the lock. Somebody may have it again by the time the caller runs. */
  *wait(buffer: number): Waiting<void> {
    const headers = this.#headers;
    const { words } = headers;
    const at = headers.layout.ioSequenceAt + buffer;
    for (;;) {
      const state = headers.lock(buffer);
      const isBusy = (state & STATE.ioInProgress) !== 0;
      const ref = isBusy ? headers.io(buffer) : undefined;
      headers.unlock(buffer, state);
      if (!isBusy) return;
      if (ref !== undefined) {
        yield { kind: "io", ref };
        continue;
      }
      const value = Atomics.or(words, at, SLEEPER) | SLEEPER;
      if ((headers.state(buffer) & STATE.ioInProgress) === 0) return;
      yield { kind: "word", at, value, event: "BufferIo" };
    }
  }

  /**
   * Gives the lock back after an attempt that failed before an I/O took it over, and notes the failure.
   *
   * @param forIo as the lock was taken
   * @returns whether the I/O of this buffer before this one had failed too: it may fail for good
   */
  abort(buffer: number, forIo = false): boolean {
    const hadFailed = (this.#headers.state(buffer) & STATE.ioError) !== 0;
    terminateIo(this.#headers, buffer, false, STATE.ioError, forIo);
    return hadFailed;
  }
}

/**
 * Lets an I/O that is being staged take the lock over. It was taken, with a pin, for an I/O. Who sleeps for the lock is
 * woken, to wait for the I/O instead: its issuer may wait for him before he looks for its completion.
 */
export function handOverToIo(headers: BufferHeaders, buffer: number, ref: WaitRef): void {
  headers.setIo(buffer, ref);
  headers.words[headers.at(buffer) + DESCRIPTOR.ioOwner] = 0;
  wakeSleepers(headers, buffer);
}

/**
 * Whether a buffer is under this I/O. Not so where a thread has died while it completed the I/O, after it had ended that
 * buffer's part: then it is nobody's, or already under another one.
 */
export function isUnderIo(headers: BufferHeaders, buffer: number, io: WaitRef): boolean {
  const ref = headers.io(buffer);
  return ref?.handle === io.handle && ref.generation === io.generation;
}

/**
 * Ends an I/O, in whatever thread: gives the lock back and wakes who waits for it.
 *
 * @param clearDirty the page has been written: it is clean unless it was dirtied meanwhile
 * @param setFlags of STATE: `valid` after a read, `ioError` after a failure, 0 after a write
 * @param releaseAio the lock was taken for an I/O: its reference and its pin go too, and who waits for the only pin may
 *   be woken
 */
export function terminateIo(
  headers: BufferHeaders,
  buffer: number,
  clearDirty: boolean,
  setFlags: number,
  releaseAio: boolean,
): void {
  const { words } = headers;
  const first = headers.at(buffer);
  const at = first + DESCRIPTOR.state;
  words[first + DESCRIPTOR.ioOwner] = 0;
  if (releaseAio) headers.clearIo(buffer);
  const pin = releaseAio ? REFCOUNT_ONE : 0;
  let seen = words[at] as number;
  let next: number;
  for (;;) {
    if ((seen & STATE.locked) !== 0) {
      seen = headers.awaitUnlocked(at);
      continue;
    }
    next = (seen & ~(STATE.ioInProgress | STATE.ioError)) - pin;
    if (clearDirty && (seen & STATE.justDirtied) === 0) next &= ~(STATE.dirty | STATE.checkpointNeeded);
    next |= setFlags;
    const before = Atomics.compareExchange(words, at, seen, next);
    if (before === seen) break;
    seen = before;
  }
  wakeSleepers(headers, buffer);
  if (releaseAio && (next & STATE.pinCountWaiter) !== 0) headers.wakePinWaiter(buffer);
}

function wakeSleepers({ words, layout }: BufferHeaders, buffer: number): void {
  const at = layout.ioSequenceAt + buffer;
  if ((Atomics.load(words, at) & SLEEPER) === 0) return;
  // Adding to a word whose low bit is set clears the bit and changes the rest.
  Atomics.add(words, at, SLEEPER);
  Atomics.notify(words, at);
}

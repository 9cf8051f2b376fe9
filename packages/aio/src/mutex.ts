/**
 * A lock in shared memory: one word, which is 0 while the lock is free, and otherwise twice its holder's number, plus one
 * if somebody sleeps until it is free.
 *
 * Taking the lock and saying who has it is one exchange, so that there is no moment at which a thread can die with a lock
 * that nobody can tell is its own. A supervisor breaks the locks of a thread that is gone; what is changed under these
 * locks is therefore always left consistent by the last store of each change. Breaking also passes on a wake-up that
 * the dead thread may have been given and did not live to use: everybody who sleeps looks again.
 *
 * Idea: the three-state futex of U. Drepper, "Futexes Are Tricky"; wakes are sent only if somebody slept.
 */
import { LOCK } from "./layout.js";

const FREE = 0;
const SLEEPERS = 1;
/** Attempts before sleeping. What is done under these locks takes well under a microsecond, waking one ten. */
const SPINS = 100;
/** Attempts of a thread that must not sleep: some hundred microseconds, far more than a living holder that runs needs. */
const SPINS_MAX = 10_000;

/** Takes the lock at `at` if it is free. Holders are numbered from 1. */
export function tryLock(words: Int32Array, at: number, holder: number): boolean {
  return Atomics.compareExchange(words, at + LOCK.state, FREE, holder * 2) === FREE;
}

/** Takes the lock, sleeping while another thread has it. Not for threads that must not block. */
export function lock(words: Int32Array, at: number, holder: number): void {
  for (let spin = 0; spin < SPINS; spin++) {
    if (tryLock(words, at, holder)) return;
  }
  const word = at + LOCK.state;
  for (;;) {
    const seen = Atomics.load(words, word);
    if (seen === FREE) {
      // Others may sleep still, and only the mark makes the next unlock wake one of them.
      if (Atomics.compareExchange(words, word, FREE, holder * 2 + SLEEPERS) === FREE) return;
      continue;
    }
    const marked = seen | SLEEPERS;
    if (seen !== marked && Atomics.compareExchange(words, word, seen, marked) !== seen) continue;
    Atomics.wait(words, word, marked);
  }
}

/**
 * Takes the lock by trying over and over, for a thread that must not sleep. Only for locks that are held across a few
 * words' changes and never across a wait.
 *
 * @returns false if it stays taken: its holder does not run, and perhaps never will again
 */
export function spinLock(words: Int32Array, at: number, holder: number): boolean {
  for (let spin = 0; spin < SPINS_MAX; spin++) {
    if (tryLock(words, at, holder)) return true;
  }
  return false;
}

/** Gives the lock back. */
export function unlock(words: Int32Array, at: number): void {
  if ((Atomics.exchange(words, at + LOCK.state, FREE) & SLEEPERS) !== 0) {
    Atomics.notify(words, at + LOCK.state, 1);
  }
}

/** Whether a holder has the lock. */
export function isLockedBy(words: Int32Array, at: number, holder: number): boolean {
  return Atomics.load(words, at + LOCK.state) >> 1 === holder;
}

/**
 * Takes a lock away from a holder that is gone, and has everybody who sleeps for it look again.
 *
 * @returns whether it had the lock
 */
export function breakLock(words: Int32Array, at: number, holder: number): boolean {
  const word = at + LOCK.state;
  let isBroken = false;
  while (!isBroken && isLockedBy(words, at, holder)) {
    const seen = Atomics.load(words, word);
    isBroken = seen >> 1 === holder && Atomics.compareExchange(words, word, seen, FREE) === seen;
  }
  Atomics.notify(words, word);
  return isBroken;
}

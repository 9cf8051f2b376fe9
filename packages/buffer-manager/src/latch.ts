/**
 * Latches: readers-writer locks of one word in shared memory, and a second word that sleepers watch.
 *
 * The first word counts the readers, or names the writer, so that a supervisor can tell what a dead thread held; its bit 30
 * says that somebody sleeps. Whoever lets the latch go while that bit is set clears it, counts the second word up and wakes
 * everybody, who try again. A sleeper sets the bit by compare-exchange on a word that it has seen taken, and sleeps on the
 * count it read before that: a release in between changes the count, so that no wake-up can be missed. A reader may
 * overtake a sleeping writer, as with PostgreSQL's LWLocks; writers hold pages for microseconds.
 *
 * PostgreSQL's LWLock keeps a queue and hands over one by one; with at most 256 threads of one process, waking all costs less
 * than keeping a queue that survives the death of those in it.
 */
import type { Waiting } from "./waiting.js";
import type { WaitEvent } from "./wait-events.js";

/** The writer's bit; as an int32 the word is negative. */
const EXCLUSIVE: number = 1 << 31;
const SLEEPERS = 1 << 30;
/** Readers, or the writer's number + 1. */
const COUNT_MASK: number = (1 << 20) - 1;

/** How a latch is held. */
export type LatchMode = "shared" | "exclusive";

/** Takes the latch for reading if no writer has it. */
export function tryLatchShared(words: Int32Array, at: number): boolean {
  let seen = Atomics.load(words, at);
  while (seen >= 0) {
    const before = Atomics.compareExchange(words, at, seen, seen + 1);
    if (before === seen) return true;
    seen = before;
  }
  return false;
}

/** Takes the latch for writing if nobody has it. @param holder a number from 0, for {@link latchHolder} */
export function tryLatchExclusive(words: Int32Array, at: number, holder: number): boolean {
  let seen = Atomics.load(words, at);
  while ((seen & ~SLEEPERS) === 0) {
    const before = Atomics.compareExchange(words, at, seen, seen | EXCLUSIVE | (holder + 1));
    if (before === seen) return true;
    seen = before;
  }
  return false;
}

/** Lets go of a latch held for writing. */
export function unlatchExclusive(words: Int32Array, at: number, sequenceAt: number): void {
  if ((Atomics.exchange(words, at, 0) & SLEEPERS) !== 0) wake(words, sequenceAt);
}

/** Lets go of a latch held for reading. */
export function unlatchShared(words: Int32Array, at: number, sequenceAt: number): void {
  let seen = Atomics.load(words, at);
  for (;;) {
    const isLast = (seen & COUNT_MASK) === 1;
    const next = isLast ? 0 : seen - 1;
    const before = Atomics.compareExchange(words, at, seen, next);
    if (before === seen) {
      if (isLast && (seen & SLEEPERS) !== 0) wake(words, sequenceAt);
      return;
    }
    seen = before;
  }
}

function wake(words: Int32Array, sequenceAt: number): void {
  Atomics.add(words, sequenceAt, 1);
  Atomics.notify(words, sequenceAt);
}

/** The number of the writer that has the latch; undefined if none has. */
export function latchHolder(words: Int32Array, at: number): number | undefined {
  const seen = Atomics.load(words, at);
  return seen < 0 ? (seen & COUNT_MASK) - 1 : undefined;
}

/** Readers that have the latch. */
export function latchReaders(words: Int32Array, at: number): number {
  const seen = Atomics.load(words, at);
  return seen < 0 ? 0 : seen & COUNT_MASK;
}

/** Takes the latch, waiting as long as it takes. */
export function* latch(
  words: Int32Array,
  at: number,
  sequenceAt: number,
  mode: LatchMode,
  holder: number,
  event: WaitEvent,
): Waiting<void> {
  for (;;) {
    const value = Atomics.load(words, sequenceAt);
    const isTaken = mode === "shared" ? tryLatchShared(words, at) : tryLatchExclusive(words, at, holder);
    if (isTaken) return;
    if (markSleeper(words, at, mode)) yield { kind: "word", at: sequenceAt, value, event };
  }
}

/**
 * Says that somebody is about to sleep for the latch, on the sequence word that was read before it was tried.
 *
 * @returns false if the latch has been let go of meanwhile, or was changed: try again
 */
export function markSleeper(words: Int32Array, at: number, mode: LatchMode): boolean {
  const seen = Atomics.load(words, at);
  const isFree = mode === "shared" ? seen >= 0 : (seen & ~SLEEPERS) === 0;
  if (isFree) return false;
  return (seen & SLEEPERS) !== 0 || Atomics.compareExchange(words, at, seen, seen | SLEEPERS) === seen;
}

/** Attempts before sleeping. What is done under a mutex takes less than a microsecond, waking a thread twenty. */
const SPINS = 200;
/** Attempts of a thread that must not sleep: some 10 ms, more than a holder that is not running needs to run again. */
const SPINS_MAX = 1_000_000;

/**
 * Takes a latch for writing as a mutex, for what is never kept across a wait.
 *
 * @param mayBlock without it the latch is tried over and over
 * @returns false if it stays taken although this thread must not sleep: its holder does not run
 */
export function lockMutex(
  words: Int32Array,
  at: number,
  sequenceAt: number,
  holder: number,
  mayBlock: boolean,
): boolean {
  const spins = mayBlock ? SPINS : SPINS_MAX;
  for (let spin = 0; spin < spins; spin++) {
    if (tryLatchExclusive(words, at, holder)) return true;
  }
  if (!mayBlock) return false;
  for (;;) {
    const value = Atomics.load(words, sequenceAt);
    if (tryLatchExclusive(words, at, holder)) return true;
    if (markSleeper(words, at, "exclusive")) Atomics.wait(words, sequenceAt, value);
  }
}

/** Takes a latch away from a writer that is gone. @returns whether it had it */
export function breakLatch(words: Int32Array, at: number, sequenceAt: number, holder: number): boolean {
  if (latchHolder(words, at) !== holder) return false;
  unlatchExclusive(words, at, sequenceAt);
  return true;
}

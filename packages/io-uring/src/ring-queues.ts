/**
 * The two queues of a ring as its owner's thread sees them: words of the mapped memory, and how to walk them.
 *
 * The kernel stores the submission head, the completion tail and the flags; this thread stores the submission tail; whoever
 * reaps stores the completion head, this thread or another one through ForeignRing, one at a time by a lock of the
 * caller's. So head and tail are read anew in every call. Filling an entry and reading a completion are plain accesses;
 * what publishes them is one atomic one each. 64-bit values are a low and a high word: BigInt would cost ten times the
 * store.
 *
 * For who has checked what `Ring` would check: nothing is checked here but that there is room, and of a closed ring
 * nothing may be asked but to claim an entry, which there is none.
 */
import type { RING_FACT } from "./native.js";

/** Words of an entry: see the fields in `Ring.prepare`. */
export const ENTRY_WORDS = 16;
/** Words of a completion: userLo, userHi, the result, flags. */
export const COMPLETION_WORDS = 4;
/** The kernel keeps completions that found the queue full; entering it brings them. Or it has deferred work. */
const SQ_FLAGS_ENTER_TO_REAP = 2 | 4;
const NO_WORDS = new Int32Array(0);

/** The queues of one ring. */
export class RingQueues {
  /** The submission entries, ENTRY_WORDS each. */
  entries: Int32Array;
  /** Both queues' bookkeeping, and the completions, COMPLETION_WORDS each at `completionAt`. */
  words: Int32Array;
  /** Entries claimed so far, wrapping as int32; published by `publish`. */
  #tail: number;
  /** Entries of the submission queue; 0 once it is closed. */
  #room: number;
  readonly #sqMask: number;
  readonly #cqMask: number;
  readonly #sqHeadWord: number;
  readonly #sqTailWord: number;
  readonly #sqFlagsWord: number;
  readonly #cqHeadWord: number;
  readonly #cqTailWord: number;
  readonly #cqesWord: number;

  /** @param facts what the kernel said, by {@link RING_FACT} */
  constructor(fact: (name: keyof typeof RING_FACT) => number, rings: ArrayBuffer, sqes: ArrayBuffer) {
    this.#room = fact("entries");
    this.#sqMask = fact("entries") - 1;
    this.#cqMask = fact("cqEntries") - 1;
    this.#sqHeadWord = fact("sqHeadBytes") / 4;
    this.#sqTailWord = fact("sqTailBytes") / 4;
    this.#sqFlagsWord = fact("sqFlagsBytes") / 4;
    this.#cqHeadWord = fact("cqHeadBytes") / 4;
    this.#cqTailWord = fact("cqTailBytes") / 4;
    this.#cqesWord = fact("cqesBytes") / 4;
    this.words = new Int32Array(rings, 0, Math.floor(rings.byteLength / 4));
    this.entries = new Int32Array(sqes);
    this.#tail = this.words[this.#sqTailWord] as number;
  }

  /** Entries claimed and not yet taken by the kernel. */
  get pending(): number {
    return (this.#tail - (this.words[this.#sqHeadWord] as number)) | 0;
  }

  /** Takes the next entry, to be filled before `publish`. @returns its first word in `entries`; -1 if the queue is full */
  claim(): number {
    const tail = this.#tail;
    if (((tail - (this.words[this.#sqHeadWord] as number)) | 0) >= this.#room) return -1;
    this.#tail = (tail + 1) | 0;
    return (tail & this.#sqMask) * ENTRY_WORDS;
  }

  /** Shows the kernel what was claimed. */
  publish(): void {
    Atomics.store(this.words, this.#sqTailWord, this.#tail);
  }

  /** Completions in the queue. */
  get completed(): number {
    return (Atomics.load(this.words, this.#cqTailWord) - this.head) | 0;
  }

  /** Number of the oldest completion in the queue, wrapping as int32. */
  get head(): number {
    return this.words[this.#cqHeadWord] as number;
  }

  /** First word, in `words`, of the completion of this number. */
  completionAt(number: number): number {
    return this.#cqesWord + (number & this.#cqMask) * COMPLETION_WORDS;
  }

  /** Gives the oldest completions back: behind the head the kernel may write. */
  retire(count: number): void {
    Atomics.store(this.words, this.#cqHeadWord, (this.head + count) | 0);
  }

  /** Whether the kernel keeps completions back, and brings them when it is entered for that. */
  get mustEnterToReap(): boolean {
    return ((this.words[this.#sqFlagsWord] as number) & SQ_FLAGS_ENTER_TO_REAP) !== 0;
  }

  /** The memory is gone, or about to go. */
  close(): void {
    this.#room = 0;
    this.words = this.entries = NO_WORDS;
  }
}

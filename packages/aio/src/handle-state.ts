/**
 * The life of a handle: its states, which may follow which, and the one word that holds state and generation.
 *
 * State (4 bits, one of them an alarm) and the low 28 bits of the generation share an int32, so that one store publishes
 * both: a viewer never sees the new generation with the old state, `Atomics.wait` on the word cannot miss a change, and a wait reference is
 * compared in one go. The upper 25 bits of the generation are a word of their own that changes once in 2^28 uses.
 * A generation starts at 1, grows on every return to IDLE, and is a double below 2^53 everywhere outside the words.
 *
 * States, order and meaning are PostgreSQL's (aio_internal.h); it keeps state and generation in two words, which is
 * what leaves its viewers a window in which they disagree.
 */
import assert from "node:assert/strict";

/** In the order in which a handle goes through them. */
export const HANDLE_STATE = {
  idle: 0,
  handedOut: 1,
  defined: 2,
  staged: 3,
  submitted: 4,
  completedIo: 5,
  completedShared: 6,
  completedLocal: 7,
} as const;

/** A handle's state as people read it, in PostgreSQL's spelling. */
export type HandleStateName =
  | "IDLE"
  | "HANDED_OUT"
  | "DEFINED"
  | "STAGED"
  | "SUBMITTED"
  | "COMPLETED_IO"
  | "COMPLETED_SHARED"
  | "COMPLETED_LOCAL";

const NAMES: readonly HandleStateName[] = [
  "IDLE",
  "HANDED_OUT",
  "DEFINED",
  "STAGED",
  "SUBMITTED",
  "COMPLETED_IO",
  "COMPLETED_SHARED",
  "COMPLETED_LOCAL",
];

export const STATE_BITS = 4;
/** The state within its four bits; the fourth is the alarm. */
export const STATE_MASK = 7;
/**
 * Set in every handle's word when the system stops, so that a thread which is just about to sleep on the word, as it read
 * it before, does not: its wake-up would have come too early. The owner's next move may wipe it; that changes the word too.
 */
export const ALARM_BIT = 8;
const GENERATION_LOW_BITS = 32 - STATE_BITS;
const GENERATION_LOW_COUNT = 2 ** GENERATION_LOW_BITS;
assert(NAMES.length === STATE_MASK + 1 && STATE_MASK + ALARM_BIT < 1 << STATE_BITS);

/**
 * For each state, a bit for each state that may follow. The only moves back are to IDLE: a release (HANDED_OUT), the
 * end of a life (COMPLETED_LOCAL), and the recovery of a dead thread's handle that nobody ever submitted (DEFINED and
 * STAGED become COMPLETED_IO with ECANCELED, so that those who wait for it move on).
 */
const NEXT: readonly number[] = [
  1 << HANDLE_STATE.handedOut,
  (1 << HANDLE_STATE.idle) | (1 << HANDLE_STATE.defined),
  (1 << HANDLE_STATE.staged) | (1 << HANDLE_STATE.completedIo),
  (1 << HANDLE_STATE.submitted) | (1 << HANDLE_STATE.completedIo),
  1 << HANDLE_STATE.completedIo,
  1 << HANDLE_STATE.completedShared,
  1 << HANDLE_STATE.completedLocal,
  1 << HANDLE_STATE.idle,
];

/** The same in two words of four states each: with constant states V8 folds a look at a constant number, not at an array. */
const NEXT_LOW: number = packNext(0);
const NEXT_HIGH: number = packNext(4);

function packNext(first: number): number {
  return NEXT.slice(first, first + 4).reduce((word, bits, index) => word | (bits << (index * 8)), 0);
}

/** Whether a handle may go from one state to the other. */
export function isLegalMove(from: number, to: number): boolean {
  return (((from < 4 ? NEXT_LOW : NEXT_HIGH) >>> ((from & 3) * 8 + to)) & 1) === 1;
}

/** A state's name; "STATE_<n>" never occurs unless memory was overwritten. */
export function stateName(state: number): HandleStateName {
  return NAMES[state] ?? assert.fail(`no such handle state: ${state}`);
}

/** The word for a state and a generation. */
export function packStateGeneration(state: number, generation: number): number {
  return ((generation % GENERATION_LOW_COUNT) << STATE_BITS) | state;
}

/** The upper word of a generation. */
export function generationHigh(generation: number): number {
  return Math.floor(generation / GENERATION_LOW_COUNT);
}

/** The generation held by the two words. */
export function unpackGeneration(stateGeneration: number, high: number): number {
  return high * GENERATION_LOW_COUNT + (stateGeneration >>> STATE_BITS);
}

/**
 * How long the owner of a bridge waits before it opens the next one.
 *
 * Every bridge is a term, and every term is an entry in a history that acceptors keep for ever; two bridges that
 * fight over one timeline would also take terms from each other without end. So lives that were too short to do
 * any work double the wait. Pure: the owner counts and keeps the time.
 */
import type { RestartReason } from "./proposer-events.js";
import { withJitter } from "./timers.js";

/** Why a bridge ended: the reasons of a term, an orderly end, and everything that is none of these. */
export type BridgeEndReason = RestartReason | "closed" | "failed";

/** Wait after the first bridge that ended. */
export const RESTART_DELAY_MIN_MS = 1000;
/** Longest wait, however often bridges have ended. */
export const RESTART_DELAY_MAX_MS = 60_000;

/**
 * The wait in milliseconds, ± 20 %.
 *
 * @param shortLives how many bridges in a row, the last one included, ended before they had streamed for a minute
 * @param random a number in [0, 1)
 */
export function restartDelayMs(shortLives: number, random: () => number = Math.random): number {
  const doublings = Math.max(0, Math.min(shortLives - 1, 16));
  return withJitter(Math.min(RESTART_DELAY_MIN_MS * 2 ** doublings, RESTART_DELAY_MAX_MS), random);
}

/** A life that has streamed for this long starts the delays over. */
const LONG_LIFE_MS = 60_000;

/**
 * Counts why bridges ended and says how long to wait before the next one. The owner keeps one over all its bridges and
 * hands it to each (`BridgeOptions.tally`), which enters its own end and shows the counts in its status.
 */
export class RestartTally {
  readonly #counts = new Map<BridgeEndReason, number>();
  #shortLives = 0;

  /** How many bridges ended for each reason; a copy. Reasons that never came up are missing. */
  get counts(): Readonly<Partial<Record<BridgeEndReason, number>>> {
    return Object.fromEntries(this.#counts);
  }

  /** How many bridges in a row, up to the last one, streamed for less than a minute. */
  get shortLives(): number {
    return this.#shortLives;
  }

  /** Enters the end of a bridge that streamed for `streamedMs`; 0 if it never did. */
  record(reason: BridgeEndReason, streamedMs: number): void {
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
    this.#shortLives = streamedMs >= LONG_LIFE_MS ? 0 : this.#shortLives + 1;
  }

  /** The wait in milliseconds before the next bridge, as `restartDelayMs` has it. */
  delayMs(random?: () => number): number {
    return restartDelayMs(this.#shortLives, random);
  }
}

/**
 * How long the owner of a bridge waits before it opens the next one.
 *
 * Every bridge is a term, and every term is an entry in a history that acceptors keep for ever; two bridges that
 * fight over one timeline would also take terms from each other without end. So lives that were too short to do
 * any work double the wait. Pure: the owner counts and keeps the time.
 */
import { withJitter } from "./timers.js";

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

// The wait between two bridges.
import { expect, test } from "vitest";
import { RESTART_DELAY_MAX_MS, restartDelayMs, RestartTally } from "../src/index.js";

// Aim: short lives wait longer and longer, up to a minute. Method: the middle and the edges of the jitter.
test("the wait doubles from one second to a minute", () => {
  const waits = [0, 1, 2, 3, 6, 7, 8, 1000].map((lives) => restartDelayMs(lives, () => 0.5));
  expect(waits).toEqual([1000, 1000, 2000, 4000, 32_000, 60_000, 60_000, 60_000]);
  expect(restartDelayMs(1, () => 0)).toBe(800);
  expect(restartDelayMs(99, () => 0.75)).toBe(1.1 * RESTART_DELAY_MAX_MS);
});

// Aim: reasons are counted over bridges, and a long life starts the delays over. Method: five ends.
test("a tally counts reasons and forgets short lives after a long one", () => {
  const tally = new RestartTally();
  expect(tally.counts).toEqual({});
  tally.record("pg_lost", 0);
  tally.record("pg_lost", 59_999);
  tally.record("divergence", 10);
  expect(tally.delayMs(() => 0.5)).toBe(4000);
  tally.record("pg_lost", 60_000);
  expect(tally.shortLives).toBe(0);
  tally.record("higher_term", 1);
  expect(tally.delayMs(() => 0.5)).toBe(1000);
  expect(tally.counts).toEqual({ pg_lost: 3, divergence: 1, higher_term: 1 });
});

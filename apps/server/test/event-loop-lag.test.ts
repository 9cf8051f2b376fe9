import { expect, test } from "vitest";

import type { Clock } from "@millrace/wal-acceptor";

import { EventLoopLag, LAG_INTERVAL_MS } from "../src/http/event-loop-lag.js";

// Aim: the lateness is counted, and nothing runs on after the end. Method: a clock whose one timer is fired by hand,
// in time, late, and after a step back that a clock of whole milliseconds may show.
test("the lateness of the timer is what is counted", () => {
  let nowMs = 0;
  let due: { readonly delayMs: number; readonly callback: () => void } | undefined;
  const clock: Clock = {
    wallMs: () => nowMs,
    monotonicMs: () => nowMs,
    setTimer(delayMs, callback) {
      due = { delayMs, callback };
      return { cancel: () => (due = undefined) };
    },
  };
  const fire = (afterMs: number): void => {
    nowMs += afterMs;
    due?.callback();
  };
  const lag = new EventLoopLag(clock);
  expect(due?.delayMs).toBe(LAG_INTERVAL_MS);
  fire(LAG_INTERVAL_MS);
  fire(LAG_INTERVAL_MS + 400);
  fire(LAG_INTERVAL_MS - 0.5);
  const [sample] = lag.metric().samples;
  expect(sample).toMatchObject({ count: 3, sum: 0.4 });
  expect(sample?.cumulativeCounts.at(0)).toBe(2);
  lag[Symbol.dispose]();
  expect(due).toBeUndefined();
});

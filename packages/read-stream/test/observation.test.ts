/**
 * What can be learnt of a stream without taking part: counters, and reports of streams that were forgotten.
 */
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { setImmediate as turn } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expect, test } from "vitest";
import { STREAM_CHANNEL } from "../src/diagnostics.js";
import type { StreamEvent } from "../src/trace.js";
import { ReadStream } from "../src/read-stream.js";
import { blocksFrom, calls, FULL_SCAN, listed, observe, SCAN } from "./calls.js";
import { ModelPool, RELATION } from "./model-pool.js";

test("the counters add up to what was returned and read", () => {
  const observed = observe(blocksFrom(0, 100), { flags: FULL_SCAN, statistics: true });
  const depths: number[] = [];
  const { pool, stream } = observed;
  expect(stream.statistics).toMatchObject({ returned: 0, reads: 0, depthCapacity: 94 });
  for (;;) {
    const before = stream.info.pinned;
    const buffer = stream.next();
    if (buffer === 0) break;
    // The first call pins before it returns.
    depths.push(before === 0 ? 16 : before);
    pool.release(buffer);
  }
  expect(stream.statistics).toEqual({
    returned: 100,
    depthSum: depths.reduce((sum, depth) => sum + depth, 0),
    depthMax: Math.max(...depths),
    depthCapacity: 94,
    reads: 7,
    blocksRead: 100,
    // In progress once each had started: the first alone, and so on as the events have it.
    inProgressSum: 1 + 1 + 2 + 2 + 3 + 4 + 4,
    waits: 7,
  });
});

test("the fast path counts like the rest, and buffers thrown away are not counted", () => {
  const observed = observe(blocksFrom(0, 100), { statistics: true }, { isCached: () => true });
  calls(observed, 50);
  observed.stream.reset();
  expect(observed.stream.statistics).toMatchObject({
    returned: 50,
    depthSum: 50,
    depthMax: 1,
    reads: 0,
    waits: 0,
  });
  expect(observe([]).stream.statistics).toBeUndefined();
});

test("the trace tells what is returned, in order and in time", () => {
  const events: StreamEvent[] = [];
  const observed = observe(
    blocksFrom(0, 20),
    { trace: (event) => events.push(event) },
    { isCached: (block) => block > 2 },
  );
  calls(observed);
  const returned = events.filter((event) => event.t === "return").map((event) => event.block);
  expect(returned).toEqual(blocksFrom(0, 20));
  const hits = events.filter((event) => event.t === "hit").map((event) => event.block);
  expect(hits).toEqual(blocksFrom(3, 20));
  // On the fast path a block is pinned before the one before it is returned.
  expect(events.findIndex((event) => event.t === "hit" && event.block === 15)).toBeLessThan(
    events.findIndex((event) => event.t === "return" && event.block === 14),
  );
});

/** Begins a stream, takes one buffer, and forgets the stream. */
function forget(pool: ModelPool, ends: boolean): void {
  const stream = ReadStream.begin(pool, { relation: RELATION, flags: SCAN, next: listed(blocksFrom(0, 50)) });
  pool.release(stream.next());
  if (ends) stream.end();
}

// Aim: a stream forgotten with pins is reported, and not touched; one that was ended is not reported. Method: the collector
// is run by hand; both streams were registered before it ran, so that the report of the first ends the wait for both.
test("a forgotten stream is reported when it is collected", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const reports: unknown[] = [];
  const { promise, resolve } = withResolvers();
  const listener = (message: unknown): void => {
    reports.push(message);
    resolve();
  };
  subscribe(STREAM_CHANNEL, listener);
  try {
    const pool = new ModelPool();
    forget(new ModelPool(), true);
    forget(pool, false);
    await turn();
    collect();
    await promise;
    expect(reports).toEqual([{ type: "leaked", pinned: 2, inProgress: 1 }]);
    expect(pool.pinsHeld).toBe(2);
  } finally {
    unsubscribe(STREAM_CHANNEL, listener);
  }
});

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

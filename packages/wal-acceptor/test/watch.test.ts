import { expect, test } from "vitest";

import { Watch } from "../src/watch.js";

// Aim: a reader that was away sees the newest value and misses only what was superseded. Method: two sets between
// two waits.
test("a waiter is woken by a change and sees the newest value", async () => {
  const watch = new Watch(1);
  const seen = watch.version;
  const waiting = watch.changed(seen);
  watch.set(2);
  watch.set(3);
  expect(await waiting).toBeGreaterThan(seen);
  expect(watch.value).toBe(3);
  expect(await watch.changed(seen)).toBe(watch.version); // already different: no wait
});

// Aim: equal values wake nobody. Method: the cell's own equality, then a real change.
test("a value equal to the current one is no change", async () => {
  const watch = new Watch({ lsn: 1n }, (a, b) => a.lsn === b.lsn);
  const waiting = watch.changed(watch.version);
  watch.set({ lsn: 1n });
  expect(watch.version).toBe(0);
  expect(watch.waiting).toBe(1);
  watch.set({ lsn: 2n });
  expect(await waiting).toBe(1);
});

// Aim: no wait outlives its signal or the cell. Method: abort, close; afterwards no waiter and no listener is left.
test("waits end by abort and by close", async () => {
  const watch = new Watch(0);
  const abort = new AbortController();
  const aborted = watch.changed(0, abort.signal);
  const closed = watch.changed(0);
  abort.abort();
  expect(await aborted).toBe(0);
  watch.close();
  expect(await closed).toBe(0);
  expect(watch.waiting).toBe(0);
  watch.set(5);
  expect(watch.value).toBe(0);
  expect(await watch.changed(0)).toBe(0);
  watch.close();
});

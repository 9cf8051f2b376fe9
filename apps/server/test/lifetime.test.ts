/**
 * When a process has to end: what is neither a signal nor a parent.
 */
import { afterEach, beforeEach, expect, test } from "vitest";

import { installLifetime } from "../src/parts/lifetime.js";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const before = new Map<NodeJS.Signals, NodeJS.SignalsListener[]>();

beforeEach(() => {
  for (const signal of SIGNALS) before.set(signal, process.listeners(signal));
});

afterEach(() => {
  for (const signal of SIGNALS) {
    for (const listener of process.listeners(signal)) {
      if (before.get(signal)?.includes(listener) !== true) process.off(signal, listener);
    }
  }
});

function broken(code: string): Error {
  return Object.assign(new Error(`write ${code}`), { code });
}

// Aim: a broken output ends nothing by an exception. Method: the errors that Node reports on the two streams; only the
// reader of standard output that has gone is a reason to end.
test("without a reader of its output a process is asked to end", async () => {
  const lifetime = installLifetime();
  process.stderr.emit("error", broken("EPIPE"));
  process.stdout.emit("error", broken("ENOSPC"));
  expect(lifetime.signal.aborted).toBe(false);
  process.stdout.emit("error", broken("EPIPE"));
  expect(await lifetime.stopped).toBe("nobody reads the output");
});

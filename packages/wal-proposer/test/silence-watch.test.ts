// A PostgreSQL that has vanished without a word is noticed, on each kind of connection; on a clock that stands.
import { expect, test } from "vitest";
import type { ProposerError } from "../src/index.js";
import { SilenceWatch } from "../src/silence-watch.js";
import { START, world } from "./harness/bridge-world.js";
import { FakeClock, settle } from "./harness/fake-clock.js";

// Aim: half of the limit asks, the whole limit ends, a message begins anew, and whoever does not read measures nothing.
// Method: each in turn, looking at the calls.
test("silence is asked about first, and ends at the limit", async () => {
  const clock = new FakeClock();
  const calls: string[] = [];
  const watch = new SilenceWatch({
    limitMs: 1000,
    clock,
    ask: () => calls.push("ask"),
    silent: (error: ProposerError) => calls.push(error.code),
  });
  await clock.advance(400);
  watch.heard();
  await clock.advance(499);
  expect(calls).toEqual([]);
  await clock.advance(1);
  expect(calls).toEqual(["ask"]);
  watch.heard(); // the answer
  await clock.advance(900);
  expect(calls).toEqual(["ask", "ask"]);
  watch.hold();
  await clock.advance(10_000);
  watch.resume();
  await clock.advance(999);
  expect(calls).toEqual(["ask", "ask", "ask"]);
  await clock.advance(1);
  expect(calls).toEqual(["ask", "ask", "ask", "ERR_BRIDGE_POSTGRES"]);
  expect(clock.pendingTimers).toBe(0);
  watch.hold();
  watch.close();
  watch.resume();
  expect(clock.pendingTimers).toBe(0);
});

// Aim: an idle PostgreSQL that lives is kept, one that has vanished costs the connections and not the term. Method: an hour
// of idleness; then nothing is answered any more, then all is well again.
test("a PostgreSQL that answers nothing is connected to anew", async () => {
  const w = world();
  const bridge = await w.open({ postgresSilenceMs: 20_000 });
  await bridge.streaming;
  await w.clock.advance(3_600_000);
  const { stream, slotStream } = w.postgres;
  expect(bridge.status()).toMatchObject({ state: "streaming", reconnects: 0 });
  expect(stream?.statuses.some(({ replyRequested }) => replyRequested)).toBe(true);

  w.postgres.isMute = true;
  await w.clock.advance(21_000);
  expect(bridge.status().state).toBe("reconnecting");
  await stream?.ended;
  await slotStream?.ended;
  w.postgres.isMute = false;
  await w.clock.advance(30_000);
  expect(w.postgres.stream).not.toBe(stream);
  expect(bridge.status()).toMatchObject({ state: "streaming", term: 2n });
  await bridge.close({ immediate: true });
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: a host that vanishes between two questions does not hold the start up for ever. Method: it takes the connection and
// answers no query.
test("a PostgreSQL that takes questions and answers none is given up", async () => {
  const w = world();
  w.postgres.isMute = true;
  const opening = w.open({ postgresSilenceMs: 20_000, slotTimeoutMs: 1000 }).catch((error: unknown) => error);
  await settle();
  await w.clock.advance(22_000);
  expect(await opening).toMatchObject({ code: "ERR_BRIDGE_POSTGRES", message: /no answer within 21000 ms/ });
  expect(w.clock.pendingTimers).toBe(0);
  expect(w.postgres.flushLsn).toBe(START);
});

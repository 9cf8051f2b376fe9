// What a bridge does when PostgreSQL is not what it should be, on sockets in memory and a clock that stands.
import type { Duplex } from "node:stream";
import { INVALID_LSN } from "@millrace/lsn";
import { expect, test } from "vitest";
import { PositionReporter } from "../src/index.js";
import { SHUTDOWN_GAP_MS, SHUTDOWN_REQUESTS } from "../src/shutdown-signs.js";
import { StatusSender } from "../src/status-sender.js";
import { FakeClock, settle } from "./harness/fake-clock.js";
import { at, START, world } from "./harness/bridge-world.js";
import type { World } from "./harness/bridge-world.js";
import type { FakePostgres } from "./harness/fake-postgres.js";
import { socketPair } from "./harness/socket-pair.js";
import { TestAcceptor } from "./harness/test-acceptor.js";

// Aim: a stream with a hole is not WAL. Method: the first message starts eight bytes late.
test("a gap in PostgreSQL's stream ends the bridge as a divergence", async () => {
  const w = world();
  const bridge = await w.open();
  await bridge.streaming;
  await settle();
  w.postgres.sendWal(at(8), new Uint8Array(100));
  const end = await bridge.closed;
  expect(end.reason).toBe("divergence");
  expect(end.error).toMatchObject({ code: "ERR_BRIDGE_WAL_GAP" });
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: what is not WAL is never acknowledged to PostgreSQL. Method: zeros where a page header belongs.
test("bytes that the decoder refuses end the bridge as a divergence", async () => {
  const w = world();
  const bridge = await w.open();
  await bridge.streaming;
  await settle();
  w.postgres.sendWal(START, new Uint8Array(8192));
  const end = await bridge.closed;
  expect(end.reason).toBe("divergence");
  expect(end.error).toMatchObject({ code: "ERR_BRIDGE_WAL_INVALID" });
  await settle();
  for (const { flushLsn } of w.postgres.stream?.statuses ?? []) expect(flushLsn <= START).toBe(true);
});

// Aim: the slot of a bridge that has just died is waited for, another bridge's is not. Method: the slot is in use
// twice, or for longer than the limit.
test("a slot in use is tried again until the limit", async () => {
  const w = world();
  const busy = { code: "55006", message: "slot is active for PID 1" };
  w.postgres.slotErrors.push(busy, busy);
  const opening = w.open({ slotTimeoutMs: 1000 });
  await settle();
  await w.clock.advance(500);
  const bridge = await opening;
  await bridge.close({ immediate: true });

  w.postgres.slotErrors.push(...Array.from({ length: 100 }, () => busy));
  const outcome = w.open({ slotTimeoutMs: 1000 }).catch((error: unknown) => error);
  await settle();
  await w.clock.advance(1500);
  expect(await outcome).toMatchObject({ code: "ERR_BRIDGE_SLOT_ACTIVE" });
});

// Aim: a slot that PostgreSQL has invalidated is replaced. Method: it says so once.
test("an invalidated slot is dropped and made anew", async () => {
  const w = world();
  w.postgres.slot = { restartLsn: START };
  w.postgres.slotErrors.push({ code: "55000", message: "cannot read from replication slot" });
  const opening = w.open();
  await settle();
  await w.clock.advance(500);
  const bridge = await opening;
  await bridge.streaming;
  expect(w.postgres.queries.filter((query) => /^(DROP|CREATE)_/.test(query))).toEqual([
    'DROP_REPLICATION_SLOT "walbridge_retain"',
    'CREATE_REPLICATION_SLOT "walbridge_retain" PHYSICAL (RESERVE_WAL)',
  ]);
  await bridge.close({ immediate: true });
});

// Aim: a slot that keeps nothing is never streamed from: PostgreSQL would not refuse. Method: a slot without a restart
// position, which somebody else still uses at first, and then does not.
test("a slot that reserves nothing is dropped and made anew", async () => {
  const w = world();
  w.postgres.slot = { restartLsn: undefined };
  w.postgres.dropErrors.push({ code: "55006", message: "slot is active for PID 1" });
  const opening = w.open();
  await settle();
  await w.clock.advance(500);
  const bridge = await opening;
  expect(w.postgres.slot).toEqual({ restartLsn: START });
  expect(w.postgres.queries.filter((query) => query.includes("walbridge_retain"))).toEqual([
    "READ_REPLICATION_SLOT walbridge_retain",
    'DROP_REPLICATION_SLOT "walbridge_retain"',
    "READ_REPLICATION_SLOT walbridge_retain",
    'DROP_REPLICATION_SLOT "walbridge_retain"',
    'CREATE_REPLICATION_SLOT "walbridge_retain" PHYSICAL (RESERVE_WAL)',
    "READ_REPLICATION_SLOT walbridge_retain",
    'START_REPLICATION SLOT "walbridge_retain" PHYSICAL 0/3000000 TIMELINE 1',
  ]);
  await bridge.close({ immediate: true });
});

// Aim: taking the slot ends at its deadline, whatever is wrong with the slot. Method: it is invalidated whenever it is to
// be used; or it reserves nothing and stays in use.
test("a slot that cannot be made usable is given up at the limit", async () => {
  const invalidated = world();
  const lost = { code: "55000", message: "cannot read from replication slot" };
  invalidated.postgres.slotErrors.push(...Array.from({ length: 100 }, () => lost));
  const first = invalidated.open({ slotTimeoutMs: 1000 }).catch((error: unknown) => error);
  await settle();
  await invalidated.clock.advance(1500);
  expect(await first).toMatchObject({ code: "ERR_BRIDGE_POSTGRES" });

  const inUse = world();
  inUse.postgres.slot = { restartLsn: undefined };
  const busy = { code: "55006", message: "slot is active for PID 1" };
  inUse.postgres.dropErrors.push(...Array.from({ length: 100 }, () => busy));
  const second = inUse.open({ slotTimeoutMs: 1000 }).catch((error: unknown) => error);
  await settle();
  await inUse.clock.advance(1500);
  expect(await second).toMatchObject({ code: "ERR_BRIDGE_SLOT_ACTIVE" });
});

// Aim: a walsender that answers every reply with a request does not make a storm. Method: request, and request again
// at each reply, for one second of the clock.
test("requested replies are limited to one in 50 ms", async () => {
  const w = world();
  const bridge = await w.open();
  await bridge.streaming;
  await settle();
  const { stream } = w.postgres;
  const before = stream?.statuses.length ?? 0;
  for (let i = 0; i < 200; i += 1) {
    w.postgres.requestReply(stream);
    await settle();
    await w.clock.advance(5);
  }
  const replies = (stream?.statuses.length ?? 0) - before;
  expect(replies).toBeGreaterThanOrEqual(19);
  expect(replies).toBeLessThanOrEqual(21);
  await bridge.close({ immediate: true });
});

/** Lets the slot's walsender ask and be answered, `times` in a row, as one does that is shutting down. */
async function askAndBeAnswered(w: World, times: number): Promise<void> {
  for (let i = 0; i < times; i += 1) {
    w.postgres.requestReply(w.postgres.slotStream);
    await settle();
    await w.clock.advance(50);
  }
}

// Aim: a PostgreSQL that shuts down is not held up by a bridge that waits for acceptors. Method: the slot's walsender
// answers each reply with a request; the bridge lets it go, and says that PostgreSQL is lost.
test("a shutdown before streaming ends the bridge", async () => {
  const w = world();
  await Promise.all(w.acceptors.map((acceptor) => acceptor.stop()));
  const bridge = await w.open();
  await settle();
  expect(bridge.status().state).toBe("bootstrapping");
  const { slotStream } = w.postgres;
  await askAndBeAnswered(w, SHUTDOWN_REQUESTS);
  expect(bridge.status().state).toBe("bootstrapping");
  expect(slotStream?.statuses.length).toBe(SHUTDOWN_REQUESTS);
  await askAndBeAnswered(w, 1);
  await slotStream?.ended;
  expect(await bridge.closed).toMatchObject({ reason: "pg_lost", error: { code: "ERR_BRIDGE_POSTGRES" } });
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: nothing else is taken for a shutdown. Method: requests as they come from a slow standby's walsender, with time in
// between, without a reply in between, or with WAL in between; and a storm while streaming, when the slot is needed.
test("a slot is not let go for ordinary requests, nor while streaming", async () => {
  const w = world();
  await Promise.all(w.acceptors.map((acceptor) => acceptor.stop()));
  const waiting = await w.open();
  await settle();
  for (let i = 0; i < 3 * SHUTDOWN_REQUESTS; i += 1) {
    await askAndBeAnswered(w, 1);
    await w.clock.advance(SHUTDOWN_GAP_MS);
  }
  for (let i = 0; i < 3 * SHUTDOWN_REQUESTS; i += 1) w.postgres.requestReply(w.postgres.slotStream);
  await settle();
  for (let i = 0; i < 3; i += 1) {
    await askAndBeAnswered(w, SHUTDOWN_REQUESTS - 1);
    w.postgres.sendSlotWal(at(8 * i), new Uint8Array(8));
    await settle();
  }
  expect(waiting.status().state).toBe("bootstrapping");
  await waiting.close({ immediate: true });

  const busy = world();
  const bridge = await busy.open();
  await bridge.streaming;
  const { slotStream } = busy.postgres;
  await askAndBeAnswered(busy, 3 * SHUTDOWN_REQUESTS);
  expect(bridge.status()).toMatchObject({ state: "streaming", reconnects: 0 });
  expect(busy.postgres.slotStream).toBe(slotStream);
  await bridge.close({ immediate: true });
});

// Aim: a short wal_sender_timeout is served, on both connections. Method: count unasked reports.
test("reports come three times in a wal_sender_timeout", async () => {
  const w = world();
  w.postgres.settings.set("wal_sender_timeout", "3s");
  const bridge = await w.open();
  await bridge.streaming;
  await settle();
  const count = (): number[] =>
    [w.postgres.stream, w.postgres.slotStream].map((stream) => stream?.statuses.length ?? 0);
  const before = count();
  await w.clock.advance(10_000);
  for (const [index, reports] of count().entries()) {
    expect(reports - (before[index] ?? 0)).toBeGreaterThanOrEqual(9);
    expect(reports - (before[index] ?? 0)).toBeLessThanOrEqual(11);
  }
  await bridge.close({ immediate: true });
});

// Aim: an acceptor that PostgreSQL can no longer serve does not stop the others. Method: one lags below the oldest WAL.
test("streaming starts at the lowest position that PostgreSQL still has", async () => {
  const w = world();
  const [first, second, third] = w.acceptors;
  for (const acceptor of [first, second]) acceptor?.preload(new Uint8Array(4096));
  third?.preload(new Uint8Array(1024));
  w.postgres.flushLsn = at(8192);
  w.postgres.oldestLsn = at(4096);
  const bridge = await w.open();
  await settle();
  // The stream that starts at the end of what acceptors have waits for a first message.
  w.postgres.requestReply(w.postgres.stream);
  await bridge.streaming;
  const starts = w.postgres.queries.filter((query) => query.startsWith("START_REPLICATION PHYSICAL"));
  expect(starts.slice(0, 2)).toEqual([
    "START_REPLICATION PHYSICAL 0/3000400 TIMELINE 1",
    "START_REPLICATION PHYSICAL 0/3001000 TIMELINE 1",
  ]);
  expect(bridge.status()).toMatchObject({ termStartLsn: at(4096), divergence: "unchecked" });
  await bridge.close({ immediate: true });
});

// Aim: if PostgreSQL has lost even the start of the term, there is nothing to stream. Method: its oldest WAL is later.
test("a PostgreSQL without the term's start is refused", async () => {
  const w = world();
  w.postgres.oldestLsn = at(16_384);
  w.postgres.flushLsn = at(32_768);
  const bridge = await w.open();
  expect((await bridge.closed).error).toMatchObject({ code: "ERR_BRIDGE_WAL_REMOVED" });
});

// Aim: what cannot be bridged is refused at the door. Method: one wrong property at a time.
test("unsuitable servers are refused with their own codes", async () => {
  const cases: [string, (postgres: FakePostgres) => void][] = [
    ["ERR_BRIDGE_VERSION", (postgres) => (postgres.serverVersion = "14.9")],
    ["ERR_BRIDGE_VERSION", (postgres) => (postgres.serverVersion = "19devel")],
    ["ERR_BRIDGE_TIMELINE_ID", (postgres) => (postgres.timelineId = 2)], // no history file
    [
      "ERR_BRIDGE_TIMELINE_ID",
      (postgres) => {
        postgres.timelineId = 2;
        postgres.history = "2\t0/3000000\tits own ancestor\n";
      },
    ],
    [
      "ERR_BRIDGE_TIMELINE_ID", // and no way to tell the acceptors
      (postgres) => {
        postgres.timelineId = 2;
        postgres.history = "1\t0/3000000\tno recovery target specified\n";
      },
    ],
    ["ERR_BRIDGE_SETTING", (postgres) => postgres.settings.set("wal_segment_size", "17MB")],
    ["ERR_BRIDGE_SETTING", (postgres) => postgres.settings.set("wal_segment_size", "much")],
    ["ERR_BRIDGE_SETTING", (postgres) => postgres.settings.set("synchronous_standby_names", "ANY (")],
    [
      "ERR_BRIDGE_POSTGRES",
      (postgres) => postgres.slotErrors.push({ code: "42501", message: "no permission" }),
    ],
  ];
  for (const [code, spoil] of cases) {
    const w = world();
    spoil(w.postgres);
    await expect(w.open()).rejects.toMatchObject({ code });
    expect(w.clock.pendingTimers).toBe(0);
  }
});

// Aim: a standby is no primary, and a bootstrap finds that out before it switches a segment. Method: no acceptor has
// the timeline, PostgreSQL is in recovery; the same without node ids.
test("a bootstrap needs a primary and the acceptors' node ids", async () => {
  const bare = [new TestAcceptor(1n)];
  const connectSocket = (): Duplex => {
    const [ours, theirs] = socketPair();
    void bare[0]?.accept(theirs);
    return ours;
  };
  const w = world();
  w.postgres.inRecovery = true;
  const standby = await w.open({ acceptors: [{ host: "memory", port: 0, nodeId: 1n }], connectSocket });
  expect((await standby.closed).error).toMatchObject({ code: "ERR_BRIDGE_STANDBY" });
  const nameless = await w.open({ acceptors: [{ host: "memory", port: 0 }], connectSocket });
  expect((await nameless.closed).error).toMatchObject({ code: "ERR_BRIDGE_NODE_ID" });
  expect(w.postgres.queries.some((query) => query.includes("pg_switch_wal"))).toBe(false);
});

// Aim: closing waits for the quorum only so long, and twice is once. Method: an acceptor never acknowledges.
test("closing is bounded and may be repeated", async () => {
  const w = world();
  const bridge = await w.open({ closeTimeoutMs: 3000 });
  await bridge.streaming;
  await settle();
  const closing = bridge.close();
  const again = bridge.close();
  for (let i = 0; i < 10; i += 1) await w.clock.advance(1000);
  await Promise.all([closing, again]);
  expect(await bridge.closed).toMatchObject({ reason: "closed" });
  expect(bridge.status().state).toBe("ended");
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: a report above the truth never reaches the socket. Method: a reporter that believes too much, a guard that
// knows better.
test("an overshoot is stopped in front of the socket", () => {
  const clock = new FakeClock();
  const reporter = new PositionReporter({ startLsn: at(0), floorLsn: at(0), nowMs: clock.monotonicMs() });
  const failures: unknown[] = [];
  let sent = 0;
  const sender = new StatusSender({
    reporter,
    writer: {
      send: () => {
        sent += 1;
        return undefined;
      },
      done: () => undefined,
      fail: () => undefined,
      queuedBytes: 0,
    },
    clock,
    receivedLsn: () => at(100),
    committedLsn: () => at(50),
    failed: (error) => failures.push(error),
  });
  reporter.received(at(100));
  reporter.committed(at(100));
  sender.finish();
  expect(sent).toBe(0);
  expect(failures).toMatchObject([{ code: "ERR_BRIDGE_OVERREPORT" }]);
  expect(sender.sentLsn).toBe(INVALID_LSN);
  expect(clock.pendingTimers).toBe(0);
});

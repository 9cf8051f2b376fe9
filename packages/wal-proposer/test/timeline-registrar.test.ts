// Acceptors are told of PostgreSQL's timelines, and tell of other promotions; on a clock that stands.
import { formatLsn, INVALID_LSN } from "@millrace/lsn";
import { expect, test } from "vitest";
import { ProposerError } from "../src/index.js";
import type { PgTimeline, PgTimelineRegistry } from "../src/index.js";
import { at, START, world } from "./harness/bridge-world.js";
import type { World } from "./harness/bridge-world.js";
import { settle } from "./harness/fake-clock.js";

const FIRST: PgTimeline = { timelineId: 1, beginLsn: INVALID_LSN, parentId: undefined, history: "" };

function second(bytes: number): PgTimeline {
  const history = `1\t${formatLsn(at(bytes))}\tno recovery target specified\n`;
  return { timelineId: 2, beginLsn: at(bytes), parentId: 1, history };
}

/** What acceptors keep of timelines, by port; those in `silent` do not answer. */
class Registry implements PgTimelineRegistry {
  readonly known: PgTimeline[][] = [[FIRST], [FIRST], [FIRST]];
  readonly silent = new Set<number>();
  /** What happened, for the order. */
  readonly calls: string[] = [];

  async list({ port }: { readonly port: number }): Promise<readonly PgTimeline[]> {
    if (this.silent.has(port)) throw new Error("connection refused");
    this.calls.push(`list ${port}`);
    return this.known[port] ?? [];
  }

  async register({ port }: { readonly port: number }, timeline: PgTimeline): Promise<void> {
    if (this.silent.has(port)) throw new Error("connection refused");
    this.calls.push(`register ${port} ${timeline.timelineId}`);
    const known = this.known[port] ?? [];
    const same = known.find(({ timelineId }) => timelineId === timeline.timelineId);
    if (same !== undefined && same.beginLsn !== timeline.beginLsn) {
      throw new ProposerError("ERR_BRIDGE_TIMELINE_CONFLICT", "409");
    }
    if (same === undefined) known.push(timeline);
  }
}

/** A PostgreSQL that was promoted where the acceptors' log of `bytes` ends. */
function promoted(bytes: number): World {
  const w = world();
  for (const acceptor of w.acceptors) if (bytes > 0) acceptor.preload(new Uint8Array(bytes));
  w.postgres.timelineId = 2;
  w.postgres.history = second(bytes).history;
  w.postgres.flushLsn = at(bytes);
  return w;
}

// Aim: whoever is there knows the timeline before a byte of it comes, the others as soon as they come. Method: one
// acceptor is away and comes back; its management side answers later still.
test("timelines are registered before streaming, and on latecomers when they connect", async () => {
  const w = promoted(0);
  const registry = new Registry();
  const [, , third] = w.acceptors;
  await third?.stop();
  registry.silent.add(2);
  const bridge = await w.open({ pgTimelines: registry });
  await bridge.streaming;
  expect(registry.known.map((known) => known.length)).toEqual([2, 2, 1]);
  expect(registry.known[0]?.[1]).toEqual(second(0));
  expect(bridge.status()).toMatchObject({ pgTimelineId: 2, state: "streaming" });
  const streams = w.postgres.queries.filter((query) => query.startsWith("START_REPLICATION"));
  expect(streams.every((query) => query.endsWith("TIMELINE 2"))).toBe(true);

  await w.clock.advance(20_000);
  const calls = registry.calls.length;
  await third?.restart();
  await w.clock.advance(3000);
  expect(third?.received).toContain("elected");
  expect(bridge.status()).toMatchObject({
    divergence: "nothing",
    acceptors: [{ voted: true }, { voted: true }, {}],
  });
  expect(registry.calls.length).toBe(calls); // it still does not answer
  registry.silent.delete(2);
  await w.clock.advance(2000);
  expect(registry.known[2]?.[1]).toEqual(second(0));
  await bridge.close({ immediate: true });
  await third?.stop();
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: no WAL is sent and no term won as long as no majority was asked. Method: two of three do not answer.
test("a bridge waits for a majority that tells of its timelines", async () => {
  const w = promoted(0);
  const registry = new Registry();
  registry.silent.add(1).add(2);
  const bridge = await w.open({ pgTimelines: registry });
  await settle();
  await w.clock.advance(5000);
  expect(bridge.status()).toMatchObject({ state: "bootstrapping", term: 0n });
  registry.silent.delete(1);
  await w.clock.advance(2000);
  expect(bridge.status().state).toBe("streaming");
  await bridge.close({ immediate: true });
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: the bridge of a primary that was replaced does not even ask for a vote. Method: one acceptor knows a timeline that
// this PostgreSQL never had, or had elsewhere.
test("another promotion ends the bridge before its election", async () => {
  const replaced = world();
  const elsewhere = promoted(0);
  for (const w of [replaced, elsewhere]) {
    const registry = new Registry();
    registry.known[1]?.push(second(8));
    const bridge = await w.open({ pgTimelines: registry });
    const end = await bridge.closed;
    expect(end).toMatchObject({ reason: "divergence", error: { code: "ERR_BRIDGE_TIMELINE_CONFLICT" } });
    expect(end.detail).toMatch(/memory:1 knows .*timeline 2.*pg_rewind/);
    expect(w.acceptors.map(({ term }) => term)).toEqual([1n, 1n, 1n]);
    expect(registry.calls.filter((call) => call.startsWith("register"))).toEqual([]);
    expect(w.clock.pendingTimers).toBe(0);
  }
});

// Aim: that an acceptor refuses a registration is final, also while streaming. Method: it learns of another timeline
// between the question and the registration.
test("an acceptor that comes late and contradicts ends the bridge", async () => {
  const w = promoted(0);
  const registry = new Registry();
  registry.silent.add(2);
  const bridge = await w.open({ pgTimelines: registry });
  await bridge.streaming;
  registry.known[2]?.push(second(16));
  registry.silent.delete(2);
  await w.clock.advance(3000);
  expect(await bridge.closed).toMatchObject({ error: { code: "ERR_BRIDGE_TIMELINE_CONFLICT" } });
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: a server that was promoted before it had all is refused, and nobody is told of its timeline. Method: acceptors
// have more of timeline 1 than it had when it left that.
test("a promotion below the end of the acceptors' log is refused", async () => {
  const w = promoted(0);
  for (const acceptor of w.acceptors) acceptor.preload(new Uint8Array(4096));
  w.postgres.history = second(100).history;
  w.postgres.flushLsn = at(8192);
  const registry = new Registry();
  const bridge = await w.open({ pgTimelines: registry });
  const end = await bridge.closed;
  expect(end).toMatchObject({ reason: "divergence", error: { code: "ERR_BRIDGE_WAL_LOST" } });
  expect(end.detail).toMatch(/left timeline 1 for 2 at 0\/3000064, and acceptors have WAL up to 0\/3001000/);
  expect(registry.known.map((known) => known.length)).toEqual([1, 1, 1]);
  expect(bridge.status().divergence).toBe("lost");
  for (const acceptor of w.acceptors) {
    expect(acceptor.received).not.toContain("elected");
    expect(acceptor.flushLsn).toBe(at(4096));
  }

  // The same positions are fine once the timeline is known: the log has gone on there since.
  const later = promoted(0);
  for (const acceptor of later.acceptors) acceptor.preload(new Uint8Array(4096));
  later.postgres.history = second(100).history;
  later.postgres.flushLsn = at(4096);
  const knowing = new Registry();
  for (const known of knowing.known) known.push(second(100));
  const successor = await later.open({ pgTimelines: knowing });
  await successor.streaming;
  expect(successor.status().termStartLsn).toBe(at(4096));
  await successor.close({ immediate: true });
});

// Aim: PostgreSQL does not change its timeline under a bridge. Method: it comes back as its own promoted self.
test("a PostgreSQL that comes back on another timeline ends the bridge", async () => {
  const w = world();
  const bridge = await w.open({ pgTimelines: new Registry() });
  await bridge.streaming;
  w.postgres.timelineId = 2;
  w.postgres.history = second(0).history;
  w.postgres.slotStream?.connection.destroy();
  w.postgres.stream?.connection.destroy();
  expect((await bridge.closed).error).toMatchObject({ code: "ERR_BRIDGE_TIMELINE_ID" });
  expect(w.clock.pendingTimers).toBe(0);
  expect(START).toBe(bridge.status().termStartLsn);
});

// A term that is carried over the loss of PostgreSQL, on sockets in memory and a clock that stands.
import { addBytes } from "@millrace/lsn";
import { encodePageHeader } from "@millrace/wal-decoder";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Overlap } from "../src/primary-reconnect.js";
import { RestartTally, WalRing } from "../src/index.js";
import type { Bridge, BridgeOptions } from "../src/index.js";
import { at, START, world } from "./harness/bridge-world.js";
import type { World } from "./harness/bridge-world.js";
import { settle } from "./harness/fake-clock.js";

/** A page header and the first bytes of a record of 5000: WAL that stops in the middle of a record. */
function firstBytes(): Buffer {
  const fields = { pageLsn: START, pgMajor: 15, segmentBytes: 0x100_0000, systemId: 42n, timelineId: 1 };
  const length = Buffer.alloc(4);
  length.writeUInt32LE(5000);
  return Buffer.concat([encodePageHeader({ ...fields, remainingBytes: 0 }), length]);
}

/** A bridge that has received `firstBytes` and passed them on. */
async function streaming(w: World, options: Partial<BridgeOptions> = {}): Promise<Bridge> {
  const bridge = await w.open(options);
  await bridge.streaming;
  await settle();
  w.postgres.flushLsn = at(44);
  w.postgres.sendWal(START, firstBytes());
  await settle();
  expect(bridge.status().receivedLsn).toBe(at(44));
  return bridge;
}

/** Both connections break, and PostgreSQL is there again at once. */
function breakConnections({ postgres }: World): void {
  postgres.slotStream?.connection.destroy();
  postgres.stream?.connection.destroy();
}

// Aim: the slot is taken again while the stream goes on: nothing else would keep its WAL. Method: drop the slot's
// connection, twice refused; then more WAL comes on the old stream.
test("losing the slot's connection costs neither the term nor the stream", async () => {
  const w = world();
  const bridge = await streaming(w);
  const { term } = bridge.status();
  const { slotStream, stream } = w.postgres;
  w.postgres.isDown = true;
  slotStream?.connection.destroy();
  await settle();
  await w.clock.advance(200);
  w.postgres.isDown = false;
  await w.clock.advance(1000);
  expect(w.postgres.slotStream).not.toBe(slotStream);
  expect(w.postgres.stream).toBe(stream);
  w.postgres.sendWal(at(44), Buffer.alloc(8));
  await settle();
  expect(bridge.status()).toMatchObject({ state: "streaming", reconnects: 1, term, receivedLsn: at(52) });
  await bridge.close({ immediate: true });
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: a slot that cannot be taken again ends the term. Method: it is in use for longer than the limit.
test("a slot that stays in use ends the term", async () => {
  const w = world();
  const bridge = await streaming(w, { postgresReconnectMs: 10_000, slotTimeoutMs: 1000 });
  const busy = { code: "55006", message: "slot is active for PID 1" };
  w.postgres.slotErrors.push(...Array.from({ length: 1000 }, () => busy));
  w.postgres.slotStream?.connection.destroy();
  await settle();
  await w.clock.advance(15_000);
  expect((await bridge.closed).error).toMatchObject({ code: "ERR_BRIDGE_SLOT_ACTIVE" });
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: the term outlives the stream. Method: drop it; what comes again is the same, what follows is passed on.
test("losing the stream does not cost the term", async () => {
  const w = world();
  const bridge = await streaming(w);
  const { term } = bridge.status();
  const before = [w.postgres.slotStream, w.postgres.stream];
  w.postgres.stream?.connection.destroy();
  await settle();
  expect(w.postgres.slotStream).not.toBe(before[0]);
  expect(w.postgres.stream).not.toBe(before[1]);
  w.postgres.sendWal(START, Buffer.concat([firstBytes(), Buffer.alloc(8)]));
  await settle();
  expect(bridge.status()).toMatchObject({ state: "streaming", reconnects: 1, term, receivedLsn: at(52) });
  for (const acceptor of w.acceptors) {
    expect(acceptor.bytes(START, at(52))).toEqual(Buffer.concat([firstBytes(), Buffer.alloc(8)]));
    expect(acceptor.received.filter((type) => type === "elected").length).toBe(1);
  }
  await bridge.close({ immediate: true });
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: a PostgreSQL that shuts down never waits for a reader that acknowledges nothing. Method: one acceptor lags and is
// being fed by a reader when the stream is lost; the reader goes with it, and another comes after the reconnection.
test("readers for acceptors that lag end with the stream and come again", async () => {
  const w = world();
  const [first, second, third] = w.acceptors;
  await third?.stop();
  for (const acceptor of [first, second]) acceptor?.preload(new Uint8Array(4096));
  w.postgres.flushLsn = at(4096);
  const bridge = await w.open();
  await bridge.streaming;
  await settle();
  const { stream } = w.postgres;
  await third?.restart();
  await w.clock.advance(3000);
  const reader = w.postgres.stream;
  expect(reader).not.toBe(stream);
  expect(reader?.startLsn).toBe(START);
  let hasEnded = false;
  void reader?.ended.then(() => {
    hasEnded = true;
  });
  await settle();
  expect(hasEnded).toBe(false);

  w.postgres.isDown = true;
  stream?.connection.destroy();
  await settle(); // no time passes
  expect(hasEnded).toBe(true);
  w.postgres.isDown = false;
  await w.clock.advance(10_000);
  expect(bridge.status().state).toBe("streaming");
  const readers = w.postgres.queries.filter((query) =>
    query.startsWith("START_REPLICATION PHYSICAL 0/3000000"),
  );
  expect(readers.length).toBe(2);
  await bridge.close({ immediate: true });
  await third?.stop();
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: on a new connection nothing is reported before it has arrived there, though it is committed. Method: break the
// connections when everything is committed; request replies while nothing, then a part, then all has come again.
test("a new connection is told only what it has delivered", async () => {
  const w = world();
  const bridge = await streaming(w);
  await settle();
  expect(bridge.status().commitLsn).toBe(at(44));
  breakConnections(w);
  await settle();
  const { stream } = w.postgres;
  const reported = async (): Promise<bigint | undefined> => {
    w.postgres.requestReply(stream);
    await settle();
    await w.clock.advance(100);
    return stream?.statuses.at(-1)?.flushLsn;
  };
  expect(await reported()).toBe(START);
  w.postgres.sendWal(START, firstBytes().subarray(0, 10));
  expect(await reported()).toBe(at(10));
  w.postgres.sendWal(at(10), firstBytes().subarray(10));
  expect(await reported()).toBe(at(44));
  await bridge.close({ immediate: true });
});

// Aim: a PostgreSQL that comes back with another log does not continue this one. Method: one byte differs, or its log
// is shorter than what it had sent.
test("other bytes, or fewer, end the term", async () => {
  const changed = world();
  const first = await streaming(changed);
  breakConnections(changed);
  await settle();
  const bytes = firstBytes();
  bytes[43] = 1;
  changed.postgres.sendWal(START, bytes);
  const end = await first.closed;
  expect(end).toMatchObject({ reason: "divergence", error: { code: "ERR_BRIDGE_WAL_CHANGED" } });
  expect(changed.clock.pendingTimers).toBe(0);

  const shorter = world();
  const second = await streaming(shorter);
  shorter.postgres.flushLsn = at(43);
  breakConnections(shorter);
  expect((await second.closed).error).toMatchObject({ code: "ERR_BRIDGE_WAL_CHANGED" });
  const other = world();
  const third = await streaming(other);
  other.postgres.systemId = 43n;
  breakConnections(other);
  expect((await third.closed).error).toMatchObject({ code: "ERR_BRIDGE_SYSTEM_ID" });
});

// Aim: attempts are spaced and end. Method: PostgreSQL stays away for longer than the limit; once for shorter.
test("PostgreSQL is waited for until the limit", async () => {
  const w = world();
  const bridge = await streaming(w, { postgresReconnectMs: 60_000 });
  w.postgres.isDown = true;
  breakConnections(w);
  await settle();
  expect(bridge.status().state).toBe("reconnecting");
  await w.clock.advance(50_000);
  expect(bridge.status().state).toBe("reconnecting");
  w.postgres.isDown = false;
  await w.clock.advance(3000);
  w.postgres.requestReply(w.postgres.stream); // a first message: it might have been a refusal
  await settle();
  expect(bridge.status().state).toBe("streaming");

  w.postgres.isDown = true;
  const { attempts } = w.postgres;
  breakConnections(w);
  await settle();
  await w.clock.advance(63_000);
  const end = await bridge.closed;
  expect(end).toMatchObject({ reason: "pg_lost", error: { code: "ERR_BRIDGE_POSTGRES" } });
  expect(w.postgres.attempts - attempts).toBeGreaterThan(25);
  expect(w.postgres.attempts - attempts).toBeLessThan(45);
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: a bridge that waits for PostgreSQL can be closed, and fenced. Method: both while PostgreSQL is away.
test("closing and a higher term end the wait", async () => {
  const w = world();
  const bridge = await streaming(w);
  w.postgres.isDown = true;
  breakConnections(w);
  await settle();
  await bridge.close();
  expect(await bridge.closed).toMatchObject({ reason: "closed" });
  expect(w.clock.pendingTimers).toBe(0);

  const fenced = world();
  const loser = await streaming(fenced);
  fenced.postgres.isDown = true;
  breakConnections(fenced);
  await settle();
  for (const acceptor of fenced.acceptors) acceptor.bumpTerm(9n);
  await fenced.clock.advance(1500); // a heartbeat
  expect(await loser.closed).toMatchObject({ reason: "higher_term" });
  await fenced.clock.advance(5000);
  expect(fenced.clock.pendingTimers).toBe(0);
});

// Aim: what comes again is compared byte for byte, and only what is new is passed on. Method: random logs, starts and
// chunks; one byte changes in half of the runs.
test("an overlap lets exactly the new bytes through, and no changed one", () => {
  const property = fc.property(
    fc.uint8Array({ minLength: 1, maxLength: 300, size: "max" }),
    fc.nat(),
    fc.array(fc.integer({ min: 1, max: 64 }), { minLength: 1, maxLength: 20, size: "max" }),
    fc.option(fc.nat()),
    (log, start, sizes, changed) => {
      const ring = new WalRing({ startLsn: START });
      ring.append(Buffer.from(log));
      const startBytes = start % log.byteLength;
      const again = Buffer.concat([log.subarray(startBytes), Buffer.from("new bytes")]);
      if (changed !== null) {
        const index = changed % (log.byteLength - startBytes);
        again[index] = (again[index] ?? 0) ^ 1;
      }
      const overlap = new Overlap(ring, addBytes(START, startBytes));
      const passed: Uint8Array[] = [];
      const run = (): void => {
        let position = 0;
        for (let i = 0; position < again.byteLength; i += 1) {
          const size = sizes[i % sizes.length] ?? 1;
          const rest = overlap.take(again.subarray(position, position + size));
          ring.append(rest);
          passed.push(rest);
          position += size;
        }
      };
      if (changed === null) {
        run();
        expect(Buffer.concat(passed).toString()).toBe("new bytes");
      } else {
        expect(run).toThrow(expect.objectContaining({ code: "ERR_BRIDGE_WAL_CHANGED" }));
        expect(Buffer.concat(passed).byteLength).toBe(0);
      }
    },
  );
  fc.assert(property);
});

// Aim: whoever has lost the term drops both connections to PostgreSQL in the moment it hears of it, and reports nothing
// more. Method: an acceptor answers in a higher term; the server's ends of the connections see them close.
test("a fenced bridge drops both connections at once and is counted", async () => {
  const w = world();
  const tally = new RestartTally();
  const bridge = await streaming(w, { tally });
  const { stream, slotStream } = w.postgres;
  const reports = [stream?.statuses.length, slotStream?.statuses.length];
  const dropped: string[] = [];
  void stream?.ended.then(() => dropped.push("stream"));
  void slotStream?.ended.then(() => dropped.push("slot"));
  for (const acceptor of w.acceptors) acceptor.bumpTerm(9n);
  w.postgres.sendWal(at(44), Buffer.alloc(8));
  await settle(); // no time passes
  expect(await bridge.closed).toMatchObject({ reason: "higher_term" });
  expect(dropped.sort()).toEqual(["slot", "stream"]);
  expect([stream?.statuses.length, slotStream?.statuses.length]).toEqual(reports);
  expect(bridge.status().restarts).toEqual({ higher_term: 1 });
  expect(w.clock.pendingTimers).toBe(0);
});

// The proposer's shell against acceptors that speak the protocol over sockets in memory, on a clock that stands.
import type { Duplex } from "node:stream";
import { addBytes, INVALID_LSN, toLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";
import { Proposer, WalRing } from "../src/index.js";
import type { AcceptorAddress, CatchUpSource, ElectionResult, WalChunk } from "../src/index.js";
import { COMMIT_DELAY_MAX_MS, COMMIT_DELAY_MS } from "../src/pump-round.js";
import { FakeClock, settle } from "./harness/fake-clock.js";
import { socketPair } from "./harness/socket-pair.js";
import { configurationOf, TestAcceptor } from "./harness/test-acceptor.js";

const START = toLsn(0x300_0000n);
const at = (bytes: number): Lsn => addBytes(START, bytes);

function walBytes(begin: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => ((begin + i) * 2_654_435_761) >>> 11);
}

interface World {
  readonly clock: FakeClock;
  readonly acceptors: readonly TestAcceptor[];
  readonly proposer: Proposer;
  readonly ring: WalRing;
  readonly elections: ElectionResult[];
  readonly commits: Lsn[];
  readonly truncates: Lsn[];
  readonly ends: string[];
  readonly attempts: number[];
  /** Appends to the ring as if it had come from a database. */
  feed(length: number): void;
  elect(): Promise<void>;
}

/** Three acceptors with an empty timeline, one proposer that has not started yet. */
function world(options: { readonly catchUp?: CatchUpSource; readonly ringBytes?: number } = {}): World {
  const clock = new FakeClock();
  const acceptors = [new TestAcceptor(1n), new TestAcceptor(2n), new TestAcceptor(3n)];
  const configuration = configurationOf(acceptors);
  for (const acceptor of acceptors) acceptor.createTimeline({ startLsn: START, configuration });
  const [elections, commits, truncates]: [ElectionResult[], Lsn[], Lsn[]] = [[], [], []];
  const [ends, attempts]: [string[], number[]] = [[], []];
  const ring = new WalRing({ startLsn: START, capacityBytes: options.ringBytes ?? 1_000_000 });
  const proposer = new Proposer({
    acceptors: acceptors.map((_, index) => ({ host: "memory", port: index })),
    tenantId: "0".repeat(32),
    timelineId: "1".repeat(32),
    pgVersion: 150_018,
    systemId: 42n,
    segmentBytes: 16 * 1024 * 1024,
    bootstrapLsn: INVALID_LSN,
    protocolVersion: 3,
    reconnectMs: 1000,
    connectionTimeoutMs: 10_000,
    clock,
    random: () => 0.5,
    connectSocket: (address: AcceptorAddress): Duplex => {
      attempts.push(address.port);
      const [ours, theirs] = socketPair();
      void acceptors[address.port]?.accept(theirs);
      return ours;
    },
    handlers: {
      elected: (result) => elections.push(result),
      committed: (lsn) => commits.push(lsn),
      truncated: (lsn) => truncates.push(lsn),
      hotStandby: () => undefined,
      ended: (reason) => ends.push(reason),
    },
    ...(options.catchUp === undefined ? {} : { catchUp: options.catchUp }),
  });
  let fed = 0;
  return {
    clock,
    acceptors,
    proposer,
    ring,
    elections,
    commits,
    truncates,
    ends,
    attempts,
    feed(length) {
      ring.append(walBytes(fed, length));
      fed += length;
      proposer.walAvailable();
    },
    async elect() {
      proposer.start();
      await settle();
      expect(elections.length).toBe(1);
      proposer.startStreaming(ring);
      await settle();
    },
  };
}

// Aim: WAL reaches every acceptor byte by byte, and a commit is what two of three have. Method: look into them.
test("WAL reaches all acceptors and is committed by a quorum", async () => {
  const w = world();
  await w.elect();
  w.feed(500_000);
  await settle();
  await w.clock.advance(5);
  for (const acceptor of w.acceptors) {
    expect(acceptor.flushLsn).toBe(at(500_000));
    expect(acceptor.bytes(START, at(500_000)).equals(walBytes(0, 500_000))).toBe(true);
  }
  expect(w.proposer.core.commitLsn).toBe(at(500_000));
  expect(w.commits.at(-1)).toBe(at(500_000));
  expect(w.proposer.acceptors().map(({ state, nodeId, lagBytes }) => [state, nodeId, lagBytes])).toEqual([
    ["active", 1n, 0n],
    ["active", 2n, 0n],
    ["active", 3n, 0n],
  ]);
  w.proposer.close();
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: nobody is told to cut anything before the owner has looked. Method: win, and look at what was received.
test("after the election acceptors hear nothing until streaming is started", async () => {
  const w = world();
  w.proposer.start();
  await settle();
  expect(w.elections.length).toBe(1);
  w.feed(100);
  await w.clock.advance(3000);
  expect(w.acceptors.flatMap(({ received }) => received)).not.toContain("elected");
  expect(w.proposer.wantedLsns()).toEqual([START, START, START]);
  w.proposer.startStreaming(w.ring);
  await settle();
  for (const { received } of w.acceptors) expect(received.slice(2, 4)).toEqual(["elected", "append-request"]);
  w.proposer.close();
});

// Aim: one acceptor is no quorum. Method: hold two acknowledgements, then let one go.
test("a commit waits for the second acknowledgement", async () => {
  const w = world();
  w.acceptors[1]?.holdAcks();
  w.acceptors[2]?.holdAcks();
  await w.elect();
  w.feed(1000);
  await w.clock.advance(100);
  expect(w.acceptors[0]?.flushLsn).toBe(at(1000));
  expect(w.proposer.core.commitLsn).toBe(INVALID_LSN);
  w.acceptors[2]?.releaseAcks();
  await settle();
  expect(w.proposer.core.commitLsn).toBe(at(1000));
  w.proposer.close();
});

// Aim: acceptors learn of a commit soon, but a burst of commits costs one request. Method: commit twice within a
// turn by letting go of two held acknowledgements at once, then count the empty requests.
test("commits are passed on in one empty request a round", async () => {
  const w = world();
  await w.elect();
  for (const acceptor of w.acceptors) acceptor.holdAcks();
  for (let i = 0; i < 10; i += 1) {
    w.feed(100);
    await settle();
  }
  const before = w.acceptors[0]?.heartbeats ?? 0;
  for (const acceptor of w.acceptors) acceptor.releaseAcks();
  await settle();
  await w.clock.advance(5);
  expect(w.commits.length).toBeGreaterThan(1);
  expect(w.acceptors[0]?.commitLsn).toBe(at(1000));
  expect((w.acceptors[0]?.heartbeats ?? 0) - before).toBeLessThanOrEqual(3);
  w.proposer.close();
});

// Aim: an empty request is sent only if no WAL comes to ride on, or commits never pause. Method: commits follow one
// another within the delay; the position travels with the next WAL. The last one gets a request of its own, when the
// delay is over; then commits go on for longer than anybody may be left without one.
test("a commit position rides on the WAL that follows within the delay", async () => {
  const w = world();
  await w.elect();
  await w.clock.advance(COMMIT_DELAY_MS);
  const before = w.acceptors.map(({ heartbeats }) => heartbeats);
  for (let i = 1; i <= 10; i += 1) {
    w.feed(100);
    await settle();
    expect(w.proposer.core.commitLsn).toBe(at(100 * i));
    if (i > 1) expect(w.acceptors[0]?.commitLsn).toBe(at(100 * (i - 1)));
    await w.clock.advance((COMMIT_DELAY_MAX_MS - 1) / 10);
  }
  expect(w.acceptors.map(({ heartbeats }) => heartbeats)).toEqual(before);
  await w.clock.advance(COMMIT_DELAY_MS);
  for (const [index, acceptor] of w.acceptors.entries()) {
    expect(acceptor.heartbeats).toBe((before[index] ?? 0) + 1);
    expect(acceptor.commitLsn).toBe(at(1000));
  }
  for (let ms = 0; ms < COMMIT_DELAY_MAX_MS; ms += 4) {
    w.feed(100);
    await settle();
    await w.clock.advance(4);
  }
  expect(w.acceptors[0]?.heartbeats).toBe((before[0] ?? 0) + 2);
  w.proposer.close();
  expect(w.clock.pendingTimers).toBe(0);
});

// Aim: an acceptor that went away is tried again after a second with jitter, and continues where it was.
// Method: stop one, count the attempts on the clock, let it come back.
test("a lost acceptor is reconnected and continues", async () => {
  const w = world();
  await w.elect();
  w.feed(1000);
  await w.clock.advance(5000);
  await w.acceptors[2]?.stop();
  await settle();
  w.feed(1000);
  const attemptsOf = (): number => w.attempts.filter((port) => port === 2).length;
  const before = attemptsOf();
  await w.clock.advance(10_000);
  expect(attemptsOf() - before).toBeGreaterThanOrEqual(8);
  expect(attemptsOf() - before).toBeLessThanOrEqual(13);
  expect(w.proposer.core.commitLsn).toBe(at(2000));
  expect(w.truncates.every((lsn) => lsn <= at(1000))).toBe(true);
  await w.acceptors[2]?.restart();
  await w.clock.advance(2000);
  expect(w.acceptors[2]?.flushLsn).toBe(at(2000));
  expect(w.truncates.at(-1)).toBe(at(2000));
  await w.acceptors[2]?.stop();
  w.proposer.close();
});

// Aim: idle connections carry heartbeats, silent ones are given up. Method: let ten seconds pass with one acceptor
// that reads nothing.
test("idle acceptors get heartbeats and a silent one is dropped", async () => {
  const w = world();
  await w.elect();
  w.acceptors[1]?.stall();
  const before = w.acceptors[0]?.heartbeats ?? 0;
  await w.clock.advance(9000);
  expect((w.acceptors[0]?.heartbeats ?? 0) - before).toBeGreaterThanOrEqual(8);
  expect(w.attempts.filter((port) => port === 1).length).toBe(1);
  await w.clock.advance(4000);
  expect(w.attempts.filter((port) => port === 1).length).toBeGreaterThan(1);
  w.acceptors[1]?.unstall();
  w.proposer.close();
});

// Aim: another proposer ends this one, at once and for good. Method: an acceptor answers with a higher term.
test("a higher term ends the proposer", async () => {
  const w = world();
  await w.elect();
  w.acceptors[0]?.bumpTerm(99n);
  w.feed(100);
  await settle();
  expect(w.ends).toEqual(["higher_term"]);
  expect(w.clock.pendingTimers).toBe(0);
  expect(w.proposer.acceptors().every(({ queuedBytes }) => queuedBytes === 0)).toBe(true);
});

// Aim: a slow acceptor holds back its own window and nothing else. Method: one does not read while megabytes flow.
test("an acceptor that does not read keeps a bounded queue and holds up nobody", async () => {
  const w = world({ ringBytes: 64_000_000 });
  await w.elect();
  w.acceptors[2]?.stall();
  for (let i = 0; i < 80; i += 1) {
    w.feed(131_072);
    await settle();
  }
  expect(w.proposer.core.commitLsn).toBe(at(80 * 131_072));
  const queued = w.proposer.acceptors()[2]?.queuedBytes ?? 0;
  expect(queued).toBeGreaterThan(4_000_000);
  expect(queued).toBeLessThan(4_600_000);
  expect(w.proposer.room()).toBeUndefined();
  w.acceptors[2]?.unstall();
  await w.acceptors[2]?.until(() => w.acceptors[2]?.flushLsn === at(80 * 131_072));
  w.proposer.close();
});

// Aim: reading from the database pauses only when no quorum can follow. Method: two of three do not read.
test("the source is asked to wait when a quorum is half a ring behind, and goes on when it follows", async () => {
  const w = world({ ringBytes: 12_000_000 });
  await w.elect();
  w.acceptors[1]?.stall();
  w.acceptors[2]?.stall();
  let fed = 0;
  while (w.proposer.room() === undefined) {
    w.feed(131_072);
    fed += 131_072;
    await settle();
  }
  // One send window, half a ring, and what the last step added; the streams' own buffers count as sent.
  expect(fed).toBeGreaterThan(6_000_000 + 4_000_000);
  expect(fed).toBeLessThan(6_000_000 + 5_500_000);
  const room = w.proposer.room();
  w.acceptors[1]?.unstall();
  await room;
  expect(w.proposer.room()).toBeUndefined();
  w.acceptors[2]?.unstall();
  w.proposer.close();
});

/** WAL as a database would have it: any position can be read from. */
function source(bytes: Uint8Array, log: { opened: Lsn[]; running: number; most: number }): CatchUpSource {
  return async (fromLsn) => {
    log.opened.push(fromLsn);
    log.running += 1;
    log.most = Math.max(log.most, log.running);
    let offset = Number(fromLsn - START);
    let closed = false;
    return {
      async next(): Promise<WalChunk> {
        await settle();
        if (closed || offset >= bytes.length) throw new Error("closed");
        const chunk = { startLsn: at(offset), bytes: bytes.subarray(offset, offset + 50_000) };
        offset += chunk.bytes.length;
        return chunk;
      },
      close() {
        if (!closed) log.running -= 1;
        closed = true;
      },
    };
  };
}

// Aim: an acceptor below the ring is fed by a reader until it is back inside, then from memory; at most two at a time.
// Method: elect with one acceptor, run the ring over, bring the others back, compare every byte.
test("acceptors below the ring catch up through readers", async () => {
  const log = { opened: [] as Lsn[], running: 0, most: 0 };
  const all = walBytes(0, 3_000_000);
  const w = world({ catchUp: source(all, log), ringBytes: 200_000 });
  await w.elect();
  w.feed(10_000);
  await settle();
  await w.acceptors[2]?.stop();
  await settle();
  while (w.ring.endLsn < at(2_900_000)) {
    w.feed(90_000);
    await settle();
  }
  const endLsn = w.ring.endLsn;
  await w.acceptors[2]?.restart();
  await w.clock.advance(2000);
  await w.acceptors[2]?.until(() => w.acceptors[2]?.writeLsn === endLsn);
  expect(log.opened).toEqual([at(10_000)]);
  expect(w.acceptors[2]?.bytes(START, endLsn).equals(all.subarray(0, Number(endLsn - START)))).toBe(true);
  await settle();
  expect(log.running).toBe(0);
  w.feed(1000);
  await settle();
  expect(w.acceptors[2]?.writeLsn).toBe(addBytes(endLsn, 1000));
  expect(log.opened.length).toBe(1);
  await w.acceptors[2]?.stop();
  w.proposer.close();
});

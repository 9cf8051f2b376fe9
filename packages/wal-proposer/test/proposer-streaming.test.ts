/**
 * Requests, acknowledgements, commit and truncate positions, timers and connections of an elected core.
 */
import { MAX_APPEND_BYTES } from "@millrace/wal-protocol";
import { describe, expect, test } from "vitest";
import { AcceptorProgress } from "../src/acceptor-progress.js";
import { ProposerCore } from "../src/proposer-core.js";
import type { ProposerCoreOptions } from "../src/proposer-core.js";
import { configuration, Harness, only, sentTo, START, terms } from "./core-harness.js";
import { lsn } from "./model-acceptor.js";

describe("requests", () => {
  // Aim: WAL goes out in bounded pieces without gaps. Method: 300 000 bytes, positions compared end to start.
  test("WAL is cut into requests of at most 128 KiB that follow each other", () => {
    const harness = new Harness();
    harness.elect();
    const end = START + 300_000;
    const pieces: [bigint, bigint][] = [];
    for (let request = harness.core.nextAppend(0, lsn(end)); request !== undefined;) {
      pieces.push([request.beginLsn, request.endLsn]);
      request = harness.core.nextAppend(0, lsn(end));
    }
    expect(pieces).toEqual([
      [BigInt(START), BigInt(START + MAX_APPEND_BYTES)],
      [BigInt(START + MAX_APPEND_BYTES), BigInt(START + 2 * MAX_APPEND_BYTES)],
      [BigInt(START + 2 * MAX_APPEND_BYTES), BigInt(end)],
    ]);
    expect(harness.core.wantsLsn(0)).toBe(BigInt(end));
    expect(harness.core.wantsLsn(1)).toBe(BigInt(START));
  });

  // Aim: the first request follows ProposerElected at once, even without WAL. Method: pump until nothing is due.
  test("an empty request follows the election, and only one", () => {
    const harness = new Harness();
    const effects = harness.elect();
    expect(only(effects, "pump").map(({ acceptor }) => acceptor)).toEqual([0, 1]);
    expect(harness.core.nextAppend(0, lsn(START))).toEqual({
      generation: 0,
      term: 1n,
      beginLsn: BigInt(START),
      endLsn: BigInt(START),
      commitLsn: 0n,
      truncateLsn: 0n,
    });
    expect(harness.core.nextAppend(0, lsn(START))).toBeUndefined();
  });

  // Aim: a commit reaches every streaming acceptor at once, with or without WAL. Method: one ahead, one behind.
  test("a commit advance is sent to all streaming acceptors, riding on WAL where there is some", () => {
    const harness = new Harness();
    harness.elect([0, 1, 2]);
    const end = START + 100;
    for (const acceptor of [0, 1]) harness.sendAll(acceptor, end);
    harness.ack(0, end);
    const effects = harness.ack(1, end);
    expect(only(effects, "commit")).toEqual([{ type: "commit", commitLsn: lsn(end) }]);
    expect(only(effects, "pump").map(({ acceptor }) => acceptor)).toEqual([0, 1, 2]);
    expect(harness.core.nextAppend(0, lsn(end))).toMatchObject({
      beginLsn: BigInt(end),
      commitLsn: BigInt(end),
    });
    expect(harness.core.nextAppend(2, lsn(end))).toMatchObject({
      beginLsn: BigInt(START),
      commitLsn: BigInt(end),
    });
    expect(harness.core.nextAppend(2, lsn(end))).toBeUndefined();
  });

  // Aim: new WAL wakes exactly those who lack it. Method: one has been given it already.
  test("new WAL pumps the acceptors that do not have it yet", () => {
    const harness = new Harness();
    harness.elect();
    harness.sendAll(0, START + 10);
    const effects = harness.event({ type: "wal-available", endLsn: lsn(START + 10) });
    expect(effects).toEqual([{ type: "pump", acceptor: 1 }]);
  });

  // Aim: an idle acceptor hears from us every second, a busy one needs no heartbeat. Method: one of each.
  test("heartbeats go to acceptors that were sent nothing for a second", () => {
    const harness = new Harness();
    harness.elect();
    for (const acceptor of [0, 1]) harness.sendAll(acceptor, START);
    harness.tick(600);
    harness.sendAll(1, START + 5);
    expect(harness.core.deadlineMs).toBe(1000);
    expect(only(harness.tick(400), "pump")).toEqual([{ type: "pump", acceptor: 0 }]);
    expect(harness.sendAll(0, START)).toBe(1);
    expect(harness.core.deadlineMs).toBe(1600);
    expect(only(harness.tick(600), "pump")).toEqual([{ type: "pump", acceptor: 1 }]);
  });
});

describe("acknowledgements", () => {
  const elected = (acceptors: readonly number[], options: Partial<ProposerCoreOptions> = {}): Harness => {
    const harness = new Harness(options);
    harness.elect(acceptors);
    for (const acceptor of acceptors) harness.sendAll(acceptor, START + 100);
    return harness;
  };

  // Aim: the commit is what a majority has, and never goes back. Method: acknowledgements in an awkward order.
  test("the commit is the majority-th largest acknowledgement", () => {
    const harness = elected([0, 1, 2, 3, 4], { acceptors: 5 });
    const commits = [
      harness.ack(0, START + 90),
      harness.ack(1, START + 20),
      harness.ack(2, START + 50),
      harness.ack(3, START + 60),
      harness.ack(1, START + 55),
      harness.ack(4, START + 10),
    ].map((effects) => only(effects, "commit").map(({ commitLsn }) => Number(commitLsn) - START));
    expect(commits).toEqual([[], [], [20], [50], [55], []]);
  });

  // Aim: what a vote said is no acknowledgement. Method: three votes with WAL far ahead, one acknowledgement.
  test("the position in a vote does not count towards a commit", () => {
    const harness = new Harness();
    harness.elect([0, 1, 2], {}, { flush: 5000 });
    for (const acceptor of [0, 1, 2]) harness.sendAll(acceptor, 6000);
    harness.ack(0, 6000);
    expect(harness.core.commitLsn).toBe(0n);
    harness.ack(1, 5000);
    expect(harness.core.commitLsn).toBe(5000n);
  });

  // Aim: durable bytes stay durable when the connection goes. Method: acknowledge, leave, let another one complete.
  test("the last word of a disconnected acceptor still counts", () => {
    const harness = elected([0, 1]);
    harness.ack(0, START + 80);
    harness.disconnected(0);
    expect(only(harness.ack(1, START + 70), "commit")).toEqual([
      { type: "commit", commitLsn: lsn(START + 70) },
    ]);
  });

  // Aim: an acceptor that lost its disk counts for nothing until it has caught up. Method: less in its next vote.
  test("an acceptor that comes back with less is forgotten, and an alarm is raised", () => {
    const harness = elected([0, 1]);
    harness.ack(0, START + 80);
    harness.reconnect(0);
    harness.greet(0, { term: 1n });
    const effects = harness.vote(0, {
      given: false,
      flush: START + 40,
      history: terms([0, START], [1, START]),
    });
    expect(only(effects, "alarm")).toMatchObject([{ acceptor: 0, code: "lost_wal" }]);
    expect(harness.core.wantsLsn(0)).toBe(BigInt(START + 40));
    expect(only(harness.ack(1, START + 80), "commit")).toEqual([]);
    harness.sendAll(0, START + 100);
    expect(only(harness.ack(0, START + 60), "commit")).toEqual([
      { type: "commit", commitLsn: lsn(START + 60) },
    ]);
  });

  // Aim: what was committed stays committed, even if acceptors lose it. Method: one of two comes back with less.
  test("a commit is not taken back when an acceptor loses what it acknowledged", () => {
    const harness = elected([0, 1]);
    harness.ack(0, START + 80);
    harness.ack(1, START + 80);
    harness.reconnect(0);
    harness.greet(0, { term: 1n });
    harness.vote(0, { given: false, flush: START + 40, history: terms([0, START], [1, START]) });
    harness.sendAll(0, START + 100);
    expect(only(harness.ack(0, START + 60), "commit")).toEqual([]);
    expect(harness.core.commitLsn).toBe(BigInt(START + 80));
    expect(only(harness.ack(0, START + 90), "commit")).toEqual([]);
    expect(only(harness.ack(1, START + 90), "commit")).toEqual([
      { type: "commit", commitLsn: lsn(START + 90) },
    ]);
  });

  // Aim: an acceptor that forgot its vote has lost its disk, whatever it says it has. Method: a lower term.
  test("an acceptor that forgot its term is forgotten too", () => {
    const harness = elected([0, 1]);
    harness.ack(0, START + 80);
    harness.reconnect(0);
    expect(only(harness.greet(0, { term: 0n }), "alarm")).toMatchObject([{ acceptor: 0, code: "lost_vote" }]);
    expect(only(harness.ack(1, START + 80), "commit")).toEqual([]);
  });

  // Aim: on one connection positions only rise. Method: an acknowledgement that goes back.
  test("an acknowledgement that goes back costs the connection and the position", () => {
    const harness = elected([0, 1]);
    harness.ack(0, START + 80);
    const effects = harness.ack(0, START + 70);
    expect(only(effects, "disconnect")).toMatchObject([{ acceptor: 0, reason: "lost_wal" }]);
    expect(only(harness.ack(1, START + 80), "commit")).toEqual([]);
  });

  // Aim: nobody can have what was not sent, except the end of a switched segment. Method: both sides of that border.
  test("acknowledging WAL that was never sent is impossible, but for the end of the segment", () => {
    const segmentBytes = 1 << 20;
    const harness = elected([0, 1]);
    harness.ack(0, segmentBytes);
    expect(only(harness.ack(1, segmentBytes), "commit")).toEqual([
      { type: "commit", commitLsn: lsn(segmentBytes) },
    ]);
    const effects = harness.ack(1, segmentBytes + 1);
    expect(only(effects, "alarm")).toMatchObject([{ acceptor: 1, code: "impossible_position" }]);
    expect(harness.core.commitLsn).toBe(BigInt(segmentBytes));
  });

  // Aim: answers of other terms and generations never count. Method: each kind, from a member.
  test("only answers of our own term and generation count", () => {
    const lower = elected([0, 1], {});
    expect(only(lower.ack(0, START + 10, { term: 0n }), "disconnect")).toMatchObject([
      { reason: "stale_term" },
    ]);
    expect(lower.core.acceptorView(0).flushLsn).toBe(0n);
    const higher = elected([0, 1]);
    expect(only(higher.ack(0, 0, { term: 9n }), "restart")).toMatchObject([{ reason: "higher_term" }]);
    const generation = elected([0, 1]);
    expect(only(generation.ack(0, START, { generation: 4 }), "restart")).toMatchObject([
      { reason: "generation_change" },
    ]);
    expect(generation.core.acceptorView(0).flushLsn).toBe(0n);
  });

  // Aim: WAL is kept for the slowest, above all for one that was never there. Method: two, then all three.
  test("the truncate position waits for every listed acceptor and never passes the commit", () => {
    const harness = elected([0, 1]);
    harness.ack(0, START + 80);
    harness.ack(1, START + 90);
    expect(harness.core.truncateLsn).toBe(0n);
    harness.join(2);
    harness.sendAll(2, START + 100);
    expect(only(harness.ack(2, START + 100), "truncate")).toEqual([
      { type: "truncate", truncateLsn: lsn(START + 80) },
    ]);
    expect(harness.core.commitLsn).toBe(BigInt(START + 90));
    expect(harness.core.nextAppend(0, lsn(START + 200))).toMatchObject({ truncateLsn: BigInt(START + 80) });
  });

  // Aim: who can help out an acceptor that lacks old WAL. Method: before and after somebody acknowledged more.
  test("the donor is the election's until a streaming acceptor has more", () => {
    const harness = new Harness();
    expect(harness.core.donor).toBeUndefined();
    harness.open([0, 1]);
    harness.greet(0);
    harness.greet(1);
    harness.vote(0);
    harness.vote(1, { flush: START + 50 });
    expect(harness.core.donor).toEqual({ acceptor: 1, endLsn: lsn(START + 50) });
    for (const acceptor of [0, 1]) harness.sendAll(acceptor, START + 100);
    harness.ack(0, START + 60);
    expect(harness.core.donor).toEqual({ acceptor: 0, endLsn: lsn(START + 60) });
    harness.disconnected(0);
    expect(harness.core.donor).toEqual({ acceptor: 1, endLsn: lsn(START + 50) });
  });

  // Aim: standbys' wishes are merged over those who stream now. Method: two acceptors, one leaves.
  test("hot-standby feedback is merged and told when it changes", () => {
    const harness = elected([0, 1]);
    const feedback = (xmin: bigint, catalogXmin = 0n) => ({
      hotStandby: { timestamp: 5n, xmin, catalogXmin },
    });
    expect(only(harness.ack(0, START, feedback(900n)), "hot-standby")).toMatchObject([
      { feedback: { xmin: 900n } },
    ]);
    expect(only(harness.ack(0, START, feedback(900n)), "hot-standby")).toEqual([]);
    // A reserved transaction id is nobody's oldest transaction.
    expect(only(harness.ack(1, START, feedback(2n, 700n)), "hot-standby")).toMatchObject([
      { feedback: { xmin: 900n, catalogXmin: 700n } },
    ]);
    expect(only(harness.disconnected(0), "hot-standby")).toMatchObject([
      { feedback: { xmin: 0n, catalogXmin: 700n } },
    ]);
  });

  // Aim: positions of shards are merged to the smallest, whoever carried them. Method: two shards, two acceptors.
  test("pageserver feedback is the minimum over shards", () => {
    const harness = elected([0, 1]);
    const shard = (shardNumber: number, position: number) => ({
      pageserver: {
        currentTimelineSize: shardNumber === 0 ? 77n : 0n,
        lastReceivedLsn: lsn(position),
        diskConsistentLsn: lsn(position - 1),
        remoteConsistentLsn: lsn(position - 2),
        replyTime: BigInt(position),
        shardNumber,
        corruptionDetected: false,
      },
    });
    harness.ack(0, START, shard(0, 50));
    expect(only(harness.ack(1, START, shard(3, 40)), "pageserver")).toMatchObject([
      {
        feedback: {
          currentTimelineSize: 77n,
          lastReceivedLsn: 40n,
          remoteConsistentLsn: 38n,
          replyTime: 50n,
        },
      },
    ]);
    expect(only(harness.ack(0, START, shard(3, 60)), "pageserver")).toMatchObject([
      { feedback: { lastReceivedLsn: 50n } },
    ]);
    expect(only(harness.ack(0, START, shard(256, 9)), "pageserver")).toEqual([]);
  });
});

describe("connections and timers", () => {
  // Aim: attempts are spaced by a second, whatever ended the one before. Method: a failed and a long connection.
  test("an acceptor is tried once a second, and at once if its connection had lasted", () => {
    const harness = new Harness({ acceptors: 1 });
    expect(only(harness.tick(), "connect")).toHaveLength(1);
    expect(only(harness.tick(999), "connect")).toEqual([]);
    expect(only(harness.disconnected(0), "connect")).toEqual([]);
    expect(harness.core.deadlineMs).toBe(1000);
    expect(only(harness.tick(1), "connect")).toHaveLength(1);
    harness.tick(5000);
    expect(only(harness.disconnected(0), "connect")).toHaveLength(1);
  });

  // Aim: whoever owes an answer has ten seconds for it. Method: each waiting state, one millisecond before and after.
  test("silence is punished in every state in which an answer is due", () => {
    const after = (prepare: (harness: Harness) => void): string | undefined => {
      const harness = new Harness();
      prepare(harness);
      expect(only(harness.tick(9999), "disconnect")).toEqual([]);
      return only(harness.tick(1), "disconnect").find(({ acceptor }) => acceptor === 0)?.reason;
    };
    expect(after((harness) => harness.tick())).toBe("connect_timeout");
    expect(after((harness) => harness.open([0]))).toBe("handshake_timeout");
    const campaign = (harness: Harness): void => {
      harness.open([0, 1, 2]);
      harness.greet(0);
      harness.greet(1);
    };
    expect(after(campaign)).toBe("silence");
    expect(after((harness) => harness.elect([0, 1, 2]))).toBe("silence");
  });

  // Aim: who has nothing to answer may be silent. Method: greeted and alone, for a minute.
  test("an acceptor that waits for the campaign may be silent", () => {
    const harness = new Harness();
    harness.open([0]);
    harness.greet(0);
    harness.tick(60_000);
    expect(harness.core.acceptorView(0).state).toBe("wait-voting");
  });

  // Aim: any message is a sign of life. Method: acknowledgements every nine seconds.
  test("a peer that answers is not silent", () => {
    const harness = new Harness();
    harness.elect([0, 1, 2]);
    for (let round = 0; round < 5; round += 1) {
      expect(only(harness.tick(9000), "disconnect")).toEqual([]);
      for (const acceptor of [0, 1, 2]) harness.ack(acceptor, START);
    }
  });

  // Aim: a connection that was given up says nothing any more. Method: messages that arrive before its end does.
  test("messages of a connection that was given up are ignored", () => {
    const harness = new Harness();
    harness.elect([0, 1, 2]);
    harness.ack(0, START, { term: 0n });
    expect(harness.core.acceptorView(0).state).toBe("closing");
    expect(harness.core.wantsLsn(0)).toBeUndefined();
    expect(harness.core.nextAppend(0, lsn(START + 10))).toBeUndefined();
    expect(harness.ack(0, START)).toEqual([]);
    expect(only(harness.tick(20_000), "connect").map(({ acceptor }) => acceptor)).not.toContain(0);
    expect(only(harness.disconnected(0), "connect")).toEqual([{ type: "connect", acceptor: 0 }]);
    expect(harness.disconnected(1)).not.toEqual([]);
  });

  // Aim: a message out of turn costs the connection. Method: each message in a state where it does not belong.
  test("messages out of turn are refused", () => {
    const reasons = (effects: ReturnType<Harness["ack"]>): string[] =>
      only(effects, "disconnect").map(({ reason }) => reason);
    const harness = new Harness();
    harness.open([0, 1, 2]);
    expect(reasons(harness.vote(0))).toEqual(["unexpected_message"]);
    expect(reasons(harness.ack(1, START))).toEqual(["unexpected_message"]);
    harness.greet(2);
    expect(reasons(harness.greet(2))).toEqual(["unexpected_message"]);
    const streaming = new Harness();
    streaming.elect();
    expect(reasons(streaming.vote(0))).toEqual(["unexpected_message"]);
    expect(reasons(streaming.vote(1, { term: 0n }))).toEqual(["unexpected_message"]);
    expect(reasons(streaming.join(2, {}, { term: 0n }))).toEqual(["stale_term"]);
  });

  // Aim: an illegal move stops us instead of going unnoticed. Method: every pair of states against a second table.
  test("states change only along the table", () => {
    const next: Record<string, string[]> = {
      offline: ["connecting"],
      connecting: ["handshake", "closing", "offline"],
      handshake: ["wait-voting", "closing", "offline"],
      "wait-voting": ["wait-verdict", "handshake", "closing", "offline"],
      "wait-verdict": ["wait-elected", "closing", "offline"],
      "wait-elected": ["active", "closing", "offline"],
      active: ["closing", "offline"],
      closing: ["offline"],
    };
    const path = [
      "connecting",
      "handshake",
      "wait-voting",
      "wait-verdict",
      "wait-elected",
      "active",
      "closing",
    ] as const;
    for (let length = 0; length <= path.length; length += 1) {
      for (const target of ["offline", ...path] as const) {
        const progress = new AcceptorProgress(0);
        for (const state of path.slice(0, length)) progress.move(state, 0);
        const legal = next[progress.state]?.includes(target) ?? false;
        if (legal) expect(() => progress.move(target, 0)).not.toThrow();
        else expect(() => progress.move(target, 0)).toThrow("cannot move");
      }
    }
  });
});

describe("members and generations", () => {
  const learn = { acceptors: 4, configuration: "learn" } as const;

  // Aim: which acceptors may be down during a change of members. Method: commits with some of them silent.
  test.each([
    { members: [1, 2, 3], newMembers: [2, 3, 4], silent: [1, 4], works: true },
    { members: [1, 2, 3], newMembers: [2, 3, 4], silent: [1, 2], works: false },
    { members: [1, 2, 3], newMembers: [2, 3, 4], silent: [2, 4], works: false },
    { members: [1, 2, 3], newMembers: [2, 3, 4], silent: [3], works: true },
    { members: [1, 2, 3], newMembers: [4], silent: [4], works: false },
    { members: [1, 2, 3], newMembers: [4], silent: [2], works: true },
    { members: [1, 2, 3], newMembers: [], silent: [4], works: true },
  ])("from $members to $newMembers with $silent silent a commit happens: $works", (row) => {
    const harness = new Harness({
      acceptors: 4,
      configuration: configuration(2, row.members, row.newMembers),
    });
    harness.elect([0, 1, 2, 3]);
    for (const acceptor of [0, 1, 2, 3]) harness.sendAll(acceptor, START + 10);
    for (const acceptor of [0, 1, 2, 3])
      if (!row.silent.includes(acceptor + 1)) harness.ack(acceptor, START + 10);
    expect(harness.core.commitLsn).toBe(row.works ? BigInt(START + 10) : 0n);
  });

  // Aim: the members are learnt, the highest generation wins, and laggards are told. Method: 1, then 2, then a vote.
  test("the highest configuration shown before the campaign is adopted and passed on", () => {
    const harness = new Harness(learn);
    harness.open([0, 1, 2, 3]);
    expect(harness.core.configuration).toBeUndefined();
    harness.greet(0, { configuration: configuration(1, [1, 2, 3]) });
    const second = configuration(2, [1, 2, 4]);
    const effects = harness.greet(1, { configuration: second });
    expect(harness.core.configuration).toEqual(second);
    expect(only(effects, "send")).toMatchObject([
      { acceptor: 0, message: { type: "greeting", configuration: second } },
    ]);
    expect(harness.core.state).toBe("collecting-terms");
    expect(sentTo(harness.greet(0, { configuration: second }), 0)).toEqual(["vote-request"]);
    // Node 3 is no member: it votes and is streamed to, and nothing it says counts.
    harness.greet(2, { configuration: second });
    harness.vote(2);
    harness.vote(0);
    expect(harness.core.state).toBe("campaign");
    harness.vote(1);
    expect(harness.core.state).toBe("elected");
    for (const acceptor of [0, 1, 2]) harness.sendAll(acceptor, START + 9);
    harness.ack(2, START + 9);
    harness.ack(0, START + 9);
    expect(harness.core.commitLsn).toBe(0n);
    expect(harness.core.acceptorView(2)).toMatchObject({
      state: "active",
      member: false,
      flushLsn: BigInt(START + 9),
    });
    expect(only(harness.ack(1, START + 9), "commit")).toHaveLength(1);
    // Node 4 is a member that nobody has seen: its WAL is kept.
    expect(harness.core.truncateLsn).toBe(0n);
  });

  // Aim: WAL is kept for whoever may still ask for it. Method: a listed stranger that was never seen, then a member
  // that is in no list; everybody else has everything.
  test("listed strangers and unlisted members hold the truncate position", () => {
    for (const acceptors of [4, 2]) {
      const harness = new Harness({ acceptors, configuration: configuration(2, [1, 2, 3]) });
      const present = [0, 1, 2].slice(0, acceptors);
      harness.elect(present);
      for (const acceptor of present) harness.sendAll(acceptor, START + 9);
      for (const acceptor of present) harness.ack(acceptor, START + 9);
      expect(harness.core.commitLsn).toBe(BigInt(START + 9));
      expect(harness.core.truncateLsn).toBe(0n);
    }
  });

  // Aim: an acceptor that will not follow is not asked for ever. Method: the same low generation twice.
  test("an acceptor that stays in a lower generation is refused", () => {
    const harness = new Harness({ ...learn, configuration: configuration(2, [1, 2, 3]) });
    harness.open([0]);
    const effects = harness.greet(0, { configuration: configuration(1, [1, 2, 3]) });
    expect(only(effects, "disconnect")).toMatchObject([{ acceptor: 0, reason: "generation_mismatch" }]);
  });

  // Aim: the members must not change under a campaign. Method: a higher generation after it began.
  test("a higher generation after the campaign began ends the term", () => {
    const harness = new Harness(learn);
    const first = configuration(1, [1, 2, 3]);
    harness.open([0, 1, 2]);
    harness.greet(0, { configuration: first });
    harness.greet(1, { configuration: first });
    expect(harness.core.state).toBe("campaign");
    const effects = harness.greet(2, { configuration: configuration(2, [1, 2, 3]) });
    expect(only(effects, "restart")).toMatchObject([{ reason: "generation_change" }]);
  });

  // Aim: one generation has one content, and generations are not mixed with none. Method: each contradiction.
  test("contradictory configurations are refused with an alarm", () => {
    const conflict = new Harness({ ...learn, configuration: configuration(2, [1, 2, 3]) });
    conflict.open([0]);
    const other = conflict.greet(0, { configuration: configuration(2, [1, 2, 4]) });
    expect(only(other, "alarm")).toMatchObject([{ code: "configuration_conflict" }]);
    const plain = new Harness();
    plain.open([0]);
    const foreign = plain.greet(0, { configuration: configuration(1, [1, 2, 3]) });
    expect(only(foreign, "alarm")).toMatchObject([{ code: "generation_mismatch" }]);
    expect(plain.core.state).toBe("collecting-terms");
  });

  // Aim: a node outside the configuration can neither end our term nor refuse our votes. Method: all it could try.
  test("a stranger cannot end the term", () => {
    const members = { ...learn, configuration: configuration(2, [1, 2, 3]) };
    const lateGreeting = new Harness(members);
    lateGreeting.elect();
    lateGreeting.connected(3);
    expect(only(lateGreeting.greet(3, { term: 50n }), "disconnect")).toMatchObject([
      { reason: "foreign_term" },
    ]);
    const answers: ((harness: Harness) => ReturnType<Harness["ack"]>)[] = [
      (harness) => harness.ack(3, 0, { term: 50n }),
      (harness) => harness.ack(3, START, { generation: 3 }),
    ];
    for (const answer of answers) {
      const harness = new Harness(members);
      harness.elect([0, 1, 3]);
      const effects = answer(harness);
      expect(only(effects, "restart")).toEqual([]);
      expect(only(effects, "disconnect")).toHaveLength(1);
    }
    const refusal = new Harness(members);
    refusal.open([0, 1, 3]);
    for (const acceptor of [3, 0, 1]) refusal.greet(acceptor);
    expect(only(refusal.vote(3, { given: false }), "disconnect")).toMatchObject([{ reason: "foreign_term" }]);
    expect(refusal.core.finished).toBe(false);
  });

  // Aim: one node counts once. Method: two addresses of one node, with and without generations.
  test("one node behind two addresses is refused", () => {
    for (const options of [{}, { ...learn, configuration: configuration(2, [1, 2, 3]) }]) {
      const harness = new Harness(options);
      harness.open([0, 1, 2]);
      harness.greet(0, { nodeId: 1 });
      const effects = harness.greet(1, { nodeId: 1 });
      expect(only(effects, "alarm")).toMatchObject([{ acceptor: 1, code: "node_conflict" }]);
      expect(harness.core.state).toBe("collecting-terms");
    }
  });

  // Aim: a stand-in does not inherit what its predecessor promised. Method: another node at the same address.
  test("without generations the node behind an address must stay the same", () => {
    const harness = new Harness();
    harness.elect();
    harness.reconnect(0);
    const effects = harness.greet(0, { nodeId: 9, term: 1n });
    expect(only(effects, "disconnect")).toMatchObject([{ acceptor: 0, reason: "node_conflict" }]);
  });

  // Aim: with generations a node may move, and takes what it promised along. Method: two nodes swap their addresses.
  test("with generations a node keeps its acknowledgements at another address", () => {
    const harness = new Harness({ ...learn, configuration: configuration(2, [1, 2, 3]) });
    harness.elect();
    for (const acceptor of [0, 1]) harness.sendAll(acceptor, START + 10);
    harness.ack(0, START + 10);
    harness.disconnected(0);
    harness.tick(1000);
    harness.connected(2);
    harness.greet(2, { nodeId: 1, term: 1n });
    harness.vote(2, { given: false, flush: START + 10, history: terms([0, START], [1, START]) });
    expect(harness.core.acceptorView(2)).toMatchObject({
      nodeId: 1n,
      member: true,
      flushLsn: BigInt(START + 10),
    });
    expect(harness.core.acceptorView(0).nodeId).toBeUndefined();
    expect(only(harness.ack(1, START + 10), "commit")).toHaveLength(1);
  });

  // Aim: node id 0 is nobody where ids matter. Method: both modes.
  test("node id 0 is refused with generations only", () => {
    const harness = new Harness({ ...learn, configuration: configuration(2, [1, 2, 3]) });
    harness.open([0]);
    expect(only(harness.greet(0, { nodeId: 0 }), "disconnect")).toMatchObject([{ reason: "node_conflict" }]);
    const plain = new Harness({ protocolVersion: 2 });
    plain.elect([0, 1], { nodeId: 0 });
    expect(plain.core.state).toBe("elected");
    plain.reconnect(0);
    expect(only(plain.greet(0, { nodeId: 5 }), "disconnect")).toMatchObject([{ reason: "node_conflict" }]);
  });
});

// Aim: settings that cannot work are refused at once. Method: one of each.
test("impossible options are refused", () => {
  const options = {
    tenantId: "",
    timelineId: "",
    pgVersion: 0,
    systemId: 0n,
    segmentBytes: 1 << 20,
    acceptors: 3,
    bootstrapLsn: lsn(0),
    protocolVersion: 3,
  } as const;
  for (const acceptors of [0, 32, 1.5])
    expect(() => new ProposerCore({ ...options, acceptors })).toThrow(RangeError);
  expect(() => new ProposerCore({ ...options, protocolVersion: 2, configuration: "learn" })).toThrow(
    RangeError,
  );
  expect(() => new ProposerCore({ ...options, configuration: configuration(1, []) })).toThrow("no members");
  expect(() => new ProposerCore({ ...options, segmentBytes: 0 })).toThrow(RangeError);
  expect(() => new ProposerCore(options).acceptorView(3)).toThrow(RangeError);
});

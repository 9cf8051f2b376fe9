import { stat } from "node:fs/promises";
import * as path from "node:path";
import type { Lsn } from "@millrace/lsn";
import { expect, test, vi } from "vitest";

import { RECEIVERS_PER_TIMELINE_MAX } from "../src/compute-registry.js";
import type { Timeline } from "../src/timeline.js";
import { Harness, START, walOf } from "./acceptor-harness.js";
import type { TestProposer } from "./acceptor-harness.js";
import { TENANT, TIMELINE } from "./fixtures.js";
import { Hold } from "./hold.js";
import { describe, frame, frames } from "./raw-client.js";
import { systemError } from "./memory-file-system.js";
import { WalStream } from "./wal-stream.js";

const OTHER_TIMELINE = "00000000000000000000000000000001";

/** The server's messages after CopyBothResponse, without replies. */
function afterCopyBoth(proposer: TestProposer): string[] {
  const list = frames(proposer.pair.serverBytes());
  const start = list.findIndex(({ tag }) => tag === "W");
  expect(list[start]?.body.toString("hex")).toBe("000000");
  return list.slice(start + 1).flatMap((one) => (one.tag === "d" ? [] : [describe(one)]));
}

function onlyTimeline(harness: Harness): Timeline {
  const [timeline] = harness.node.timelines.list();
  if (timeline === undefined) throw new Error("no timeline");
  return timeline;
}

function expectNobodyLeft(harness: Harness): void {
  expect(harness.node.status().connections).toBe(0);
  for (const timeline of harness.node.timelines.list()) {
    expect(timeline.receivers.size).toBe(0);
    expect(timeline.users).toBe(0);
    expect(timeline.feedback.subscriptions).toBe(0);
  }
}

/** An elected proposer whose first record is acknowledged. */
async function streaming(harness: Harness): Promise<{ proposer: TestProposer; wal: WalStream }> {
  const proposer = await harness.elected();
  const wal = walOf(1);
  proposer.append(wal, START, wal.endLsn);
  expect((await proposer.receiveOf("append-response")).flushLsn).toBe(wal.endLsn);
  return { proposer, wal };
}

// Aim: many small appends cost few syncs. Method: a thousand of them arrive in one piece, syncs are counted.
test("a thousand appends that arrive together are synced at most three times", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const wal = walOf(1000);
  const syncsBefore = harness.disk.walSyncs;
  const writesBefore = harness.disk.walWrites;
  for (const [index, end] of wal.boundaries.slice(1).entries()) {
    proposer.append(wal, wal.boundaries[index] ?? START, end);
  }
  let flushLsn = START;
  while (flushLsn < wal.endLsn) ({ flushLsn } = await proposer.receiveOf("append-response"));
  expect(flushLsn).toBe(wal.endLsn);
  expect(harness.disk.walSyncs - syncsBefore).toBeLessThanOrEqual(3);
  expect(harness.disk.walWrites - writesBefore).toBeLessThanOrEqual(12);
  await proposer.client.close();
});

// Aim: each reason to end has its bytes and leaves nothing behind. Method: one stream per reason, ended once it
// streams; what the server wrote after CopyBothResponse is compared, then the registries.
test.each<[string, (harness: Harness, proposer: TestProposer, wal: WalStream) => unknown, readonly string[]]>(
  [
    ["CopyDone", (_harness, proposer) => proposer.stream.writer.done(), ["c"]],
    [
      "CopyFail",
      (_harness, proposer) => proposer.pair.client.write(frame("f", "had enough\0")),
      ["E(ERROR 00000 terminated by CopyFail: had enough)"],
    ],
    ["Terminate", (_harness, proposer) => proposer.pair.client.write(frame("X", "")), []],
    ["the end of the socket", (_harness, proposer) => proposer.pair.client.end(), []],
    ["a reset", (_harness, proposer) => proposer.pair.client.destroy(), []],
    [
      "a message that does not parse",
      (_harness, proposer) => proposer.pair.client.write(frame("d", "?")),
      [expect.stringMatching(/^E\(ERROR XX000 /) as string],
    ],
    [
      "an illegal message of the outer protocol",
      (_harness, proposer) => proposer.pair.client.write(frame("Q", "SELECT 1\0")),
      [expect.stringMatching(/^E\(ERROR XX000 /) as string],
    ],
    [
      "a consensus refusal",
      (_harness, proposer, wal) => {
        const more = walOf(5);
        proposer.append(more, more.boundaries[3] ?? wal.endLsn, more.endLsn);
      },
      [expect.stringMatching(/^E\(ERROR XX000 WAL acceptor: append request at .* leaves a gap/) as string],
    ],
    [
      "a full disk",
      (harness, proposer, wal) => {
        harness.disk.onCall = ({ name }) => {
          if (name === "pwrite") throw systemError("ENOSPC");
        };
        const more = walOf(2);
        proposer.append(more, wal.endLsn, more.endLsn);
      },
      [expect.stringMatching(/^E\(ERROR 53100 WAL acceptor: .*ENOSPC/) as string],
    ],
    [
      "a failed sync",
      (harness, proposer, wal) => {
        harness.disk.onCall = ({ name }) => {
          if (name === "fdatasync") throw systemError("EIO");
        };
        const more = walOf(2);
        proposer.append(more, wal.endLsn, more.endLsn);
      },
      [expect.stringMatching(/^E\(ERROR 58030 WAL acceptor: /) as string],
    ],
    [
      "a bug",
      (harness, proposer, wal) => {
        vi.spyOn(onlyTimeline(harness), "appendBatch").mockRejectedValueOnce(new TypeError("oops"));
        const more = walOf(2);
        proposer.append(more, wal.endLsn, more.endLsn);
      },
      ["E(ERROR XX000 WalAcceptor task panicked: oops)"],
    ],
    ["silence", (harness) => harness.clock.advance(600_000), []],
    ["the timeline's deletion", (harness) => harness.node.timelines.delete(TENANT, TIMELINE), []],
    [
      "the node's stop",
      (harness) => harness.node.close(),
      ["E(FATAL 57P01 terminating connection: the acceptor is shutting down)"],
    ],
  ],
)("%s ends a stream with its own bytes and leaves nothing behind", async (_name, end, expected) => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  await end(harness, proposer, wal);
  await proposer.served;
  expect(afterCopyBoth(proposer)).toEqual(expected);
  expectNobodyLeft(harness);
  expect(harness.log.of("stream-ended")).toHaveLength(1);
});

// Aim: a failed sync is fatal for the node and for the timeline, once. Method: the callback and a second stream.
test("a failed sync is reported once and the timeline refuses everything afterwards", async () => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  harness.disk.onCall = ({ name }) => {
    if (name === "fdatasync") throw systemError("EIO");
  };
  const more = walOf(2);
  proposer.append(more, wal.endLsn, more.endLsn);
  await proposer.served;
  harness.disk.onCall = undefined;
  expect(harness.fatal).toHaveLength(1);
  expect(harness.fatal[0]).toMatchObject({ code: "ERR_ACCEPTOR_POISONED" });
  expect(onlyTimeline(harness).brokenReason).toContain("timeline is broken");
  const again = await harness.push();
  again.sendGreeting();
  expect(await again.end()).toMatchObject({ message: expect.stringContaining("broken") as string });
  await again.served;
  expect(harness.log.of("timeline-broken")).toHaveLength(1);
});

// Aim: after a bug nobody trusts what is in memory. Method: the task meets a TypeError; a second stream is refused.
test("a task that crashed leaves a broken timeline behind", async () => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  vi.spyOn(onlyTimeline(harness), "appendBatch").mockRejectedValueOnce(new TypeError("oops"));
  proposer.append(wal, wal.endLsn, wal.endLsn);
  await proposer.served;
  expect(onlyTimeline(harness).status().brokenReason).toBe("timeline is broken: oops");
  const again = await harness.push();
  again.sendGreeting();
  expect(await again.end()).toEqual({
    sqlstate: "XX000",
    message: "WAL acceptor: timeline is broken: oops",
  });
  expect(harness.fatal).toEqual([]);
});

// Aim: a stream must begin with a greeting. Method: a vote first; no timeline may come of it.
test("a first message that is no greeting is refused and creates nothing", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.push();
  proposer.send({ type: "vote-request", generation: 0, term: 1n });
  await proposer.served;
  expect(afterCopyBoth(proposer)).toEqual([
    'E(ERROR XX000 unexpected message "vote-request" instead of greeting)',
  ]);
  expect(harness.node.timelines.size).toBe(0);
});

test("a greeting for other ids than the connection's is refused and creates nothing", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.push();
  proposer.sendGreeting({ timelineId: OTHER_TIMELINE });
  expect(await proposer.end()).toMatchObject({ sqlstate: "XX000" });
  expect(harness.node.timelines.size).toBe(0);
});

test.each([
  ["an impossible segment size", { segmentBytes: 0 }],
  ["a segment size that is no power of two", { segmentBytes: 3 * 1024 * 1024 }],
  ["an unknown version", { pgVersion: 0 }],
  ["a version whose WAL is not understood", { pgVersion: 140_005 }],
])("a greeting with %s creates nothing", async (_name, change) => {
  await using harness = await Harness.open();
  const proposer = await harness.push();
  proposer.sendGreeting(change);
  expect(await proposer.end()).toMatchObject({ sqlstate: "XX000" });
  expect(harness.node.timelines.size).toBe(0);
});

// Aim: a proposer that may not create gets silence, not an error. Method: by option and by configuration.
test.each([
  ["the command", {}, "START_WAL_PUSH (proto_version '3', allow_timeline_creation 'false')"],
  ["the configuration", { allowTimelineCreation: false }, "START_WAL_PUSH (proto_version '3')"],
])(
  "an absent timeline closes the stream silently when %s forbids creating it",
  async (_name, options, command) => {
    await using harness = await Harness.open(options);
    const proposer = await harness.push({ command });
    proposer.sendGreeting();
    expect(await proposer.end()).toBe("eof");
    await proposer.served;
    expect(afterCopyBoth(proposer)).toEqual([]);
    expect(harness.node.timelines.size).toBe(0);
  },
);

// Aim: no disk access outlives its connection, and a socket error hides the task's. Method: the write is held while
// the socket is reset, then it goes on, well or badly; the handler may only return after that.
test.each([
  ["well", undefined],
  ["badly", systemError("EIO")],
])("a reset is reported only after a write under way has ended %s", async (_name, error) => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  const hold = new Hold();
  harness.disk.onCall = ({ name }) => (name === "pwrite" ? hold.pass() : undefined);
  const more = walOf(2);
  proposer.append(more, wal.endLsn, more.endLsn);
  await hold.arrived;
  let served = false;
  void proposer.served.then(() => {
    served = true;
  });
  proposer.pair.client.destroy();
  await new Promise(setImmediate);
  expect(served).toBe(false);
  expect(onlyTimeline(harness).users).toBe(1);
  if (error === undefined) hold.release();
  else hold.fail(error);
  await proposer.served;
  harness.disk.onCall = undefined;
  expect(harness.log.of("stream-ended")).toMatchObject([
    { level: "info", reason: expect.stringMatching(/^disconnected/) },
  ]);
  expectNobodyLeft(harness);
});

// Aim: what a status shows is what a vote promises. Method: appends pile up behind a held sync, the proposer leaves,
// the sync goes on; then status and vote are compared.
test("WAL received before a disconnect is synced, so that status and vote agree", async () => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  const hold = new Hold();
  harness.disk.onCall = ({ name }) => (name === "fdatasync" ? hold.pass() : undefined);
  const more = walOf(10);
  proposer.append(more, wal.endLsn, more.boundaries[2] ?? wal.endLsn);
  await hold.arrived;
  const writesBefore = harness.disk.walWrites;
  proposer.append(more, more.boundaries[2] ?? wal.endLsn, more.endLsn);
  proposer.pair.client.end();
  hold.release();
  await proposer.served;
  expect(harness.disk.walWrites).toBeGreaterThan(writesBefore);
  const { client } = await harness.connect();
  const [status] = await client.query("TIMELINE_STATUS");
  const next = await harness.push();
  await next.greet();
  const vote = await next.vote(2n);
  expect(vote.flushLsn).toBe(more.endLsn);
  expect(status?.rows[0]?.[0]).toBe(`0/${more.endLsn.toString(16).toUpperCase()}`);
  await client.close();
  await next.client.close();
});

// Aim: a peer that does not read is stopped and hurts nobody. Method: votes with long answers on a paused connection;
// the number of handled votes must come to a stand although more wait, and another timeline must work meanwhile.
test("a peer that never reads replies is stopped by bounded queues and others are not affected", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.push();
  await proposer.greet();
  await proposer.vote(2000n);
  const history = Array.from({ length: 2000 }, (_, index) => ({ term: BigInt(index), lsn: START }));
  proposer.elect(2000n, START, [...history, { term: 2000n, lsn: START }]);
  const process = vi.spyOn(onlyTimeline(harness), "process");
  proposer.pair.stallClient();
  const votes = 2000;
  for (let index = 0; index < votes; index += 1)
    proposer.send({ type: "vote-request", generation: 0, term: 1n });

  // Replies of 32 KiB: the socket's queue takes about a megabyte, then come 16 in the reply queue.
  const other = await harness.push({ target: `tenant_id=${TENANT} timeline_id=${OTHER_TIMELINE}` });
  await other.greet({ timelineId: OTHER_TIMELINE });
  await other.vote(1n);
  other.elect(1n, START, [{ term: 1n, lsn: START }]);
  const wal = walOf(50);
  for (const [index, end] of wal.boundaries.slice(1).entries()) {
    other.append(wal, wal.boundaries[index] ?? START, end);
    let { flushLsn } = await other.receiveOf("append-response");
    while (flushLsn < end) ({ flushLsn } = await other.receiveOf("append-response"));
  }
  const handled = process.mock.calls.length;
  expect(handled).toBeLessThan(100);
  expect(handled).toBeGreaterThan(16);

  let answered = 0;
  proposer.pair.resumeClient();
  while (answered < votes) {
    await proposer.receiveOf("vote-response");
    answered += 1;
  }
  expect(process.mock.calls.length).toBeGreaterThanOrEqual(votes);
  await proposer.client.close();
  await other.client.close();
});

// Aim: a slow disk shows. Method: a held write while the queue fills; the clock passes five seconds.
test("a hand-off that is blocked for five seconds is published, once as it happens and once with its length", async () => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  const hold = new Hold();
  harness.disk.onCall = ({ name }) => (name === "pwrite" ? hold.pass() : undefined);
  const blocked = harness.clock.timerSet(5000);
  const more = walOf(400);
  for (let index = 1; index < 400; index += 1) {
    proposer.append(more, more.boundaries[index] ?? wal.endLsn, more.boundaries[index + 1] ?? wal.endLsn);
  }
  await blocked;
  harness.clock.advance(4999);
  expect(harness.log.of("slow-queue")).toHaveLength(0);
  harness.clock.advance(1);
  expect(harness.log.of("slow-queue")).toMatchObject([{ level: "warn", blockedMs: 5000, tenantId: TENANT }]);
  harness.clock.advance(2000);
  hold.release();
  let { flushLsn } = await proposer.receiveOf("append-response");
  while (flushLsn < more.endLsn) ({ flushLsn } = await proposer.receiveOf("append-response"));
  expect(harness.log.of("slow-queue").map(({ blockedMs }) => blockedMs)).toEqual([5000, 7000]);
  await proposer.client.close();
});

// Aim: heartbeats keep a stream alive, silence ends it. Method: the clock moves almost to the limit between beats.
test("heartbeats keep a stream alive for as long as they come", async () => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  for (let beat = 0; beat < 5; beat += 1) {
    harness.clock.advance(599_999);
    proposer.append(wal, wal.endLsn, wal.endLsn);
    await proposer.receiveOf("append-response");
  }
  harness.clock.advance(600_000);
  await proposer.served;
  expect(harness.log.of("stream-ended")).toMatchObject([{ reason: "nothing received for 600000 ms" }]);
});

test("a stream whose first message never comes is dropped as well", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.push();
  await harness.log.seen("stream-started");
  harness.clock.advance(600_000);
  await proposer.served;
  expect(afterCopyBoth(proposer)).toEqual([]);
});

// Aim: deletion ends streams without a word, and a proposer that runs on cannot undo it. Method: delete while a write
// is under way; reconnect before and after a restart.
test("a timeline deleted under a stream is gone and stays gone", async () => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  const hold = new Hold();
  harness.disk.onCall = ({ name }) => (name === "pwrite" ? hold.pass() : undefined);
  const more = walOf(2);
  proposer.append(more, wal.endLsn, more.endLsn);
  await hold.arrived;
  // Tombstones are written through the same disk: hold only the first write.
  harness.disk.onCall = undefined;
  const deleting = harness.node.timelines.delete(TENANT, TIMELINE);
  const second = harness.node.timelines.delete(TENANT, TIMELINE);
  hold.release();
  expect(await deleting).toEqual({ existed: true });
  expect(await second).toEqual({ existed: true });
  await proposer.served;
  expect(afterCopyBoth(proposer)).toEqual([]);
  await expect(stat(path.join(harness.directory, TENANT, TIMELINE))).rejects.toMatchObject({
    code: "ENOENT",
  });
  expect(harness.disk.openFiles).toBe(0);

  for (let attempt = 0; attempt < 2; attempt += 1) {
    const again = await harness.push();
    again.sendGreeting();
    expect(await again.end()).toEqual({
      sqlstate: "57P01",
      message: `timeline ${TENANT}/${TIMELINE} was deleted`,
    });
    await again.served;
    if (attempt === 0) await harness.reopen();
  }
});

// Aim: an injected reader's report reaches the proposer on an acknowledgement. Method: one report before the first
// AppendResponse, more than the capacity after it.
test("pageserver feedback rides on the last acknowledgement, and only the newest eight wait", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.push();
  await proposer.greet();
  const { feedback } = onlyTimeline(harness);
  const report = (size: bigint) => ({
    currentTimelineSize: size,
    lastReceivedLsn: START,
    diskConsistentLsn: START,
    remoteConsistentLsn: START,
    replyTime: 1n,
  });
  feedback.publish(report(1n) as never);
  await proposer.vote(1n);
  proposer.elect(1n, START, [{ term: 1n, lsn: START }]);
  const wal = walOf(1);
  proposer.append(wal, START, wal.endLsn);
  const plain = await proposer.receiveOf("append-response");
  expect(plain.pageserver).toBeUndefined();
  for (let size = 10n; size < 30n; size += 1n) feedback.publish(report(size) as never);
  const sizes: unknown[] = [];
  for (let index = 0; index < 8; index += 1) {
    const reply = await proposer.receiveOf("append-response");
    expect(reply.flushLsn).toBe(plain.flushLsn);
    sizes.push(
      (reply.pageserver as { readonly currentTimelineSize?: bigint } | undefined)?.currentTimelineSize,
    );
  }
  expect(sizes).toEqual([22n, 23n, 24n, 25n, 26n, 27n, 28n, 29n]);
  await proposer.client.close();
});

// Aim: standbys' horizons reach the proposer. Method: two standbys, of which the older one leaves.
test("an acknowledgement carries the oldest horizon of the standbys connected now", async () => {
  await using harness = await Harness.open();
  const { proposer, wal } = await streaming(harness);
  const { feedback } = onlyTimeline(harness);
  const old = feedback.registerStandby();
  using young = feedback.registerStandby();
  old.update({ timestamp: 5n, xmin: 100n, catalogXmin: 0n });
  young.update({ timestamp: 7n, xmin: 200n, catalogXmin: 50n });
  proposer.append(wal, wal.endLsn, wal.endLsn);
  expect((await proposer.receiveOf("append-response")).hotStandby).toEqual({
    timestamp: 7n,
    xmin: 100n,
    catalogXmin: 50n,
  });
  old[Symbol.dispose]();
  old[Symbol.dispose]();
  proposer.append(wal, wal.endLsn, wal.endLsn);
  expect((await proposer.receiveOf("append-response")).hotStandby.xmin).toBe(200n);
  await proposer.client.close();
});

// Aim: receivers are limited. Method: as many streams as allowed, and one more.
test("a timeline takes sixty-four receivers and refuses the next", async () => {
  await using harness = await Harness.open();
  const proposers: TestProposer[] = [];
  for (let index = 0; index < RECEIVERS_PER_TIMELINE_MAX; index += 1) {
    const proposer = await harness.push();
    await proposer.greet();
    proposers.push(proposer);
  }
  const tooMany = await harness.push();
  tooMany.sendGreeting();
  expect(await tooMany.end()).toMatchObject({ sqlstate: "53300" });
  expect(onlyTimeline(harness).receivers.size).toBe(RECEIVERS_PER_TIMELINE_MAX);
  await proposers[0]?.client.close();
  await proposers[0]?.served;
  const another = await harness.push();
  await another.greet();
  for (const proposer of [...proposers, another]) await proposer.client.close();
});

// Aim: version 2 works through the same pipeline. Method: the whole conversation in its encoding.
test("a proposer of version 2 is elected and acknowledged", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.push({ version: 2, command: "START_WAL_PUSH" });
  await proposer.greet();
  expect(await proposer.vote(3n)).toMatchObject({ voteGiven: true });
  proposer.elect(3n, START, [{ term: 3n, lsn: START }]);
  const wal = walOf(2);
  proposer.append(wal, START, wal.endLsn, 0n as Lsn, 3n);
  expect(await proposer.receiveOf("append-response")).toMatchObject({ term: 3n, flushLsn: wal.endLsn });
  expect(onlyTimeline(harness).status().walReceivers).toEqual([
    { connectionId: proposer.client.processId, phase: "streaming" },
  ]);
  await proposer.client.close();
});

// Aim: two proposers that create at once get one timeline or a clear refusal. Method: the creation of the first is held.
test("a second creator of a timeline being created is refused, and finds it afterwards", async () => {
  await using harness = await Harness.open();
  const hold = new Hold();
  harness.disk.onCall = ({ name }) => (name === "rename" ? hold.pass() : undefined);
  const first = await harness.push();
  const second = await harness.push();
  first.sendGreeting();
  await hold.arrived;
  second.sendGreeting();
  expect(await second.end()).toMatchObject({ sqlstate: "55006" });
  hold.release();
  await first.receiveOf("greeting");
  const third = await harness.push();
  await third.greet();
  expect(harness.node.timelines.size).toBe(1);
  await first.client.close();
  await third.client.close();
});

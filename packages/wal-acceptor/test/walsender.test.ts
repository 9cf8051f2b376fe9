import * as fc from "fast-check";
import type { Lsn } from "@millrace/lsn";
import { formatLsn } from "@millrace/lsn";
import { expect, test } from "vitest";

import { chunkBytes, XLOG_DATA_BYTES_MAX } from "../src/replication-chunk.js";
import { ServedLog } from "../src/served-log.js";
import { SENDERS_PER_TIMELINE_MAX } from "../src/walsender-registry.js";
import { Harness, START, walOf } from "./acceptor-harness.js";
import { at, expectSameBytes, TENANT, TIMELINE } from "./fixtures.js";
import { Hold } from "./hold.js";
import { frame, RawClient, startup } from "./raw-client.js";
import { at0, Source, TestReader } from "./test-reader.js";
import { MIB, PAGE, WalStream } from "./wal-stream.js";

const FROM_START = `START_REPLICATION ${formatLsn(START)} TIMELINE 1`;
const OPTIONS = `-c tenant_id=${TENANT} timeline_id=${TIMELINE}`;

function boundary(wal: WalStream, index: number): Lsn {
  const lsn = wal.boundaries[index];
  if (lsn === undefined) throw new Error("the stream is shorter");
  return lsn;
}

/** Stops the next read of WAL, and no other. */
function holdFirstRead(harness: Harness): Hold {
  const hold = new Hold();
  let isFirst = true;
  harness.disk.onCall = ({ name, path }) => {
    if (!isFirst || name !== "pread" || !path.endsWith("000000010000000000000003.partial")) return undefined;
    isFirst = false;
    return hold.pass();
  };
  return hold;
}

// Aim: a reader without a term gets every committed byte and not one more. Method: WAL is durable and not committed;
// the first thing the reader hears is a keepalive; each commit then releases exactly its bytes.
test("without a term a reader gets WAL up to the commit position", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(20));
  const [first, second] = [boundary(source.wal, 7), boundary(source.wal, 20)];
  await source.write(second);
  const reader = await TestReader.start(harness, FROM_START);
  harness.clock.advance(1000);
  expect(await reader.next()).toMatchObject({ type: "keepalive", endLsn: START, replyRequested: true });
  for (const [from, to] of [
    [START, first],
    [first, second],
  ] as const) {
    await source.commit(to);
    const message = await reader.data();
    expect(message).toMatchObject({ startLsn: from, endLsn: to });
    expect(message.walData).toEqual(Buffer.from(source.wal.slice(from, to)));
  }
  expect(source.timeline.status().walSenders).toMatchObject([
    { applicationName: "reader", phase: "streaming", sentLsn: second, peer: "unknown" },
  ]);
  await reader.close();
  expect(source.timeline.status().walSenders).toEqual([]);
});

// Aim: a reader with the acceptor's term gets what is durable. Method: WAL that is not committed; then the term of
// another proposer, by which the reader's rights end while it waits, because the log is no longer its term's.
test("with a term a reader gets WAL up to the flush position until the log changes its term", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(20));
  const end = boundary(source.wal, 20);
  await source.write(end);
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(START)} (term='1')`);
  const message = await reader.data();
  expect(message).toMatchObject({ startLsn: START, endLsn: end });
  expect(message.walData.byteLength).toBe(Number(end - START));

  const next = await harness.push();
  await next.greet();
  await next.vote(2n);
  next.elect(2n, end, [
    { term: 0n, lsn: START },
    { term: 1n, lsn: START },
    { term: 2n, lsn: end },
  ]);
  expect(await reader.end()).toEqual({ sqlstate: "XX000", message: "term changed: requested 1, now 2" });
});

// Aim: a wrong term gives no byte. Method: terms below and above the acceptor's.
test.each([0n, 2n])("term %d gives nothing on an acceptor in term 1", async (term) => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(5));
  await source.write(source.wal.endLsn, source.wal.endLsn);
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(START)} (term='${term}')`);
  const message = `failed to acquire term ${term}, current term 1`;
  expect(await reader.end()).toEqual({ sqlstate: "XX000", message });
});

// Aim: bytes that were read before the term changed do not leave after it. Method: the disk read is held while the
// acceptor votes for another term; whatever the read then gives must not be sent.
test("a term that changes during a read keeps its bytes from being sent", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(5));
  await source.write(source.wal.endLsn, source.wal.endLsn);
  const hold = new Hold();
  harness.disk.onCall = ({ name, path }) =>
    name === "pread" && path.endsWith("000000010000000000000003.partial") ? hold.pass() : undefined;
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(START)} (term='1')`);
  await hold.arrived;
  await source.timeline.bumpTerm(9n);
  hold.release();
  await expect(reader.next()).rejects.toMatchObject({
    fields: { message: "failed to acquire term 1, current term 9" },
  });
});

// Aim: one stream is one log. Method: a reader in a term that the acceptor has only voted in; while WAL of an older term
// is being read for it, the election cuts that WAL and the winner writes as much of its own in its place.
test("WAL that an election cuts while it is read for a reader in its term is not sent", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(5));
  await source.write(source.wal.endLsn);
  const next = await harness.push();
  await next.greet();
  await next.vote(2n);
  const hold = holdFirstRead(harness);
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(START)} (term='2')`);
  await hold.arrived;
  next.elect(2n, START, [
    { term: 0n, lsn: START },
    { term: 2n, lsn: START },
  ]);
  const wal = walOf(9);
  next.append(wal, START, wal.endLsn, at0, 2n);
  const { logEndWatch } = source.timeline;
  for (let { version } = logEndWatch; logEndWatch.value.flushLsn !== wal.endLsn;)
    version = await logEndWatch.changed(version);
  hold.release();
  expect(await reader.end()).toEqual({
    sqlstate: "XX000",
    message: `the log was cut below ${formatLsn(source.wal.endLsn)} when the proposer of term 2 was elected`,
  });
});

// Aim: a donor's stream outlives the election that made it the donor. Method: a reader that has everything when the
// acceptor learns of the election, which cuts nothing; what the winner writes then follows in the same stream.
test("a reader in a term goes on over an election that cuts nothing", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(5));
  const voted = boundary(source.wal, 3);
  await source.write(voted);
  const next = await harness.push();
  await next.greet();
  await next.vote(2n);
  const hold = holdFirstRead(harness);
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(START)} (term='2')`);
  await hold.arrived;
  next.elect(2n, voted, [
    { term: 0n, lsn: START },
    { term: 1n, lsn: START },
    { term: 2n, lsn: voted },
  ]);
  next.append(source.wal, voted, source.wal.endLsn, at0, 2n);
  const { logEndWatch } = source.timeline;
  for (let { version } = logEndWatch; logEndWatch.value.flushLsn !== source.wal.endLsn;)
    version = await logEndWatch.changed(version);
  hold.release();
  const messages = await reader.until(source.wal.endLsn);
  expectSameBytes(
    Buffer.concat(messages.map(({ walData }) => walData)),
    source.wal.slice(START, source.wal.endLsn),
  );
  await reader.close();
});

// Aim: the comparison of histories itself. Method: a log replaced by one that agrees up to a point, around that point.
test("a log goes on as far as its history has not changed", () => {
  const log = (flushLsn: bigint, ...terms: readonly (readonly [bigint, bigint])[]) => ({
    flushLsn: flushLsn as Lsn,
    termHistory: terms.map(([term, lsn]) => ({ term, lsn: lsn as Lsn })),
  });
  const before = log(90n, [1n, 10n], [2n, 50n]);
  const until = (now: typeof before, lsn: bigint): boolean =>
    new ServedLog(before.termHistory).goesOn(now, lsn as Lsn);
  expect(until(before, 90n)).toBe(true);
  expect(until(before, 91n)).toBe(false);
  const cut = log(200n, [1n, 10n], [3n, 70n]);
  expect([50n, 51n, 70n, 71n].map((lsn) => until(cut, lsn))).toEqual([true, false, false, false]);
  const earlier = log(200n, [1n, 10n], [3n, 30n]);
  expect([30n, 31n].map((lsn) => until(earlier, lsn))).toEqual([true, false]);
  const longer = log(200n, [1n, 10n], [2n, 50n], [3n, 90n]);
  expect([90n, 91n].map((lsn) => until(longer, lsn))).toEqual([true, false]);
});

// Aim: what goes into one message. Method: arbitrary positions against the three rules, written out.
test("a message ends at the end, at a page or at a segment's end, and is never longer than 16 pages", () => {
  const lsn = fc.bigInt({ min: 0n, max: 2n ** 63n });
  fc.assert(
    fc.property(lsn, fc.bigInt({ min: 1n, max: 3n * 1024n * 1024n }), (start, length) => {
      const end = start + length;
      const bytes = chunkBytes(start as Lsn, end as Lsn, MIB);
      const stop = start + BigInt(bytes);
      expect(bytes).toBeGreaterThan(0);
      expect(bytes).toBeLessThanOrEqual(XLOG_DATA_BYTES_MAX);
      expect(stop <= end).toBe(true);
      expect(stop === end || stop % BigInt(PAGE) === 0n).toBe(true);
      expect((stop - 1n) / BigInt(MIB)).toBe(start / BigInt(MIB));
      // Not shorter than it must be: the next page would break a rule.
      const nextPage = stop + BigInt(PAGE);
      const full = nextPage - start > BigInt(XLOG_DATA_BYTES_MAX);
      expect(stop === end || full || stop % BigInt(MIB) === 0n).toBe(true);
    }),
  );
});

// Aim: a long stream arrives whole. Method: WAL over two segment ends, from a position within a page; messages are put
// together and compared, and their cuts looked at.
test("WAL across segments arrives byte for byte in messages cut at pages and segments", async () => {
  await using harness = await Harness.open();
  const wal = new WalStream({ startLsn: START });
  while (wal.endLsn < BigInt(5 * MIB + 70_000)) wal.record(3000);
  const source = await Source.open(harness, wal);
  await source.write(wal.endLsn, wal.endLsn);
  const from = boundary(wal, 1);
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(from)}`);
  const messages = await reader.until(wal.endLsn);
  let next: bigint = from;
  for (const { startLsn, endLsn, walData } of messages) {
    expect([startLsn, endLsn]).toEqual([next, wal.endLsn]);
    next += BigInt(walData.byteLength);
    expect(next === wal.endLsn || next % BigInt(PAGE) === 0n).toBe(true);
  }
  expect(messages.map(({ startLsn }) => startLsn)).toEqual(
    expect.arrayContaining([at(4 * MIB), at(5 * MIB)]),
  );
  expectSameBytes(Buffer.concat(messages.map(({ walData }) => walData)), wal.slice(from, wal.endLsn));
});

// Aim: silence is bounded in both directions of speech. Method: the clock; WAL in between postpones the keepalive; a
// status report that asks is answered at once, and without asking back.
test("an idle reader hears a keepalive each second, and one that asks gets one at once", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(4));
  await source.write(source.wal.endLsn);
  const reader = await TestReader.start(harness, FROM_START);
  const keepalive = (endLsn: Lsn, replyRequested: boolean): unknown => ({
    type: "keepalive",
    endLsn,
    replyRequested,
    timestamp: expect.any(BigInt) as bigint,
  });
  for (let round = 0; round < 3; round += 1) {
    harness.clock.advance(1000);
    expect(await reader.next()).toEqual(keepalive(START, true));
  }
  harness.clock.advance(600);
  await source.commit(boundary(source.wal, 2));
  expect(await reader.data()).toMatchObject({ startLsn: START });
  harness.clock.advance(600); // 1200 ms after the keepalive, 600 ms after the WAL
  reader.status(START, true);
  expect(await reader.next()).toEqual(keepalive(boundary(source.wal, 2), false));
  harness.clock.advance(1000);
  expect(await reader.next()).toEqual(keepalive(boundary(source.wal, 2), true));
  expect(source.timeline.status().walSenders).toMatchObject([
    { peer: "standby", writeLsn: START, flushLsn: START, applyLsn: START },
  ]);
});

// Aim: a standby that comes from a faster acceptor waits instead of failing. Method: a start above commit; keepalives
// say where this acceptor is; the first byte that comes is the one asked for.
test("a start ahead of the commit position waits for it", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(10));
  const ahead = boundary(source.wal, 6);
  await source.write(source.wal.endLsn, boundary(source.wal, 2));
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(ahead)}`);
  harness.clock.advance(1000);
  expect(await reader.next()).toMatchObject({ type: "keepalive", endLsn: boundary(source.wal, 2) });
  await source.commit(boundary(source.wal, 5));
  harness.clock.advance(1000);
  expect(await reader.next()).toMatchObject({ type: "keepalive", endLsn: boundary(source.wal, 5) });
  await source.commit(source.wal.endLsn);
  const message = await reader.data();
  expect(message.startLsn).toBe(ahead);
  expect(message.walData).toEqual(Buffer.from(source.wal.slice(ahead, source.wal.endLsn)));
});

// Aim: WAL that is not here is refused in the words that stock tools look for. Method: a position one segment below.
test("a start below the local WAL is refused as removed", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(3));
  await source.write(source.wal.endLsn, source.wal.endLsn);
  const reader = await TestReader.start(harness, "START_REPLICATION 0/200000 TIMELINE 1");
  expect(await reader.end()).toMatchObject({
    sqlstate: "58P01",
    message: expect.stringContaining(
      "requested WAL segment 000000010000000000000002 has already been removed",
    ) as string,
  });
});

// Aim: a standby asks for whole segments; what lies before the first record is made up and the same each time.
// Method: the segment's start is asked for where the timeline begins behind its header.
test("the segment that holds the first record can be read from its start", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(3));
  await source.write(source.wal.endLsn, source.wal.endLsn);
  const reader = await TestReader.start(harness, "START_REPLICATION 0/300000 TIMELINE 1");
  const { startLsn, walData } = await reader.data();
  expect(startLsn).toBe(at(3 * MIB));
  expect(walData.byteLength).toBe(Number(source.wal.endLsn) - 3 * MIB);
  expectSameBytes(walData.subarray(40), source.wal.slice(START, source.wal.endLsn));
});

// Aim: the client may end COPY and go on with other commands. Method: CopyDone, then the two results that
// libpqwalreceiver reads, then a query on the same connection.
test("after CopyDone of the client the connection takes commands again", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(3));
  await source.write(source.wal.endLsn, source.wal.endLsn);
  const client = new RawClient(harness.raw().client);
  client.write(startup({ options: OPTIONS }));
  await client.until("Z");
  client.write(frame("Q", `${FROM_START}\0`));
  expect(await client.until("W")).toEqual(["W(000000)"]);
  await client.until("d");
  client.write(frame("c", ""));
  expect(await client.until("Z")).toEqual(["c", "C(START_STREAMING)", "C(START_REPLICATION)", "Z(I)"]);
  expect(await client.query("IDENTIFY_SYSTEM")).toContain("C(IDENTIFY_SYSTEM)");
});

// Aim: a promotion ends streams on the old timeline where it was left, in the messages a walreceiver insists on.
// Method: a stream that waits at the switch point when the successor is registered; then every start on the old one.
test("a stream on a timeline that was left ends at its switch point", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(10));
  const left = boundary(source.wal, 4);
  await source.write(source.wal.endLsn, boundary(source.wal, 3));
  const client = new RawClient(harness.raw().client);
  client.write(startup({ options: OPTIONS }));
  await client.until("Z");
  client.write(frame("Q", `${FROM_START}\0`));
  await client.until("d");
  const history = `1\t${formatLsn(left)}\tno recovery target specified\n`;
  await source.timeline.readers.registerPgTimeline({ timelineId: 2, beginLsn: left, parentId: 1, history });
  await source.commit(source.wal.endLsn);
  const rest = await client.until("c");
  const hex = Buffer.from(source.wal.slice(boundary(source.wal, 3), left)).toString("hex");
  expect(rest).toEqual([expect.stringMatching(`^d\\(77[0-9a-f]{48}${hex}\\)$`), "c"]);
  client.write(frame("c", ""));
  const next = [
    "T(next_tli:20 next_tli_startpos:25)",
    `D('2' '${formatLsn(left)}')`,
    "C(START_STREAMING)",
    "C(START_REPLICATION)",
    "Z(I)",
  ];
  expect(await client.until("Z")).toEqual(next);
  expect(await client.query(`START_REPLICATION ${formatLsn(left)} TIMELINE 1`)).toEqual(next);
  expect(await client.query(`START_REPLICATION ${formatLsn(boundary(source.wal, 5))} TIMELINE 1`)).toEqual([
    `E(ERROR XX000 requested starting point ${formatLsn(boundary(source.wal, 5))} on timeline 1 is not in this server's history, which forked from timeline 1 at ${formatLsn(left)})`,
    "Z(I)",
  ]);
  expect(await client.query("TIMELINE_HISTORY 2")).toEqual([
    "T(filename:25 content:25)",
    `D('00000002.history' '${history}')`,
    "C(TIMELINE_HISTORY)",
    "Z(I)",
  ]);
  expect((await client.query("IDENTIFY_SYSTEM"))[1]).toContain("'2'");
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(left)} TIMELINE 2`);
  expect((await reader.data()).startLsn).toBe(left);
});

// Aim: an orderly stop says goodbye to readers and does not wait for those that do not answer. Method: one that
// answers CopyDone and one that is silent, which costs two seconds of the clock.
test("a stop of the node ends readers with CopyDone, and without them after two seconds", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(3));
  await source.write(source.wal.endLsn, source.wal.endLsn);
  const polite = new RawClient(harness.raw().client);
  polite.write(startup({ options: OPTIONS }));
  await polite.until("Z");
  polite.write(frame("Q", `${FROM_START}\0`));
  await polite.until("d");
  const silent = new RawClient(harness.raw().client);
  silent.write(startup({ options: OPTIONS }));
  await silent.until("Z");
  silent.write(frame("Q", `${FROM_START}\0`));
  await silent.until("d");
  const patience = harness.clock.timerSet(2000);
  const closed = harness.node.close();
  expect(await polite.until("c")).toEqual(["c"]);
  polite.write(frame("c", ""));
  expect(await polite.untilEnd()).toEqual(["C(COPY 0)", "Z(I)", "end"]);
  expect(await silent.until("c")).toEqual(["c"]);
  await patience;
  harness.clock.advance(2000);
  expect(await silent.untilEnd()).toEqual(["end"]);
  await source.proposer.client.close();
  await closed;
});

// Aim: only a pageserver is sent away. Method: a standby and a pageserver, both with everything, while a compute is
// connected and after it has gone.
test("a pageserver that has everything is sent away once no compute is connected, a standby never", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(3));
  const end = source.wal.endLsn;
  await source.write(end, end);
  const standby = await TestReader.start(harness, FROM_START, "standby");
  const pageserver = await TestReader.start(harness, FROM_START, "pageserver");
  await standby.data();
  await pageserver.data();
  standby.status(end);
  pageserver.pageserver(end);
  const { changes } = source.timeline.readers.senders;
  while (source.timeline.state.remoteConsistentLsn < end) await changes.changed(changes.version);
  harness.clock.advance(1000);
  expect(await pageserver.next()).toMatchObject({ type: "keepalive" });
  expect(await standby.next()).toMatchObject({ type: "keepalive" });
  await source.proposer.client.close();
  await source.proposer.served;
  harness.clock.advance(1000);
  expect(await pageserver.end()).toEqual({
    sqlstate: "00000",
    message: `ending streaming to "pageserver" at ${formatLsn(end)}, receiver is caught up and there are no computes`,
  });
  expect(await standby.next()).toMatchObject({ type: "keepalive" });
});

// Aim: a standby that connects before the first WAL waits for it. Method: a timeline of which nothing is known but its
// name, no compute, and a second of silence.
test("a standby waits on a timeline that has no WAL yet", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.push();
  await proposer.greet();
  await proposer.client.close();
  await proposer.served;
  const reader = await TestReader.start(harness, FROM_START);
  harness.clock.advance(1000);
  expect(await reader.next()).toMatchObject({ type: "keepalive", endLsn: 0n, replyRequested: true });
});

// Aim: what standbys need reaches the proposer, for as long as they are there. Method: two standbys, one of them after
// a wrap of the transaction ids and without a catalog xmin, whose bare epoch must not count.
test("feedback of standbys is aggregated and ends with them", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(3));
  const first = await TestReader.start(harness, FROM_START);
  const second = await TestReader.start(harness, FROM_START);
  const { feedback, readers } = source.timeline;
  const { changes } = readers.senders;
  first.hotStandby((1n << 32n) | 7n, 1n << 32n);
  second.hotStandby((1n << 32n) | 3n, 0n);
  while (feedback.hotStandby.xmin !== ((1n << 32n) | 3n)) await changes.changed(changes.version);
  expect(feedback.hotStandby).toEqual({ timestamp: 5n, xmin: (1n << 32n) | 3n, catalogXmin: 0n });
  await second.close();
  expect(feedback.hotStandby.xmin).toBe((1n << 32n) | 7n);
  await first.close();
  expect(feedback.hotStandby.xmin).toBe(0n);
});

// Aim: readers of one timeline are bounded. Method: fill the registry, then one more by the port.
test("one reader too many is refused before COPY", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(3));
  const who = { connectionId: 1, applicationName: "", term: undefined, slot: undefined };
  const { senders } = source.timeline.readers;
  const guards = Array.from({ length: SENDERS_PER_TIMELINE_MAX }, () => senders.register(who));
  const { client } = await harness.connect();
  await expect(client.startCopyBoth(FROM_START)).rejects.toMatchObject({ sqlstate: "53300" });
  guards[0]?.[Symbol.dispose]();
  await client.startCopyBoth(FROM_START);
  expect(senders.size).toBe(SENDERS_PER_TIMELINE_MAX);
  await client.close();
  for (const guard of guards) guard[Symbol.dispose]();
});

// Aim: a reader that says nothing is dropped, one that reports is not. Method: ten minutes of the clock, twice.
test("a reader that is silent for ten minutes is dropped", async () => {
  await using harness = await Harness.open();
  const source = await Source.open(harness, walOf(3));
  const reader = await TestReader.start(harness, FROM_START);
  const { changes } = source.timeline.readers.senders;
  harness.clock.advance(599_000);
  const { version } = changes;
  reader.status(START);
  await changes.changed(version);
  harness.clock.advance(599_000);
  expect(source.timeline.readers.senders.size).toBe(1);
  harness.clock.advance(2000);
  await reader.served;
  expect(source.timeline.readers.senders.size).toBe(0);
});

// Aim: a reader that does not read harms nobody. Method: its socket takes nothing; WAL goes on being written and
// another reader gets it; what is queued for the first stays below a bound; deleting the timeline does not wait.
test("a reader that does not read stops only itself, and a deletion does not wait for it", async () => {
  await using harness = await Harness.open();
  const wal = new WalStream({ startLsn: START });
  while (wal.endLsn < BigInt(7 * MIB)) wal.record(8000);
  const source = await Source.open(harness, wal);
  const stuck = await TestReader.start(harness, FROM_START);
  stuck.pair.stallClient();
  await source.write(wal.endLsn, wal.endLsn);
  const reader = await TestReader.start(harness, FROM_START);
  const messages = await reader.until(wal.endLsn);
  expectSameBytes(Buffer.concat(messages.map(({ walData }) => walData)), wal.slice(START, wal.endLsn));
  const [row] = source.timeline.status().walSenders;
  expect(Number((row?.sentLsn ?? at0) - START)).toBeLessThan(2 * MIB);
  await harness.node.timelines.delete(TENANT, TIMELINE);
  await Promise.all([stuck.served, reader.served]);
  expect(await reader.end()).toMatch(/eof|reset/);
});

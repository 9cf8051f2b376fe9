import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";

import { MANAGER_INTERVAL_MS } from "../src/timeline-manager.js";
import { removableSegment } from "../src/wal-removal.js";
import type { RemovalPositions } from "../src/wal-removal.js";
import { Harness, START } from "./acceptor-harness.js";
import { at, codeOf } from "./fixtures.js";
import { Hold } from "./hold.js";
import { at0, Source, TestReader } from "./test-reader.js";
import { MIB, WalStream } from "./wal-stream.js";

const ALL: RemovalPositions = {
  segmentBytes: MIB,
  persistedCommitLsn: at(20 * MIB + 5),
  flushLsn: at(20 * MIB + 5),
  peerHorizonLsn: at(20 * MIB + 5),
  slotLsns: [],
  walKeepBytes: 0,
};

// Aim: each thing that holds WAL back does, and the segment it points into stays. Method: one of them at a time.
test.each<[string, Partial<RemovalPositions>, bigint | undefined]>([
  ["nothing but the commit position", {}, 19n],
  ["a commit position at a segment's start", { persistedCommitLsn: at(20 * MIB) }, 19n],
  ["a commit position just before it", { persistedCommitLsn: at(20 * MIB - 1) }, 18n],
  ["the flush position", { flushLsn: at(12 * MIB) }, 11n],
  ["a lagging acceptor", { peerHorizonLsn: at(7 * MIB + 1) }, 6n],
  ["an unknown peer horizon", { peerHorizonLsn: at(0) }, undefined],
  ["a slot", { slotLsns: [at(15 * MIB), at(9 * MIB + 9)] }, 8n],
  ["a range being read", { heldLsns: [at(5 * MIB)] }, 4n],
  ["the archive", { archivedLsn: at(3 * MIB) }, 2n],
  ["what the operator keeps", { walKeepBytes: 4 * MIB }, 15n],
  ["more kept than there is", { walKeepBytes: 64 * MIB }, undefined],
  ["a position in the first segment", { peerHorizonLsn: at(100) }, undefined],
])("%s decides", (_name, change, expected) => {
  expect(removableSegment({ ...ALL, ...change })).toBe(expected);
});

// Aim: no combination removes what anybody needs. Method: any positions; the last removed byte is below each of them.
test("whatever is removed lies wholly below every position that is needed", () => {
  const lsn = fc.bigInt({ min: 0n, max: 2n ** 40n }).map((value) => value as Lsn);
  const positions = fc.record({
    segmentBytes: fc.constantFrom(MIB, 16 * MIB),
    persistedCommitLsn: lsn,
    flushLsn: lsn,
    peerHorizonLsn: lsn,
    slotLsns: fc.array(lsn, { maxLength: 5, size: "max" }),
    heldLsns: fc.array(lsn, { maxLength: 3, size: "max" }),
    walKeepBytes: fc.nat(2 ** 30),
  });
  fc.assert(
    fc.property(positions, (found) => {
      const segno = removableSegment(found);
      if (segno === undefined) return;
      const removedEnd = (segno + 1n) * BigInt(found.segmentBytes);
      const needed = [found.flushLsn, found.peerHorizonLsn, ...found.slotLsns, ...found.heldLsns];
      for (const position of needed) expect(removedEnd <= position).toBe(true);
      expect(removedEnd + BigInt(found.walKeepBytes) <= found.persistedCommitLsn).toBe(true);
    }),
  );
});

/** WAL of segments 3 to 8, committed, that no other acceptor needs. */
async function written(harness: Harness): Promise<Source> {
  const wal = new WalStream({ startLsn: START });
  while (wal.endLsn < BigInt(8 * MIB + 1000)) wal.record(8000);
  const source = await Source.open(harness, wal);
  await source.write(wal.endLsn, wal.endLsn);
  return source;
}

async function forgottenByPeers(source: Source): Promise<void> {
  await source.timeline.recordPeer({
    lastLogTerm: 1n,
    commitLsn: at0,
    backupLsn: at0,
    remoteConsistentLsn: at0,
    peerHorizonLsn: source.wal.endLsn,
  });
}

/** Lets the manager run, each time it has asked for it, until it has removed WAL so many times. */
async function removals(harness: Harness, count: number): Promise<void> {
  while (harness.log.of("wal-removed").length < count) {
    if (harness.clock.delays().includes(MANAGER_INTERVAL_MS)) harness.clock.advance(MANAGER_INTERVAL_MS);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

// Aim: WAL goes by itself, as far as the slowest consumer and no further, and a reader below is told. Method: a slot, a
// connected reader whose reports move its slot, a snapshot's hold; the manager's clock after each step.
test("the manager removes what slots and holds leave over", async () => {
  await using harness = await Harness.open({ walKeepBytes: MIB });
  const source = await written(harness);
  const { timeline } = source;
  await timeline.readers.slots.create("archive", at(4 * MIB + 10));
  await forgottenByPeers(source);
  await removals(harness, 1);
  expect(timeline.status().slots).toMatchObject([{ name: "archive" }]);
  expect(harness.log.of("wal-removed").map(({ segments }) => segments)).toEqual([1]); // segment 3

  const reader = await TestReader.start(
    harness,
    `START_REPLICATION SLOT archive ${formatLsn(at(4 * MIB))} TIMELINE 1`,
  );
  await reader.until(source.wal.endLsn);
  const hold = timeline.readers.holds.hold(at(6 * MIB));
  reader.status(source.wal.endLsn);
  await timeline.readers.senders.changes.changed(timeline.readers.senders.changes.version);
  await removals(harness, 2);
  expect(timeline.readers.removedSegments).toBe(3); // 4 and 5 too
  hold[Symbol.dispose]();
  timeline.wakeManager();
  await removals(harness, 3);
  // Commit is in segment 8, one megabyte below it is kept: 6 goes, 7 stays.
  expect(timeline.readers.removedSegments).toBe(4);

  const late = await TestReader.start(harness, `START_REPLICATION ${formatLsn(at(5 * MIB))} TIMELINE 1`);
  expect(await late.end()).toMatchObject({ sqlstate: "58P01" });
  const early = await TestReader.start(harness, `START_REPLICATION ${formatLsn(at(7 * MIB))} TIMELINE 1`);
  expect((await early.data()).startLsn).toBe(at(7 * MIB));
});

// Aim: removal never takes what a restart needs. Method: everything else is given up; the node is opened again and
// serves its last segment.
test("the segment of the commit position survives whatever is given up", async () => {
  await using harness = await Harness.open({ walKeepBytes: 0 });
  const source = await written(harness);
  await forgottenByPeers(source);
  await removals(harness, 1);
  const { flushLsn } = source.timeline.state;
  await source.proposer.client.close();
  await harness.reopen();
  const [timeline] = harness.node.timelines.list();
  expect(timeline?.state.flushLsn).toBe(flushLsn);
  const reader = await TestReader.start(harness, `START_REPLICATION ${formatLsn(at(8 * MIB))}`);
  expect((await reader.data()).walData.byteLength).toBe(Number(source.wal.endLsn) - 8 * MIB);
});

// Aim: a digest is that of the bytes, and of one log. Method: against node's own over the same bytes; ranges that are
// not here; a term change while the first read is held; removal meanwhile.
test("a digest covers exactly its range and refuses a log that changed", async () => {
  await using harness = await Harness.open({ walKeepBytes: 0 });
  const source = await written(harness);
  const { timeline, wal } = source;
  const sha = (from: bigint, to: bigint): string =>
    createHash("sha256").update(wal.slice(from, to)).digest("hex");
  for (const [from, to] of [
    [START, wal.endLsn],
    [at(4 * MIB - 5), at(4 * MIB + 5)],
    [at(5 * MIB), at(6 * MIB)],
  ] as const) {
    expect(await timeline.digest(from, to)).toBe(sha(from, to));
  }
  expect(await codeOf(timeline.digest(START, START))).toBe("ERR_ACCEPTOR_RANGE");
  expect(await codeOf(timeline.digest(START, (wal.endLsn + 1n) as Lsn))).toBe("ERR_ACCEPTOR_RANGE");
  expect(await codeOf(timeline.digest(at(MIB), wal.endLsn))).toBe("ERR_ACCEPTOR_SEGMENT_REMOVED");

  const hold = new Hold();
  harness.disk.onCall = ({ name, path }) =>
    name === "pread" && /0000000[3-8]/.test(path) ? hold.pass() : undefined;
  const digest = timeline.digest(START, wal.endLsn);
  await hold.arrived;
  expect(timeline.readers.holds.size).toBe(1);
  await forgottenByPeers(source);
  expect(timeline.readers.removable(timeline.state)).toBe(2n); // all but what is being read
  await timeline.bumpTerm(7n);
  hold.release();
  expect(await codeOf(digest)).toBe("ERR_ACCEPTOR_TERM_CHANGED");
  expect(timeline.readers.holds.size).toBe(0);
  expect(timeline.readers.removedSegments).toBe(0);
});

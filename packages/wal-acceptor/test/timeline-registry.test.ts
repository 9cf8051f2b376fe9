import { readdir, readFile, writeFile } from "node:fs/promises";
import * as path from "node:path";
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";

import type { CreateTimelineRequest } from "../src/timeline-creation.js";
import { Harness, START, walOf } from "./acceptor-harness.js";
import { codeOf, SYSTEM_ID, TENANT, thrownCode, TIMELINE } from "./fixtures.js";
import { Hold } from "./hold.js";
import { systemError } from "./memory-file-system.js";
import { MIB } from "./wal-stream.js";

const OTHER = "00000000000000000000000000000002";

function request(change: Partial<CreateTimelineRequest> = {}): CreateTimelineRequest {
  return {
    tenantId: TENANT,
    timelineId: TIMELINE,
    pgVersion: 150_018,
    systemId: SYSTEM_ID,
    segmentBytes: MIB,
    ...change,
  };
}

const member = (nodeId: bigint) => ({ nodeId, host: "h", port: 1 });

// Aim: an explicit timeline has a common point with every proposer, an implicit one knows nothing. Method: states.
test("an explicit creation starts at its LSN, an implicit one at nothing", async () => {
  await using harness = await Harness.open();
  const explicit = await harness.node.timelines.create(request({ startLsn: START }));
  expect(explicit.state).toMatchObject({
    term: 0n,
    termHistory: [{ term: 0n, lsn: START }],
    timelineStartLsn: START,
    localStartLsn: START,
    commitLsn: START,
    peerHorizonLsn: START,
    backupLsn: START,
    flushLsn: START,
  });
  const implicit = await harness.node.timelines.create(request({ timelineId: OTHER }));
  expect(implicit.state).toMatchObject({ term: 0n, termHistory: [], timelineStartLsn: 0n, commitLsn: 0n });
  expect(harness.node.timelines.size).toBe(2);
});

// Aim: the second creator gets what is there. Method: other parameters for the same name.
test("creating an existing timeline gives the existing one", async () => {
  await using harness = await Harness.open();
  const first = await harness.node.timelines.create(request({ startLsn: START }));
  const second = await harness.node.timelines.create(request({ segmentBytes: 0, pgVersion: 0 }));
  expect(second).toBe(first);
});

// Aim: nothing impossible gets on disk. Method: one bad parameter each; the directory stays empty.
test.each<[string, Partial<CreateTimelineRequest>, string]>([
  ["segment size 0", { segmentBytes: 0 }, "ERR_ACCEPTOR_TIMELINE_REFUSED"],
  ["an unknown version", { pgVersion: 0 }, "ERR_ACCEPTOR_PG_VERSION"],
  ["start 0/0", { startLsn: 0n as Lsn }, "ERR_ACCEPTOR_TIMELINE_REFUSED"],
  ["a commit without a start", { commitLsn: START }, "ERR_ACCEPTOR_TIMELINE_REFUSED"],
  [
    "a commit below the start",
    { startLsn: START, commitLsn: (START - 8n) as Lsn },
    "ERR_ACCEPTOR_TIMELINE_REFUSED",
  ],
  [
    "an id in capitals",
    { tenantId: TENANT.toUpperCase().replace("0A", "0A") },
    "ERR_ACCEPTOR_TIMELINE_REFUSED",
  ],
  ["a path for an id", { timelineId: "../../../../../../../../../../etc" }, "ERR_ACCEPTOR_TIMELINE_REFUSED"],
  [
    "members without a generation's order",
    { configuration: { generation: 1, members: [], newMembers: [] } },
    "ERR_PROTOCOL_CONFIGURATION",
  ],
])("a creation with %s is refused and leaves nothing", async (_name, change, code) => {
  await using harness = await Harness.open();
  expect(await codeOf(harness.node.timelines.create(request(change)))).toBe(code);
  expect(await readdir(harness.directory)).toEqual(["safekeeper.id"]);
});

// Aim: after a crash at any step a timeline is there as a whole or not at all. Method: every file call of a creation
// fails in turn, as if the process had died there; then the directory is opened again.
test("a creation cut short at any step leaves a whole timeline or none", async () => {
  await using probe = await Harness.open();
  let steps = 0;
  probe.disk.onCall = () => void (steps += 1);
  await probe.node.timelines.create(request({ startLsn: START }));
  expect(steps).toBeGreaterThan(10);
  const outcomes = new Set<string>();
  for (let stop = 0; stop < steps; stop += 1) {
    await using harness = await Harness.open();
    let step = 0;
    harness.disk.onCall = () => {
      step += 1;
      if (step > stop) throw systemError("EIO"); // from here on the process is as good as dead
    };
    await codeOf(harness.node.timelines.create(request({ startLsn: START })));
    harness.disk.onCall = undefined;
    await harness.reopenWithoutClosing();
    const loaded = harness.node.timelines.list();
    expect(harness.node.timelines.unloadable()).toEqual([]);
    expect(await readdir(harness.directory)).not.toContain("tmp");
    outcomes.add(loaded.length === 1 ? "whole" : "none");
    if (loaded.length === 1) expect(loaded[0]?.state.commitLsn).toBe(START);
    else
      expect((await harness.node.timelines.create(request({ startLsn: START }))).state.commitLsn).toBe(START);
  }
  expect([...outcomes].toSorted()).toEqual(["none", "whole"]);
});

// Aim: nothing is announced before it is durable. Method: the order of the calls that make it so.
test("a creation syncs what it made before it names it, a deletion its tombstone before it removes", async () => {
  await using harness = await Harness.open();
  const calls: string[] = [];
  harness.disk.onCall = ({ name, path: file }) => {
    if (/sync|rename|unlink|rmdir/.test(name))
      calls.push(`${name} ${path.relative(harness.directory, file)}`);
  };
  await harness.node.timelines.create(request({ startLsn: START }));
  const named = calls.indexOf(`rename ${TENANT}/${TIMELINE}`);
  const temporary = `tmp/${TENANT}_${TIMELINE}_1`;
  expect(calls.indexOf(`fsync ${temporary}/safekeeper.control.partial`)).toBeLessThan(named);
  expect(calls.indexOf(`fsyncDirectory ${temporary}`)).toBeLessThan(named);
  expect(calls.indexOf("fsyncDirectory ")).toBeLessThan(named); // the tenant's directory
  expect(calls.indexOf(`fsyncDirectory ${temporary}`)).toBeGreaterThanOrEqual(0);
  expect(calls[named + 1]).toBe(`fsyncDirectory ${TENANT}`);

  calls.length = 0;
  await harness.node.timelines.delete(TENANT, TIMELINE);
  const buried = calls.indexOf("fsyncDirectory ");
  expect(calls.slice(0, buried)).toEqual([
    "unlink tombstones.json.partial", // which is not there
    "fsync tombstones.json.partial",
    "rename tombstones.json",
  ]);
  expect(calls.findIndex((call) => /^(unlink|rmdir) (?!tombstones)/.test(call))).toBeGreaterThan(buried);
  expect(calls.at(-1)).toBe(`fsyncDirectory ${TENANT}`);
});

// Aim: what is on disk is what boots. Method: many timelines with different progress, reopened.
test("many timelines are loaded with their states", async () => {
  await using harness = await Harness.open();
  const ids = Array.from({ length: 20 }, (_, index) => index.toString(16).padStart(32, "0"));
  for (const [index, timelineId] of ids.entries()) {
    const timeline = await harness.node.timelines.create(request({ timelineId, startLsn: START }));
    await timeline.bumpTerm(BigInt(index) + 2n ** 63n);
  }
  await harness.reopen();
  expect(harness.node.timelines.size).toBe(20);
  for (const [index, timelineId] of ids.entries()) {
    expect(harness.node.timelines.get(TENANT, timelineId).state.term).toBe(BigInt(index) + 2n ** 63n);
  }
});

// Aim: damage stays where it is. Method: one control file of three is damaged; the others load, the damaged name can
// neither be used nor taken, and is free again after a deletion that it survives.
test("a timeline that cannot be loaded is reported and its name stays taken", async () => {
  await using harness = await Harness.open();
  for (const timelineId of [TIMELINE, OTHER]) {
    await harness.node.timelines.create(request({ timelineId, startLsn: START }));
  }
  const control = path.join(harness.directory, TENANT, TIMELINE, "safekeeper.control");
  const bytes = await readFile(control);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
  await writeFile(control, bytes);
  await harness.reopen();
  const { timelines } = harness.node;
  expect(timelines.list().map(({ timelineId }) => timelineId)).toEqual([OTHER]);
  expect(timelines.unloadable()).toMatchObject([
    { tenantId: TENANT, timelineId: TIMELINE, error: { code: "ERR_ACCEPTOR_CONTROL_CORRUPT" } },
  ]);
  expect(harness.log.of("timeline-unloadable")).toHaveLength(1);
  expect(thrownCode(() => timelines.get(TENANT, TIMELINE))).toBe("ERR_ACCEPTOR_BROKEN");
  expect(await codeOf(timelines.create(request()))).toBe("ERR_ACCEPTOR_BROKEN");
  expect(await timelines.delete(TENANT, TIMELINE)).toEqual({ existed: true });
  expect(timelines.unloadable()).toEqual([]);
});

// Aim: a directory that appeared behind the node's back is not overwritten. Method: it is made while the node runs.
test("a directory that is not a loaded timeline blocks its creation", async () => {
  await using harness = await Harness.open();
  await harness.node.timelines.create(request({ timelineId: OTHER, startLsn: START }));
  await harness.disk.mkdir(path.join(harness.directory, TENANT, TIMELINE));
  expect(await codeOf(harness.node.timelines.create(request()))).toBe("ERR_ACCEPTOR_TIMELINE_EXISTS");
  expect(thrownCode(() => harness.node.timelines.get(TENANT, TIMELINE))).toBe(
    "ERR_ACCEPTOR_TIMELINE_NOT_FOUND",
  );
});

// Aim: a deletion that was announced is carried out, whatever interrupts it. Method: every file call of a deletion
// fails in turn from some step on; after a restart the timeline is either untouched or gone for good.
test("a deletion cut short at any step is undone or finished by the next start", async () => {
  await using probe = await Harness.open();
  await probe.node.timelines.create(request({ startLsn: START }));
  let steps = 0;
  probe.disk.onCall = () => void (steps += 1);
  await probe.node.timelines.delete(TENANT, TIMELINE);
  const outcomes = new Set<string>();
  for (let stop = 0; stop < steps; stop += 1) {
    await using harness = await Harness.open();
    await harness.node.timelines.create(request({ startLsn: START }));
    let step = 0;
    harness.disk.onCall = () => {
      step += 1;
      if (step > stop) throw systemError("EIO");
    };
    await codeOf(harness.node.timelines.delete(TENANT, TIMELINE));
    harness.disk.onCall = undefined;
    await harness.reopenWithoutClosing();
    const { timelines } = harness.node;
    expect(timelines.unloadable()).toEqual([]);
    if (timelines.size === 1) {
      outcomes.add("untouched");
      continue;
    }
    outcomes.add("gone");
    expect(thrownCode(() => timelines.get(TENANT, TIMELINE))).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
    expect(await codeOf(timelines.create(request()))).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
    expect(await harness.disk.stat(path.join(harness.directory, TENANT, TIMELINE))).toBeUndefined();
  }
  expect([...outcomes].toSorted()).toEqual(["gone", "untouched"]);
});

// Aim: a failed deletion can be repeated. Method: the removal fails once, after the tombstone.
test("a deletion that fails half-way is finished by another call", async () => {
  await using harness = await Harness.open();
  await harness.node.timelines.create(request({ startLsn: START }));
  harness.disk.onCall = ({ name }) => {
    if (name === "rmdir") throw systemError("EBUSY");
  };
  expect(await codeOf(harness.node.timelines.delete(TENANT, TIMELINE))).toBe("ERR_ACCEPTOR_IO");
  harness.disk.onCall = undefined;
  expect(harness.node.timelines.size).toBe(0);
  expect(await harness.node.timelines.delete(TENANT, TIMELINE)).toEqual({ existed: true });
  expect(await harness.node.timelines.delete(TENANT, TIMELINE)).toEqual({ existed: false });
});

// Aim: an exclusion counts up to its generation and not beyond. Method: generations around it, with a restart.
test("an excluded node may come back with a later configuration only", async () => {
  await using harness = await Harness.open();
  const conf = (generation: number) => ({ generation, members: [member(1n), member(2n)], newMembers: [] });
  await harness.node.timelines.create(request({ startLsn: START, configuration: conf(5) }));
  expect(await codeOf(harness.node.timelines.delete(TENANT, TIMELINE, 4))).toBe(
    "ERR_ACCEPTOR_GENERATION_MISMATCH",
  );
  expect(await harness.node.timelines.delete(TENANT, TIMELINE, 6)).toEqual({ existed: true });
  await harness.reopen();
  const again = (generation: number) =>
    harness.node.timelines.create(request({ startLsn: START, configuration: conf(generation) }));
  expect(await codeOf(harness.node.timelines.create(request()))).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
  expect(await codeOf(again(6))).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
  expect((await again(7)).state.configuration.generation).toBe(7);
  await harness.reopen();
  expect(harness.node.timelines.size).toBe(1); // the old tombstone does not take the new timeline away
});

// Aim: a node never starts on a list of deletions it cannot read. Method: damage the file.
test("a damaged list of deleted timelines keeps the node from starting", async () => {
  await using harness = await Harness.open();
  await harness.node.timelines.delete(TENANT, TIMELINE);
  const file = path.join(harness.directory, "tombstones.json");
  const text = await readFile(file, "utf8");
  for (const damaged of [
    "",
    "{}",
    text.slice(0, -10),
    text.replace(TENANT, "x"),
    text.replace('"version":1', '"version":2'),
  ]) {
    await writeFile(file, damaged);
    expect(await codeOf(harness.reopenWithoutClosing())).toBe("ERR_ACCEPTOR_TOMBSTONES_CORRUPT");
  }
  await writeFile(file, text);
  await harness.reopenWithoutClosing();
  expect(await codeOf(harness.node.timelines.create(request()))).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
});

// Aim: closing waits for what is under way and takes nothing new. Method: a creation is held while the node closes.
test("closing waits for a creation under way and refuses the next", async () => {
  await using harness = await Harness.open();
  const hold = new Hold();
  harness.disk.onCall = ({ name }) => (name === "rename" ? hold.pass() : undefined);
  const creating = harness.node.timelines.create(request({ startLsn: START }));
  await hold.arrived;
  const closing = harness.node.timelines.close();
  expect(await codeOf(harness.node.timelines.create(request({ timelineId: OTHER })))).toBe(
    "ERR_ACCEPTOR_SHUTTING_DOWN",
  );
  expect(await codeOf(harness.node.timelines.delete(TENANT, OTHER))).toBe("ERR_ACCEPTOR_SHUTTING_DOWN");
  expect(await codeOf(harness.node.timelines.delete(TENANT, TIMELINE))).toBe(
    "ERR_ACCEPTOR_TIMELINE_CREATING",
  );
  hold.release();
  const timeline = await creating;
  await closing;
  expect(await codeOf(timeline.bumpTerm())).toBe("ERR_ACCEPTOR_CANCELLED");
  expect(thrownCode(() => timeline.enter())).toBe("ERR_ACCEPTOR_CANCELLED");
  expect(harness.disk.openFiles).toBe(0);
});

// Aim: what was appended without a sync is synced by an orderly close. Method: an append outside any stream, then syncs.
test("closing a timeline syncs what was written", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  await proposer.vote(1n); // refused, and thereby behind the election
  await proposer.client.close();
  await proposer.served;
  const timeline = harness.node.timelines.get(TENANT, TIMELINE);
  const wal = walOf(1);
  await timeline.appendBatch([
    {
      type: "append-request",
      generation: 0,
      term: 1n,
      beginLsn: START,
      endLsn: wal.endLsn,
      commitLsn: 0n as Lsn,
      truncateLsn: START,
      walData: wal.slice(START, wal.endLsn),
    },
  ]);
  expect(timeline.flushLsn).toBe(START);
  const syncs = harness.disk.walSyncs;
  await harness.node.close();
  expect(harness.disk.walSyncs).toBeGreaterThan(syncs);
  expect(timeline.flushLsn).toBe(wal.endLsn);
});

// Aim: a timeline's watches tell readers what they may read. Method: WAL is appended and committed; watches follow.
test("watches follow the log's end and the commit position and end with the timeline", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const timeline = harness.node.timelines.get(TENANT, TIMELINE);
  const wal = walOf(2);
  proposer.append(wal, START, wal.endLsn);
  await proposer.receiveOf("append-response");
  expect(timeline.logEndWatch.value).toEqual({ lastLogTerm: 1n, flushLsn: wal.endLsn });
  const committed = timeline.commitWatch.changed(timeline.commitWatch.version);
  proposer.append(wal, wal.endLsn, wal.endLsn, wal.boundaries[1]);
  await committed;
  expect(timeline.commitWatch.value).toBe(wal.boundaries[1]);
  const version = timeline.versionWatch.value;
  await timeline.bumpTerm();
  expect(timeline.versionWatch.value).toBeGreaterThan(version);
  const waiting = timeline.commitWatch.changed(timeline.commitWatch.version);
  await harness.node.timelines.delete(TENANT, TIMELINE);
  await waiting;
  expect(timeline.commitWatch.closed).toBe(true);
  await proposer.served;
});

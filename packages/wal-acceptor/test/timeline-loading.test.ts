/**
 * A node that has just been opened: what it answers while its timelines are being loaded. The disk of every timeline
 * is held unless a test lets it go, so nothing here depends on how fast anything is.
 */
import { readFile, writeFile } from "node:fs/promises";
import * as path from "node:path";
import { expect, test } from "vitest";

import type { Timeline } from "../src/timeline.js";
import { Harness, START } from "./acceptor-harness.js";
import { codeOf, SYSTEM_ID, TENANT, thrownCode, TIMELINE } from "./fixtures.js";
import { Hold } from "./hold.js";
import { frame, RawClient, startup } from "./raw-client.js";
import { MIB } from "./wal-stream.js";

const idOf = (index: number): string => index.toString(16).padStart(32, "0");
const TARGET = `tenant_id=${TENANT} timeline_id=${TIMELINE}`;

async function create(harness: Harness, timelineId: string): Promise<Timeline> {
  return await harness.node.timelines.create({
    tenantId: TENANT,
    timelineId,
    pgVersion: 150_018,
    systemId: SYSTEM_ID,
    segmentBytes: MIB,
    startLsn: START,
  });
}

/** Opens the directory again; calls into a timeline's directory wait for its hold, all are written down. */
async function reopenHeld(harness: Harness, holds: ReadonlyMap<string, Hold>): Promise<string[]> {
  const calls: string[] = [];
  await harness.node.close();
  harness.disk.onCall = async ({ name, path: file }) => {
    for (const [timelineId, hold] of holds) if (file.includes(timelineId)) await hold.pass();
    calls.push(`${name} ${path.relative(harness.directory, file)}`);
  };
  await harness.reopenWithoutLoading();
  return calls;
}

async function login(harness: Harness): Promise<RawClient> {
  const client = new RawClient(harness.raw().client);
  client.write(startup({ options: TARGET }));
  await client.until("Z");
  return client;
}

// Aim: a start with many timelines keeps nobody waiting for the others. Method: 200 timelines whose disk hangs; the
// 201st is asked for.
test("the timeline that is asked for answers while 200 others are still loading", async () => {
  await using harness = await Harness.open();
  const others = Array.from({ length: 200 }, (_, index) => idOf(index + 1));
  for (const timelineId of [...others, TIMELINE]) await create(harness, timelineId);
  using hold = new Hold();
  await reopenHeld(harness, new Map(others.map((timelineId) => [timelineId, hold])));
  const { timelines } = harness.node;
  expect(timelines.loading()).toHaveLength(201);
  expect(harness.node.status()).toMatchObject({ timelines: [], unloadable: [] });
  const client = await login(harness);
  expect(await client.query("TIMELINE_STATUS")).toContain("D('0/300028' '0/300028')");
  expect(timelines.loading()).toHaveLength(200);
  expect(harness.node.status().timelines).toMatchObject([{ timelineId: TIMELINE }]);
  expect(harness.node.metrics().find(({ name }) => name === "safekeeper_loading_timelines")?.samples).toEqual(
    [{ labels: {}, value: 200 }],
  );
  hold.release();
  await timelines.whenLoaded();
  expect(timelines.loading()).toEqual([]);
  expect(timelines.size).toBe(201);
});

// Aim: every request waits for its timeline and gets the answer that a loaded one gives; nothing leaves before what it
// rests on was synced. Method: the load is held at its first call; the order of the syncs and of the answer.
test.each([
  ["TIMELINE_STATUS", "D('0/300028' '0/300028')"],
  ["IDENTIFY_SYSTEM", `D('${String(SYSTEM_ID)}' '1' '0/300028' NULL)`],
  ["SHOW wal_segment_size", "D('1MB')"],
  ["READ_REPLICATION_SLOT s", "D(NULL NULL NULL)"],
])("%s waits for its timeline", async (command, answer) => {
  await using harness = await Harness.open();
  await create(harness, TIMELINE);
  using hold = new Hold();
  const calls = await reopenHeld(harness, new Map([[TIMELINE, hold]]));
  const client = await login(harness);
  client.write(frame("Q", `${command}\0`));
  await hold.arrived;
  expect(thrownCode(() => harness.node.timelines.get(TENANT, TIMELINE))).toBe(
    "ERR_ACCEPTOR_TIMELINE_LOADING",
  );
  hold.release();
  expect(await client.until("Z")).toContain(answer);
  for (const sync of [
    "fsyncDirectory ",
    `fsyncDirectory ${TENANT}`,
    `fsync ${TENANT}/${TIMELINE}/safekeeper.control`,
    `fsyncDirectory ${TENANT}/${TIMELINE}`,
  ]) {
    expect(calls).toContain(sync);
  }
  // Names come first: without them nothing below is there after a power cut.
  expect(calls.indexOf(`fsyncDirectory ${TENANT}`)).toBeLessThan(
    calls.findIndex((call) => call.startsWith("open ") && call.includes(TIMELINE)),
  );
});

// Aim: streams wait as commands do. Method: proposers that may and may not create it; a reader below.
test.each(["true", "false"])("a proposer with creation %s waits for its timeline", async (creation) => {
  await using harness = await Harness.open();
  const before = await create(harness, TIMELINE);
  await before.bumpTerm(7n);
  using hold = new Hold();
  await reopenHeld(harness, new Map([[TIMELINE, hold]]));
  const proposer = await harness.push({
    command: `START_WAL_PUSH (proto_version '3', allow_timeline_creation '${creation}')`,
  });
  proposer.sendGreeting();
  await hold.arrived;
  hold.release();
  expect(await proposer.receiveOf("greeting")).toMatchObject({ term: 7n });
  await proposer.client.close();
});

test("a reader waits for its timeline", async () => {
  await using harness = await Harness.open();
  await create(harness, TIMELINE);
  using hold = new Hold();
  await reopenHeld(harness, new Map([[TIMELINE, hold]]));
  const { client, served } = await harness.connect();
  const starting = client.startCopyBoth("START_REPLICATION 0/300000 (term='9')");
  await hold.arrived;
  hold.release();
  const stream = await starting;
  await expect(stream.reader.next()).rejects.toMatchObject({
    message: expect.stringContaining("failed to acquire term 9") as unknown,
  });
  await served;
});

// Aim: one damaged timeline blocks its own name and nobody else. Method: its control file is damaged, another hangs.
test("a timeline that fails to load is reported and cannot be created while others load", async () => {
  await using harness = await Harness.open();
  for (const timelineId of [TIMELINE, idOf(1)]) await create(harness, timelineId);
  const control = path.join(harness.directory, TENANT, TIMELINE, "safekeeper.control");
  const bytes = await readFile(control);
  bytes[20] = (bytes[20] ?? 0) ^ 1;
  await harness.node.close();
  await writeFile(control, bytes);
  using hold = new Hold();
  await reopenHeld(harness, new Map([[idOf(1), hold]]));
  const { timelines } = harness.node;
  expect(await codeOf(create(harness, TIMELINE))).toBe("ERR_ACCEPTOR_BROKEN");
  expect(await codeOf(timelines.load(TENANT, TIMELINE))).toBe("ERR_ACCEPTOR_BROKEN");
  expect(timelines.unloadable()).toMatchObject([
    { timelineId: TIMELINE, error: { code: "ERR_ACCEPTOR_CONTROL_CORRUPT" } },
  ]);
  expect(harness.log.of("timeline-unloadable")).toHaveLength(1);
  expect(timelines.loading()).toEqual([{ tenantId: TENANT, timelineId: idOf(1) }]);
  hold.release();
  expect((await timelines.load(TENANT, idOf(1))).flushLsn).toBe(START);
});

// Aim: a deletion does not pull files from under a load. Method: it is asked for while the load hangs.
test("a deletion waits for the load, and what comes behind it finds nothing", async () => {
  await using harness = await Harness.open();
  await create(harness, TIMELINE);
  using hold = new Hold();
  const calls = await reopenHeld(harness, new Map([[TIMELINE, hold]]));
  const { timelines } = harness.node;
  const deleting = timelines.delete(TENANT, TIMELINE);
  await hold.arrived;
  expect(calls.some((call) => call.startsWith("unlink"))).toBe(false);
  hold.release();
  expect(await deleting).toEqual({ existed: true });
  expect(await codeOf(timelines.load(TENANT, TIMELINE))).toBe("ERR_ACCEPTOR_TIMELINE_DELETED");
  expect(timelines.loading()).toEqual([]);
});

// Aim: a stop does not wait for the rest of the start. Method: many hang, some are asked for; the node is closed.
test("closing lets go who waits for a load, and ends with the loads under way", async () => {
  await using harness = await Harness.open();
  const others = Array.from({ length: 40 }, (_, index) => idOf(index + 1));
  for (const timelineId of [...others, TIMELINE]) await create(harness, timelineId);
  using hold = new Hold();
  await reopenHeld(harness, new Map([...others, TIMELINE].map((timelineId) => [timelineId, hold])));
  const { node } = harness;
  const proposer = await harness.push();
  proposer.sendGreeting();
  const loading = codeOf(node.timelines.load(TENANT, idOf(40)));
  await hold.arrived;
  const closing = node.close();
  expect(await loading).toBe("ERR_ACCEPTOR_SHUTTING_DOWN");
  expect(await proposer.end()).toMatchObject({ sqlstate: "57P01" });
  expect(await codeOf(node.timelines.load(TENANT, idOf(39)))).toBe("ERR_ACCEPTOR_SHUTTING_DOWN");
  expect(await codeOf(create(harness, idOf(38)))).toBe("ERR_ACCEPTOR_SHUTTING_DOWN");
  hold.release();
  await closing;
  expect(node.timelines.loading().length).toBeGreaterThan(20);
  expect(harness.disk.openFiles).toBe(0);
});

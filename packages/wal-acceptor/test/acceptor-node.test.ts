import { once } from "node:events";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import * as path from "node:path";
import type { Lsn } from "@millrace/lsn";
import { expect, test, vi } from "vitest";

import { AcceptorNode } from "../src/acceptor-node.js";
import { parseJson, stringifyJson } from "../src/bigint-json.js";
import { lockDirectory, LOCK_FILE, NODE_ID_FILE } from "../src/node-identity.js";
import type { ProcessTable } from "../src/node-identity.js";
import { MANAGER_INTERVAL_MS } from "../src/timeline-manager.js";
import { timelineStatusJson } from "../src/timeline-status.js";
import { Harness, START, walOf } from "./acceptor-harness.js";
import { codeOf, SYSTEM_ID, TENANT, TIMELINE } from "./fixtures.js";
import { Hold } from "./hold.js";
import { MIB } from "./wal-stream.js";

async function directory(): Promise<{ readonly path: string } & AsyncDisposable> {
  const name = await mkdtemp(path.join(tmpdir(), "millrace-node-"));
  return { path: name, [Symbol.asyncDispose]: () => rm(name, { recursive: true, force: true }) };
}

const ignore = (): void => undefined;

// Aim: a stop loses nothing that was received, and says so. Method: appends lie behind a held sync when the node is
// told to stop; the last acknowledgement, the farewell and the state after a restart are compared.
test("a stopping node drains, syncs, acknowledges, says farewell and saves its state", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const wal = walOf(20);
  const hold = new Hold();
  harness.disk.onCall = ({ name }) => (name === "fdatasync" ? hold.pass() : undefined);
  proposer.append(wal, START, wal.boundaries[5] ?? START, wal.boundaries[3]);
  await hold.arrived;
  const idle = await harness.connect({ target: "" });
  const arrived = once(proposer.pair.server, "data");
  proposer.append(wal, wal.boundaries[5] ?? START, wal.endLsn, wal.boundaries[3]);
  await arrived;
  await new Promise(setImmediate); // the reader has been woken by the same event and is done with it
  const closing = harness.node.close();
  hold.release();
  const end = await proposer.end();
  expect(end).toEqual({
    sqlstate: "57P01",
    message: "terminating connection: the acceptor is shutting down",
  });
  await idle.served;
  await closing;
  expect(harness.node.status()).toMatchObject({ closing: true, connections: 0 });
  expect(harness.disk.openFiles).toBe(0);

  await harness.reopen();
  const { state } = harness.node.timelines.get(TENANT, TIMELINE);
  expect(state.flushLsn).toBe(wal.endLsn);
  expect(state.commitLsn).toBe(wal.boundaries[3]);
});

// Aim: a kill leads to the same promises as a stop. Method: the directory is opened again with the first node still
// standing; every acknowledged byte must be there.
test("after a kill everything acknowledged is there", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const wal = walOf(20);
  proposer.append(wal, START, wal.endLsn, wal.boundaries[10]);
  const { flushLsn } = await proposer.receiveOf("append-response");
  const killed = harness.node;
  await harness.reopenWithoutClosing();
  const { state } = harness.node.timelines.get(TENANT, TIMELINE);
  expect(state.flushLsn).toBe(flushLsn);
  expect(state.term).toBe(1n);
  expect(state.termHistory.at(-1)).toEqual({ term: 1n, lsn: START });
  await killed.close();
  await proposer.served;
});

// Aim: a stop is bounded even if a peer takes nothing. Method: a paused peer with more replies than its queues hold;
// the clock passes the limits of draining and of closing.
test("a peer that reads nothing cannot hold a stopping node for more than ten seconds", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.push();
  await proposer.greet();
  await proposer.vote(2000n);
  const history = Array.from({ length: 2000 }, (_, index) => ({ term: BigInt(index), lsn: START }));
  proposer.elect(2000n, START, [...history, { term: 2000n, lsn: START }]);
  proposer.pair.stallClient();
  // The socket takes about a megabyte, that is 32 answers, and the queue 16: from the fiftieth on they wait.
  const timeline = harness.node.timelines.get(TENANT, TIMELINE);
  const process = timeline.process.bind(timeline);
  let handled = 0;
  const stuck = new Promise<void>((resolve) => {
    vi.spyOn(timeline, "process").mockImplementation((message) => {
      handled += 1;
      if (handled === 45) resolve();
      return process(message);
    });
  });
  for (let index = 0; index < 300; index += 1)
    proposer.send({ type: "vote-request", generation: 0, term: 1n });
  await stuck;
  const draining = harness.clock.timerSet(5000);
  const closing = harness.node.close();
  await draining;
  const ending = harness.clock.timerSet(2000);
  harness.clock.advance(5000);
  await ending;
  harness.clock.advance(2000);
  await closing;
  expect(harness.clock.monotonicMs()).toBeLessThan(10_000);
  expect(handled).toBeLessThan(100);
  expect(harness.node.status().connections).toBe(0);
});

// Aim: nobody is let in by a node that stops. Method: a connection before and after the end of closing.
test("a closed node drops new connections", async () => {
  await using harness = await Harness.open();
  await harness.node.close();
  await expect(harness.connect()).rejects.toMatchObject({ code: "ERR_WIRE_IO" });
});

// Aim: 64-bit values cross HTTP unharmed. Method: extremes in a real timeline's status, through JSON and back.
test("a status keeps every digit and has the shape that Neon's tools read", async () => {
  await using harness = await Harness.open({ nodeId: 2n ** 63n });
  const startLsn = (2n ** 64n - 8n) as Lsn; // FFFFFFFF/FFFFFFF8
  const timeline = await harness.node.timelines.create({
    tenantId: TENANT,
    timelineId: TIMELINE,
    pgVersion: 180_000,
    systemId: 2n ** 64n - 1n,
    segmentBytes: MIB,
    startLsn,
    configuration: {
      generation: 3,
      members: [{ nodeId: 2n ** 63n, host: "a", port: 5454 }],
      newMembers: [{ nodeId: 2n ** 64n - 1n, host: "b", port: 1 }],
    },
  });
  await timeline.bumpTerm(2n ** 64n - 2n);
  const text = stringifyJson(timelineStatusJson(timeline.status()));
  expect(text).toContain('"system_id":18446744073709551615');
  expect(text).toContain('"term":18446744073709551614');
  const parsed = parseJson(text) as Record<string, Record<string, unknown>>;
  expect(parsed["acceptor_state"]).toMatchObject({ term: 2n ** 64n - 2n, epoch: 0 });
  expect(parsed["acceptor_state"]?.["term_history"]).toMatchObject([{ term: 0, lsn: "FFFFFFFF/FFFFFFF8" }]);
  expect(parsed["pg_info"]).toMatchObject({
    pg_version: 180_000,
    system_id: 2n ** 64n - 1n,
    wal_seg_size: MIB,
  });
  expect(parsed["mconf"]).toMatchObject({ generation: 3 });
  expect(parsed["mconf"]?.["members"]).toMatchObject([{ id: 2n ** 63n, host: "a", pg_port: 5454 }]);
  expect(parsed["mconf"]?.["new_members"]).toMatchObject([{ id: 2n ** 64n - 1n, host: "b", pg_port: 1 }]);
  expect(Object.keys(parsed).slice(0, 15)).toEqual([
    "tenant_id",
    "timeline_id",
    "mconf",
    "acceptor_state",
    "pg_info",
    "flush_lsn",
    "timeline_start_lsn",
    "local_start_lsn",
    "commit_lsn",
    "backup_lsn",
    "peer_horizon_lsn",
    "remote_consistent_lsn",
    "peers",
    "walsenders",
    "walreceivers",
  ]);
  expect(parsed["commit_lsn"]).toBe("FFFFFFFF/FFFFFFF8");
  await harness.reopen();
  expect(stringifyJson(timelineStatusJson(harness.node.timelines.get(TENANT, TIMELINE).status()))).toBe(text);
  expect(harness.node.nodeId).toBe(2n ** 63n);
});

// Aim: a node's votes cannot count under two names. Method: open, reopen without and with another id, damage the file.
test("the node's id is kept and another one is refused", async () => {
  await using harness = await Harness.open({ nodeId: 7n });
  const file = path.join(harness.directory, NODE_ID_FILE);
  expect(await readFile(file, "utf8")).toBe("7\n");
  await harness.node.close();
  const open = (nodeId?: bigint): Promise<AcceptorNode> =>
    AcceptorNode.open({
      directory: harness.directory,
      fileSystem: harness.disk,
      clock: harness.clock,
      onFatal: ignore,
      ...(nodeId === undefined ? {} : { nodeId }),
    });
  const same = await open();
  expect(same.nodeId).toBe(7n);
  await same.close();
  expect(await codeOf(open(8n))).toBe("ERR_ACCEPTOR_NODE_ID");
  await expect(open(0n)).rejects.toThrow(RangeError);
  await expect(open(2n ** 64n)).rejects.toThrow(RangeError);
  for (const damaged of ["", "0\n", "x\n", "18446744073709551616\n", "1".repeat(40)]) {
    await writeFile(file, damaged);
    expect(["ERR_ACCEPTOR_NODE_ID", "ERR_ACCEPTOR_IO"]).toContain(await codeOf(open(7n)));
  }
});

test("a node without an id is not opened and gives its lock back", async () => {
  await using home = await directory();
  const options = { directory: home.path, onFatal: ignore };
  expect(await codeOf(AcceptorNode.open(options))).toBe("ERR_ACCEPTOR_NODE_ID");
  const node = await AcceptorNode.open({ ...options, nodeId: 1n, noSync: true });
  expect(await codeOf(AcceptorNode.open(options))).toBe("ERR_ACCEPTOR_DIRECTORY_LOCKED");
  await node.close();
  await (await AcceptorNode.open(options)).close();
});

/** Processes that exist as long as the test says so. */
function processTable(pid: number, alive: Readonly<Record<number, string | undefined>>): ProcessTable {
  return { pid, startTime: (of) => alive[of], isAlive: (of) => of in alive };
}

// Aim: one live owner at most, and no dead one blocks. Method: lock files of live, dead, recycled and unreadable owners.
test.each([
  ["a live process", "41\n1000\n", { 41: "1000", 42: "2000" }, "ERR_ACCEPTOR_DIRECTORY_LOCKED"],
  ["a dead process", "41\n1000\n", { 42: "2000" }, "resolved"],
  ["a process whose id was given to another", "41\n1000\n", { 41: "1500", 42: "2000" }, "resolved"],
  ["this process's id in an earlier life", "42\n1000\n", { 42: "2000" }, "resolved"],
  [
    "a live process of unknown start",
    "41\n\n",
    { 41: undefined, 42: undefined },
    "ERR_ACCEPTOR_DIRECTORY_LOCKED",
  ],
  ["this process's id of unknown start", "42\n\n", { 42: undefined }, "resolved"],
  ["nobody: an empty file", "", { 42: "2000" }, "resolved"],
  ["nobody: garbage", "hello", { 42: "2000" }, "resolved"],
])("a lock file of %s", async (_name, content, alive, expected) => {
  await using home = await directory();
  const file = path.join(home.path, LOCK_FILE);
  await writeFile(file, content);
  const taking = lockDirectory(home.path, processTable(42, alive));
  expect(await codeOf(taking)).toBe(expected);
  if (expected !== "resolved") {
    expect(await readFile(file, "utf8")).toBe(content);
    return;
  }
  const lock = await taking;
  expect(await readFile(file, "utf8")).toMatch(/^42\n/);
  await lock[Symbol.asyncDispose]();
  await lock[Symbol.asyncDispose]();
  expect(await codeOf(readFile(file))).toBe("ENOENT");
});

// Aim: of many contenders for a stale lock one wins. Method: they all start at once, under different process ids.
test("of many contenders for one directory exactly one gets it", async () => {
  await using home = await directory();
  await writeFile(path.join(home.path, LOCK_FILE), "1\nold\n");
  const alive = Object.fromEntries(Array.from({ length: 10 }, (_, index) => [index + 2, "now"]));
  // The directory under ten names, because one process may not even ask twice for one name.
  const results = await Promise.allSettled(
    Object.keys(alive).map((pid) => lockDirectory(home.path, processTable(Number(pid), alive))),
  );
  const locks = results.filter((result) => result.status === "fulfilled");
  expect(locks).toHaveLength(1);
  expect(await readdir(home.path)).toEqual([LOCK_FILE]);
});

// Aim: a stale lock is removed by one contender only, also when that one dies. Method: the claim on the removal, a file
// named after the lock's content, is there already: of a live process, of a dead one, and of a chain of dead ones.
test("the right to remove a stale lock is one live process's, and passes on when that one dies", async () => {
  const stale = "1\nold\nlock\n";
  const claimOf = (directory: string, content: string): string => {
    const digest = createHash("sha256").update(content).digest("hex").slice(0, 32);
    return path.join(directory, `${LOCK_FILE}.${digest}`);
  };
  const alive = { 7: "now", 42: "now" };
  for (const [claimers, expected] of [
    [["7\nnow\nclaim\n"], "ERR_ACCEPTOR_DIRECTORY_LOCKED"],
    [["2\nold\nclaim\n"], "resolved"],
    [["2\nold\nclaim\n", "3\nold\nclaim\n"], "resolved"],
    [["2\nold\nclaim\n", "7\nnow\nclaim\n"], "ERR_ACCEPTOR_DIRECTORY_LOCKED"],
  ] as const) {
    await using home = await directory();
    await writeFile(path.join(home.path, LOCK_FILE), stale);
    let claimed = stale;
    for (const claimer of claimers) {
      await writeFile(claimOf(home.path, claimed), claimer);
      claimed = claimer;
    }
    const before = (await readdir(home.path)).sort();
    expect(await codeOf(lockDirectory(home.path, processTable(42, alive)))).toBe(expected);
    const text = await readFile(path.join(home.path, LOCK_FILE), "utf8");
    expect(text).toMatch(expected === "resolved" ? /^42\n/ : /^1\nold/);
    expect((await readdir(home.path)).sort()).toEqual(expected === "resolved" ? [LOCK_FILE] : before);
  }
});

// Aim: positions in memory reach the control file now and then, without a write per message. Method: the clock passes
// the save interval; the persisted position is read.
test("the control file is saved by the background after its interval", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const timeline = harness.node.timelines.get(TENANT, TIMELINE);
  const wal = walOf(40);
  const first = wal.boundaries[10] ?? START;
  proposer.append(wal, START, wal.endLsn, START);
  await proposer.receiveOf("append-response");
  proposer.append(wal, wal.endLsn, wal.endLsn, first);
  await proposer.receiveOf("append-response");
  expect(timeline.state.commitLsn).toBe(first);
  expect(timeline.state.persistedCommitLsn).toBe(START);
  const looked = harness.clock.timerSet(300_000); // the manager found nothing due, and will look again then
  harness.clock.advance(MANAGER_INTERVAL_MS);
  await looked;
  expect(timeline.state.persistedCommitLsn).toBe(START);
  const saved = timelineSaved(harness);
  harness.clock.advance(300_000);
  await saved;
  await timeline.bumpTerm(0n); // changes nothing, and waits for whoever saves
  expect(timeline.state.persistedCommitLsn).toBe(first);
  await proposer.client.close();
});

// Resolves when the next control file has been put in place and its directory is about to be synced.
function timelineSaved(harness: Harness): Promise<void> {
  return new Promise((resolve) => {
    harness.disk.onCall = ({ name }) => {
      if (name !== "fsyncDirectory") return;
      harness.disk.onCall = undefined;
      resolve();
    };
  });
}

// Aim: a node shows what it has. Method: a status with a stream, without one, and its fields.
test("a node's status lists its timelines, receivers and connections", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const wal = walOf(1);
  proposer.append(wal, START, wal.endLsn);
  await proposer.receiveOf("append-response");
  expect(harness.node.status()).toMatchObject({
    nodeId: 1n,
    closing: false,
    connections: 1,
    unloadable: [],
    timelines: [
      {
        tenantId: TENANT,
        timelineId: TIMELINE,
        server: { pgVersion: 150_018, systemId: SYSTEM_ID, segmentBytes: MIB },
        flushLsn: wal.endLsn,
        walReceivers: [{ connectionId: proposer.client.processId, phase: "streaming" }],
        brokenReason: undefined,
      },
    ],
  });
  await proposer.client.close();
  await proposer.served;
  expect(harness.node.status()).toMatchObject({ connections: 0, timelines: [{ walReceivers: [] }] });
});

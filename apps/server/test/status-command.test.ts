/**
 * `millrace status`: whom it asks, what it says of their answers, and what it says when nobody answers.
 */
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Hono } from "hono";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { toLsn } from "@millrace/lsn";
import { AcceptorNode, parseJson } from "@millrace/wal-acceptor";

import { EXIT } from "../src/errors.js";
import { createAcceptorApi } from "../src/http/acceptor-api.js";
import { listenHttp } from "../src/http/listen.js";
import { createStatusApi } from "../src/http/status-api.js";
import { createInstance } from "../src/instance.js";
import type { Instance } from "../src/instance.js";
import { silentLogger } from "../src/logging.js";
import type { ClusterStatus } from "../src/status/cluster-status.js";
import { readStatusUrl, rememberStatusAddress } from "../src/status/status-address.js";
import { runStatus } from "../src/status/status-command.js";

const LSN = toLsn(0x300000n);
/** Not representable as a JavaScript number. */
const TERM = 2n ** 60n + 1n;

let directory: string;
let printed: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync(join(tmpdir(), "millrace-status-")));
  printed = "";
  vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    printed += String(text);
    return true;
  });
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true, force: true });
});

/** An all-in-one with three acceptors, of which those in `up` run; the second one is at `deadUrl`. */
function cluster(httpUrl: string, deadUrl: string, up: readonly number[] = [1, 3]): ClusterStatus {
  const acceptor = (id: number, url: string): ClusterStatus["acceptors"][number] => ({
    id,
    walAddress: `127.0.0.1:${id}`,
    httpUrl: url,
    state: up.includes(id) ? "ready" : "waiting",
    pid: up.includes(id) ? 100 + id : undefined,
    restarts: up.includes(id) ? 0 : 4,
    lastEnd: up.includes(id) ? undefined : "exit code 70",
    stream: {
      address: `127.0.0.1:${id}`,
      state: up.includes(id) ? "active" : "offline",
      nodeId: BigInt(id),
      flushLsn: LSN,
      voted: true,
    },
  });
  return {
    uptimeMs: 61_000,
    dataDirectory: directory,
    postgres: { kind: "system PostgreSQL 15.18", address: "127.0.0.1:5432/postgres", state: "running" },
    bridge: {
      state: "ready",
      pid: 99,
      restarts: 2,
      lastEnd: undefined,
      ends: new Map(),
      divergenceChecks: new Map(),
      report: {
        state: "streaming",
        term: TERM,
        termStartLsn: LSN,
        reconnects: 0,
        receivedLsn: toLsn(LSN + 2048n),
        commitLsn: LSN,
        reportedLsn: LSN,
        divergence: "equal",
        acceptors: [],
      },
    },
    acceptors: [acceptor(1, httpUrl), acceptor(2, deadUrl), acceptor(3, `${httpUrl}/elsewhere`)],
    commitBytesPerSecond: 0,
  };
}

async function withAcceptor(instance: Instance, work: (url: string) => Promise<void>): Promise<void> {
  await using node = await AcceptorNode.open({
    directory: join(directory, "acceptor"),
    nodeId: 1n,
    onFatal: (error) => {
      throw error;
    },
  });
  const timeline = await node.timelines.create({
    tenantId: instance.tenantId,
    timelineId: instance.timelineId,
    pgVersion: 150_018,
    systemId: 7n,
    segmentBytes: 1024 * 1024,
    startLsn: LSN,
  });
  await timeline.bumpTerm(TERM);
  const api = createAcceptorApi({
    nodeId: node.nodeId,
    timelines: node.timelines,
    version: "1.2.3",
    advertisePg: "127.0.0.1:1",
    authenticator: undefined,
    logger: silentLogger(),
  });
  await using listener = await listenHttp(api, { host: "127.0.0.1", port: 0 });
  await work(`http://127.0.0.1:${listener.address.port}`);
}

// Aim: what is shown comes from the all-in-one and from the acceptors themselves, with all digits; who is missing is
// named with the reason. Method: one acceptor that is real, one whose process has ended, one that answers nonsense.
test("status shows terms, positions, lag and who is missing", async () => {
  const instance = createInstance(directory, { kind: "external" });
  await withAcceptor(instance, async (url) => {
    const status = cluster(url, "http://127.0.0.1:1");
    await using listener = await listenHttp(
      createStatusApi(() => status, "127.0.0.1"),
      { host: "127.0.0.1", port: 0 },
    );
    rememberStatusAddress(directory, listener.address);
    expect(await runStatus({ dataDir: directory, json: false })).toBe(EXIT.ok);
    expect(printed).toContain("commits return: 2 of 3 acceptors take part");
    expect(printed).toContain(`streaming, term ${TERM}, restarts 2`);
    expect(printed).toMatch(
      new RegExp(String.raw`1 +ready +active +${TERM} +0/300000 +0/300000 +2\.00 KiB +0\n`),
    );
    expect(printed).toMatch(/2 +waiting +offline +- +- +- +2\.00 KiB +4\n/);
    expect(printed.split("\n").filter((line) => line.startsWith("missing"))).toEqual([
      "missing: acceptor 2 (process waiting, last end: exit code 70)",
    ]);

    printed = "";
    expect(await runStatus({ dataDir: directory, json: true })).toBe(EXIT.ok);
    expect(parseJson(printed)).toMatchObject({
      commits_return: true,
      bridge: { term: TERM },
      acceptors: [
        { id: 1, own: { term: TERM, last_log_term: 0, commit_lsn: "0/300000", flush_lsn: "0/300000" } },
        { id: 2, own: { reason: expect.stringContaining("127.0.0.1:1/") as string } },
        { id: 3, own: { reason: expect.stringContaining("404") as string } },
      ],
    });
  });
});

// Aim: the code tells a script whether commits return. Method: a bridge that does not stream; one acceptor of three.
test("the code is 1 while commits wait", async () => {
  createInstance(directory, { kind: "external" });
  const dead = "http://127.0.0.1:1";
  const good = cluster(dead, dead);
  const bridgeless = { ...good, bridge: { ...good.bridge, state: "waiting" as const, report: undefined } };
  const halted = { ...bridgeless.bridge, state: "halted" as const, lastEnd: "exit code 76: fenced" };
  const fenced = { ...good, bridge: halted };
  const alone = cluster(dead, dead, [1]);
  for (const [status, missing] of [
    [bridgeless, "missing: bridge (process waiting)"],
    [
      fenced,
      "missing: bridge (process halted, last end: exit code 76: fenced, not started again before millrace is)",
    ],
    [alone, "missing: acceptor 3 (process waiting, last end: exit code 70)"],
  ] as const) {
    await using listener = await listenHttp(
      createStatusApi(() => status, "127.0.0.1"),
      { host: "127.0.0.1", port: 0 },
    );
    rememberStatusAddress(directory, listener.address);
    printed = "";
    expect(await runStatus({ dataDir: directory, json: false })).toBe(EXIT.failure);
    expect(printed).toContain("commits wait");
    expect(printed).toContain(missing);
  }
});

// Aim: where nothing runs that is said, with a code of its own, and nothing is made. Method: no directory, an empty one,
// an address that nobody listens on any more, one that is somebody else's now, and one of another directory.
test("status says when nothing runs", async () => {
  const refused = async (dataDir: string): Promise<string> => {
    const failure = await runStatus({ dataDir, json: false }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "ERR_SERVER_NOT_RUNNING", exitCode: EXIT.unavailable });
    return (failure as Error).message;
  };
  expect(await refused(join(directory, "none"))).toContain("no such directory");
  mkdirSync(join(directory, "empty"));
  expect(await refused(join(directory, "empty"))).toContain("never ran");
  createInstance(directory, { kind: "external" });
  rememberStatusAddress(directory, { host: "127.0.0.1", port: 1 });
  expect(await refused(directory)).toContain("nothing answers at http://127.0.0.1:1");
  const other = new Hono().get("/v1/status", (context) => context.json({ id: 1 }));
  const elsewhere = { ...cluster("", ""), dataDirectory: "/elsewhere" };
  for (const app of [other, createStatusApi(() => elsewhere, "127.0.0.1")]) {
    await using listener = await listenHttp(app, { host: "127.0.0.1", port: 0 });
    rememberStatusAddress(directory, listener.address);
    expect(await refused(directory)).toContain("belongs to something else");
  }
  expect(printed).toBe("");
});

// Aim: what is remembered can be connected to. Method: addresses that mean "all of this machine", and a plain one.
test("the remembered address is one to connect to", () => {
  expect(readStatusUrl(directory)).toBe(undefined);
  for (const [host, url] of [
    ["0.0.0.0", "http://127.0.0.1:8"],
    ["::", "http://[::1]:8"],
    ["10.1.2.3", "http://10.1.2.3:8"],
  ] as const) {
    rememberStatusAddress(directory, { host, port: 8 });
    expect(readStatusUrl(directory)).toBe(url);
  }
});

/**
 * The client of an acceptor's HTTP API against a real node, for what depends on both sides: PostgreSQL's timelines.
 */
import { expect, test } from "vitest";

import { parseLsn, toLsn } from "@millrace/lsn";
import { temporaryDirectory } from "@millrace/postgres-process";
import { AcceptorNode } from "@millrace/wal-acceptor";

import { createAcceptorApi } from "../src/http/acceptor-api.js";
import { fetchPgTimelines, registerPgTimeline } from "../src/http/acceptor-client.js";
import { listenHttp } from "../src/http/listen.js";
import { silentLogger } from "../src/logging.js";

const TENANT = "0123456789abcdef0123456789abcdef";
const TIMELINE = "fedcba9876543210fedcba9876543210";

// Aim: what was registered comes back, and a contradiction is told from every other failure. Method: the same twice,
// another switch point, a timeline that is not there, an acceptor without the tenant.
test("PostgreSQL's timelines are registered and listed, a contradiction has its own code", async () => {
  await using directory = await temporaryDirectory();
  const node = await AcceptorNode.open({
    directory: directory.path,
    nodeId: 1n,
    onFatal: (error) => {
      throw error;
    },
  });
  await node.timelines.create({
    tenantId: TENANT,
    timelineId: TIMELINE,
    pgVersion: 150_018,
    systemId: 7n,
    segmentBytes: 1024 * 1024,
    startLsn: toLsn(0x30_0028n),
  });
  const app = createAcceptorApi({
    nodeId: 1n,
    timelines: node.timelines,
    version: "1.2.3",
    metrics: () => node.metrics(),
    advertisePg: "10.0.0.1:5454",
    authenticator: undefined,
    logger: silentLogger(),
  });
  await using http = await listenHttp(app, { host: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${http.address.port}`;
  const first = { timelineId: 1, beginLsn: 0n, parentId: undefined, history: "" };
  expect(await fetchPgTimelines(url, TENANT, TIMELINE)).toEqual([first]);
  const second = {
    timelineId: 2,
    beginLsn: parseLsn("0/300100"),
    parentId: 1,
    history: "1\t0/300100\tno recovery target specified\n",
  };
  await registerPgTimeline(url, TENANT, TIMELINE, second);
  await registerPgTimeline(url, TENANT, TIMELINE, second);
  expect(await fetchPgTimelines(url, TENANT, TIMELINE)).toEqual([first, second]);
  const other = { ...second, beginLsn: parseLsn("0/300108"), history: "1\t0/300108\tother\n" };
  await expect(registerPgTimeline(url, TENANT, TIMELINE, other)).rejects.toMatchObject({
    code: "ERR_BRIDGE_TIMELINE_CONFLICT",
    message: expect.stringContaining("timeline 2 is registered with other properties") as string,
  });
  const absent = "1".repeat(32);
  await expect(registerPgTimeline(url, TENANT, absent, second)).rejects.toMatchObject({
    code: "ERR_SERVER_HTTP",
  });
  await expect(fetchPgTimelines(url, TENANT, absent)).rejects.toMatchObject({ code: "ERR_SERVER_HTTP" });
  await node.close();
});

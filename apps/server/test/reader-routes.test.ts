/**
 * The routes about a timeline's WAL and its readers, against a real node on a temporary directory.
 */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hono } from "hono";
import { afterEach, beforeEach, expect, test } from "vitest";

import { toLsn } from "@millrace/lsn";
import { AcceptorNode, Histogram, parseJson, stringifyJson } from "@millrace/wal-acceptor";

import { createAcceptorApi } from "../src/http/acceptor-api.js";
import { expositionText } from "../src/http/metrics-text.js";
import { silentLogger } from "../src/logging.js";

const TENANT = "0123456789abcdef0123456789abcdef";
const TIMELINE = "fedcba9876543210fedcba9876543210";
const PATH = `/v1/tenant/${TENANT}/timeline/${TIMELINE}`;

let directory: string;
let node: AcceptorNode;
let app: Hono;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "millrace-api-"));
  node = await AcceptorNode.open({
    directory,
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
    startLsn: toLsn(0x300028n),
  });
  app = createAcceptorApi({
    nodeId: 1n,
    timelines: node.timelines,
    version: "1.2.3",
    metrics: () => node.metrics(),
    histograms: () => node.histograms(),
    advertisePg: "10.0.0.1:5454",
    authenticator: undefined,
    logger: silentLogger(),
  });
});
afterEach(async () => {
  await node.close();
  rmSync(directory, { recursive: true, force: true });
});

async function call(
  method: string,
  path: string,
  body?: unknown,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await app.request(path, {
    method,
    ...(body === undefined ? {} : { body: stringifyJson(body) }),
    headers: { "content-type": "application/json" },
  });
  return { status: response.status, body: parseJson(await response.text()) as Record<string, unknown> };
}

// Aim: a slot's life over HTTP, with statuses that tell its ends apart. Method: every method before and after.
test("a consumer slot is made, moved forward, shown and removed", async () => {
  const slot = `${PATH}/consumer_slots/archive`;
  expect((await call("GET", slot)).status).toBe(404);
  expect((await call("DELETE", slot)).status).toBe(404);
  expect(await call("PUT", slot, {})).toMatchObject({
    status: 200,
    body: { name: "archive", restart_lsn: "0/300028", temporary: false, active_conn_id: null },
  });
  expect((await call("PUT", slot, { restart_lsn: "0/400000" })).body["restart_lsn"]).toBe("0/400000");
  expect((await call("PUT", slot, { restart_lsn: "0/300028" })).body["restart_lsn"]).toBe("0/400000");
  expect((await call("GET", slot)).body["restart_lsn"]).toBe("0/400000");
  expect((await call("GET", PATH)).body["consumer_slots"]).toMatchObject([{ name: "archive" }]);
  expect((await call("PUT", slot, { restart_lsn: "x" })).status).toBe(400);
  expect((await call("PUT", `${PATH}/consumer_slots/Not-A-Name`, {})).status).toBe(400);
  const lease = await node.timelines.get(TENANT, TIMELINE).readers.slots.acquire("archive", 5, toLsn(1n));
  expect((await call("DELETE", slot)).status).toBe(409);
  lease[Symbol.dispose]();
  expect((await call("DELETE", slot)).status).toBe(200);
  expect((await call("GET", slot)).status).toBe(404);
});

// Aim: a registration can be repeated, and one that contradicts it cannot be made. Method: the same, another, a bad one.
test("one of PostgreSQL's timelines is registered once", async () => {
  const second = { begin_lsn: "0/300100", parent_tli: 1, history: "1\t0/300100\tno reason\n" };
  const path = `${PATH}/pg_timelines/2`;
  expect((await call("GET", path)).status).toBe(404);
  expect((await call("PUT", path, second)).body).toEqual({ timeline_id: 2, ...second });
  expect((await call("PUT", path, second)).status).toBe(200);
  const other = { ...second, begin_lsn: "0/300108", history: "1\t0/300108\tno reason\n" };
  expect((await call("PUT", path, other)).status).toBe(409);
  expect((await call("PUT", `${PATH}/pg_timelines/0`, second)).status).toBe(400);
  expect((await call("PUT", `${PATH}/pg_timelines/3`, { begin_lsn: "0/1" })).status).toBe(409);
  expect((await call("PUT", `${PATH}/pg_timelines/3`, { ...second, history: 5 })).status).toBe(400);
  expect((await call("GET", path)).body).toEqual({ timeline_id: 2, ...second });
  const text = await app.request(path, { method: "PUT", body: stringifyJson(second) });
  expect(text.status).toBe(415);
});

// Aim: digests answer for WAL that is here and for nothing else. Method: ranges on an empty timeline, and their texts.
test("a digest needs a range of durable WAL, and a checkpoint is answered", async () => {
  const digest = (from: string, until: string): ReturnType<typeof call> =>
    call("GET", `${PATH}/digest?from_lsn=${from}&until_lsn=${until}`);
  expect((await digest("0/300028", "0/300030")).status).toBe(400);
  expect((await digest("0/300028", "x")).status).toBe(400);
  expect((await call("GET", `${PATH}/digest`)).status).toBe(400);
  expect((await digest("0/200000", "0/300028")).status).toBe(410);
  const made = await digest("0/300000", "0/300028");
  expect(made.status).toBe(200);
  expect(made.body["sha256"]).toMatch(/^[0-9a-f]{64}$/);
  expect(made.body["sha256"]).not.toBe(createHash("sha256").update(Buffer.alloc(40)).digest("hex"));
  expect(await call("POST", `${PATH}/checkpoint`)).toEqual({ status: 200, body: {} });
  expect((await call("POST", `/v1/tenant/${TENANT}/timeline/${TENANT}/checkpoint`)).status).toBe(404);
});

// Aim: Prometheus can read what we say. Method: the whole answer line by line against the format; a value we know.
test("metrics come in the text format with this node's numbers", async () => {
  const response = await app.request("/metrics");
  expect(response.headers.get("content-type")).toContain("version=0.0.4");
  const lines = (await response.text()).split("\n").filter((line) => line !== "");
  for (const line of lines) {
    expect(line).toMatch(
      /^(# HELP safekeeper_\w+ .+|# TYPE safekeeper_\w+ (counter|gauge|histogram)|safekeeper_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \d+(\.\d+)?(e-\d+)?)$/,
    );
  }
  expect(lines).toContain("safekeeper_timelines 1");
  expect(lines).toContain('safekeeper_wal_storage_operation_seconds_count{operation="write_wal"} 0');
  expect(lines).toContain(`safekeeper_commit_lsn{tenant_id="${TENANT}",timeline_id="${TIMELINE}"} 3145768`);
  const odd = {
    name: "n",
    help: "a\nb",
    type: "gauge",
    samples: [{ labels: { l: 'x"\\\n' }, value: 2n ** 60n }],
  } as const;
  expect(await expositionText([odd])).toBe(`# HELP n a\\nb\n# TYPE n gauge\nn{l="x\\"\\\\\\n"} ${2 ** 60}\n`);
  const histogram = new Histogram([0.5, 1]);
  for (const value of [0.25, 0.75, 0.75, 4]) histogram.observe(value);
  const samples = [{ labels: { operation: "write" }, ...histogram.snapshot() }];
  expect(await expositionText([], undefined, [{ name: "h", help: "x", samples }])).toBe(
    [
      "# HELP h x",
      "# TYPE h histogram",
      'h_bucket{operation="write",le="0.5"} 1',
      'h_bucket{operation="write",le="1"} 3',
      'h_bucket{operation="write",le="+Inf"} 4',
      'h_sum{operation="write"} 5.75',
      'h_count{operation="write"} 4\n',
    ].join("\n"),
  );
  // What has no value must not be told as 0.
  expect((await expositionText([{ ...odd, samples: [] }])).trim()).toBe("");
});

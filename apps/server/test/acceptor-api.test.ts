/**
 * The acceptor's HTTP API against a real node on a temporary directory.
 */
import { generateKeyPairSync, sign } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hono } from "hono";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";

import { IoEngine } from "@millrace/aio";
import { toLsn } from "@millrace/lsn";
import { AcceptorNode, createFileSystem, parseJson, stringifyJson } from "@millrace/wal-acceptor";
import type { FileSystem } from "@millrace/wal-acceptor";

import { createAcceptorApi } from "../src/http/acceptor-api.js";
import { createTimelineOn, fetchDigest, fetchNodeId, fetchTimeline } from "../src/http/acceptor-client.js";
import { authenticatorFor, loadPublicKeys } from "../src/http/bearer.js";
import { listenHttp } from "../src/http/listen.js";
import { BODY_BYTES_MAX } from "../src/http/timeline-request.js";
import { silentLogger } from "../src/logging.js";

const TENANT = "0123456789abcdef0123456789abcdef";
const TIMELINE = "fedcba9876543210fedcba9876543210";
const SYSTEM_ID = 7_710_562_513_499_080_835n;
const PATH = `/v1/tenant/${TENANT}/timeline/${TIMELINE}`;

const CREATION = {
  tenant_id: TENANT,
  timeline_id: TIMELINE.toUpperCase(),
  mconf: { generation: 1, members: [{ id: 2n ** 63n, host: "127.0.0.1", pg_port: 5454 }], new_members: null },
  pg_version: 160_004,
  system_id: SYSTEM_ID,
  wal_seg_size: 1024 * 1024,
  start_lsn: "0/300000",
};

let directory: string;
let node: AcceptorNode;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "millrace-api-"));
  node = await AcceptorNode.open({
    directory: join(directory, "acceptor"),
    nodeId: 2n ** 63n,
    onFatal: (error) => {
      throw error;
    },
  });
});
afterEach(async () => {
  await node.close();
  rmSync(directory, { recursive: true, force: true });
});

function api(keyPath?: string): Hono {
  return createAcceptorApi({
    nodeId: node.nodeId,
    timelines: node.timelines,
    version: "1.2.3",
    advertisePg: "10.0.0.1:5454",
    authenticator: authenticatorFor("http-auth-public-key-path", keyPath),
    logger: silentLogger(),
  });
}

async function call(
  app: Hono,
  method: string,
  path: string,
  body?: unknown,
  token?: string,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await app.request(path, {
    method,
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : stringifyJson(body) }),
    headers: {
      "content-type": "application/json",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
  });
  return { status: response.status, body: parseJson(await response.text()) as Record<string, unknown> };
}

// Aim: a timeline is created, shown, listed and deleted, with all digits of 64-bit numbers.
// Method: its whole life through the API; a second creation with the same parameters changes nothing.
test("a timeline lives and dies through the API", async () => {
  const app = api();
  expect((await call(app, "GET", PATH)).status).toBe(404);
  const created = await call(app, "POST", "/v1/tenant/timeline", CREATION);
  expect(created).toMatchObject({
    status: 200,
    body: {
      tenant_id: TENANT,
      timeline_id: TIMELINE,
      pg_info: { pg_version: 160_004, system_id: SYSTEM_ID, wal_seg_size: 1024 * 1024 },
      acceptor_state: { term: 0, epoch: 0, term_history: [{ term: 0, lsn: "0/300000" }] },
      mconf: {
        generation: 1,
        members: [{ id: 2n ** 63n, host: "127.0.0.1", pg_port: 5454 }],
        new_members: null,
      },
      timeline_start_lsn: "0/300000",
      commit_lsn: "0/300000",
    },
  });
  expect((await call(app, "POST", "/v1/tenant/timeline", CREATION)).status).toBe(200);
  expect(await call(app, "GET", PATH)).toEqual(created);
  const list = await call(app, "GET", "/v1/tenant/timeline");
  expect(list.body["timelines"]).toEqual([created.body]);
  expect(await call(app, "DELETE", PATH)).toEqual({ status: 200, body: { dir_existed: true } });
  expect((await call(app, "GET", PATH)).status).toBe(404);
  expect((await call(app, "POST", "/v1/tenant/timeline", CREATION)).status).toBe(409);
});

// Aim: a request does not fail because the acceptor has just been started, and who asks sees what is missing. Method: a
// node is opened over a disk that is held; the list, then one timeline while the hold lasts, then its end.
test("a timeline that is still being loaded is listed as such and waited for", async () => {
  await call(api(), "POST", "/v1/tenant/timeline", CREATION);
  await node.close();
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const engine = IoEngine.create({ fixBuffers: false });
  onTestFinished(() => engine.close());
  const machine = createFileSystem(engine);
  const fileSystem: FileSystem = {
    ...machine,
    open: async (path, ...rest) => {
      if (path.includes(TIMELINE)) await held;
      return await machine.open(path, ...rest);
    },
  };
  node = await AcceptorNode.open({ directory: join(directory, "acceptor"), fileSystem, onFatal: () => {} });
  const app = api();
  expect((await call(app, "GET", "/v1/status")).body).toMatchObject({ loading: 1 });
  expect((await call(app, "GET", "/v1/tenant/timeline")).body).toEqual({
    timelines: [],
    loading: [{ tenant_id: TENANT, timeline_id: TIMELINE }],
    unloadable: [],
  });
  const asked = call(app, "GET", PATH);
  const slot = call(app, "GET", `${PATH}/consumer_slots/none`);
  release();
  expect(await asked).toMatchObject({ status: 200, body: { commit_lsn: "0/300000" } });
  expect(await slot).toMatchObject({ status: 404, body: { msg: "no such slot" } });
  expect((await call(app, "GET", "/v1/tenant/timeline")).body).toMatchObject({ loading: [] });
});

// Aim: "done" is never said about a timeline that is another one. Method: one different parameter at a time.
test.each([
  ["system identifier", { system_id: 5n }],
  ["segment size", { wal_seg_size: 2 * 1024 * 1024, start_lsn: "0/400000" }],
  ["PostgreSQL version", { pg_version: 150_001 }],
  ["start LSN", { start_lsn: "0/400000" }],
])("creating an existing timeline with another %s is a conflict", async (named, changed) => {
  const app = api();
  await call(app, "POST", "/v1/tenant/timeline", CREATION);
  const answer = await call(app, "POST", "/v1/tenant/timeline", { ...CREATION, ...changed });
  expect(answer.status).toBe(409);
  expect(answer.body["msg"]).toContain(named);
});

// Aim: a body that is not right creates nothing and is told why. Method: one wrong member at a time.
test.each([
  ["not JSON", "not json"],
  ["the body", "[]"],
  ["tenant_id", { ...CREATION, tenant_id: "x" }],
  ["start_lsn", { ...CREATION, start_lsn: "12" }],
  ["start LSN", { ...CREATION, start_lsn: "0/0" }],
  ["wal_seg_size", { ...CREATION, wal_seg_size: 1000 }],
  ["90600", { ...CREATION, pg_version: 90_600 }],
  ["system_id", { ...CREATION, system_id: 2n ** 64n }],
  ["commit LSN", { ...CREATION, commit_lsn: "0/100000" }],
  ["commit LSN above the start LSN", { ...CREATION, commit_lsn: "0/300018" }],
  [
    "mconf.members.0.id",
    { ...CREATION, mconf: { generation: 1, members: [{ id: 0, host: "h", pg_port: 1 }] } },
  ],
])("a body whose %s is wrong is refused", async (named, body) => {
  const answer = await call(api(), "POST", "/v1/tenant/timeline", body);
  expect(answer.status).toBe(400);
  expect(answer.body["msg"]).toContain(named);
  expect(node.timelines.size).toBe(0);
});

// Aim: no web page deletes a timeline, not even one whose host name was made to lead here. Method: what a browser adds
// to such a request; the same request without it is served.
test("a request that a web page sends is refused", async () => {
  const app = api();
  await call(app, "POST", "/v1/tenant/timeline", CREATION);
  const refused = await app.request(PATH, {
    method: "DELETE",
    headers: { origin: "http://rebound.example" },
  });
  expect(refused.status).toBe(403);
  expect((await call(app, "GET", PATH)).status).toBe(200);
  expect((await call(app, "DELETE", PATH)).status).toBe(200);
});

// Aim: limits and unknown paths. Method: a body above the bound, bad ids, no such path.
test("large bodies, bad ids and unknown paths are refused", async () => {
  const app = api();
  expect((await call(app, "POST", "/v1/tenant/timeline", " ".repeat(BODY_BYTES_MAX + 1))).status).toBe(413);
  expect((await call(app, "GET", `/v1/tenant/${TENANT}/timeline/..`)).status).toBe(404);
  expect((await call(app, "GET", `/v1/tenant/${TENANT}/timeline/zz`)).status).toBe(400);
  expect((await call(app, "PUT", PATH)).status).toBe(404);
  const asForm = { method: "POST", body: stringifyJson(CREATION), headers: { "content-type": "text/plain" } };
  expect((await app.request("/v1/tenant/timeline", asForm)).status).toBe(415);
  expect(node.timelines.size).toBe(0);
});

function token(key: KeyObject, claims: object): string {
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");
  const signed = `${encode({ alg: "EdDSA", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${sign(null, Buffer.from(signed), key).toString("base64url")}`;
}

// Aim: with a key, each kind of token may do exactly what it is for, and only the health check is open.
// Method: every route with no token, a forged one, a tenant's own and foreign one, and an operator's.
test("tokens open what they are for and nothing else", async () => {
  const { publicKey, privateKey } = generateKeyPairSync("ed25519");
  const forger = generateKeyPairSync("ed25519").privateKey;
  const keys = join(directory, "keys");
  mkdirSync(keys);
  writeFileSync(join(keys, "1.pem"), publicKey.export({ type: "spki", format: "pem" }));
  const app = api(keys);
  await node.timelines.create({
    tenantId: TENANT,
    timelineId: TIMELINE,
    pgVersion: 160_004,
    systemId: 0n,
    segmentBytes: 1024 * 1024,
    startLsn: toLsn(0x300000n),
  });
  const operator = token(privateKey, { scope: "safekeeperdata" });
  const tokens: [string | undefined, number, number][] = [
    [undefined, 401, 401],
    [token(forger, { scope: "safekeeperdata" }), 401, 401],
    [token(privateKey, { scope: "safekeeperdata", exp: 1 }), 401, 401],
    [token(privateKey, { scope: "tenant", tenant_id: "f".repeat(32) }), 403, 403],
    [token(privateKey, { scope: "tenant", tenant_id: TENANT }), 200, 403],
    [operator, 200, 200],
  ];
  for (const [bearer, read, operate] of tokens) {
    expect((await call(app, "GET", "/v1/status", undefined, bearer)).status).toBe(200);
    expect((await call(app, "GET", PATH, undefined, bearer)).status).toBe(read);
    expect((await call(app, "GET", "/v1/tenant/timeline", undefined, bearer)).status).toBe(operate);
    expect((await call(app, "POST", "/v1/tenant/timeline", CREATION, bearer)).status).toBe(operate);
    if (operate !== 200) expect((await call(app, "DELETE", PATH, undefined, bearer)).status).toBe(operate);
  }
  expect((await call(app, "DELETE", PATH, undefined, operator)).status).toBe(200);
});

// Aim: keys that cannot be used are refused at the start. Method: none, garbage, an RSA key.
test("unusable key files are refused with the option's name", () => {
  expect(() => loadPublicKeys("pg-auth-public-key-path", join(directory, "none"))).toThrow(
    /--pg-auth-public-key-path/,
  );
  const file = join(directory, "key.pem");
  writeFileSync(file, "garbage");
  expect(() => loadPublicKeys("x", file)).toThrow(/--x/);
  const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  writeFileSync(file, publicKey.export({ type: "spki", format: "pem" }));
  expect(() => loadPublicKeys("x", file)).toThrow(/not an Ed25519 key/);
});

// Aim: our own client and our own server understand each other over a socket. Method: the client's three calls.
test("the client creates a timeline, reads it back, and reports refusals", async () => {
  await using listener = await listenHttp(api(), { host: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${listener.address.port}`;
  expect(await fetchNodeId(url)).toBe(2n ** 63n);
  const creation = {
    tenantId: TENANT,
    timelineId: TIMELINE,
    configuration: { generation: 1, members: [{ nodeId: 2n ** 63n, host: "h", port: 1 }], newMembers: [] },
    pgVersion: 180_004,
    systemId: SYSTEM_ID,
    segmentBytes: 1024 * 1024,
    startLsn: toLsn(0x300000n),
  };
  await createTimelineOn(url, creation);
  await createTimelineOn(url, creation);
  expect(await fetchTimeline(url, TENANT, TIMELINE)).toEqual({
    flushLsn: 0x300000n,
    commitLsn: 0x300000n,
    timelineStartLsn: 0x300000n,
    segmentBytes: 1024 * 1024,
    systemId: SYSTEM_ID,
    term: 0n,
    lastLogTerm: 0n,
  });
  const range = {
    tenantId: TENANT,
    timelineId: TIMELINE,
    fromLsn: toLsn(0x300000n),
    untilLsn: toLsn(0x300008n),
  };
  await expect(fetchDigest(url, range)).rejects.toMatchObject({ code: "ERR_SERVER_HTTP" }); // an empty log
  const other = createTimelineOn(url, { ...creation, systemId: 1n });
  await expect(other).rejects.toMatchObject({
    code: "ERR_SERVER_HTTP",
    message: expect.stringContaining("409") as string,
  });
  await listener.close();
  await expect(fetchNodeId(url)).rejects.toMatchObject({ code: "ERR_SERVER_HTTP" });
});

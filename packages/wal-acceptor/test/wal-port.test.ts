import { generateKeyPairSync, sign } from "node:crypto";
import { jwtAuthenticator } from "@millrace/pg-wire";
import type { Authenticator } from "@millrace/pg-wire";
import { expect, test } from "vitest";

import { Harness, START, walOf } from "./acceptor-harness.js";
import { SYSTEM_ID, TENANT, TIMELINE } from "./fixtures.js";
import { frame, RawClient, startup } from "./raw-client.js";
import { MIB } from "./wal-stream.js";

const TARGET = `-c timeline_id=${TIMELINE} tenant_id=${TENANT}`;
const OTHER_TENANT = "ffffffffffffffffffffffffffffffff";

async function login(harness: Harness, parameters: Readonly<Record<string, string>>): Promise<RawClient> {
  const client = new RawClient(harness.raw().client);
  client.write(startup(parameters));
  await client.until("Z");
  return client;
}

async function createTimeline(harness: Harness): Promise<void> {
  await harness.node.timelines.create({
    tenantId: TENANT,
    timelineId: TIMELINE,
    pgVersion: 150_018,
    systemId: SYSTEM_ID,
    segmentBytes: MIB,
    startLsn: START,
  });
}

// Aim: stock clients get the messages they insist on, in order. Method: every message after login, word for word.
test("each command is answered with exactly its messages", async () => {
  await using harness = await Harness.open();
  await createTimeline(harness);
  const client = await login(harness, { options: TARGET });
  expect(await client.query("IDENTIFY_SYSTEM")).toEqual([
    "T(systemid:25 timeline:23 xlogpos:25 dbname:25)",
    `D('${SYSTEM_ID}' '1' '0/300028' NULL)`,
    "C(IDENTIFY_SYSTEM)",
    "Z(I)",
  ]);
  expect(await client.query("TIMELINE_STATUS")).toEqual([
    "T(flush_lsn:25 commit_lsn:25)",
    "D('0/300028' '0/300028')",
    "C(TIMELINE_STATUS)",
    "Z(I)",
  ]);
  expect(await client.query("SHOW wal_segment_size")).toEqual([
    "T(wal_segment_size:25)",
    "D('1MB')",
    "C(SHOW)",
    "Z(I)",
  ]);
  expect(await client.query("SHOW data_directory_mode;")).toEqual([
    "T(data_directory_mode:25)",
    "D('0700')",
    "C(SHOW)",
    "Z(I)",
  ]);
  expect(await client.query("SHOW no_such_thing")).toEqual([
    'E(ERROR 42704 unrecognized configuration parameter "no_such_thing")',
    "Z(I)",
  ]);
  expect(await client.query('READ_REPLICATION_SLOT "absent"')).toEqual([
    "T(slot_type:25 restart_lsn:25 restart_tli:20)",
    "D(NULL NULL NULL)",
    "C(READ_REPLICATION_SLOT)",
    "Z(I)",
  ]);
  expect(await client.query("TIMELINE_HISTORY 1")).toEqual([
    'E(ERROR 58P01 could not open file "pg_wal/00000001.history": No such file or directory)',
    "Z(I)",
  ]);
  expect(await client.query("TIMELINE_HISTORY 2")).toEqual([
    'E(ERROR 58P01 could not open file "pg_wal/00000002.history": No such file or directory)',
    "Z(I)",
  ]);
  expect(await client.query("BASE_BACKUP ( LABEL 'x' )")).toEqual([
    "E(ERROR 0A000 BASE_BACKUP is not supported by this version +H)",
    "Z(I)",
  ]);
  expect(await client.query("START_REPLICATION 0/3000000 TIMELINE 2")).toEqual([
    "E(ERROR XX000 requested timeline 2 is not in this server's history)",
    "Z(I)",
  ]);
  expect(await client.query("SET datestyle TO 'ISO'")).toEqual(["C(SELECT 1)", "Z(I)"]);
  expect(await client.query("SELECT pg_catalog.set_config('search_path', '', false);")).toEqual([
    "T(set_config:25)",
    "D('')",
    "C(SELECT 1)",
    "Z(I)",
  ]);
  expect(await client.query("")).toEqual(["I", "Z(I)"]);
  expect(await client.query(";")).toEqual(["I", "Z(I)"]);
  expect(await client.query("VACUUM")).toEqual(['E(ERROR 42601 unsupported command "VACUUM")', "Z(I)"]);
  expect(await client.query("START_WAL_PUSH (proto_version '4')")).toEqual([
    "E(ERROR 0A000 unsupported protocol version 4, use 2 or 3)",
    "Z(I)",
  ]);
  client.write(frame("X", ""));
  expect(await client.untilEnd()).toEqual(["end"]);
});

// Aim: a timeline that is not there is told apart from one that cannot be named. Method: the same commands before
// creation, and with ids missing.
test("an absent timeline gives no status row and errors elsewhere; missing ids are asked for", async () => {
  await using harness = await Harness.open();
  const client = await login(harness, { options: TARGET });
  expect(await client.query("TIMELINE_STATUS")).toEqual([
    "T(flush_lsn:25 commit_lsn:25)",
    "C(TIMELINE_STATUS)",
    "Z(I)",
  ]);
  const absent = [`E(ERROR 42704 timeline ${TENANT}/${TIMELINE} not found)`, "Z(I)"];
  expect(await client.query("IDENTIFY_SYSTEM")).toEqual(absent);
  expect(await client.query("SHOW wal_segment_size")).toEqual(absent);
  expect(await client.query("SHOW data_directory_mode")).toContain("D('0700')");

  const nobody = await login(harness, {});
  for (const command of ["IDENTIFY_SYSTEM", "TIMELINE_STATUS", "START_WAL_PUSH", "SHOW wal_segment_size"]) {
    expect(await nobody.query(command)).toEqual(["E(ERROR 08P01 tenantid is required)", "Z(I)"]);
  }
  const half = await login(harness, { options: `-c tenant_id=${TENANT}` });
  expect(await half.query("TIMELINE_STATUS")).toEqual(["E(ERROR 08P01 timelineid is required)", "Z(I)"]);
});

// Aim: every spelling of the ids that has ever been sent is understood. Method: the option strings.
test.each([
  `-c tenant_id=${TENANT} timeline_id=${TIMELINE}`,
  `-c timeline_id=${TIMELINE} -c tenant_id=${TENANT}`,
  `ztenantid=${TENANT} ztimelineid=${TIMELINE}`,
  `-c walacceptor.tenant_id=${TENANT.toUpperCase()} -c walacceptor.timeline_id=${TIMELINE}`,
])("options %s name the timeline", async (options) => {
  await using harness = await Harness.open();
  await createTimeline(harness);
  const client = await login(harness, { options });
  expect(await client.query("TIMELINE_STATUS")).toContain("D('0/300028' '0/300028')");
});

test.each([
  [
    `tenant_id=${TENANT.slice(1)} timeline_id=${TIMELINE}`,
    "option tenant_id must be exactly 32 hexadecimal digits",
  ],
  [
    `tenant_id=${TENANT} timeline_id=${TIMELINE}0`,
    "option timeline_id must be exactly 32 hexadecimal digits",
  ],
  [`tenant_id=${TENANT} ztenantid=${OTHER_TENANT}`, "option ztenantid contradicts an earlier option"],
  [`${TARGET} shard_number=1`, "option shard_number needs the interpreted protocol, not served here"],
])("options %s end the connection with a FATAL", async (options, message) => {
  await using harness = await Harness.open();
  const client = new RawClient(harness.raw().client);
  client.write(startup({ options }));
  expect(await client.untilEnd()).toEqual([`E(FATAL 08P01 ${message})`, "end"]);
});

// Aim: tools refuse a server newer than themselves. Method: the reported version with and without the timeline.
test("the reported version is that of the timeline's PostgreSQL", async () => {
  await using harness = await Harness.open();
  const before = await harness.connect();
  expect(before.client.parameters.get("server_version")).toBe("14.1");
  await createTimeline(harness);
  const after = await harness.connect();
  expect(after.client.parameters.get("server_version")).toBe("15.0");
});

// Aim: recovery continues from what is durable, everybody else from what is committed. Method: flushed and uncommitted
// WAL, then IDENTIFY_SYSTEM under different application names.
test("IDENTIFY_SYSTEM reports the flush position to recovery readers only", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected();
  const wal = walOf(3);
  proposer.append(wal, START, wal.endLsn);
  await proposer.receiveOf("append-response");
  const positions = new Map<string, string | undefined>();
  for (const name of ["standby", "wal_proposer_recovery", "safekeeper_2"]) {
    const client = await login(harness, { options: TARGET, application_name: name });
    positions.set(
      name,
      (await client.query("IDENTIFY_SYSTEM")).find((line) => line.startsWith("D")),
    );
  }
  const row = (lsn: bigint): string => `D('${SYSTEM_ID}' '1' '0/${lsn.toString(16).toUpperCase()}' NULL)`;
  expect([...positions.values()]).toEqual([row(START), row(wal.endLsn), row(wal.endLsn)]);
  await proposer.client.close();
});

const { publicKey, privateKey } = generateKeyPairSync("ed25519");

function token(claims: Readonly<Record<string, unknown>>): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "EdDSA", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${sign(null, Buffer.from(signed), privateKey).toString("base64url")}`;
}

const full = jwtAuthenticator({ publicKeys: [publicKey], allowedScopes: ["tenant", "safekeeperdata"] });
const tenantOnly = jwtAuthenticator({ publicKeys: [publicKey], allowedScopes: ["tenant"] });
const lax: Authenticator = { verify: () => ({ scope: "pageserverapi", tenantId: TENANT }) };
const STATUS = ["T(flush_lsn:25 commit_lsn:25)", "C(TIMELINE_STATUS)", "Z(I)"];
const REFUSED = ["E(FATAL 28P01 JWT authentication error)", "end"];
const FORBIDDEN = ["E(ERROR 42501 the token does not give access to this tenant)", "Z(I)"];

// Aim: a token opens its own tenant and nothing else. Method: port, token and outcome as a table.
test.each<[string, Authenticator, string, readonly string[]]>([
  ["a tenant's token on its tenant", full, token({ scope: "tenant", tenant_id: TENANT }), STATUS],
  [
    "a tenant's token on its tenant, tenant-only port",
    tenantOnly,
    token({ scope: "tenant", tenant_id: TENANT }),
    STATUS,
  ],
  [
    "a tenant's token on another tenant",
    full,
    token({ scope: "tenant", tenant_id: OTHER_TENANT }),
    FORBIDDEN,
  ],
  ["a tenant's token without a tenant", full, token({ scope: "tenant" }), REFUSED],
  ["the node's token", full, token({ scope: "safekeeperdata" }), STATUS],
  ["the node's token on the tenant-only port", tenantOnly, token({ scope: "safekeeperdata" }), REFUSED],
  ["an admin's token", full, token({ scope: "admin" }), REFUSED],
  ["an expired token", full, token({ scope: "tenant", tenant_id: TENANT, exp: 1 }), REFUSED],
  ["a garbled token", full, `${token({ scope: "tenant", tenant_id: TENANT }).slice(0, -4)}AAAA`, REFUSED],
  ["a scope that an authenticator lets in and no command knows", lax, "x", FORBIDDEN],
])("%s", async (_name, authenticator, password, expected) => {
  await using harness = await Harness.open();
  const client = new RawClient(harness.raw({ authenticator }).client);
  client.write(startup({ options: TARGET }));
  await client.until("R");
  client.write(frame("p", `${password}\0`));
  const answer = expected === REFUSED ? await client.untilEnd() : await client.until("Z");
  if (expected === REFUSED) {
    expect(answer).toEqual(expected);
    return;
  }
  expect(answer.at(-1)).toBe("Z(I)");
  expect(await client.query("TIMELINE_STATUS")).toEqual(expected);
});

// Aim: a token is asked for streams too, before COPY begins. Method: another tenant's token and START_WAL_PUSH.
test("a forbidden START_WAL_PUSH never enters COPY", async () => {
  await using harness = await Harness.open({ authenticator: full });
  const { client, served } = await harness.connect({
    password: token({ scope: "tenant", tenant_id: OTHER_TENANT }),
  });
  await expect(client.startCopyBoth("START_WAL_PUSH")).rejects.toMatchObject({ sqlstate: "42501" });
  await client.close();
  await served;
  expect(harness.node.timelines.size).toBe(0);
});

// Aim: silence is bounded in the command loop as in a stream. Method: the clock passes the limit after a query.
test("a connection that asks nothing for ten minutes is dropped", async () => {
  await using harness = await Harness.open();
  const raw = harness.raw();
  const client = new RawClient(raw.client);
  client.write(startup({ options: TARGET }));
  await client.until("Z");
  harness.clock.advance(599_000);
  expect((await client.query("SHOW data_directory_mode")).at(-1)).toBe("Z(I)");
  harness.clock.advance(599_000);
  expect((await client.query("SHOW data_directory_mode")).at(-1)).toBe("Z(I)");
  harness.clock.advance(600_000);
  await raw.served;
  expect(await client.untilEnd()).toEqual(["end"]);
  expect(harness.node.status().connections).toBe(0);
});

// Aim: bad frames cannot make the server hold memory or fall over. Method: impossible and excessive lengths.
test.each([3, 0, 2 ** 31, 70_000])(
  "a query frame of declared length %d closes the connection",
  async (length) => {
    await using harness = await Harness.open();
    const raw = harness.raw();
    const client = new RawClient(raw.client);
    client.write(startup({ options: TARGET }));
    await client.until("Z");
    const head = Buffer.from("Q\0\0\0\0", "latin1");
    head.writeUInt32BE(length, 1);
    client.write(head);
    const answer = await client.untilEnd();
    expect(answer[0]).toMatch(/^E\(FATAL 08P01 /);
    expect(answer.at(-1)).toBe("end");
    await raw.served;
  },
);

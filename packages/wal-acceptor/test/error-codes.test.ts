/**
 * Codes that a program meets behind the texts on the wire: what is published for whoever logs or counts, with the
 * SQLSTATE that the peer got for it. Texts and exact message sequences are tested where each command is.
 */
import type { Authenticator } from "@millrace/pg-wire";
import { expect, test, vi } from "vitest";

import { SLOTS_PER_TIMELINE_MAX } from "../src/consumer-slots.js";
import { AcceptorError } from "../src/errors.js";
import type { AcceptorErrorCode } from "../src/errors.js";
import type { Timeline } from "../src/timeline.js";
import { Harness, START, walOf } from "./acceptor-harness.js";
import { at, TENANT, TIMELINE } from "./fixtures.js";
import { frame, RawClient, startup } from "./raw-client.js";
import { MIB } from "./wal-stream.js";

const TARGET = `tenant_id=${TENANT} timeline_id=${TIMELINE}`;
const stranger: Authenticator = { verify: () => ({ scope: "tenant", tenantId: "f".repeat(32) }) };

async function createTimeline(harness: Harness): Promise<Timeline> {
  return await harness.node.timelines.create({
    tenantId: TENANT,
    timelineId: TIMELINE,
    pgVersion: 150_018,
    systemId: 1n,
    segmentBytes: MIB,
    startLsn: START,
  });
}

async function login(harness: Harness, options: string, authenticator?: Authenticator): Promise<RawClient> {
  const client = new RawClient(harness.raw(authenticator === undefined ? {} : { authenticator }).client);
  client.write(startup({ options }));
  if (authenticator !== undefined) {
    await client.until("R");
    client.write(frame("p", "any\0"));
  }
  expect((await client.until("Z")).at(-1)).toBe("Z(I)");
  return client;
}

/** The first error of this package in a chain of causes. */
function acceptorErrorOf(error: unknown): AcceptorError {
  for (let link = error; link instanceof Error; link = link.cause)
    if (link instanceof AcceptorError) return link;
  throw new Error("no acceptor error in the chain", { cause: error });
}

// Aim: a refused command has a code to count by, and the SQLSTATE that belongs to it. Method: one command for each
// code; the answer on the wire, then the event.
test.each<[AcceptorErrorCode, string, string, Authenticator?]>([
  ["ERR_ACCEPTOR_STARTUP", "08P01", "TIMELINE_STATUS"],
  ["ERR_ACCEPTOR_FORBIDDEN", "42501", "TIMELINE_STATUS", stranger],
  ["ERR_ACCEPTOR_FORBIDDEN", "42501", "START_WAL_PUSH (proto_version '3')", stranger],
  ["ERR_ACCEPTOR_UNKNOWN_SETTING", "42704", "SHOW shared_buffers"],
  ["ERR_ACCEPTOR_NO_HISTORY_FILE", "58P01", "TIMELINE_HISTORY 1"],
  ["ERR_ACCEPTOR_COMMAND_SYNTAX", "42601", "VACUUM"],
  ["ERR_ACCEPTOR_COMMAND_VALUE", "22023", "START_WAL_PUSH (proto_version abc)"],
  ["ERR_ACCEPTOR_UNSUPPORTED", "0A000", "START_WAL_PUSH (proto_version '4')"],
  ["ERR_ACCEPTOR_NOT_IN_HISTORY", "XX000", "START_REPLICATION 0/300000 TIMELINE 7"],
  ["ERR_ACCEPTOR_SLOT_NAME", "42602", 'CREATE_REPLICATION_SLOT "Not This" PHYSICAL'],
  ["ERR_ACCEPTOR_SLOT_EXISTS", "42710", "CREATE_REPLICATION_SLOT taken PHYSICAL"],
  ["ERR_ACCEPTOR_SLOT_NOT_FOUND", "42704", "DROP_REPLICATION_SLOT absent"],
  ["ERR_ACCEPTOR_SLOT_IN_USE", "55006", "START_REPLICATION SLOT busy 0/300000"],
])("%s is told as %s and published for %s", async (code, sqlState, command, authenticator) => {
  await using harness = await Harness.open();
  const { slots } = (await createTimeline(harness)).readers;
  await slots.create("taken", START);
  using busy = await slots.acquire("busy", 4711, START);
  busy.advance(START);
  const options = code === "ERR_ACCEPTOR_STARTUP" ? `tenant_id=${TENANT}` : TARGET;
  const client = await login(harness, options, authenticator);
  const [answer, ready] = await client.query(command);
  expect([answer?.slice(0, 14), ready]).toEqual([`E(ERROR ${sqlState} `, "Z(I)"]);
  const failed = harness.log.of("command-failed");
  expect(failed).toHaveLength(1);
  expect(failed[0]?.error).toMatchObject({ name: "AcceptorError", code, sqlState });
});

// Aim: a startup packet that names no possible timeline is known by its code, although it never became a connection.
// Method: an id of 31 digits; the FATAL answer and the end, then the event's chain of causes.
test("a login refused for its options is published as ERR_ACCEPTOR_STARTUP", async () => {
  await using harness = await Harness.open();
  const raw = harness.raw();
  const client = new RawClient(raw.client);
  client.write(startup({ options: `tenant_id=${TENANT.slice(1)} timeline_id=${TIMELINE}` }));
  expect(await client.untilEnd()).toEqual([
    "E(FATAL 08P01 option tenant_id must be exactly 32 hexadecimal digits)",
    "end",
  ]);
  await raw.served;
  const [failed, ...more] = harness.log.of("connection-failed");
  expect(more).toEqual([]);
  expect(acceptorErrorOf(failed?.error).code).toBe("ERR_ACCEPTOR_STARTUP");
  expect(harness.log.of("connection-opened")).toEqual([]);
});

// Aim: the two ways in which a push stream fails before and after its task exists have codes. Method: a vote instead of
// a greeting; a task that meets a TypeError, which must stay visible as the cause.
test("a stream without a greeting and a crashed task are published under their codes", async () => {
  await using harness = await Harness.open();
  const silent = await harness.push();
  silent.send({ type: "vote-request", generation: 0, term: 1n });
  await silent.served;
  expect(harness.log.of("stream-ended")).toMatchObject([
    { level: "error", error: { code: "ERR_ACCEPTOR_NO_GREETING", sqlState: "XX000" } },
  ]);

  const proposer = await harness.elected();
  const bug = new TypeError("oops");
  vi.spyOn(harness.node.timelines.get(TENANT, TIMELINE), "appendBatch").mockRejectedValueOnce(bug);
  const wal = walOf(1);
  proposer.append(wal, START, wal.endLsn);
  await proposer.served;
  const crashed = acceptorErrorOf(harness.log.of("stream-ended")[1]?.error);
  expect(crashed).toMatchObject({ code: "ERR_ACCEPTOR_TASK_PANICKED", sqlState: "XX000" });
  expect(crashed.cause).toBe(bug);
});

// Aim: slots are bounded. Method: as many as there may be, and one more, which must leave the others alone.
test("one slot above the limit is refused as ERR_ACCEPTOR_SLOT_LIMIT", async () => {
  await using harness = await Harness.open();
  const { slots } = (await createTimeline(harness)).readers;
  for (let index = 0; index < SLOTS_PER_TIMELINE_MAX; index += 1) await slots.create(`s${index}`, at(0), 1);
  const client = await login(harness, TARGET);
  expect((await client.query("CREATE_REPLICATION_SLOT more PHYSICAL"))[0]).toMatch(/^E\(ERROR 53400 /);
  expect(harness.log.of("command-failed")[0]?.error).toMatchObject({ code: "ERR_ACCEPTOR_SLOT_LIMIT" });
  expect(slots.size).toBe(SLOTS_PER_TIMELINE_MAX);
  slots.dropTemporary(1);
  expect((await client.query("CREATE_REPLICATION_SLOT more PHYSICAL")).at(-2)).toBe(
    "C(CREATE_REPLICATION_SLOT)",
  );
});

// Aim: a reader that asked for one term's log gets nothing of another's. Method: the term is raised before the reader
// comes; what it gets after CopyBothResponse is the error alone.
test("a reader of another term ends with ERR_ACCEPTOR_TERM_CHANGED", async () => {
  await using harness = await Harness.open();
  const proposer = await harness.elected(3n);
  const wal = walOf(2);
  proposer.append(wal, START, wal.endLsn, 0n as never, 3n);
  await proposer.receiveOf("append-response");
  await harness.node.timelines.get(TENANT, TIMELINE).bumpTerm(4n);
  const client = await login(harness, TARGET);
  client.write(frame("Q", "START_REPLICATION 0/300000 (term='3')\0"));
  const answer = await client.untilEnd();
  expect(answer[0]).toMatch(/^W/);
  expect(answer.slice(1)).toEqual(["E(ERROR XX000 failed to acquire term 3, current term 4)", "end"]);
  const ended = harness.log.of("stream-ended").map(({ error }) => error);
  expect(acceptorErrorOf(ended.at(-1)).code).toBe("ERR_ACCEPTOR_TERM_CHANGED");
  await proposer.client.close();
});

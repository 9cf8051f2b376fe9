/**
 * The end of a push stream as a peer's socket sees it: every reason with the exact bytes behind the last reply, and
 * the level under which an operator hears of it.
 */
import type { Lsn } from "@millrace/lsn";
import { expect, test } from "vitest";

import { Harness, START, walOf } from "./acceptor-harness.js";
import type { TestProposer } from "./acceptor-harness.js";
import { TENANT, TIMELINE } from "./fixtures.js";
import { Hold } from "./hold.js";
import { systemError } from "./memory-file-system.js";
import { frame, frames } from "./raw-client.js";

/** An ErrorResponse written out: its fields and no others, severity twice as since PostgreSQL 9.6. */
function errorResponse(severity: string, sqlState: string, message: string): string {
  const body = `S${severity}\0V${severity}\0C${sqlState}\0M${message}\0\0`;
  return frame("E", body).toString("latin1");
}

const NOTHING = "";
const COPY_DONE = "c\0\0\0\x04";

/** What the server wrote behind CopyBothResponse, without the CopyData of its replies. */
function lastBytes(proposer: TestProposer): string {
  const all = proposer.pair.serverBytes();
  const list = frames(all);
  const start = list.findIndex(({ tag }) => tag === "W");
  const rest = list.slice(start + 1).filter(({ tag }) => tag !== "d");
  const known = list.reduce((sum, { body }) => sum + body.byteLength + 5, 0);
  expect(known).toBe(all.byteLength); // nothing half written
  return rest.map(({ tag, body }) => frame(tag, body).toString("latin1")).join("");
}

interface Row {
  readonly reason: string;
  readonly end: (harness: Harness, proposer: TestProposer, wal: Lsn) => unknown;
  readonly bytes: string;
  readonly level?: "error";
}

const GAP = "append request at 0/400000 leaves a gap in the log, which was written up to 0/300068";

const rows: readonly Row[] = [
  { reason: "CopyDone", end: (_harness, { stream }) => stream.writer.done(), bytes: COPY_DONE },
  {
    reason: "CopyFail",
    end: (_harness, { pair }) => pair.client.write(frame("f", "had enough\0")),
    bytes: errorResponse("ERROR", "00000", "terminated by CopyFail: had enough"),
  },
  { reason: "Terminate", end: (_harness, { pair }) => pair.client.write(frame("X", "")), bytes: NOTHING },
  { reason: "the end of the socket", end: (_harness, { pair }) => pair.client.end(), bytes: NOTHING },
  ...["ECONNRESET", "EPIPE", "ECONNREFUSED", "ECONNABORTED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"].map(
    (errno): Row => ({
      reason: errno,
      end: (_harness, { pair }) => pair.server.destroy(systemError(errno)),
      bytes: NOTHING,
    }),
  ),
  {
    reason: "the deletion of the timeline",
    end: (harness) => harness.node.timelines.delete(TENANT, TIMELINE),
    bytes: NOTHING,
  },
  {
    reason: "a message that does not parse",
    end: (_harness, { pair }) => pair.client.write(frame("d", "?")),
    bytes: errorResponse("ERROR", "XX000", "unknown proposer message tag 63"),
    level: "error",
  },
  {
    reason: "a consensus refusal",
    end: (_harness, proposer) => {
      proposer.send({
        type: "append-request",
        generation: 0,
        term: 1n,
        beginLsn: 0x400000n as Lsn,
        endLsn: 0x400000n as Lsn,
        commitLsn: 0n as Lsn,
        truncateLsn: 0n as Lsn,
        walData: new Uint8Array(0),
      });
    },
    bytes: errorResponse("ERROR", "XX000", `WAL acceptor: ${GAP}`),
    level: "error",
  },
];

async function streaming(harness: Harness): Promise<{ proposer: TestProposer; endLsn: Lsn }> {
  const proposer = await harness.elected();
  const wal = walOf(1);
  proposer.append(wal, START, wal.endLsn);
  expect((await proposer.receiveOf("append-response")).flushLsn).toBe(wal.endLsn);
  return { proposer, endLsn: wal.endLsn };
}

// Aim: each reason has its bytes and no others, and only a failure is an error in the log. Method: one stream for each,
// ended once it streams; everything written behind CopyBothResponse, then the one event.
test.each(rows)("$reason leaves exactly its bytes", async ({ end, bytes, level = "info" }) => {
  await using harness = await Harness.open();
  const { proposer, endLsn } = await streaming(harness);
  await end(harness, proposer, endLsn);
  await proposer.served;
  expect(lastBytes(proposer)).toBe(bytes);
  expect(harness.log.of("stream-ended")).toMatchObject([{ level }]);
  expect(proposer.pair.server.destroyed).toBe(true);
});

// Aim: the same for a timeline that is absent and may not be made. Method: a greeting that must not create.
test("an absent timeline that may not be created leaves no byte", async () => {
  await using harness = await Harness.open();
  const command = "START_WAL_PUSH (proto_version '3', allow_timeline_creation 'false')";
  const proposer = await harness.push({ command });
  proposer.sendGreeting();
  await proposer.served;
  expect(lastBytes(proposer)).toBe(NOTHING);
  expect(harness.log.of("stream-ended")).toMatchObject([{ level: "info", reason: "timeline-no-create" }]);
});

// Aim: a failure is told with its whole chain of causes, under the code of the innermost layer that has one. Method: a
// full disk and a disk that fails.
test.each([
  ["ENOSPC", "53100"],
  ["EIO", "58030"],
])("a write that fails with %s is told as %s with every cause", async (errno, sqlState) => {
  await using harness = await Harness.open();
  const { proposer, endLsn } = await streaming(harness);
  harness.disk.onCall = ({ name }) => {
    if (name === "pwrite") throw systemError(errno);
  };
  const more = walOf(2);
  proposer.append(more, endLsn, more.endLsn);
  await proposer.served;
  harness.disk.onCall = undefined;
  const text = lastBytes(proposer);
  const message = /M([^\0]*)\0\0$/.exec(text)?.[1] ?? "";
  expect(text).toBe(errorResponse("ERROR", sqlState, message));
  expect(message).toMatch(new RegExp(`^WAL acceptor: .*${errno}`));
  expect(harness.log.of("stream-ended")).toMatchObject([{ level: "error", reason: message }]);
});

// Aim: deleting a timeline never waits for a peer to read. Method: a peer that takes nothing, with replies queued up to
// the last slot, while the clock stands still: there is no timer that could help.
test("a deletion ends the stream of a peer that does not read", async () => {
  await using harness = await Harness.open();
  const { proposer } = await streaming(harness);
  proposer.pair.stallClient();
  const written = proposer.pair.serverBytes().byteLength;
  for (let index = 0; index < 2000; index += 1) {
    proposer.send({ type: "vote-request", generation: 0, term: 1n });
  }
  await new Promise(setImmediate);
  expect(await harness.node.timelines.delete(TENANT, TIMELINE)).toEqual({ existed: true });
  await proposer.served;
  expect(proposer.pair.serverBytes().byteLength).toBe(written);
  expect(harness.log.of("stream-ended")).toMatchObject([{ level: "info", reason: "cancelled" }]);
});

// Aim: with a task and a socket that both fail, the socket is the reason, and the task has ended by then. Method: an
// append waits in a write that then fails, the socket fails with each of the known errors meanwhile.
test.each(["ECONNRESET", "EPIPE", "ETIMEDOUT"])(
  "%s beside a failing disk is reported as the socket's, after the disk has answered",
  async (errno) => {
    await using harness = await Harness.open();
    const { proposer, endLsn } = await streaming(harness);
    const hold = new Hold();
    harness.disk.onCall = ({ name }) => (name === "pwrite" ? hold.pass() : undefined);
    const more = walOf(2);
    proposer.append(more, endLsn, more.endLsn);
    await hold.arrived;
    proposer.pair.server.destroy(systemError(errno));
    await new Promise(setImmediate);
    expect(harness.log.of("stream-ended")).toEqual([]);
    hold.fail(systemError("EIO"));
    await proposer.served;
    harness.disk.onCall = undefined;
    expect(lastBytes(proposer)).toBe(NOTHING);
    const [ended] = harness.log.of("stream-ended");
    expect(ended).toMatchObject({ level: "info", reason: expect.stringContaining(errno) as string });
  },
);

// One connection to an acceptor, against a server side that is scripted here, on sockets in memory.
import { toLsn } from "@millrace/lsn";
import { acceptConnection } from "@millrace/pg-wire";
import type { ServerConnection } from "@millrace/pg-wire";
import { EMPTY_CONFIGURATION, parseProposerMessage, serializeAcceptorMessage } from "@millrace/wal-protocol";
import { expect, test } from "vitest";
import { AcceptorConnection } from "../src/index.js";
import { settle } from "./harness/fake-clock.js";
import { socketPair } from "./harness/socket-pair.js";

const LSN = toLsn(0x100_0000n);
const GREETING = serializeAcceptorMessage(
  { type: "greeting", nodeId: 7n, configuration: EMPTY_CONFIGURATION, term: 3n },
  3,
);

interface Scene {
  readonly connection: AcceptorConnection;
  readonly told: string[];
}

/** Opens a connection whose other end is `serve`. */
function open(serve: (server: ServerConnection) => Promise<void>, windowBytes?: number): Scene {
  const told: string[] = [];
  const connection = AcceptorConnection.open({
    address: { host: "memory", port: 1 },
    tenantId: "a".repeat(32),
    timelineId: "b".repeat(32),
    protocolVersion: 3,
    handlers: {
      opened: () => told.push("opened"),
      message: (message) => told.push(message.type),
      drained: () => told.push("drained"),
      closed: (reason) => told.push(`closed: ${reason}`),
    },
    connectSocket: () => {
      const [ours, theirs] = socketPair();
      void (async () => {
        const server = await acceptConnection(theirs);
        if (server !== undefined) await serve(server).catch(() => undefined);
      })();
      return ours;
    },
    ...(windowBytes === undefined ? {} : { windowBytes }),
  });
  return { connection, told };
}

// Aim: what is said at the start, and that messages pass both ways. Method: a server that looks and answers.
test("it names the timeline, starts the push and passes messages", async () => {
  const seen: unknown[] = [];
  const { connection, told } = open(async (server) => {
    seen.push(server.options.get("tenant_id"), server.options.get("timeline_id"), await server.readQuery());
    const { reader, writer } = await server.startCopyBoth();
    const event = await reader.next();
    if (event.type === "data") seen.push(parseProposerMessage(event.payload, 3));
    void writer.send(GREETING);
    await reader.next();
  });
  await settle();
  const vote = { type: "vote-request", generation: 1, term: 4n } as const;
  connection.send(vote);
  await settle();
  expect(seen).toEqual([
    "a".repeat(32),
    "b".repeat(32),
    "START_WAL_PUSH (proto_version '3', allow_timeline_creation 'false')",
    vote,
  ]);
  expect(told).toEqual(["opened", "greeting"]);
  connection.close();
  await settle();
  expect(told).toEqual(["opened", "greeting"]);
});

// Aim: every way in which a stream can end is told once, with a reason. Method: one server for each.
test("the end of the stream is told once", async () => {
  const endings: [RegExp, (server: ServerConnection) => Promise<void>][] = [
    [/closed the connection/, async (server) => server.destroy()],
    [
      /ended the stream \(done\)/,
      async (server) => {
        await server.readQuery();
        await (await server.startCopyBoth()).writer.done();
      },
    ],
    [
      /no such timeline/,
      async (server) => {
        await server.readQuery();
        await server.sendError({ severity: "ERROR", code: "42704", message: "no such timeline" });
        await server.sendReadyForQuery();
      },
    ],
    [
      /disk is full/,
      async (server) => {
        await server.readQuery();
        const { writer } = await server.startCopyBoth();
        await writer.fail({ severity: "ERROR", code: "53100", message: "disk is full" });
      },
    ],
    [
      /message/i,
      async (server) => {
        await server.readQuery();
        void (await server.startCopyBoth()).writer.send(GREETING.subarray(0, 5));
      },
    ],
  ];
  for (const [reason, serve] of endings) {
    const { connection, told } = open(serve);
    await settle();
    const closed = told.filter((what) => what.startsWith("closed: "));
    expect(closed.length).toBe(1);
    expect(closed[0]).toMatch(reason);
    expect(connection.writable).toBe(false);
    connection.send({ type: "vote-request", generation: 1, term: 4n });
    connection.close();
    await settle();
    expect(told.filter((what) => what.startsWith("closed: ")).length).toBe(1);
  }
});

// Aim: a peer that does not read fills one window and no more. Method: append until it says stop, then let it read.
test("the send window closes when it is full and opens when it has drained", async () => {
  let readOn: () => void = () => undefined;
  const reading = new Promise<void>((resolve) => {
    readOn = resolve;
  });
  let received = 0;
  const { connection, told } = open(async (server) => {
    await server.readQuery();
    const { reader } = await server.startCopyBoth();
    await reading;
    for (;;) {
      const event = await reader.next();
      if (event.type !== "data") return;
      const message = parseProposerMessage(event.payload, 3);
      if (message.type === "append-request") received += message.walData.byteLength;
    }
  }, 3_000_000);
  await settle();
  const wal = new Uint8Array(131_072);
  const fields = { generation: 1, term: 4n, commitLsn: LSN, truncateLsn: LSN };
  let sent = 0;
  for (let i = 0; i < 400 && connection.writable; i += 1) {
    const beginLsn = toLsn(LSN + BigInt(sent));
    connection.sendAppend({ ...fields, beginLsn, endLsn: toLsn(beginLsn + 131_072n) }, [wal]);
    sent += wal.byteLength;
    await settle();
  }
  expect(connection.writable).toBe(false);
  expect(connection.queuedBytes).toBeGreaterThan(3_000_000);
  expect(connection.queuedBytes).toBeLessThan(3_200_000);
  readOn();
  await settle();
  expect(told).toEqual(["opened", "drained"]);
  expect(connection.writable).toBe(true);
  expect(received).toBe(sent);
  connection.close();
});

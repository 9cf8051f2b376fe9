// What a probe makes of acceptors that answer half: scripted servers on sockets in memory.
import { acceptConnection } from "@millrace/pg-wire";
import type { ServerConnection } from "@millrace/pg-wire";
import { expect, test } from "vitest";
import { probeAcceptor } from "../src/acceptor-probe.js";
import type { AcceptorProbe } from "../src/acceptor-probe.js";
import { FakeClock } from "./harness/fake-clock.js";
import { socketPair } from "./harness/socket-pair.js";

const GREETING = {
  tenantId: "0".repeat(32),
  timelineId: "1".repeat(32),
  pgVersion: 150_018,
  systemId: 42n,
  segmentBytes: 0x100_0000,
};

/** Probes an acceptor that answers TIMELINE_STATUS with `row`, and START_WAL_PUSH as `onPush` does. */
async function probe(
  row: readonly string[] | undefined,
  onPush: (connection: ServerConnection) => Promise<void>,
): Promise<AcceptorProbe> {
  const serve = async (socket: ReturnType<typeof socketPair>[0]): Promise<void> => {
    const connection = await acceptConnection(socket, { serverVersion: "15.0" });
    if (connection === undefined) return;
    await connection.readQuery();
    const columns = ["flush_lsn", "commit_lsn"].map((name) => ({ name, type: "text" as const }));
    await connection.sendRows(columns, row === undefined ? [] : [row], "TIMELINE_STATUS");
    await connection.sendReadyForQuery();
    if ((await connection.readQuery()) !== undefined) await onPush(connection);
  };
  const clock = new FakeClock();
  const answer = await probeAcceptor({
    address: { host: "memory", port: 1 },
    greeting: GREETING,
    protocolVersion: 3,
    timeoutMs: 1000,
    clock,
    connectSocket: () => {
      const [ours, theirs] = socketPair();
      void serve(theirs);
      return ours;
    },
  });
  expect(clock.pendingTimers).toBe(0);
  return answer;
}

// Aim: an acceptor that dies between its two answers is never taken for one without the timeline: others would be
// given a second beginning. Method: it has a row, and then ends the stream in order, or breaks the connection.
test("an acceptor that has the timeline and then goes silent is unreachable", async () => {
  const row = ["0/3000000", "0/3000000"];
  const inOrder = await probe(row, async (connection) => {
    const { writer } = await connection.startCopyBoth();
    await writer.done();
  });
  expect(inOrder).toMatchObject({ type: "unreachable", error: { code: "ERR_BRIDGE_ACCEPTOR" } });
  const broken = await probe(row, async (connection) => {
    await connection.startCopyBoth();
    connection.destroy();
  });
  expect(broken.type).toBe("unreachable");
});

// Aim: the other half: no row does mean that there is no timeline. Method: an empty answer.
test("an acceptor without a row has no timeline", async () => {
  expect((await probe(undefined, async () => undefined)).type).toBe("absent");
});

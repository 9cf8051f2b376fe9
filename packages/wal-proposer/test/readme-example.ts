import { subscribe } from "node:diagnostics_channel";
import { parseConnectionUrl } from "@millrace/pg-wire";
import { Bridge, DIAGNOSTICS_CHANNEL } from "@millrace/wal-proposer";
import type { BridgeAcceptor, CreateTimelineRequest } from "@millrace/wal-proposer";

/** postgresql.conf has: synchronous_standby_names = 'FIRST 1 (walbridge)' */
export async function openBridge(
  url: string,
  acceptors: readonly BridgeAcceptor[], // [{ host, port, nodeId }, …]
  createTimeline: (request: CreateTimelineRequest) => Promise<void>, // by the acceptors' management API
  log: (notice: unknown) => void,
): Promise<Bridge> {
  subscribe(DIAGNOSTICS_CHANNEL, log);
  const postgres = parseConnectionUrl(url);
  const [tenantId, timelineId] = ["0".repeat(31) + "1", "0".repeat(31) + "2"];
  const bridge = await Bridge.open({ postgres, acceptors, tenantId, timelineId, createTimeline });
  await bridge.streaming; // from now on a COMMIT returns when a quorum of acceptors has it
  return bridge; // `await bridge.closed` says how it ended, `await bridge.close()` ends it
}

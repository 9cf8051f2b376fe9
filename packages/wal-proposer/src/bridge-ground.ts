/**
 * What a bridge stands on before it talks to any acceptor: a PostgreSQL that it may work with, and the retain slot.
 *
 * Everything here is read-only for PostgreSQL except the slot, which is created if it is not there. The slot is held
 * from here on: it is what keeps a second bridge from competing for terms.
 */
import { ProposerError } from "./errors.js";
import type { BridgeSettings } from "./bridge-options.js";
import { REPORT_INTERVAL_MS } from "./position-reporter.js";
import { fetchHistory } from "./postgres-history.js";
import type { PostgresHistory } from "./postgres-history.js";
import { answeredInTime, connectReplication, identify, showSetting } from "./postgres-connection.js";
import type { PostgresIdentity } from "./postgres-connection.js";
import { durabilityWarnings, parseDurationSetting } from "./postgres-settings.js";
import type { SettingWarning } from "./postgres-settings.js";
import { RetainSlot } from "./retain-slot.js";
import type { ClientConnection } from "@millrace/pg-wire";

/** Replies come at least this many times in a wal_sender_timeout; PostgreSQL itself asks at half of it. */
const REPLIES_PER_TIMEOUT = 3;

/** See the header. */
export interface BridgeGround {
  readonly identity: PostgresIdentity;
  readonly history: PostgresHistory;
  readonly slot: RetainSlot;
  readonly warnings: readonly SettingWarning[];
  /** How often to report at least. */
  readonly reportIntervalMs: number;
}

/**
 * Connects, checks PostgreSQL and takes the slot. Nothing stays open if it fails, or if `signal` is aborted before.
 *
 * @throws {ProposerError} ERR_BRIDGE_POSTGRES, ERR_BRIDGE_VERSION, ERR_BRIDGE_SETTING, ERR_BRIDGE_SYSTEM_ID,
 *   ERR_BRIDGE_TIMELINE_ID, ERR_BRIDGE_SLOT_ACTIVE, ERR_BRIDGE_SLOT
 */
export function prepareGround(
  settings: BridgeSettings,
  signal: AbortSignal = new AbortController().signal,
  expectTimelineId?: number,
): Promise<BridgeGround> {
  const limitMs = settings.postgresSilenceMs + settings.slotTimeoutMs;
  return answeredInTime(settings.clock, limitMs, signal, (limited) =>
    askAndHold(settings, limited, expectTimelineId),
  );
}

async function askAndHold(
  settings: BridgeSettings,
  signal: AbortSignal,
  expectTimelineId: number | undefined,
): Promise<BridgeGround> {
  const connection = await connectReplication(settings.postgres, settings.retainSlot, signal);
  const drop = (): void => connection.destroy();
  signal.addEventListener("abort", drop);
  try {
    const identity = await identify(connection);
    checkIdentity(identity, settings.expectSystemId, expectTimelineId);
    const history = await fetchHistory(connection, identity.timelineId);
    const warnings = await readWarnings(connection, settings.applicationName);
    const reportIntervalMs = await readReportInterval(connection);
    const slot = await RetainSlot.acquire({
      connection,
      slotName: settings.retainSlot,
      startLsn: identity.flushLsn,
      timelineId: identity.timelineId,
      reportIntervalMs,
      silenceMs: settings.postgresSilenceMs,
      acquireTimeoutMs: settings.slotTimeoutMs,
      clock: settings.clock,
    });
    if (signal.aborted) slot.destroy();
    return { identity, history, slot, warnings, reportIntervalMs };
  } catch (error) {
    connection.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", drop);
  }
}

/**
 * Refuses another server than the one that is expected, where one is.
 *
 * @throws {ProposerError} ERR_BRIDGE_SYSTEM_ID, ERR_BRIDGE_TIMELINE_ID
 */
export function checkIdentity(
  identity: Pick<PostgresIdentity, "systemId" | "timelineId">,
  expectSystemId: bigint | undefined,
  expectTimelineId?: number,
): void {
  if (expectSystemId !== undefined && identity.systemId !== expectSystemId) {
    const message = `PostgreSQL has system id ${identity.systemId}, expected is ${expectSystemId}`;
    throw new ProposerError("ERR_BRIDGE_SYSTEM_ID", message);
  }
  if (expectTimelineId !== undefined && identity.timelineId !== expectTimelineId) {
    const message =
      `PostgreSQL went from timeline ${expectTimelineId} to ${identity.timelineId} under a bridge; ` +
      "a new bridge begins with a look at its history";
    throw new ProposerError("ERR_BRIDGE_TIMELINE_ID", message);
  }
}

async function readWarnings(
  connection: ClientConnection,
  applicationName: string,
): Promise<readonly SettingWarning[]> {
  const settings = {
    synchronousStandbyNames: await showSetting(connection, "synchronous_standby_names"),
    synchronousCommit: await showSetting(connection, "synchronous_commit"),
    fsync: await showSetting(connection, "fsync"),
    fullPageWrites: await showSetting(connection, "full_page_writes"),
    walLevel: await showSetting(connection, "wal_level"),
  };
  return durabilityWarnings(settings, applicationName);
}

async function readReportInterval(connection: ClientConnection): Promise<number> {
  const text = await showSetting(connection, "wal_sender_timeout");
  const timeoutMs = parseDurationSetting("wal_sender_timeout", text);
  return timeoutMs === 0 ? REPORT_INTERVAL_MS : Math.min(REPORT_INTERVAL_MS, timeoutMs / REPLIES_PER_TIMEOUT);
}

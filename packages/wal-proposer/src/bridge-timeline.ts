/**
 * The doing to bridge-bootstrap's deciding: asks all acceptors, carries out the next step, and asks again, until the
 * timeline exists wherever it has to. Each round starts from what the acceptors say, so that a bridge that died
 * between any two steps is continued by the next one.
 */
import { INVALID_LSN, maxLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { probeAcceptor } from "./acceptor-probe.js";
import type { AcceptorProbe } from "./acceptor-probe.js";
import { beginSegment, checkBeginning, firstConfiguration, nextBootstrapStep } from "./bridge-bootstrap.js";
import type { BridgeSettings } from "./bridge-options.js";
import type { CatchUpSource } from "./catch-up.js";
import { connectSql } from "./postgres-connection.js";
import type { PostgresIdentity } from "./postgres-connection.js";
import { publishNotice } from "./diagnostics.js";
import { delay, withJitter } from "./timers.js";

/** What it takes. */
export interface EnsureTimelineOptions {
  readonly settings: BridgeSettings;
  readonly identity: PostgresIdentity;
  readonly openReader: CatchUpSource;
  readonly signal: AbortSignal;
}

/**
 * Resolves when an election may be held, or when `signal` is aborted.
 *
 * @returns the highest commit position that any acceptor showed; 0/0 if none did
 * @throws {ProposerError} what cannot become better by waiting: ERR_BRIDGE_NODE_ID, ERR_BRIDGE_STANDBY,
 *   ERR_BRIDGE_ACCEPTOR, ERR_BRIDGE_BOOTSTRAP_CONFLICT, ERR_BRIDGE_BOOTSTRAP_POSITION, ERR_BRIDGE_WAL_REMOVED,
 *   ERR_BRIDGE_POSTGRES
 */
export async function ensureTimeline(options: EnsureTimelineOptions): Promise<Lsn> {
  const { settings, signal } = options;
  while (!signal.aborted) {
    const probes = await probeAll(options);
    const step = nextBootstrapStep(probes);
    if (step.type === "elect") {
      for (const index of step.missing) {
        const acceptor = settings.acceptors[index];
        const detail = `${acceptor?.host}:${acceptor?.port} has lost the timeline and is left out`;
        publishNotice({ type: "warning", warning: "timeline_missing", detail });
      }
      return highestCommit(probes);
    }
    if (step.type === "create") {
      const startLsn = await beginning(options, step.startLsn);
      if (await createMissing(options, startLsn, step.missing)) continue;
    } else {
      publishNotice({ type: "warning", warning: "waiting_for_acceptors", detail: step.detail });
    }
    await delay(settings.clock, withJitter(settings.reconnectMs, settings.random), signal);
  }
  return INVALID_LSN;
}

function highestCommit(probes: readonly AcceptorProbe[]): Lsn {
  const commits = probes.map((probe) => (probe.type === "present" ? probe.commitLsn : INVALID_LSN));
  return maxLsn(INVALID_LSN, ...commits);
}

function probeAll(options: EnsureTimelineOptions): Promise<AcceptorProbe[]> {
  const { identity, settings } = options;
  const { acceptorPassword, connectSocket, tenantId, timelineId } = settings;
  const greeting = {
    tenantId,
    timelineId,
    pgVersion: identity.versionNumber,
    systemId: identity.systemId,
    segmentBytes: identity.segmentBytes,
  };
  const probes = settings.acceptors.map((address) =>
    probeAcceptor({
      address,
      greeting,
      protocolVersion: settings.protocolVersion,
      timeoutMs: settings.connectionTimeoutMs,
      clock: settings.clock,
      ...(acceptorPassword === undefined ? {} : { password: acceptorPassword }),
      ...(connectSocket === undefined ? {} : { connectSocket }),
    }),
  );
  return Promise.all(probes);
}

/** The position where the log begins: the one that some acceptors have already, or a new segment. Checked either way. */
async function beginning(options: EnsureTimelineOptions, existing: Lsn | undefined): Promise<Lsn> {
  const { identity, settings, signal } = options;
  let startLsn = existing;
  if (startLsn === undefined) {
    firstConfiguration(settings.acceptors); // before PostgreSQL is asked to do anything
    const sql = await connectSql(settings.postgres, settings.applicationName, signal);
    startLsn = await droppedOnAbort(sql, signal, () => beginSegment(sql, identity.segmentBytes));
  }
  const beginsAt = startLsn;
  const stream = await options.openReader(beginsAt, signal);
  const reader = { destroy: () => stream.close() };
  await droppedOnAbort(reader, signal, () => checkBeginning(stream, beginsAt, identity));
  return beginsAt;
}

/** Runs `work` on a connection that goes at its end, or as soon as `signal` is aborted. */
async function droppedOnAbort<T>(
  connection: { destroy(): void },
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const drop = (): void => connection.destroy();
  signal.addEventListener("abort", drop);
  try {
    return await work();
  } finally {
    signal.removeEventListener("abort", drop);
    drop();
  }
}

/** @returns whether all were created; what failed is published and tried again by the caller */
async function createMissing(
  options: EnsureTimelineOptions,
  startLsn: Lsn,
  missing: readonly number[],
): Promise<boolean> {
  const { identity, settings, signal } = options;
  const configuration = firstConfiguration(settings.acceptors);
  const acceptors = settings.acceptors.filter((_, index) => missing.includes(index));
  const results = await Promise.allSettled(
    acceptors.map(async (acceptor) =>
      settings.createTimeline(
        {
          acceptor,
          tenantId: settings.tenantId,
          timelineId: settings.timelineId,
          configuration,
          pgVersion: identity.versionNumber,
          systemId: identity.systemId,
          segmentBytes: identity.segmentBytes,
          startLsn,
          commitLsn: startLsn,
        },
        signal,
      ),
    ),
  );
  const failures = results.filter((result) => result.status === "rejected");
  for (const { reason } of failures) {
    const detail = reason instanceof Error ? reason.message : String(reason);
    publishNotice({ type: "warning", warning: "create_timeline", detail });
  }
  return failures.length === 0;
}

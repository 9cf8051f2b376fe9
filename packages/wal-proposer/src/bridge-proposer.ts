/**
 * The proposer of a bridge: its options out of the bridge's settings, and where WAL comes from for acceptors that the
 * ring has left behind.
 *
 * Kept apart from the bridge, whose matter is the order of a life.
 */
import { strict as assert } from "node:assert";
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { BridgeGround } from "./bridge-ground.js";
import type { BridgeSettings } from "./bridge-options.js";
import { CatchUpReader } from "./catch-up-reader.js";
import { catchUpSource, endedWith } from "./catch-up-source.js";
import type { Donor } from "./catch-up-source.js";
import type { CatchUpStream } from "./catch-up.js";
import { DonorReader } from "./donor-reader.js";
import { Proposer } from "./proposer.js";
import type { ProposerHandlers } from "./proposer-options.js";
import { TimelineStream } from "./timeline-stream.js";

/** See the members. */
export interface BridgeProposerOptions {
  readonly settings: BridgeSettings;
  /** As it is now: it is renewed when PostgreSQL comes back. */
  readonly ground: () => BridgeGround;
  /** Aborted while PostgreSQL is away: readers on it end then, and none is opened. */
  readonly sourceLost: () => AbortSignal;
  readonly handlers: ProposerHandlers;
}

/** Creates it; the caller starts it and closes it. */
export function createBridgeProposer(options: BridgeProposerOptions): Proposer {
  const { settings, ground, handlers } = options;
  const { identity } = ground();
  const { acceptorPassword, connectSocket } = settings;
  const proposer: Proposer = new Proposer({
    acceptors: settings.acceptors,
    tenantId: settings.tenantId,
    timelineId: settings.timelineId,
    pgVersion: identity.versionNumber,
    systemId: identity.systemId,
    segmentBytes: identity.segmentBytes,
    // Timelines are created with a beginning, so that no log is ever begun by a vote.
    bootstrapLsn: INVALID_LSN,
    protocolVersion: settings.protocolVersion,
    reconnectMs: settings.reconnectMs,
    connectionTimeoutMs: settings.connectionTimeoutMs,
    catchUp: catchUpSource({
      fromPostgres: endedWith(
        (fromLsn, signal) => openReader(settings, ground(), fromLsn, signal),
        options.sourceLost,
      ),
      fromDonor: (donor, fromLsn, signal) => openDonor(options, proposer.core.term, donor, fromLsn, signal),
      donor: () => proposer.core.donor,
    }),
    clock: settings.clock,
    random: settings.random,
    handlers,
    ...(acceptorPassword === undefined ? {} : { password: acceptorPassword }),
    ...(connectSocket === undefined ? {} : { connectSocket }),
  });
  return proposer;
}

/**
 * A stream of PostgreSQL's WAL from `fromLsn` on that acknowledges nothing.
 *
 * @throws {ProposerError} as `CatchUpReader.open`
 */
export function openReader(
  settings: BridgeSettings,
  ground: BridgeGround,
  fromLsn: Lsn,
  signal: AbortSignal,
): Promise<CatchUpStream> {
  return TimelineStream.open(ground.history, fromLsn, (startLsn, timelineId) =>
    CatchUpReader.open({
      postgres: settings.postgres,
      applicationName: `${settings.applicationName}_catchup`,
      fromLsn: startLsn,
      timelineId,
      reportIntervalMs: ground.reportIntervalMs,
      silenceMs: settings.postgresSilenceMs,
      clock: settings.clock,
      signal,
    }),
  );
}

function openDonor(
  { settings, ground }: BridgeProposerOptions,
  term: bigint,
  donor: Donor,
  fromLsn: Lsn,
  signal: AbortSignal,
): Promise<DonorReader> {
  const { acceptors, tenantId, timelineId, clock, acceptorPassword, connectSocket } = settings;
  const address = acceptors[donor.acceptor];
  assert(address !== undefined, "a donor is one of the acceptors");
  return DonorReader.open({
    address,
    tenantId,
    timelineId,
    term,
    fromLsn,
    reportIntervalMs: ground().reportIntervalMs,
    silenceMs: settings.connectionTimeoutMs,
    clock,
    signal,
    ...(acceptorPassword === undefined ? {} : { password: acceptorPassword }),
    ...(connectSocket === undefined ? {} : { connectSocket }),
  });
}

/**
 * `millrace bridge`: one bridge in the foreground.
 *
 * A bridge is one term: it ends when PostgreSQL stays away, when another proposer is elected, or when it cannot go
 * on, and this process ends with it. Whoever started the process starts it again, with a delay that grows, because
 * every life adds an entry to the term history on the acceptors. The exit code tells the cases in which an automatic
 * restart is wrong: somebody else was elected, or PostgreSQL's log is not the acceptors'.
 */
import { subscribe } from "node:diagnostics_channel";

import { parseConnectionUrl } from "@millrace/pg-wire";
import type { ClientOptions } from "@millrace/pg-wire";
import { Bridge, DIAGNOSTICS_CHANNEL, ProposerError } from "@millrace/wal-proposer";
import type {
  BridgeAcceptor,
  BridgeEnd,
  DigestSource,
  ProposerErrorCode,
  ProposerNotice,
  PgTimelineRegistry,
} from "@millrace/wal-proposer";

import type { BridgeConfiguration } from "../configuration/bridge-options.js";
import { formatHostPort } from "../configuration/values.js";
import type { HostPort } from "../configuration/values.js";
import { describeError, EXIT, ServerError } from "../errors.js";
import {
  createTimelineOn,
  fetchDigest,
  fetchNodeId,
  fetchPgTimelines,
  registerPgTimeline,
} from "../http/acceptor-client.js";
import { createBridgeApi } from "../http/bridge-api.js";
import { listenHttp } from "../http/listen.js";
import type { HttpListener } from "../http/listen.js";
import { watchProcess } from "../http/metrics-text.js";
import { readSecret } from "../instance.js";
import { createLogger } from "../logging.js";
import type { Logger } from "../logging.js";
import type { BridgeReport } from "../status/cluster-status.js";
import { logNotices } from "./bridge-notices.js";
import { installLifetime } from "./lifetime.js";
import type { Lifetime } from "./lifetime.js";

/** How long the quorum gets, at an orderly end, to take what PostgreSQL has sent. */
const CLOSE_TIMEOUT_MS = 5000;
/** How often positions are told to the parent. */
const STATUS_MS = 500;

function postgresOptions(configuration: BridgeConfiguration): ClientOptions {
  const { pg, pgUrlFile } = configuration;
  if ((pg === undefined) === (pgUrlFile === undefined)) {
    throw new ServerError(
      "ERR_SERVER_OPTION",
      "give PostgreSQL's URL by --pg or in the file --pg-url-file, not by both",
    );
  }
  try {
    return parseConnectionUrl(pg ?? readSecret(pgUrlFile ?? ""));
  } catch (cause) {
    if (cause instanceof ServerError) throw cause;
    throw new ServerError("ERR_SERVER_OPTION", "PostgreSQL's URL cannot be used: it does not parse", {
      cause,
    });
  }
}

/** Node ids are only needed to create the timeline; an acceptor that does not answer now may be asked next time. */
async function describeAcceptor(
  address: HostPort,
  httpUrl: string | undefined,
  logger: Logger,
): Promise<BridgeAcceptor> {
  if (httpUrl === undefined) return address;
  try {
    return { ...address, httpUrl, nodeId: await fetchNodeId(httpUrl) };
  } catch (error) {
    logger.warn(
      { reason: describeError(error) },
      `the acceptor at ${formatHostPort(address)} does not tell its id`,
    );
    return { ...address, httpUrl };
  }
}

async function describeAcceptors(
  configuration: BridgeConfiguration,
  logger: Logger,
): Promise<BridgeAcceptor[]> {
  const { acceptors, acceptorHttp } = configuration;
  if (acceptorHttp !== undefined && acceptorHttp.length !== acceptors.length) {
    throw new ServerError(
      "ERR_SERVER_OPTION",
      `--acceptor-http has ${acceptorHttp.length} entries and --acceptors ${acceptors.length}; each acceptor needs one`,
    );
  }
  return await Promise.all(
    acceptors.map((address, index) => describeAcceptor(address, acceptorHttp?.[index], logger)),
  );
}

function httpOf({ httpUrl }: BridgeAcceptor): string {
  if (httpUrl === undefined) throw new ServerError("ERR_SERVER_OPTION", "the acceptor has no HTTP address");
  return httpUrl;
}

/**
 * What a bridge asks of acceptors over HTTP. Without their addresses the bytes below a term cannot be compared, of which
 * the bridge warns, and only timeline 1 can be bridged.
 */
function managementOf(
  configuration: BridgeConfiguration,
  token: string | undefined,
): { readonly digest?: DigestSource; readonly pgTimelines?: PgTimelineRegistry } {
  if (configuration.acceptorHttp === undefined) return {};
  const { tenant: tenantId, timeline: timelineId } = configuration;
  return {
    digest: async (acceptor, fromLsn, untilLsn) =>
      await fetchDigest(httpOf(acceptor), { tenantId, timelineId, fromLsn, untilLsn }, token),
    pgTimelines: {
      list: async (acceptor) => await fetchPgTimelines(httpOf(acceptor), tenantId, timelineId, token),
      register: async (acceptor, pgTimeline) =>
        await registerPgTimeline(httpOf(acceptor), tenantId, timelineId, pgTimeline, token),
    },
  };
}

async function openBridge(configuration: BridgeConfiguration, logger: Logger): Promise<Bridge> {
  const postgres = postgresOptions(configuration);
  const token =
    configuration.acceptorTokenFile === undefined ? undefined : readSecret(configuration.acceptorTokenFile);
  const acceptors = await describeAcceptors(configuration, logger);
  return await Bridge.open({
    postgres,
    acceptors,
    tenantId: configuration.tenant,
    timelineId: configuration.timeline,
    async createTimeline(request) {
      const { httpUrl } = request.acceptor;
      if (httpUrl === undefined) {
        throw new ServerError(
          "ERR_SERVER_OPTION",
          "the timeline does not exist yet: give --acceptor-http, to create it",
        );
      }
      await createTimelineOn(httpUrl, request, token);
      logger.info({ acceptor: httpUrl }, "timeline created");
    },
    ...managementOf(configuration, token),
    applicationName: configuration.applicationName,
    retainSlot: configuration.retainSlot,
    ringBytes: configuration.ringBytes,
    reconnectMs: configuration.reconnectMs,
    connectionTimeoutMs: configuration.connectionTimeoutMs,
    closeTimeoutMs: CLOSE_TIMEOUT_MS,
    protocolVersion: configuration.protoVersion === "2" ? 2 : 3,
    reportApply: configuration.reportApply,
    ...(configuration.expectSysid === undefined ? {} : { expectSystemId: configuration.expectSysid }),
    ...(token === undefined ? {} : { acceptorPassword: token }),
  });
}

/** What the parent and its status page see of the bridge. */
function report(bridge: Bridge): BridgeReport {
  const status = bridge.status();
  return {
    state: status.state,
    term: status.term,
    termStartLsn: status.termStartLsn,
    reconnects: status.reconnects,
    receivedLsn: status.receivedLsn,
    commitLsn: status.commitLsn,
    reportedLsn: status.reportedLsn,
    divergence: status.divergence,
    acceptors: status.acceptors.map(({ address, state, nodeId, flushLsn, voted }) => ({
      address,
      state,
      nodeId,
      flushLsn,
      voted,
    })),
  };
}

/** Tells the parent where the bridge is: twice a second, and at once when it has moved on. */
function tellStatus(bridge: Bridge, lifetime: Lifetime): void {
  const tell = (): void => {
    lifetime.tell({ type: "bridge-status", status: report(bridge) });
  };
  tell();
  setInterval(tell, STATUS_MS).unref();
  subscribe(DIAGNOSTICS_CHANNEL, (message) => {
    // The notice comes in the middle of a move; its result is to be told.
    if ((message as ProposerNotice).type === "bridge-state") setImmediate(tell);
  });
}

/** A PostgreSQL that was to end is not waited for. */
function endWithPostgres(bridge: Bridge, lifetime: Lifetime): void {
  subscribe(DIAGNOSTICS_CHANNEL, (message) => {
    const notice = message as ProposerNotice;
    if (notice.type === "bridge-state" && notice.to === "reconnecting" && lifetime.endExpected) {
      setImmediate(() => void bridge.close({ immediate: true }));
    }
  });
}

/** Every later bridge on this PostgreSQL would end the same way, and each attempt would cost a term. */
const REFUSALS: ReadonlySet<ProposerErrorCode> = new Set([
  "ERR_BRIDGE_WAL_LOST",
  "ERR_BRIDGE_DIVERGED",
  "ERR_BRIDGE_TIMELINE_CONFLICT",
]);

function exitCode(end: BridgeEnd): number {
  if (end.reason === "closed") return EXIT.ok;
  if (end.reason === "higher_term") return EXIT.termLost;
  if (end.error instanceof ProposerError && REFUSALS.has(end.error.code)) return EXIT.refused;
  return end.reason === "pg_lost" ? EXIT.unavailable : EXIT.failure;
}

/** Positions and metrics over HTTP, where an address is given. */
async function serveHttp(
  { listenHttp: address }: BridgeConfiguration,
  read: () => BridgeReport | undefined,
): Promise<HttpListener | undefined> {
  return address === undefined ? undefined : await listenHttp(createBridgeApi(read, watchProcess()), address);
}

/** Runs the bridge until it ends, or until a signal or its parent ends it. */
export async function runBridge(configuration: BridgeConfiguration): Promise<number> {
  const logger = createLogger({ level: configuration.logLevel, format: configuration.logFormat });
  const lifetime = installLifetime();
  logNotices(logger);
  let bridge: Bridge | undefined;
  // Before a term is taken: an address that cannot be used should cost none.
  const http = await serveHttp(configuration, () => (bridge === undefined ? undefined : report(bridge)));
  if (http !== undefined) logger.info(`bridge's HTTP on ${formatHostPort(http.address)}`);
  const opening = openBridge(configuration, logger);
  try {
    const opened = await Promise.race([opening, lifetime.stopped]);
    if (typeof opened === "string") return EXIT.ok;
    bridge = opened;
  } catch (error) {
    if (error instanceof ServerError) throw error;
    throw new ServerError("ERR_SERVER_POSTGRES", `the bridge cannot start: ${describeError(error)}`, {
      cause: error,
    });
  }
  const running = bridge;
  const { systemId, pgVersion } = running.status();
  logger.info({ systemId: String(systemId), pgVersion }, "bridge connected to PostgreSQL");
  lifetime.tell({ type: "ready", part: "bridge" });
  if (lifetime.supervised) tellStatus(running, lifetime);
  endWithPostgres(running, lifetime);
  void lifetime.stopped.then(async (reason) => {
    logger.info(`${reason}: ending`);
    await running.close({ immediate: reason === "parent is gone" });
  });
  const end = await running.closed;
  const { divergence } = running.status();
  lifetime.tell({ type: "bridge-ended", reason: end.reason, detail: end.detail, divergence });
  await http?.close();
  const isExpected = end.reason === "closed" || (lifetime.endExpected && end.reason === "pg_lost");
  logger[isExpected ? "info" : "error"]({ reason: end.reason }, `bridge ended: ${end.detail}`);
  return exitCode(end);
}

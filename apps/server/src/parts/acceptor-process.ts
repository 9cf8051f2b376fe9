/**
 * `millrace acceptor`: one acceptor in the foreground, its WAL port and its HTTP API.
 *
 * A failed fsync ends the process at once with code 70: what is durable is unknown from then on, and only a start with
 * its recovery from disk makes it known again. Every other way to end is orderly and bounded; a kill leads to the same
 * state on disk, only later.
 */
import { subscribe } from "node:diagnostics_channel";

import { ACCEPTOR_CHANNEL, AcceptorNode } from "@millrace/wal-acceptor";
import type { AcceptorEvent } from "@millrace/wal-acceptor";

import type { AcceptorConfiguration } from "../configuration/acceptor-options.js";
import { formatHostPort } from "../configuration/values.js";
import { describeError, EXIT, ServerError } from "../errors.js";
import { createAcceptorApi } from "../http/acceptor-api.js";
import { authenticatorFor } from "../http/bearer.js";
import { EventLoopLag } from "../http/event-loop-lag.js";
import { listenHttp } from "../http/listen.js";
import { watchProcess } from "../http/metrics-text.js";
import { createLogger } from "../logging.js";
import type { Logger } from "../logging.js";
import { ownVersion } from "../version.js";
import { DeadlineError, withDeadline } from "../waiting.js";
import { installLifetime } from "./lifetime.js";
import { listenWal } from "./wal-listener.js";

/** The acceptor bounds its own end below this; what takes longer is cut off. */
const CLOSE_MS = 9000;
const NO_SYNC_REMINDER_MS = 60_000;

function logEvents(logger: Logger): void {
  subscribe(ACCEPTOR_CHANNEL, (message) => {
    const { type, level, ...facts } = message as AcceptorEvent & { readonly error?: unknown };
    const { error, ...rest } = facts;
    logger[level]({ ...rest, ...(error === undefined ? {} : { reason: describeError(error) }) }, type);
  });
}

function remindOfNoSync(logger: Logger): void {
  const remind = (): void => {
    logger.warn("running with --no-sync: a power cut or a crash of the kernel loses acknowledged WAL");
  };
  remind();
  setInterval(remind, NO_SYNC_REMINDER_MS).unref();
}

async function openNode(configuration: AcceptorConfiguration, logger: Logger): Promise<AcceptorNode> {
  const authenticator = authenticatorFor("pg-auth-public-key-path", configuration.pgAuthPublicKeyPath);
  try {
    return await AcceptorNode.open({
      directory: configuration.dataDir,
      ...(configuration.id === undefined ? {} : { nodeId: configuration.id }),
      ...(authenticator === undefined ? {} : { authenticator }),
      noSync: configuration.noSync,
      flushOnCommit: configuration.flushOnCommit,
      minFlushGapMs: configuration.minFlushGapMs,
      queueBytes: configuration.queueBytes,
      walKeepBytes: configuration.walKeepSize,
      controlSaveIntervalMs: configuration.controlFileSaveInterval * 1000,
      allowTimelineCreation: configuration.allowTimelineCreation,
      onSystemIdMismatch: configuration.onSystemIdMismatch,
      onFatal(error) {
        logger.fatal(
          { reason: describeError(error) },
          "an fsync failed; ending, to recover from disk at the next start",
        );
        process.exit(EXIT.syncFailed);
      },
    });
  } catch (cause) {
    const code = (cause as { code?: unknown } | null)?.code;
    if (code === "ERR_ACCEPTOR_DIRECTORY_LOCKED")
      throw new ServerError("ERR_SERVER_LOCKED", describeError(cause), { cause });
    if (code === "ERR_ACCEPTOR_NODE_ID")
      throw new ServerError("ERR_SERVER_OPTION", `--id: ${describeError(cause)}`, { cause });
    throw new ServerError("ERR_SERVER_DATA", `--data-dir ${configuration.dataDir}: ${describeError(cause)}`, {
      cause,
    });
  }
}

/** Runs an acceptor until a signal or its parent ends it. */
export async function runAcceptor(configuration: AcceptorConfiguration): Promise<number> {
  const logger = createLogger({ level: configuration.logLevel, format: configuration.logFormat });
  const lifetime = installLifetime();
  logEvents(logger);
  if (configuration.noSync) remindOfNoSync(logger);
  const httpAuthenticator = authenticatorFor(
    "http-auth-public-key-path",
    configuration.httpAuthPublicKeyPath,
  );
  const node = await openNode(configuration, logger);
  using lag = new EventLoopLag();
  const wal = await listenWal(configuration.listenPg, (socket) => {
    // The connection reports its own errors; this listener only keeps an early one from ending the process.
    socket.on("error", () => undefined);
    void node.handleConnection(socket);
  });
  const { io } = node.status();
  const advertisePg = formatHostPort(configuration.advertisePg ?? wal.address);
  const api = createAcceptorApi({
    nodeId: node.nodeId,
    timelines: node.timelines,
    version: ownVersion(),
    ...(io === undefined ? {} : { io }),
    metrics: () => node.metrics(),
    histograms: () => [...node.histograms(), lag.metric()],
    processMetrics: watchProcess(),
    advertisePg,
    authenticator: httpAuthenticator,
    logger,
  });
  const http = await listenHttp(api, configuration.listenHttp);
  const listenPg = formatHostPort(wal.address);
  const listenHttpText = formatHostPort(http.address);
  logger.info(
    { id: String(node.nodeId), loading: node.timelines.loading().length },
    `acceptor listens on ${listenPg}, HTTP on ${listenHttpText}`,
  );
  // A timeline that cannot be loaded is an event of its own.
  void node.timelines.whenLoaded().then(() => {
    logger.info(
      { loaded: node.timelines.size, unloadable: node.timelines.unloadable().length },
      "every timeline has been looked at",
    );
  });
  lifetime.tell({
    type: "ready",
    part: "acceptor",
    nodeId: node.nodeId,
    listenPg,
    listenHttp: listenHttpText,
  });
  const reason = await lifetime.stopped;
  logger.info(`${reason}: ending`);
  wal.stop();
  try {
    await withDeadline(Promise.all([node.close(), http.close()]), CLOSE_MS);
  } catch (error) {
    const what = error instanceof DeadlineError ? "some streams did not end in time" : describeError(error);
    logger.error({ reason: what }, "the end was not orderly; the next start recovers");
    return EXIT.failure;
  }
  return EXIT.ok;
}

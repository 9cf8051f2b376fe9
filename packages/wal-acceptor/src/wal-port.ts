/**
 * The WAL port: one client connection from its first byte to its last.
 *
 * After the login a loop reads simple queries and answers each with its result, or an ErrorResponse, and
 * ReadyForQuery; START_WAL_PUSH and START_REPLICATION leave the loop, the first for good. Names of tenant and
 * timeline come with the startup packet and are asked for when a command needs them; a token is checked against them
 * for every command. Details of a refused token go to the diagnostics channel, the peer learns only that it was.
 *
 * What a peer can make this side hold is bounded: login time, query length, idle time, and the limits of streams.
 */
import type { Duplex } from "node:stream";
import { formatLsn } from "@millrace/lsn";
import { acceptConnection, SQLSTATE, WireError } from "@millrace/pg-wire";
import type { AcceptOptions, Authenticator, Column, ErrorFields, ServerConnection } from "@millrace/pg-wire";

import type { Clock } from "./clock.js";
import { commandName, parseCommand } from "./command-grammar.js";
import type { StartReplication, StartWalPush, WalPortCommand } from "./command-grammar.js";
import { parseConnectionTarget } from "./connection-target.js";
import type { ConnectionTarget } from "./connection-target.js";
import { publish } from "./diagnostics.js";
import type { EventPlace } from "./diagnostics.js";
import { AcceptorError, isAcceptorError, isOperatingError } from "./errors.js";
import { finishStream } from "./finish-stream.js";
import { FirstSignal } from "./first-signal.js";
import type { CommandCounters } from "./metrics.js";
import { receiveWal } from "./receive-wal.js";
import type { PushSettings } from "./receive-wal.js";
import { ReplicationPort } from "./replication-port.js";
import { errorFieldsOf } from "./stream-end.js";
import type { Timeline } from "./timeline.js";
import type { TimelineKey } from "./timeline-storage.js";
import type { TimelineRegistry } from "./timeline-registry.js";

/** server_version of a connection whose timeline is unknown: every newer client talks to it. */
export const SERVER_VERSION_DEFAULT = "14.1";
/** A peer whose machine vanished is noticed by the kernel's probes, started after this much silence. */
const KEEPALIVE_DELAY_MS = 60_000;

/** What differs between the ports of one node. */
export interface WalPortListener {
  /** Checks passwords, which are JWTs; without one everybody is trusted. */
  readonly authenticator?: Authenticator | undefined;
  /** Key and certificate; with them TLS is required. */
  readonly tls?: AcceptOptions["tls"] | undefined;
}

/** What one connection is served with. */
export interface WalPortOptions {
  readonly timelines: TimelineRegistry;
  readonly clock: Clock;
  readonly settings: PushSettings;
  readonly serverVersion: string;
  readonly listener: WalPortListener;
  readonly counters: CommandCounters;
  /** Aborted when the node stops: streams drain, idle connections are told and closed. */
  readonly stopSignal: AbortSignal;
}

/**
 * Serves one accepted socket until it is closed. Never rejects: what goes wrong is told to the peer and published.
 *
 * @param socket given: closed when the promise settles
 */
export async function serveWalPort(socket: Duplex, options: WalPortOptions): Promise<void> {
  keepAlive(socket);
  let target: ConnectionTarget = { tenantId: undefined, timelineId: undefined };
  let connection: ServerConnection | undefined;
  try {
    connection = await acceptConnection(socket, {
      ...(options.listener.tls === undefined ? {} : { tls: options.listener.tls }),
      ...(options.listener.authenticator === undefined
        ? {}
        : { authenticate: options.listener.authenticator }),
      checkStartup: (request) => {
        target = checkStartup(request.options, options.stopSignal);
      },
      serverVersion: () => reportedVersion(target, options),
      timers: {
        start: (callback, delayMs) => {
          const timer = options.clock.setTimer(delayMs, callback);
          return () => timer.cancel();
        },
      },
    });
  } catch (error) {
    publish(() => ({ ...target, type: "connection-failed", level: "info", error }));
  }
  if (connection === undefined) return;
  await new WalPortSession(connection, target, options).run();
}

// Both refusals travel as FATAL before the login is through.
function checkStartup(options: ReadonlyMap<string, string>, stopSignal: AbortSignal): ConnectionTarget {
  if (stopSignal.aborted) {
    throw new WireError("ERR_WIRE_PROTOCOL", SHUTDOWN_FIELDS.message, { sqlstate: SHUTDOWN_FIELDS.code });
  }
  try {
    return parseConnectionTarget(options);
  } catch (error) {
    if (!(error instanceof AcceptorError)) throw error;
    throw new WireError("ERR_WIRE_PROTOCOL", error.message, { sqlstate: error.sqlState, cause: error });
  }
}

const SHUTDOWN_FIELDS: ErrorFields = {
  severity: "FATAL",
  code: SQLSTATE.adminShutdown,
  message: "terminating connection: the acceptor is shutting down",
};

// pg_receivewal refuses servers newer than itself, so the version is that of the timeline's PostgreSQL. A login waits
// for nobody: of a timeline that is not loaded the version is unknown.
function reportedVersion(target: ConnectionTarget, options: WalPortOptions): string {
  if (target.tenantId === undefined || target.timelineId === undefined) return options.serverVersion;
  try {
    const { pgVersion } = options.timelines.get(target.tenantId, target.timelineId).state.server;
    return pgVersion === 0 ? options.serverVersion : `${Math.floor(pgVersion / 10_000)}.0`;
  } catch (error) {
    if (error instanceof AcceptorError) return options.serverVersion;
    throw error;
  }
}

const TEXT = "text" as const;
const TIMELINE_STATUS_COLUMNS: readonly Column[] = [
  { name: "flush_lsn", type: TEXT },
  { name: "commit_lsn", type: TEXT },
];
/** Settings that stock clients ask for and that do not depend on the timeline. */
const FIXED_SETTINGS: ReadonlyMap<string, string> = new Map([
  ["data_directory_mode", "0700"],
  ["integer_datetimes", "on"],
  ["standard_conforming_strings", "on"],
]);

/** The command loop of one logged-in connection. */
class WalPortSession {
  readonly #connection: ServerConnection;
  readonly #target: ConnectionTarget;
  readonly #options: WalPortOptions;
  readonly #place: EventPlace;
  readonly #replication: ReplicationPort;

  constructor(connection: ServerConnection, target: ConnectionTarget, options: WalPortOptions) {
    this.#connection = connection;
    this.#target = target;
    this.#options = options;
    this.#place = { ...target, connectionId: connection.processId };
    this.#replication = new ReplicationPort({
      connection,
      place: this.#place,
      clock: options.clock,
      idleTimeoutMs: options.settings.idleTimeoutMs,
      stopSignal: options.stopSignal,
    });
  }

  async run(): Promise<void> {
    publish(() => ({ ...this.#place, type: "connection-opened", level: "debug" }));
    try {
      for (;;) {
        const text = await this.#nextQuery();
        if (text === undefined) break;
        if (!(await this.#answer(text))) break;
      }
    } catch (error) {
      const level = isOperatingError(error) ? "info" : "error";
      publish(() => ({ ...this.#place, type: "connection-failed", level, error }));
    } finally {
      this.#replication[Symbol.dispose]();
      await this.#connection.close();
      publish(() => ({ ...this.#place, type: "connection-closed", level: "debug" }));
    }
  }

  // Undefined: the peer has left, was silent for too long, or the node stops.
  async #nextQuery(): Promise<string | undefined> {
    const { clock, settings, stopSignal } = this.#options;
    using interrupted = new FirstSignal<{ readonly stop: "node-stops" | "idle" }>();
    interrupted.onAbort(stopSignal, { stop: "node-stops" });
    interrupted.after(clock, settings.idleTimeoutMs, { stop: "idle" });
    const query = this.#connection.readQuery();
    const next = await Promise.race([query, interrupted.promise]);
    if (typeof next !== "object") return next;
    query.catch(() => undefined); // it ends with the connection, which is what happens next
    if (next.stop === "idle") this.#connection.destroy();
    else await this.#connection.sendError(SHUTDOWN_FIELDS);
    return undefined;
  }

  // One command. False: the connection has left the command loop.
  async #answer(text: string): Promise<boolean> {
    let command: WalPortCommand | undefined;
    let name = "unknown";
    const { counters } = this.#options;
    try {
      try {
        command = parseCommand(text);
        name = commandName(command);
      } finally {
        counters.received(name);
      }
      if (command.type === "start-wal-push") {
        const key = this.#requireTarget();
        await this.#push(command, key);
        return false;
      }
      if (command.type === "start-replication") {
        const next = await this.#replication.startReplication(await this.#requireTimeline(), command);
        if (next === "closed") return false;
      } else await this.#execute(command);
    } catch (error) {
      if (!(error instanceof AcceptorError)) throw error;
      publish(() => ({ ...this.#place, type: "command-failed", level: "info", command: name, error }));
      await this.#connection.sendError(errorFieldsOf(error));
    } finally {
      counters.finished(name);
    }
    await this.#connection.sendReadyForQuery();
    return true;
  }

  async #execute(command: Exclude<WalPortCommand, StartWalPush | StartReplication>): Promise<void> {
    switch (command.type) {
      case "empty":
        return await this.#connection.sendEmptyQueryResponse();
      case "set-datestyle":
        // What Neon answers, and psycopg2 does not look at.
        return await this.#connection.sendCommandComplete("SELECT 1");
      case "set-search-path":
        return await this.#connection.sendRows([{ name: "set_config", type: TEXT }], [[""]], "SELECT 1");
      case "show":
        return await this.#show(command.name);
      case "identify-system":
        return await this.#replication.identifySystem(await this.#requireTimeline());
      case "timeline-status":
        return await this.#timelineStatus();
      case "read-replication-slot":
        return await this.#replication.readSlot(await this.#requireTimeline(), command.slot);
      case "create-replication-slot":
        return await this.#replication.createSlot(await this.#requireTimeline(), command);
      case "drop-replication-slot":
        return await this.#replication.dropSlot(await this.#requireTimeline(), command.slot);
      case "timeline-history":
        return await this.#replication.timelineHistory(await this.#requireTimeline(), command.timelineId);
      case "unsupported":
        return await this.#refuseUnsupported(command.command, command.hint);
    }
  }

  async #show(name: string): Promise<void> {
    const setting = name.toLowerCase();
    const value =
      setting === "wal_segment_size"
        ? segmentSizeText((await this.#requireTimeline()).state.server.segmentBytes)
        : FIXED_SETTINGS.get(setting);
    if (value === undefined) {
      throw new AcceptorError(
        "ERR_ACCEPTOR_UNKNOWN_SETTING",
        `unrecognized configuration parameter "${name}"`,
      );
    }
    await this.#connection.sendRows([{ name: setting, type: TEXT }], [[value]], "SHOW");
  }

  async #timelineStatus(): Promise<void> {
    const key = this.#requireTarget();
    let rows: string[][] = [];
    try {
      const { state } = await this.#options.timelines.load(key.tenantId, key.timelineId);
      rows = [[formatLsn(state.flushLsn), formatLsn(state.commitLsn)]];
    } catch (error) {
      const absent =
        isAcceptorError(error, "ERR_ACCEPTOR_TIMELINE_NOT_FOUND") ||
        isAcceptorError(error, "ERR_ACCEPTOR_TIMELINE_DELETED");
      if (!absent) throw error;
    }
    await this.#connection.sendRows(TIMELINE_STATUS_COLUMNS, rows, "TIMELINE_STATUS");
  }

  async #refuseUnsupported(command: string, hint: string | undefined): Promise<void> {
    const fields = errorFieldsOf(
      new AcceptorError("ERR_ACCEPTOR_UNSUPPORTED", `${command} is not supported by this version`),
    );
    await this.#connection.sendError(hint === undefined ? fields : { ...fields, hint });
  }

  async #requireTimeline(): Promise<Timeline> {
    const { tenantId, timelineId } = this.#requireTarget();
    return await this.#options.timelines.load(tenantId, timelineId);
  }

  // The names the command is about, if the connection gave them and its token allows them.
  #requireTarget(): TimelineKey {
    const { tenantId, timelineId } = this.#target;
    if (tenantId === undefined) throw new AcceptorError("ERR_ACCEPTOR_STARTUP", "tenantid is required");
    if (timelineId === undefined) throw new AcceptorError("ERR_ACCEPTOR_STARTUP", "timelineid is required");
    const { identity } = this.#connection;
    const allowed =
      identity === undefined ||
      identity.scope === "safekeeperdata" ||
      (identity.scope === "tenant" && identity.tenantId === tenantId);
    if (!allowed)
      throw new AcceptorError("ERR_ACCEPTOR_FORBIDDEN", "the token does not give access to this tenant");
    return { tenantId, timelineId };
  }

  async #push(command: StartWalPush, key: TimelineKey): Promise<void> {
    const { reader, writer } = await this.#connection.startCopyBoth();
    const { timelines, settings, clock, stopSignal } = this.#options;
    const connectionId = this.#connection.processId;
    const { end, idle } = await receiveWal({
      ...key,
      command,
      connectionId,
      reader,
      writer,
      timelines,
      settings,
      clock,
      stopSignal,
    });
    await finishStream(this.#connection, writer, end, this.#place);
    await idle;
  }
}

// As PostgreSQL prints a size in bytes: in the largest unit that divides it.
function segmentSizeText(bytes: number): string {
  const gigabyte = 1024 ** 3;
  return bytes % gigabyte === 0 ? `${bytes / gigabyte}GB` : `${bytes / 1024 ** 2}MB`;
}

/** TCP sockets only; others have no such thing. Delayed sending is switched off with the login. */
function keepAlive(socket: Duplex): void {
  if ("setKeepAlive" in socket && typeof socket.setKeepAlive === "function") {
    socket.setKeepAlive(true, KEEPALIVE_DELAY_MS);
  }
}

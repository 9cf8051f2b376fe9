/**
 * Asks an acceptor, before any election, whether it has the timeline and what it knows about it.
 *
 * TIMELINE_STATUS tells whether the timeline exists and how far its log goes; a greeting on the same connection
 * tells the acceptor's node id and term, and has it compare cluster, version and segment size with its own.
 * Nothing on the acceptor changes: a greeting without a configuration raises neither term nor generation.
 */
import type { Duplex } from "node:stream";
import { INVALID_LSN, tryParseLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { connect } from "@millrace/pg-wire";
import type { ClientConnection } from "@millrace/pg-wire";
import { EMPTY_CONFIGURATION, parseAcceptorMessage, serializeProposerMessage } from "@millrace/wal-protocol";
import type { ProposerGreeting, ProtocolVersion } from "@millrace/wal-protocol";
import { acceptorOptions } from "./acceptor-connection.js";
import type { AcceptorAddress, AcceptorConnectionOptions } from "./acceptor-connection.js";
import { ProposerError } from "./errors.js";
import { showSetting } from "./postgres-connection.js";
import { parseBytesSetting } from "./postgres-settings.js";
import type { Clock } from "./timers.js";

/** What an acceptor answered. */
export type AcceptorProbe =
  | { readonly type: "unreachable"; readonly error: unknown }
  /** It answers, and refuses to serve this cluster. */
  | { readonly type: "refused"; readonly error: unknown }
  | { readonly type: "absent" }
  | {
      readonly type: "present";
      readonly nodeId: bigint;
      /** 0 as long as no proposer has ever asked for a vote. */
      readonly term: bigint;
      readonly flushLsn: Lsn;
      readonly commitLsn: Lsn;
    };

/** What the bridge is about, as it goes into the greeting. */
export type ProbeGreeting = Omit<ProposerGreeting, "type" | "configuration">;

/** See the members. */
export interface AcceptorProbeOptions {
  readonly address: AcceptorAddress;
  readonly greeting: ProbeGreeting;
  readonly protocolVersion: ProtocolVersion;
  readonly password?: AcceptorConnectionOptions["password"] | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly connectSocket?: ((address: AcceptorAddress) => Duplex) | undefined;
}

/** Never rejects: that an acceptor cannot be asked is an answer too. */
export async function probeAcceptor(options: AcceptorProbeOptions): Promise<AcceptorProbe> {
  const { tenantId, timelineId } = options.greeting;
  try {
    return await connected({ ...options, tenantId, timelineId }, (connection) => ask(connection, options));
  } catch (error) {
    return { type: "unreachable", error };
  }
}

/** What a greeting has to say of the cluster, as an acceptor that has the timeline knows it. */
export interface ServerFacts {
  /** The major version in the form of server_version_num. */
  readonly pgVersion: number;
  readonly segmentBytes: number;
}

/**
 * Asks an acceptor which cluster the timeline belongs to, for a proposer without a database.
 *
 * @returns undefined if it does not have the timeline
 * @throws {ProposerError} ERR_BRIDGE_ACCEPTOR, ERR_BRIDGE_SETTING, ERR_BRIDGE_POSTGRES; and what the wire throws
 */
export async function askServerFacts(options: AcceptorQuery): Promise<ServerFacts | undefined> {
  return await connected(options, async (connection) => {
    const results = await connection.query("TIMELINE_STATUS");
    if (!results.some((result) => result.rows.length > 0)) return undefined;
    const text = await showSetting(connection, "wal_segment_size");
    const segmentBytes = parseBytesSetting("wal_segment_size", text);
    return { pgVersion: connection.serverVersion, segmentBytes };
  });
}

/** One short connection, and how long it may take. */
export type AcceptorQuery = Pick<
  AcceptorProbeOptions,
  "address" | "password" | "timeoutMs" | "clock" | "connectSocket"
> & { readonly tenantId: string; readonly timelineId: string };

async function connected<T>(
  options: AcceptorQuery,
  work: (connection: ClientConnection) => Promise<T>,
): Promise<T> {
  const cancel = new AbortController();
  let connection: ClientConnection | undefined;
  const timer = options.clock.setTimer(options.timeoutMs, () => {
    cancel.abort();
    connection?.destroy();
  });
  try {
    connection = await open(options, cancel.signal);
    return await work(connection);
  } finally {
    timer.cancel();
    connection?.destroy();
  }
}

function open(options: AcceptorQuery, signal: AbortSignal): Promise<ClientConnection> {
  const { address, tenantId, timelineId, password, connectSocket } = options;
  return connect({
    host: address.host,
    port: address.port,
    user: "wal_proposer",
    database: "replication",
    parameters: {
      options: acceptorOptions(tenantId, timelineId),
      application_name: "millrace_probe",
    },
    signal,
    ...(password === undefined ? {} : { password }),
    ...(connectSocket === undefined ? {} : { connectSocket: () => connectSocket(address) }),
  });
}

async function ask(connection: ClientConnection, options: AcceptorProbeOptions): Promise<AcceptorProbe> {
  const results = await connection.query("TIMELINE_STATUS");
  const row = results.find((result) => result.rows.length > 0)?.rows[0];
  if (row === undefined) return { type: "absent" };
  const [flushLsn, commitLsn] = [tryParseLsn(row[0] ?? ""), tryParseLsn(row[1] ?? "")];
  if (flushLsn === undefined || commitLsn === undefined) {
    throw new ProposerError("ERR_BRIDGE_ACCEPTOR", "TIMELINE_STATUS was not answered with two positions");
  }
  const version = options.protocolVersion;
  const { reader, writer } = await connection.startCopyBoth(
    `START_WAL_PUSH (proto_version '${version}', allow_timeline_creation 'false')`,
  );
  void writer.send(
    serializeProposerMessage(
      { type: "greeting", configuration: EMPTY_CONFIGURATION, ...options.greeting },
      version,
    ),
  );
  try {
    const event = await reader.next();
    if (event.type !== "data") {
      // It has just said that it has the timeline: this is an acceptor that is going away.
      const error = new ProposerError(
        "ERR_BRIDGE_ACCEPTOR",
        "the acceptor ended the connection without a word",
      );
      return { type: "unreachable", error };
    }
    const message = parseAcceptorMessage(event.payload, version);
    if (message.type !== "greeting") {
      throw new ProposerError("ERR_BRIDGE_ACCEPTOR", `a greeting was answered with ${message.type}`);
    }
    return { type: "present", nodeId: message.nodeId, term: message.term, flushLsn, commitLsn };
  } catch (error) {
    const refused = error instanceof Error && "code" in error && error.code === "ERR_WIRE_SERVER";
    if (!refused) throw error;
    return { type: "refused", error };
  }
}

/** Whether an existing timeline has neither records nor a past: its log ends where it begins. */
export function isPristine(probe: AcceptorProbe & { readonly type: "present" }): boolean {
  return probe.term === 0n && probe.flushLsn === probe.commitLsn && probe.flushLsn !== INVALID_LSN;
}

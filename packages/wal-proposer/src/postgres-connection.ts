/**
 * Opening connections to PostgreSQL and asking the few questions that the bridge has.
 *
 * All connections of a bridge come from one set of client options; they differ in application_name and in whether
 * they speak the replication protocol. Whatever goes wrong becomes ERR_BRIDGE_POSTGRES here, with the wire's or
 * server's error as its cause, so that the files above deal with one kind of failure.
 */
import { parseLsn, SEGMENT_BYTES_DEFAULT, isSegmentBytes } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { connect } from "@millrace/pg-wire";
import type { ClientConnection, ClientOptions } from "@millrace/pg-wire";
import { ProposerError } from "./errors.js";
import { parseBytesSetting } from "./postgres-settings.js";
import { withinTime } from "./timers.js";
import type { Clock } from "./timers.js";

/** WAL formats that the decoder knows. */
const MAJOR_MIN = 15;
const MAJOR_MAX = 18;

/** Opens a connection for physical replication. The caller closes it. */
export function connectReplication(
  postgres: ClientOptions,
  applicationName: string,
  signal?: AbortSignal,
): Promise<ClientConnection> {
  return open(postgres, { replication: "true", application_name: applicationName }, signal);
}

/** Opens a connection for SQL. The caller closes it. */
export function connectSql(
  postgres: ClientOptions,
  applicationName: string,
  signal?: AbortSignal,
): Promise<ClientConnection> {
  return open(
    { ...postgres, database: postgres.database ?? "postgres" },
    { application_name: applicationName },
    signal,
  );
}

async function open(
  postgres: ClientOptions,
  parameters: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<ClientConnection> {
  try {
    return await connect({
      ...postgres,
      parameters: { ...postgres.parameters, ...parameters },
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    throw postgresError("connecting to PostgreSQL failed", error);
  }
}

/**
 * Runs questions to PostgreSQL and gives up on them after `limitMs`; their signal is aborted then.
 *
 * @throws {ProposerError} what `work` throws, or ERR_BRIDGE_POSTGRES
 */
export async function answeredInTime<T>(
  clock: Clock,
  limitMs: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  try {
    return await withinTime(clock, limitMs, signal, work);
  } catch (error) {
    throw postgresError("PostgreSQL could not be asked", error);
  }
}

/** ERR_BRIDGE_POSTGRES around whatever the wire threw; an error of this package is passed on as it is. */
export function postgresError(what: string, error: unknown): ProposerError {
  if (error instanceof ProposerError) return error;
  const detail = error instanceof Error ? error.message : String(error);
  return new ProposerError("ERR_BRIDGE_POSTGRES", `${what}: ${detail}`, { cause: error });
}

/** Whether an error came from the wire or from the server behind it, and not from a bug on this side. */
export function isWireError(error: unknown): boolean {
  return error instanceof Error && "code" in error && String(error.code).startsWith("ERR_WIRE_");
}

/** The SQLSTATE that a server's error carries, at any depth of causes; undefined for other errors. */
export function sqlstateOf(error: unknown): string | undefined {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if ("code" in at && at.code === "ERR_WIRE_SERVER" && "sqlstate" in at) return String(at.sqlstate);
  }
  return undefined;
}

/**
 * Runs one command and gives its first row; undefined if there is none.
 *
 * @throws {ProposerError} ERR_BRIDGE_POSTGRES
 */
export async function firstRow(
  connection: ClientConnection,
  command: string,
): Promise<readonly (string | null)[] | undefined> {
  try {
    const results = await connection.query(command);
    return results.find((result) => result.rows.length > 0)?.rows[0];
  } catch (error) {
    throw postgresError(`${command.split(" ", 2).join(" ")} failed`, error);
  }
}

/** The value of a setting. Works on replication connections too. */
export async function showSetting(connection: ClientConnection, name: string): Promise<string> {
  const row = await firstRow(connection, `SHOW ${name}`);
  const value = row?.[0];
  if (typeof value !== "string") throw new ProposerError("ERR_BRIDGE_SETTING", `${name} is not shown`);
  return value;
}

/** Who a PostgreSQL server is and where its log ends. */
export interface PostgresIdentity {
  readonly systemId: bigint;
  readonly timelineId: number;
  /** End of the WAL that PostgreSQL has made durable. */
  readonly flushLsn: Lsn;
  /** As server_version_num. */
  readonly versionNumber: number;
  readonly major: number;
  readonly segmentBytes: number;
}

/**
 * IDENTIFY_SYSTEM and what belongs to it.
 *
 * @throws {ProposerError} ERR_BRIDGE_POSTGRES, ERR_BRIDGE_SETTING, ERR_BRIDGE_VERSION
 */
export async function identify(connection: ClientConnection): Promise<PostgresIdentity> {
  const versionNumber = connection.serverVersion;
  const major = Math.floor(versionNumber / 10_000);
  if (major < MAJOR_MIN || major > MAJOR_MAX) {
    const message = `PostgreSQL ${versionNumber} is not one of ${MAJOR_MIN} to ${MAJOR_MAX}`;
    throw new ProposerError("ERR_BRIDGE_VERSION", message);
  }
  const segmentBytes = parseBytesSetting(
    "wal_segment_size",
    await showSetting(connection, "wal_segment_size"),
  );
  if (!isSegmentBytes(segmentBytes)) {
    const message = `wal_segment_size is ${segmentBytes} bytes (usual: ${SEGMENT_BYTES_DEFAULT})`;
    throw new ProposerError("ERR_BRIDGE_SETTING", message);
  }
  const { systemId, timelineId, flushLsn } = await identifySystem(connection);
  return { systemId, timelineId, flushLsn, versionNumber, major, segmentBytes };
}

/** IDENTIFY_SYSTEM alone. */
export async function identifySystem(
  connection: ClientConnection,
): Promise<Pick<PostgresIdentity, "systemId" | "timelineId" | "flushLsn">> {
  const row = await firstRow(connection, "IDENTIFY_SYSTEM");
  const [systemId, timelineId, flushLsn] = row ?? [];
  if (
    !/^\d{1,20}$/.test(systemId ?? "") ||
    !/^\d{1,10}$/.test(timelineId ?? "") ||
    typeof flushLsn !== "string"
  ) {
    throw new ProposerError(
      "ERR_BRIDGE_POSTGRES",
      "IDENTIFY_SYSTEM was not answered as PostgreSQL answers it",
    );
  }
  return { systemId: BigInt(systemId ?? ""), timelineId: Number(timelineId), flushLsn: parseLsn(flushLsn) };
}

/**
 * Opening connections to the primary for an elected proposer: to compare its log with the acceptors', and to stream.
 *
 * Each begins with a look at who answers and how far its log goes: between any two connections PostgreSQL may have
 * been replaced by an older copy of itself. A log that ends below the start of the term is refused here, before a
 * byte of it is used.
 */
import { distanceBytes, formatLsn, INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ClientConnection } from "@millrace/pg-wire";
import { checkIdentity } from "./bridge-ground.js";
import type { BridgeSettings } from "./bridge-options.js";
import { CatchUpReader } from "./catch-up-reader.js";
import type { CatchUpStream } from "./catch-up.js";
import { ProposerError } from "./errors.js";
import { answeredInTime, connectReplication, identifySystem } from "./postgres-connection.js";
import type { PostgresHistory } from "./postgres-history.js";
import { PostgresSource, startReplication } from "./postgres-source.js";
import type { SourceHandlers } from "./postgres-source.js";
import { TimelineStream } from "./timeline-stream.js";

/** What every connection of a term has in common. */
export interface PrimaryOptions {
  readonly settings: Pick<
    BridgeSettings,
    "postgres" | "postgresSilenceMs" | "applicationName" | "reportApply" | "ringBytes" | "clock"
  >;
  readonly systemId: bigint;
  readonly history: PostgresHistory;
  readonly reportIntervalMs: number;
  readonly termStartLsn: Lsn;
  readonly signal: AbortSignal;
}

/** A connection that was found to be the right one, and where its log ended then. */
interface Checked {
  readonly connection: ClientConnection;
  readonly flushLsn: Lsn;
}

/**
 * Connects and looks who answers. The caller closes the connection.
 *
 * @throws {ProposerError} ERR_BRIDGE_WAL_LOST, ERR_BRIDGE_SYSTEM_ID, ERR_BRIDGE_TIMELINE_ID, ERR_BRIDGE_POSTGRES
 */
function connectChecked(options: PrimaryOptions, applicationName: string): Promise<Checked> {
  const { clock, postgresSilenceMs } = options.settings;
  return answeredInTime(clock, postgresSilenceMs, options.signal, (signal) =>
    connectAndLook({ ...options, signal }, applicationName),
  );
}

async function connectAndLook(options: PrimaryOptions, applicationName: string): Promise<Checked> {
  const { settings, systemId, history, termStartLsn, signal } = options;
  const connection = await connectReplication(settings.postgres, applicationName, signal);
  const drop = (): void => connection.destroy();
  signal.addEventListener("abort", drop);
  try {
    const now = await identifySystem(connection);
    checkIdentity(now, systemId, history.current.timelineId);
    checkNotLost(termStartLsn, now.flushLsn);
    return { connection, flushLsn: now.flushLsn };
  } catch (error) {
    connection.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", drop);
  }
}

/**
 * A stream of the primary's WAL that reports nothing, for the comparison with the acceptors.
 *
 * @throws {ProposerError} as `connectChecked`; that the WAL is gone shows when it is read
 */
export function openForCheck(options: PrimaryOptions, fromLsn: Lsn): Promise<CatchUpStream> {
  const { settings, reportIntervalMs } = options;
  return TimelineStream.open(options.history, fromLsn, async (startLsn, timelineId) => {
    const { connection } = await connectChecked(options, `${settings.applicationName}_check`);
    return CatchUpReader.start(connection, {
      fromLsn: startLsn,
      command: startReplication(startLsn, timelineId),
      reportIntervalMs,
      silenceMs: settings.postgresSilenceMs,
      clock: settings.clock,
    });
  });
}

/**
 * Connection A, started where `chooseStart` says once PostgreSQL is known to be the right one.
 *
 * @throws {ProposerError} as `connectChecked`, and ERR_BRIDGE_WAL_REMOVED
 */
export async function openSourceAt(
  options: PrimaryOptions,
  chooseStart: () => Lsn,
  handlers: SourceHandlers,
): Promise<PostgresSource> {
  const { settings, history, termStartLsn, reportIntervalMs, signal } = options;
  const { connection, flushLsn } = await connectChecked(options, settings.applicationName);
  const drop = (): void => connection.destroy();
  signal.addEventListener("abort", drop);
  const startLsn = chooseStart();
  try {
    return await PostgresSource.open({
      connection,
      startLsn,
      timelineId: history.current.timelineId,
      floorLsn: termStartLsn,
      reportApply: settings.reportApply,
      reportIntervalMs,
      silenceMs: settings.postgresSilenceMs,
      clock: settings.clock,
      expectData: startLsn < flushLsn,
      handlers,
    });
  } finally {
    signal.removeEventListener("abort", drop);
  }
}

/**
 * Connection A, started as low as is useful and possible.
 *
 * @param wantedLsns where the acceptors' next bytes are
 * @throws {ProposerError} as `openSourceAt`
 */
export async function openSource(
  options: PrimaryOptions,
  wantedLsns: () => readonly (Lsn | undefined)[],
  handlers: SourceHandlers,
): Promise<PostgresSource> {
  const { termStartLsn, settings } = options;
  let aboveLsn: Lsn = INVALID_LSN;
  let startLsn = termStartLsn;
  const chooseStart = (): Lsn => {
    startLsn = usefulStart(wantedLsns(), termStartLsn, aboveLsn, settings.ringBytes);
    return startLsn;
  };
  for (;;) {
    try {
      return await openSourceAt(options, chooseStart, handlers);
    } catch (error) {
      const isRemoved = error instanceof ProposerError && error.code === "ERR_BRIDGE_WAL_REMOVED";
      if (!isRemoved || startLsn === termStartLsn) throw error;
      aboveLsn = startLsn;
    }
  }
}

/**
 * The lowest position above `aboveLsn` that an acceptor needs, as far as that is within half a ring of the term's
 * start. An acceptor further behind has a reader of its own and does not hold up everybody's commits.
 */
function usefulStart(
  wantedLsns: readonly (Lsn | undefined)[],
  termStartLsn: Lsn,
  aboveLsn: Lsn,
  ringBytes: number,
): Lsn {
  const nearBytes = BigInt(Math.floor(ringBytes / 2));
  let startLsn = termStartLsn;
  for (const lsn of wantedLsns) {
    if (lsn === undefined) continue;
    if (lsn > aboveLsn && lsn < startLsn && distanceBytes(lsn, termStartLsn) <= nearBytes) startLsn = lsn;
  }
  return startLsn;
}

/** Nothing was truncated on any acceptor by then. @throws {ProposerError} ERR_BRIDGE_WAL_LOST */
function checkNotLost(termStartLsn: Lsn, flushLsn: Lsn): void {
  if (termStartLsn <= flushLsn) return;
  throw new ProposerError(
    "ERR_BRIDGE_WAL_LOST",
    `acceptors have WAL up to ${formatLsn(termStartLsn)}, PostgreSQL only up to ${formatLsn(flushLsn)}: it was ` +
      "restored from a backup or has lost its disk. Nothing was changed on any acceptor; rebuild this PostgreSQL " +
      "from the acceptors' WAL",
  );
}

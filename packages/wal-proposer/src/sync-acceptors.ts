/**
 * Brings acceptors into agreement without a database: elects, gives a quorum everything up to the start of the new
 * term, commits that, and says where the log ends.
 *
 * It is the fence of a failover: after it no older proposer can commit anything, so that whatever a standby is then
 * given up to the position returned is all there ever was. WAL that an acceptor lacks comes from the donor of the
 * election. Nothing is written that was not there; a timeline without WAL is refused. The position is on the disks of a
 * quorum before it is told: a standby must find it committed even if every acceptor is restarted first.
 *
 * After `--sync-safekeepers` of Neon's compute.
 */
import { INVALID_LSN } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ProtocolVersion } from "@millrace/wal-protocol";
import type { AcceptorAddress, AcceptorConnectionOptions } from "./acceptor-connection.js";
import { askServerFacts } from "./acceptor-probe.js";
import type { ServerFacts } from "./acceptor-probe.js";
import { DonorReader } from "./donor-reader.js";
import { ProposerError, SyncError } from "./errors.js";
import type { SyncFailure } from "./errors.js";
import { REPORT_INTERVAL_MS } from "./position-reporter.js";
import { CONNECTION_TIMEOUT_MS_DEFAULT, RECONNECT_MS_DEFAULT } from "./proposer-events.js";
import { Proposer } from "./proposer.js";
import { delay, systemClock } from "./timers.js";
import type { Clock } from "./timers.js";
import { WalRing } from "./wal-ring.js";

/** How long acceptors may take to agree. */
export const SYNC_TIMEOUT_MS_DEFAULT = 60_000;

/** See the members. Only the first three have no default. */
export interface SyncOptions {
  readonly acceptors: readonly AcceptorAddress[];
  /** 32 hexadecimal digits, lower case. */
  readonly tenantId: string;
  /** 32 hexadecimal digits, lower case. */
  readonly timelineId: string;
  /** PostgreSQL's version as server_version_num, and its segment size. By default the acceptors are asked. */
  readonly pgVersion?: number;
  readonly segmentBytes?: number;
  readonly timeoutMs?: number;
  readonly reconnectMs?: number;
  readonly connectionTimeoutMs?: number;
  readonly protocolVersion?: ProtocolVersion;
  readonly acceptorPassword?: AcceptorConnectionOptions["password"];
  readonly clock?: Clock;
  /** A number in [0, 1). */
  readonly random?: () => number;
  /** Replaces the TCP connections, for tests. */
  readonly connectSocket?: AcceptorConnectionOptions["connectSocket"];
}

/** What the acceptors agree on. */
export interface SyncResult {
  /** End of the log; committed, and no older proposer can go beyond it. */
  readonly lsn: Lsn;
  readonly term: bigint;
}

/** What the greeting of a synchronisation needs. */
type Facts = ServerFacts & { readonly clock: Clock; readonly timeoutMs: number };

/**
 * Runs one synchronisation. Resolves once a quorum has the commit position at the start of the term on disk.
 *
 * @throws {SyncError} a competing proposer, an empty timeline, or no agreement in time; its `reason` says which
 * @throws {RangeError} options that cannot be meant
 */
export async function syncAcceptors(options: SyncOptions): Promise<SyncResult> {
  const clock = options.clock ?? systemClock;
  const timeoutMs = options.timeoutMs ?? SYNC_TIMEOUT_MS_DEFAULT;
  const startMs = clock.monotonicMs();
  const facts = await serverFacts(options, clock, startMs + timeoutMs);
  const leftMs = Math.max(0, startMs + timeoutMs - clock.monotonicMs());
  return await agree(options, { ...facts, clock, timeoutMs: leftMs });
}

/**
 * PostgreSQL's version and segment size, which acceptors compare with what they know: as given, or as they say.
 *
 * @throws {SyncError}
 */
async function serverFacts(options: SyncOptions, clock: Clock, deadlineMs: number): Promise<ServerFacts> {
  const { pgVersion, segmentBytes, acceptors, tenantId, timelineId } = options;
  if (pgVersion !== undefined && segmentBytes !== undefined) return { pgVersion, segmentBytes };
  const reconnectMs = options.reconnectMs ?? RECONNECT_MS_DEFAULT;
  const ask = (address: AcceptorAddress): Promise<ServerFacts | undefined> =>
    askServerFacts({
      address,
      tenantId,
      timelineId,
      password: options.acceptorPassword,
      timeoutMs: options.connectionTimeoutMs ?? CONNECTION_TIMEOUT_MS_DEFAULT,
      clock,
      connectSocket: options.connectSocket,
    });
  for (;;) {
    const answers = await Promise.allSettled(acceptors.map(ask));
    const found = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
    const [first, ...others] = found.filter((facts) => facts !== undefined);
    if (first !== undefined) {
      if (others.every((other) => sameFacts(first, other))) {
        return { pgVersion: pgVersion ?? first.pgVersion, segmentBytes: segmentBytes ?? first.segmentBytes };
      }
      throw new SyncError("mismatch", "acceptors know the timeline with different versions or segment sizes");
    }
    if (found.length === acceptors.length) {
      throw new SyncError("empty_timeline", "no acceptor has the timeline");
    }
    if (clock.monotonicMs() + reconnectMs >= deadlineMs) {
      const reasons = answers.map((answer) =>
        answer.status === "rejected" ? describe(answer.reason) : "absent",
      );
      throw new SyncError(
        "timeout",
        `no acceptor tells of the timeline (${nameReasons(acceptors, reasons)})`,
      );
    }
    await delay(clock, reconnectMs);
  }
}

function sameFacts(a: ServerFacts, b: ServerFacts): boolean {
  return a.pgVersion === b.pgVersion && a.segmentBytes === b.segmentBytes;
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function nameReasons(acceptors: readonly AcceptorAddress[], reasons: readonly string[]): string {
  return acceptors.map(({ host, port }, index) => `${host}:${port}: ${reasons[index] ?? ""}`).join("; ");
}

function agree(
  options: SyncOptions,
  { clock, timeoutMs, pgVersion, segmentBytes }: Facts,
): Promise<SyncResult> {
  return new Promise((resolve, reject) => {
    const refuse = (reason: SyncFailure, detail: string): void => {
      timer.cancel();
      proposer.close();
      reject(new SyncError(reason, detail));
    };
    const proposer: Proposer = new Proposer({
      mode: "sync",
      acceptors: options.acceptors,
      tenantId: options.tenantId,
      timelineId: options.timelineId,
      pgVersion,
      systemId: 0n,
      segmentBytes,
      bootstrapLsn: INVALID_LSN,
      protocolVersion: options.protocolVersion ?? 3,
      reconnectMs: options.reconnectMs ?? RECONNECT_MS_DEFAULT,
      connectionTimeoutMs: options.connectionTimeoutMs ?? CONNECTION_TIMEOUT_MS_DEFAULT,
      catchUp: (fromLsn, signal) => openDonor(options, clock, proposer, fromLsn, signal),
      clock,
      random: options.random ?? Math.random,
      handlers: {
        // The log ends where the term starts: nothing is in memory, all that is missing comes from the donor.
        elected: ({ termStartLsn }) =>
          proposer.startStreaming(new WalRing({ startLsn: termStartLsn, capacityBytes: segmentBytes })),
        committed: () => undefined,
        truncated: () => undefined,
        hotStandby: () => undefined,
        synced: (lsn) => {
          timer.cancel();
          const { term } = proposer.core;
          proposer.close();
          resolve({ lsn, term });
        },
        ended: refuse,
      },
      ...(options.acceptorPassword === undefined ? {} : { password: options.acceptorPassword }),
      ...(options.connectSocket === undefined ? {} : { connectSocket: options.connectSocket }),
    });
    const timer = clock.setTimer(timeoutMs, () => {
      const reasons = proposer.acceptors().map(({ state, lastEnd }) => lastEnd ?? state);
      refuse(
        "timeout",
        `acceptors did not agree within ${Math.round(timeoutMs)} ms (${nameReasons(options.acceptors, reasons)})`,
      );
    });
    proposer.start();
  });
}

function openDonor(
  options: SyncOptions,
  clock: Clock,
  proposer: Proposer,
  fromLsn: Lsn,
  signal: AbortSignal,
): Promise<DonorReader> {
  const { acceptors, tenantId, timelineId, acceptorPassword, connectSocket } = options;
  const { donor, term } = proposer.core;
  const address = donor === undefined ? undefined : acceptors[donor.acceptor];
  if (address === undefined) {
    return Promise.reject(new ProposerError("ERR_BRIDGE_DONOR", "nobody was elected yet"));
  }
  return DonorReader.open({
    address,
    tenantId,
    timelineId,
    term,
    fromLsn,
    reportIntervalMs: REPORT_INTERVAL_MS,
    silenceMs: options.connectionTimeoutMs ?? CONNECTION_TIMEOUT_MS_DEFAULT,
    clock,
    signal,
    ...(acceptorPassword === undefined ? {} : { password: acceptorPassword }),
    ...(connectSocket === undefined ? {} : { connectSocket }),
  });
}

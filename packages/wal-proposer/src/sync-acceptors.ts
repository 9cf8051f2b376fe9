/**
 * Brings acceptors into agreement without a database: elects, gives a quorum everything up to the start of the new
 * term, commits that, and says where the log ends.
 *
 * It is the fence of a failover: after it no older proposer can commit anything, so that whatever a standby is then
 * given up to the position returned is all there ever was. WAL that an acceptor lacks comes from the donor of the
 * election. Nothing is written that was not there; a timeline without WAL is refused.
 *
 * After `--sync-safekeepers` of Neon's compute.
 */
import { INVALID_LSN, SEGMENT_BYTES_DEFAULT } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { ProtocolVersion } from "@millrace/wal-protocol";
import type { AcceptorAddress, AcceptorConnectionOptions } from "./acceptor-connection.js";
import { DonorReader } from "./donor-reader.js";
import { ProposerError } from "./errors.js";
import { REPORT_INTERVAL_MS } from "./position-reporter.js";
import { CONNECTION_TIMEOUT_MS_DEFAULT, RECONNECT_MS_DEFAULT } from "./proposer-events.js";
import { Proposer } from "./proposer.js";
import { systemClock } from "./timers.js";
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
  /** As server_version_num; 0, the default, if it is not known. */
  readonly pgVersion?: number;
  /** Default SEGMENT_BYTES_DEFAULT; must be the timeline's. */
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

/**
 * Runs one synchronisation.
 *
 * @throws {ProposerError} ERR_PROPOSER_SYNC: a competing proposer, an empty timeline, or no agreement in time
 * @throws {RangeError} options that cannot be meant
 */
export function syncAcceptors(options: SyncOptions): Promise<SyncResult> {
  const clock = options.clock ?? systemClock;
  const segmentBytes = options.segmentBytes ?? SEGMENT_BYTES_DEFAULT;
  const timeoutMs = options.timeoutMs ?? SYNC_TIMEOUT_MS_DEFAULT;
  return new Promise((resolve, reject) => {
    const refuse = (detail: string): void => {
      timer.cancel();
      proposer.close();
      reject(new ProposerError("ERR_PROPOSER_SYNC", detail));
    };
    const proposer: Proposer = new Proposer({
      mode: "sync",
      acceptors: options.acceptors,
      tenantId: options.tenantId,
      timelineId: options.timelineId,
      pgVersion: options.pgVersion ?? 0,
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
        ended: (reason, detail) => refuse(`${reason}: ${detail}`),
      },
      ...(options.acceptorPassword === undefined ? {} : { password: options.acceptorPassword }),
      ...(options.connectSocket === undefined ? {} : { connectSocket: options.connectSocket }),
    });
    const timer = clock.setTimer(timeoutMs, () => refuse(`acceptors did not agree within ${timeoutMs} ms`));
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
    clock,
    signal,
    ...(acceptorPassword === undefined ? {} : { password: acceptorPassword }),
    ...(connectSocket === undefined ? {} : { connectSocket }),
  });
}

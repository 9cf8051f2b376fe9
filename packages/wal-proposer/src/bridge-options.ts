/**
 * What a bridge is told and what it tells: options with their defaults, status, and how it ended.
 */
import type { Lsn } from "@millrace/lsn";
import type { ClientOptions } from "@millrace/pg-wire";
import type { Configuration, ProtocolVersion } from "@millrace/wal-protocol";
import type { AcceptorAddress, AcceptorConnectionOptions } from "./acceptor-connection.js";
import type { DivergenceResult } from "./bridge-divergence.js";
import { DIVERGENCE_WINDOW_BYTES_DEFAULT } from "./divergence-check.js";
import type { PgTimeline } from "./postgres-history.js";
import type { SettingWarning } from "./postgres-settings.js";
import type { AcceptorStatus } from "./proposer-options.js";
import { CONNECTION_TIMEOUT_MS_DEFAULT, RECONNECT_MS_DEFAULT } from "./proposer-events.js";
import type { BridgeEndReason, RestartTally } from "./restart-backoff.js";
import { POSTGRES_SILENCE_MS_DEFAULT } from "./silence-watch.js";
import { systemClock } from "./timers.js";
import type { Clock } from "./timers.js";
import { RING_BYTES_DEFAULT } from "./wal-ring.js";

/** The standby that PostgreSQL's synchronous_standby_names is to name. */
export const APPLICATION_NAME_DEFAULT = "walbridge";
/** The slot that keeps WAL for acceptors that lag. */
export const RETAIN_SLOT_DEFAULT = "walbridge_retain";
/** How long the slot of a bridge that has just died may still be in use. */
export const SLOT_TIMEOUT_MS_DEFAULT = 5000;
/** How long a restart of PostgreSQL may take, recovery from a crash included, without costing the term. */
export const POSTGRES_RECONNECT_MS_DEFAULT = 600_000;
/** How long `close` waits for the quorum to have all that PostgreSQL has sent. */
export const CLOSE_TIMEOUT_MS_DEFAULT = 10_000;

/** An acceptor as the operator lists it. */
export interface BridgeAcceptor extends AcceptorAddress {
  /** Needed to create a timeline; otherwise learnt. */
  readonly nodeId?: bigint;
  /** Where its HTTP side is; not used here but handed to `createTimeline` and `digest`. */
  readonly httpUrl?: string;
}

/** One call per acceptor that lacks the timeline. Creating one that exists already must succeed. */
export interface CreateTimelineRequest {
  readonly acceptor: BridgeAcceptor;
  readonly tenantId: string;
  readonly timelineId: string;
  readonly configuration: Configuration;
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segmentBytes: number;
  /** Start of a segment; the first record there is whole. */
  readonly startLsn: Lsn;
  readonly commitLsn: Lsn;
}

/** Asks one acceptor, by whatever means it is managed. `signal` says that nobody waits for the answer any more. */
export type DigestSource = (
  acceptor: BridgeAcceptor,
  fromLsn: Lsn,
  untilLsn: Lsn,
  signal: AbortSignal,
) => Promise<string>;

/** The acceptors' record of PostgreSQL's timelines, by whatever means acceptors are managed. */
export interface PgTimelineRegistry {
  /** What one acceptor knows, oldest first. One that was never told anything knows timeline 1 alone. */
  list(acceptor: BridgeAcceptor, signal: AbortSignal): Promise<readonly PgTimeline[]>;
  /**
   * Tells one acceptor of one timeline, after its parent. What it knows already must succeed; a contradiction rejects
   * with an error whose `code` is ERR_BRIDGE_TIMELINE_CONFLICT.
   */
  register(acceptor: BridgeAcceptor, timeline: PgTimeline, signal: AbortSignal): Promise<void>;
}

/** See the members. Only the first five have no default. */
export interface BridgeOptions {
  /** A primary, and a user that may replicate. To create a timeline it must also be allowed to call pg_switch_wal. */
  readonly postgres: ClientOptions;
  readonly acceptors: readonly BridgeAcceptor[];
  /** 32 hexadecimal digits, lower case. */
  readonly tenantId: string;
  /** 32 hexadecimal digits, lower case. */
  readonly timelineId: string;
  /** Creates the timeline on one acceptor, by whatever means that acceptor is managed. */
  readonly createTimeline: (request: CreateTimelineRequest, signal: AbortSignal) => Promise<void>;
  /**
   * The sha256, in hexadecimal digits, of the WAL that one acceptor holds between two positions; rejects if it does
   * not hold all of it. Without this function only positions are compared at an election, and a warning says so.
   */
  readonly digest?: DigestSource;
  /**
   * Without it only timeline 1 can be bridged, and nobody notices that another server was promoted.
   */
  readonly pgTimelines?: PgTimelineRegistry;
  /** How far below the start of the term PostgreSQL's bytes are compared with the acceptors'. */
  readonly divergenceWindowBytes?: number;
  readonly applicationName?: string;
  readonly retainSlot?: string;
  readonly ringBytes?: number;
  readonly reconnectMs?: number;
  readonly connectionTimeoutMs?: number;
  /** How long PostgreSQL may be away before the term ends; 0 ends it as soon as a connection is lost. */
  readonly postgresReconnectMs?: number;
  /** How long a connection to PostgreSQL may be silent, though a reply was asked for, before it counts as lost. */
  readonly postgresSilenceMs?: number;
  readonly slotTimeoutMs?: number;
  readonly closeTimeoutMs?: number;
  readonly protocolVersion?: ProtocolVersion;
  /** Refuse any other cluster. */
  readonly expectSystemId?: bigint;
  /** "none" reports no apply position: `synchronous_commit = remote_apply` then waits for ever. */
  readonly reportApply?: "commit" | "none";
  /** A JWT for the acceptors. */
  readonly acceptorPassword?: AcceptorConnectionOptions["password"];
  /** The owner's count of how bridges ended; this one enters its own end. */
  readonly tally?: RestartTally;
  readonly clock?: Clock;
  /** A number in [0, 1). */
  readonly random?: () => number;
  /** Replaces the TCP connections to acceptors, for tests. */
  readonly connectSocket?: AcceptorConnectionOptions["connectSocket"];
}

type Defaulted =
  | "divergenceWindowBytes"
  | "applicationName"
  | "retainSlot"
  | "ringBytes"
  | "reconnectMs"
  | "connectionTimeoutMs"
  | "postgresReconnectMs"
  | "postgresSilenceMs"
  | "slotTimeoutMs"
  | "closeTimeoutMs"
  | "protocolVersion"
  | "reportApply"
  | "clock"
  | "random";

/** The options with every default filled in. */
export type BridgeSettings = Omit<BridgeOptions, Defaulted> & Required<Pick<BridgeOptions, Defaulted>>;

/** Fills in the defaults. @throws {RangeError} no acceptors, or an id that is not 32 hexadecimal digits */
export function bridgeSettings(options: BridgeOptions): BridgeSettings {
  if (options.acceptors.length === 0) throw new RangeError("a bridge needs at least one acceptor");
  for (const id of [options.tenantId, options.timelineId]) {
    if (!/^[0-9a-f]{32}$/.test(id)) throw new RangeError(`not 32 hexadecimal digits: ${JSON.stringify(id)}`);
  }
  return {
    ...options,
    divergenceWindowBytes: options.divergenceWindowBytes ?? DIVERGENCE_WINDOW_BYTES_DEFAULT,
    applicationName: options.applicationName ?? APPLICATION_NAME_DEFAULT,
    retainSlot: options.retainSlot ?? RETAIN_SLOT_DEFAULT,
    ringBytes: options.ringBytes ?? RING_BYTES_DEFAULT,
    reconnectMs: options.reconnectMs ?? RECONNECT_MS_DEFAULT,
    connectionTimeoutMs: options.connectionTimeoutMs ?? CONNECTION_TIMEOUT_MS_DEFAULT,
    postgresReconnectMs: options.postgresReconnectMs ?? POSTGRES_RECONNECT_MS_DEFAULT,
    postgresSilenceMs: options.postgresSilenceMs ?? POSTGRES_SILENCE_MS_DEFAULT,
    slotTimeoutMs: options.slotTimeoutMs ?? SLOT_TIMEOUT_MS_DEFAULT,
    closeTimeoutMs: options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS_DEFAULT,
    protocolVersion: options.protocolVersion ?? 3,
    reportApply: options.reportApply ?? "commit",
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
  };
}

/** Where in its life a bridge is. */
export type BridgeState =
  | "bootstrapping"
  | "electing"
  | "checking"
  | "streaming"
  | "reconnecting" // PostgreSQL is away; the term goes on
  | "draining"
  | "ended";

/** The legal moves; any state may end. */
const MOVES: Readonly<Record<BridgeState, readonly BridgeState[]>> = {
  bootstrapping: ["electing", "ended"],
  electing: ["checking", "ended"],
  checking: ["streaming", "ended"],
  streaming: ["reconnecting", "draining", "ended"],
  reconnecting: ["streaming", "ended"],
  draining: ["ended"],
  ended: [],
};

/** Whether a bridge may go from one state to another. */
export function isLegalMove(from: BridgeState, to: BridgeState): boolean {
  return MOVES[from].includes(to);
}

/** A snapshot. Positions are 0/0 as long as there are none. */
export interface BridgeStatus {
  readonly state: BridgeState;
  readonly systemId: bigint;
  readonly pgVersion: number;
  /** The timeline that PostgreSQL writes. */
  readonly pgTimelineId: number;
  readonly segmentBytes: number;
  /** 0 before the election. */
  readonly term: bigint;
  readonly termStartLsn: Lsn;
  /** How often the term was carried over the loss of a connection to PostgreSQL. */
  readonly reconnects: number;
  /** How many bridges of this owner ended for each reason, by the owner's tally; empty without one. */
  readonly restarts: RestartTally["counts"];
  /** End of the WAL received from PostgreSQL. */
  readonly receivedLsn: Lsn;
  /** End of what a quorum has made durable. */
  readonly commitLsn: Lsn;
  /** What PostgreSQL has been told. */
  readonly reportedLsn: Lsn;
  /** No acceptor will ask for WAL below this. */
  readonly truncateLsn: Lsn;
  /** Oldest WAL held in memory, undefined before streaming. */
  readonly ringStartLsn: Lsn | undefined;
  /** How the comparison of PostgreSQL's log with the acceptors' ended; undefined before. */
  readonly divergence: DivergenceResult | undefined;
  readonly acceptors: readonly AcceptorStatus[];
  /** Settings of PostgreSQL, as they were at the start, that undermine the guarantee. */
  readonly warnings: readonly SettingWarning[];
}

/** How a bridge ended. `higher_term` means that another proposer has taken over: do not simply restart. */
export interface BridgeEnd {
  readonly reason: BridgeEndReason;
  readonly detail: string;
  readonly error?: unknown;
}

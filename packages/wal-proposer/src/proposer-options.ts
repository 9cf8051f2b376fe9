/**
 * What a proposer is told, what it tells its owner, and how its acceptors look from outside.
 */
import type { Lsn } from "@millrace/lsn";
import type { HotStandbyFeedback, ProtocolVersion, TermHistory } from "@millrace/wal-protocol";
import type { AcceptorAddress, AcceptorConnectionOptions } from "./acceptor-connection.js";
import type { CatchUpSource } from "./catch-up.js";
import type { RestartReason } from "./proposer-events.js";
import type { Clock } from "./timers.js";

/** The outcome of an election, for the owner to check its own log against. */
export interface ElectionResult {
  readonly term: bigint;
  /** Where the new term begins: nothing below may be written anew. */
  readonly termStartLsn: Lsn;
  readonly history: TermHistory;
  readonly truncateLsn: Lsn;
}

/** What the owner is told. None of these may throw. */
export interface ProposerHandlers {
  /** Once. Nothing is streamed until the owner calls `startStreaming`. */
  elected(result: ElectionResult): void;
  /** The quorum's position has advanced; at most once per event. */
  committed(commitLsn: Lsn): void;
  /** No acceptor will ask for WAL below this. */
  truncated(truncateLsn: Lsn): void;
  hotStandby(feedback: HotStandbyFeedback): void;
  /** The acceptor with this index has a connection. */
  connected?(acceptor: number): void;
  /** Mode "sync" only, once, and last: a quorum has committed everything below `lsn`. The owner closes. */
  synced?(lsn: Lsn): void;
  /** Once, and last: another proposer was elected, or this one cannot go on. All connections are closed. */
  ended(reason: RestartReason, detail: string): void;
}

/** See the members. Timeouts are in milliseconds. */
export interface ProposerOptions {
  /** "sync" brings a quorum to the start of the term and is done. Default "stream". */
  readonly mode?: "stream" | "sync";
  readonly acceptors: readonly AcceptorAddress[];
  /** 32 hexadecimal digits, lower case. */
  readonly tenantId: string;
  /** 32 hexadecimal digits, lower case. */
  readonly timelineId: string;
  /** As server_version_num, for example 150018. */
  readonly pgVersion: number;
  readonly systemId: bigint;
  readonly segmentBytes: number;
  /** Where the first term begins if no acceptor has any WAL. */
  readonly bootstrapLsn: Lsn;
  readonly protocolVersion: ProtocolVersion;
  /** A JWT for the acceptors. */
  readonly password?: AcceptorConnectionOptions["password"];
  readonly reconnectMs: number;
  /** A connection that has been silent for this long is given up. */
  readonly connectionTimeoutMs: number;
  /** Feeds acceptors that the ring has left behind; without it they wait. */
  readonly catchUp?: CatchUpSource;
  readonly clock: Clock;
  /** A number in [0, 1). */
  readonly random: () => number;
  readonly handlers: ProposerHandlers;
  /** Replaces the TCP connections, for tests. */
  readonly connectSocket?: AcceptorConnectionOptions["connectSocket"];
}

/** How one acceptor is doing. */
export interface AcceptorStatus {
  /** host:port */
  readonly address: string;
  readonly state: string;
  readonly nodeId: bigint | undefined;
  /** Last acknowledged in this term; 0/0 if nothing was. */
  readonly flushLsn: Lsn;
  /** Where the next byte for it is; undefined while it is not streaming. */
  readonly streamingLsn: Lsn | undefined;
  /** Bytes between what it has acknowledged and what there is; undefined before it has acknowledged anything. */
  readonly lagBytes: bigint | undefined;
  readonly catchingUp: boolean;
  /** It gave its vote in this term. */
  readonly voted: boolean;
  /** Why its last connection, or attempt, ended; undefined before the first end. */
  readonly lastEnd: string | undefined;
  /** Bytes that wait for the kernel. */
  readonly queuedBytes: number;
}

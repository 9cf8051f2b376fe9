/**
 * The messages a WAL proposer and an acceptor exchange, free of any encoding.
 *
 * The shapes are those of version 3. Version 2 knows neither generations nor configurations: what is parsed from it
 * has generation 0 and the empty configuration. Every u64 is a bigint, LSNs carry their brand. The only large field
 * is `walData`, which is always a view into the payload it was parsed from.
 *
 * The conversation: greeting, greeting; vote-request, vote-response; elected (no reply); append-request and
 * append-response for ever after. The wire layout is that of Neon's walproposer and safekeeper.
 */
import type { Lsn } from "@millrace/lsn";
import type { Configuration } from "./configuration.js";
import type { HotStandbyFeedback } from "./hot-standby.js";
import type { PageserverFeedback } from "./pageserver-feedback.js";
import type { TermHistory } from "./term-history.js";

/** Chosen by START_WAL_PUSH for a whole connection. */
export type ProtocolVersion = 2 | 3;

/** Most WAL bytes in one append-request: 16 pages, as many as a walsender puts into one message. */
export const MAX_APPEND_BYTES = 131072;

/** First message of a connection: what the proposer is about. */
export interface ProposerGreeting {
  readonly type: "greeting";
  /** 32 hexadecimal digits, lower case. */
  readonly tenantId: string;
  /** 32 hexadecimal digits, lower case. */
  readonly timelineId: string;
  readonly configuration: Configuration;
  /** As PostgreSQL's server_version_num, 140000 to 189999; 0 if unknown. */
  readonly pgVersion: number;
  /** PostgreSQL's system identifier; 0 if the proposer has no database behind it. */
  readonly systemId: bigint;
  /** WAL segment size in bytes (u32). Whether it is a possible size is the acceptor's check. */
  readonly segmentBytes: number;
}

/** Asks for a vote in `term`. */
export interface VoteRequest {
  readonly type: "vote-request";
  readonly generation: number;
  readonly term: bigint;
}

/** Tells an acceptor that `term` has a proposer, what its log looks like, and where to cut. No reply follows. */
export interface ProposerElected {
  readonly type: "elected";
  readonly generation: number;
  readonly term: bigint;
  /** Everything past this is cut; the next append-request begins here. */
  readonly startStreamingAt: Lsn;
  readonly history: TermHistory;
}

/** WAL [beginLsn, endLsn), possibly none of it (a heartbeat), and what is known about the quorum. */
export interface AppendRequest {
  readonly type: "append-request";
  readonly generation: number;
  readonly term: bigint;
  readonly beginLsn: Lsn;
  /** At most MAX_APPEND_BYTES past `beginLsn`. */
  readonly endLsn: Lsn;
  /** Committed on a quorum; 0/0 if nothing has been committed in this term. */
  readonly commitLsn: Lsn;
  /** No acceptor will ever ask for WAL below this. */
  readonly truncateLsn: Lsn;
  /** Exactly `endLsn - beginLsn` bytes. A parsed message borrows them from the payload, which must stay untouched. */
  readonly walData: Uint8Array;
}

/** Everything of an append-request that is not WAL. */
export type AppendRequestFields = Omit<AppendRequest, "type" | "walData">;

/** Answers a greeting. */
export interface AcceptorGreeting {
  readonly type: "greeting";
  readonly nodeId: bigint;
  readonly configuration: Configuration;
  /** The highest term this acceptor has voted for or heard of. */
  readonly term: bigint;
}

/** Answers a vote-request; by then the vote and all of the log up to `flushLsn` are durable. */
export interface VoteResponse {
  readonly type: "vote-response";
  readonly generation: number;
  /** The acceptor's term after it decided; higher than asked for means that it heard of another proposer. */
  readonly term: bigint;
  readonly voteGiven: boolean;
  readonly flushLsn: Lsn;
  readonly truncateLsn: Lsn;
  /** Only the part that the log up to `flushLsn` has reached. */
  readonly history: TermHistory;
}

/** Acknowledges WAL. With a higher `term` than the proposer's all LSNs are 0/0 and the term is the message. */
export interface AppendResponse {
  readonly type: "append-response";
  readonly generation: number;
  readonly term: bigint;
  /** End of the last complete record that is durable here. */
  readonly flushLsn: Lsn;
  /** The commit LSN this acceptor has made durable, which lags the one it knows. */
  readonly commitLsn: Lsn;
  readonly hotStandby: HotStandbyFeedback;
  /** Absent when the message has no feedback tail. */
  readonly pageserver?: PageserverFeedback;
}

/** Everything a proposer sends. */
export type ProposerMessage = ProposerGreeting | VoteRequest | ProposerElected | AppendRequest;

/** Everything an acceptor sends. */
export type AcceptorMessage = AcceptorGreeting | VoteResponse | AppendResponse;

/**
 * The vocabulary of ProposerCore: what a shell tells it (events) and what it wants done (effects).
 *
 * Plain data in both directions. Times are milliseconds of one monotonic clock of the shell's choice and only ever
 * compared with each other. Acceptors are indexes 0 to n-1 of the list the core was made for; an index is an
 * address, and who answers there is known from the greeting.
 *
 * Rules for a shell: events of one acceptor come in the order in which they happened; every `connect` effect ends in
 * exactly one `disconnected` event, whether the attempt failed, the connection broke or a `disconnect` effect asked
 * for its end; jitter is the shell's, who may carry out a `connect` a little later; effects are carried out in
 * their order, and after `restart` or `synced` no further one will come.
 */
import type { Lsn } from "@millrace/lsn";
import type {
  AcceptorMessage,
  Configuration,
  HotStandbyFeedback,
  PageserverFeedback,
  ProposerElected,
  ProposerGreeting,
  ProtocolVersion,
  TermHistory,
  VoteRequest,
} from "@millrace/wal-protocol";
import type { AcceptorState } from "./acceptor-progress.js";

/** Most acceptors in a list, as many as Neon's walproposer can use. */
export const ACCEPTORS_MAX = 31;
/** An acceptor that is away is tried once a second, without back-off: it is needed as soon as it is there. */
export const RECONNECT_MS_DEFAULT = 1000;
/** A peer that owes an answer and is silent for this long is taken for dead. */
export const CONNECTION_TIMEOUT_MS_DEFAULT = 10_000;
/** Acceptors hear from us at least this often, so that either side notices a dead peer. */
export const HEARTBEAT_MS_DEFAULT = 1000;

/** What a core is about. Everything is fixed for the core's life, which is that of one term at most. */
export interface ProposerCoreOptions {
  /** 32 hexadecimal digits. */
  readonly tenantId: string;
  /** 32 hexadecimal digits. */
  readonly timelineId: string;
  /** As server_version_num; 0 if unknown. */
  readonly pgVersion: number;
  /** 0 when there is no database behind the proposer (mode "sync"). */
  readonly systemId: bigint;
  readonly segmentBytes: number;
  /** How many acceptors are listed: 1 to ACCEPTORS_MAX. */
  readonly acceptors: number;
  /**
   * Whose majority counts. Absent: generations are off and the list itself is the member set. "learn": the highest
   * configuration the acceptors report. A configuration: that one, or a higher one if an acceptor reports it.
   * Generations need protocol version 3.
   */
  readonly configuration?: Configuration | "learn";
  /** Where the log begins if every acceptor is empty; 0/0 refuses to begin one. */
  readonly bootstrapLsn: Lsn;
  readonly protocolVersion: ProtocolVersion;
  /** "sync" elects, brings a quorum to the start of the term, commits that and is done. Default "stream". */
  readonly mode?: "stream" | "sync";
  /**
   * With true the core stops after winning the election until the shell says `start-streaming`, so that the winner's
   * position can be compared with the database first. No acceptor has been told to cut anything by then.
   */
  readonly holdAfterElection?: boolean;
  /** Least time between two attempts to connect to one acceptor. Default RECONNECT_MS_DEFAULT. */
  readonly reconnectMs?: number;
  /**
   * Longest wait for an answer: for a connection, for a greeting, for anything from a streaming peer. Default
   * CONNECTION_TIMEOUT_MS_DEFAULT.
   */
  readonly connectionTimeoutMs?: number;
  /** Longest time without a request to a streaming acceptor. Default HEARTBEAT_MS_DEFAULT. */
  readonly heartbeatMs?: number;
}

/** What a shell reports. */
export type ProposerEvent =
  /** The stream to an acceptor is open: START_WAL_PUSH was answered with CopyBothResponse. */
  | { readonly type: "connected"; readonly acceptor: number; readonly nowMs: number }
  | {
      readonly type: "message";
      readonly acceptor: number;
      readonly message: AcceptorMessage;
      readonly nowMs: number;
    }
  /** An attempt failed or a connection ended. */
  | {
      readonly type: "disconnected";
      readonly acceptor: number;
      readonly reason: string;
      readonly nowMs: number;
    }
  /** WAL up to `endLsn` can be sent. */
  | { readonly type: "wal-available"; readonly endLsn: Lsn; readonly nowMs: number }
  /** The answer to `elected` of a core that holds: the winner may tell the acceptors. */
  | { readonly type: "start-streaming"; readonly nowMs: number }
  /** Time has passed. The first one starts everything; later ones are due at `deadlineMs`. */
  | { readonly type: "tick"; readonly nowMs: number };

/** Why this term is over. The shell throws the core away and, where it makes sense, starts over with a new one. */
export type RestartReason =
  | "higher_term" // another proposer was or will be elected
  | "generation_change" // the members changed under us
  | "refused_vote" // an acceptor gave its vote in our term to somebody else
  | "empty_timeline" // no acceptor has any WAL and we may not begin a log
  | "divergence" // the shell's: acceptors and database disagree
  | "pg_lost" // the shell's: the database is gone
  | "config_change"; // the shell's: it was told to use other settings

/** Why the core wants a connection closed. */
export type DisconnectReason =
  | "connect_timeout" // no stream within the connection timeout
  | "handshake_timeout" // no greeting within the connection timeout
  | "silence" // nothing received for the connection timeout though an answer was due
  | "unexpected_message" // a message that does not belong into the acceptor's state
  | "stale_term" // an answer with a lower term than ours
  | "generation_mismatch" // the acceptor's generation is not ours and cannot become so
  | "configuration_conflict" // one generation with two contents
  | "corrupt_history" // a term history that cannot be
  | "impossible_position" // acknowledges WAL that was never sent
  | "node_conflict" // two addresses lead to one node, or another node answers at an address
  | "foreign_term" // a node outside the configuration that follows a higher term
  | "lost_wal"; // an acknowledged position went backwards

/** What an operator has to look at, though the proposer goes on. */
export type AlarmCode =
  | "lost_wal" // an acceptor came back with less than it had acknowledged in our term
  | "lost_vote" // an acceptor came back with a lower term than it had voted in
  | "node_conflict"
  | "configuration_conflict"
  | "generation_mismatch"
  | "corrupt_history"
  | "impossible_position";

/** What the core wants done, in the order given. */
export type ProposerEffect =
  /** Open a connection and START_WAL_PUSH on it. */
  | { readonly type: "connect"; readonly acceptor: number }
  | {
      readonly type: "disconnect";
      readonly acceptor: number;
      readonly reason: DisconnectReason;
      readonly detail: string;
    }
  /** Send it now, before any append-request made later. */
  | {
      readonly type: "send";
      readonly acceptor: number;
      readonly message: ProposerGreeting | VoteRequest | ProposerElected;
    }
  /** Call `nextAppend` until it gives undefined or the connection is full. May be put off and merged with others. */
  | { readonly type: "pump"; readonly acceptor: number }
  | { readonly type: "campaign"; readonly term: bigint }
  | {
      readonly type: "elected";
      readonly term: bigint;
      readonly termStartLsn: Lsn;
      readonly truncateLsn: Lsn;
      /** Ends with (term, termStartLsn). */
      readonly history: TermHistory;
      /** Index of the acceptor whose log was adopted; it has all WAL below termStartLsn. */
      readonly donor: number;
    }
  /** A quorum has everything up to `commitLsn`; only ever rises. */
  | { readonly type: "commit"; readonly commitLsn: Lsn }
  /** No listed acceptor will ask for WAL below `truncateLsn` any more; only ever rises. */
  | { readonly type: "truncate"; readonly truncateLsn: Lsn }
  | { readonly type: "hot-standby"; readonly feedback: HotStandbyFeedback }
  | { readonly type: "pageserver"; readonly feedback: PageserverFeedback }
  /** Mode "sync" has reached its end; the core is finished. */
  | { readonly type: "synced"; readonly lsn: Lsn }
  /** This term is over; the core is finished and ignores every further event. */
  | { readonly type: "restart"; readonly reason: RestartReason; readonly detail: string }
  | {
      readonly type: "alarm";
      readonly acceptor: number;
      readonly code: AlarmCode;
      readonly detail: string;
    }
  /** For the log: an acceptor's state changed. */
  | {
      readonly type: "transition";
      readonly acceptor: number;
      readonly from: AcceptorState;
      readonly to: AcceptorState;
      readonly reason: string;
    };

/** One acceptor as an operator wants to see it. */
export interface AcceptorView {
  readonly state: AcceptorState;
  /** Unknown before the first greeting; kept while disconnected. */
  readonly nodeId: bigint | undefined;
  /** Whether it counts towards a quorum. */
  readonly member: boolean;
  /** Acknowledged in our term; 0/0 before the first acknowledgement. */
  readonly flushLsn: Lsn;
  /** The commit LSN that this acceptor has made durable, as last reported. */
  readonly commitLsn: Lsn;
  /** Where the next byte sent to it begins; undefined unless it is streaming. */
  readonly streamingLsn: Lsn | undefined;
  /** It gave us its vote in our term. */
  readonly voted: boolean;
  /** When it was last heard of; undefined if never. */
  readonly lastHeardMs: number | undefined;
}

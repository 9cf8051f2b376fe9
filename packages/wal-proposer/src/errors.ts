/**
 * What can go wrong on the way from PostgreSQL to the acceptors, as one class with a code.
 *
 * Operating errors only: what a server, a disk or an operator may do to us. Bad arguments are TypeError or
 * RangeError, broken invariants inside this package are assertions. Compare `code`, not the class: npm may install
 * two copies of the package.
 */
import type { RestartReason } from "./proposer-events.js";

export type ProposerErrorCode =
  | "ERR_PROPOSER_CLOSED" // the proposer or bridge was closed before the operation could finish
  | "ERR_PROPOSER_SYNC" // acceptors could not be brought into agreement
  | "ERR_BRIDGE_POSTGRES" // a connection to PostgreSQL failed or ended; `cause` is the wire's or server's error
  | "ERR_BRIDGE_ACCEPTOR" // an acceptor answered a question before the election with something unusable
  | "ERR_BRIDGE_SYSTEM_ID" // PostgreSQL is not the cluster that was expected
  | "ERR_BRIDGE_VERSION" // PostgreSQL's major version is not 15 to 18
  | "ERR_BRIDGE_SETTING" // PostgreSQL shows a setting in a form that cannot be read
  | "ERR_BRIDGE_TIMELINE_ID" // PostgreSQL's timeline has no history, has changed, or cannot be told to the acceptors
  | "ERR_BRIDGE_TIMELINE_CONFLICT" // acceptors know of timelines that PostgreSQL's history does not have
  | "ERR_BRIDGE_STANDBY" // PostgreSQL is in recovery; a bridge needs a primary
  | "ERR_BRIDGE_SLOT_ACTIVE" // another bridge (or anything else) holds the retain slot
  | "ERR_BRIDGE_SLOT" // the retain slot exists but is not a physical one
  | "ERR_BRIDGE_NODE_ID" // bootstrap needs the node id of every acceptor, and one is missing
  | "ERR_BRIDGE_BOOTSTRAP_CONFLICT" // acceptors hold empty timelines that start at different positions
  | "ERR_BRIDGE_BOOTSTRAP_POSITION" // the log does not begin with a whole record at the chosen segment start
  | "ERR_BRIDGE_WAL_LOST" // acceptors hold WAL beyond PostgreSQL's own end
  | "ERR_BRIDGE_DIVERGED" // PostgreSQL and acceptors hold different bytes at equal positions
  | "ERR_BRIDGE_WAL_CHANGED" // PostgreSQL came back from a restart with other WAL than it had sent
  | "ERR_BRIDGE_DONOR" // no acceptor gives the WAL that PostgreSQL has removed; only ever in a notice
  | "ERR_BRIDGE_WAL_REMOVED" // PostgreSQL has removed WAL that an acceptor or the bridge needs
  | "ERR_BRIDGE_WAL_GAP" // PostgreSQL's stream did not continue where it had stopped
  | "ERR_BRIDGE_WAL_INVALID" // the decoder refused PostgreSQL's stream; `cause` says where and why
  | "ERR_BRIDGE_OVERREPORT"; // a position above what was received or committed was about to be reported

/** Why acceptors could not be brought into agreement; see `SyncError`. */
export type SyncFailure =
  | RestartReason
  | "timeout" // no quorum answered, or what it lacks could not be had, in the time given
  | "mismatch"; // acceptors describe different clusters under one timeline

/** Any expected failure of this package. */
export class ProposerError extends Error {
  override readonly name = "ProposerError";
  readonly code: ProposerErrorCode;
  constructor(code: ProposerErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** ERR_PROPOSER_SYNC with its reason. */
export class SyncError extends ProposerError {
  readonly reason: SyncFailure;
  constructor(reason: SyncFailure, detail: string) {
    super("ERR_PROPOSER_SYNC", `${reason}: ${detail}`);
    this.reason = reason;
  }
}

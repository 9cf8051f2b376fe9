/**
 * What can go wrong in an acceptor, as codes.
 *
 * One class for every expected failure: a peer that breaks the protocol, a disk that fails, a timeline that is
 * not there. Callers compare `code`. Texts of consensus refusals keep the words that Neon's safekeeper uses
 * ("generation mismatch", "gap", "rewrites", "unexpected truncation point", "before ProposerElected"), because
 * operators and tests search logs for them. `sqlState` is what a client of the WAL port sees.
 *
 * Broken invariants of this package's own code are assertions and do not appear here.
 */

/** Every code of this package. */
export type AcceptorErrorCode =
  // A peer's message was refused; the timeline's state is unchanged unless the line says otherwise.
  | "ERR_ACCEPTOR_GREETING_MISMATCH" // the greeting's ids, major version or segment size are not this timeline's
  | "ERR_ACCEPTOR_SYSTEM_ID_MISMATCH" // the greeting comes from another cluster, and adopting it is not allowed
  | "ERR_ACCEPTOR_NOT_A_MEMBER" // the greeting's newer configuration does not list this node
  | "ERR_ACCEPTOR_GENERATION_MISMATCH" // vote, elected or append of another configuration generation
  | "ERR_ACCEPTOR_BEFORE_ELECTED" // WAL of a term whose ProposerElected was not handled
  | "ERR_ACCEPTOR_HISTORY_INVALID" // a term history that no correct proposer can send
  | "ERR_ACCEPTOR_TRUNCATION_POINT" // ProposerElected names another start than the highest common point
  | "ERR_ACCEPTOR_REWRITE" // an append begins before the end of what was written
  | "ERR_ACCEPTOR_GAP" // an append begins after the end of what was written
  | "ERR_ACCEPTOR_SAFETY_VIOLATION" // obeying would have removed committed WAL; the timeline is broken from now on
  | "ERR_ACCEPTOR_BROKEN" // the timeline stopped after a safety violation; reopen after an operator looked
  | "ERR_ACCEPTOR_WAL_INVALID" // received WAL does not decode; never acknowledged, the next truncation cuts the log before it
  | "ERR_ACCEPTOR_PG_VERSION" // WAL of a PostgreSQL major version whose format is not known here
  // Storage.
  | "ERR_ACCEPTOR_TRUNCATE_FIRST" // the WAL's end is not clean; a truncation must come before the next write
  | "ERR_ACCEPTOR_NO_SPACE" // the disk or quota is full; retry when there is space
  | "ERR_ACCEPTOR_IO" // another failed system call; `cause` has errno
  | "ERR_ACCEPTOR_POISONED" // a sync or durable write failed: what is durable is unknown, the process must be restarted
  | "ERR_ACCEPTOR_CLOSED" // used after close
  | "ERR_ACCEPTOR_CONTROL_MISSING" // no control file in the timeline's directory
  | "ERR_ACCEPTOR_CONTROL_CORRUPT" // the control file fails its checksum or does not parse
  | "ERR_ACCEPTOR_CONTROL_VERSION" // the control file was written by a newer version
  | "ERR_ACCEPTOR_WAL_MISSING" // WAL that the control file proves to have existed is not on disk
  | "ERR_ACCEPTOR_SEGMENT_REMOVED" // a reader asks for WAL that was removed or never was here
  | "ERR_ACCEPTOR_RECORDS_CORRUPT" // the file of slots or of PostgreSQL's timelines does not parse
  // Readers.
  | "ERR_ACCEPTOR_TERM_CHANGED" // the log is not, or no longer, that of the term a reader asked for
  | "ERR_ACCEPTOR_NOT_IN_HISTORY" // a reader asks for a timeline, or a place on it, that is not in this log
  | "ERR_ACCEPTOR_PG_TIMELINE_REFUSED" // a registration that no PostgreSQL timeline can have
  | "ERR_ACCEPTOR_PG_TIMELINE_CONFLICT" // a registration that contradicts an earlier one
  | "ERR_ACCEPTOR_RANGE" // a digest was asked for of WAL that is not here
  | "ERR_ACCEPTOR_SLOT_NAME" // a slot name that PostgreSQL would not take either
  | "ERR_ACCEPTOR_SLOT_EXISTS"
  | "ERR_ACCEPTOR_SLOT_NOT_FOUND"
  | "ERR_ACCEPTOR_SLOT_IN_USE" // another connection streams with the slot, or owns it
  | "ERR_ACCEPTOR_SLOT_LIMIT" // the timeline has as many slots as it may
  // Timelines and connections.
  | "ERR_ACCEPTOR_TIMELINE_NOT_FOUND"
  | "ERR_ACCEPTOR_TIMELINE_EXISTS" // a directory with this name exists and is not a loaded timeline
  | "ERR_ACCEPTOR_TIMELINE_LOADING" // on disk, and not recovered yet since the node was started
  | "ERR_ACCEPTOR_TIMELINE_CREATING" // another creation of the same timeline is under way
  | "ERR_ACCEPTOR_TIMELINE_DELETED" // a tombstone forbids creating it again
  | "ERR_ACCEPTOR_CANCELLED" // the timeline is being deleted or closed
  | "ERR_ACCEPTOR_TIMELINE_REFUSED" // the creation request itself is impossible
  | "ERR_ACCEPTOR_STARTUP" // startup parameters that are malformed or contradict each other
  | "ERR_ACCEPTOR_COMMAND_SYNTAX" // unknown or malformed command
  | "ERR_ACCEPTOR_COMMAND_VALUE" // a command's option has a value outside its type
  | "ERR_ACCEPTOR_UNSUPPORTED" // understood, but not something an acceptor does
  | "ERR_ACCEPTOR_UNKNOWN_SETTING" // SHOW of a setting that is not known here
  | "ERR_ACCEPTOR_NO_HISTORY_FILE" // a timeline without ancestors has no history file
  | "ERR_ACCEPTOR_FORBIDDEN" // the connection's identity does not cover this timeline
  | "ERR_ACCEPTOR_CONNECTION_LIMIT" // the timeline has as many connections of this kind as it may
  | "ERR_ACCEPTOR_NO_GREETING" // the first message of a WAL push is not a greeting
  | "ERR_ACCEPTOR_TASK_PANICKED" // the task that processes a connection's messages ended by a bug
  | "ERR_ACCEPTOR_SHUTTING_DOWN" // the node is closing
  | "ERR_ACCEPTOR_DIRECTORY_LOCKED" // another process uses the data directory
  | "ERR_ACCEPTOR_NODE_ID" // the data directory belongs to another node
  | "ERR_ACCEPTOR_TOMBSTONES_CORRUPT" // the file of deleted timelines does not parse
  | "ERR_ACCEPTOR_JSON"; // text that is not JSON

const SQL_STATES: Readonly<Record<AcceptorErrorCode, string>> = {
  ERR_ACCEPTOR_GREETING_MISMATCH: "XX000",
  ERR_ACCEPTOR_SYSTEM_ID_MISMATCH: "XX000",
  ERR_ACCEPTOR_NOT_A_MEMBER: "XX000",
  ERR_ACCEPTOR_GENERATION_MISMATCH: "XX000",
  ERR_ACCEPTOR_BEFORE_ELECTED: "XX000",
  ERR_ACCEPTOR_HISTORY_INVALID: "XX000",
  ERR_ACCEPTOR_TRUNCATION_POINT: "XX000",
  ERR_ACCEPTOR_REWRITE: "XX000",
  ERR_ACCEPTOR_GAP: "XX000",
  ERR_ACCEPTOR_SAFETY_VIOLATION: "XX000",
  ERR_ACCEPTOR_BROKEN: "XX000",
  ERR_ACCEPTOR_WAL_INVALID: "XX000",
  ERR_ACCEPTOR_PG_VERSION: "XX000",
  ERR_ACCEPTOR_TRUNCATE_FIRST: "XX000",
  ERR_ACCEPTOR_NO_SPACE: "53100",
  ERR_ACCEPTOR_IO: "58030",
  ERR_ACCEPTOR_POISONED: "58030",
  ERR_ACCEPTOR_CLOSED: "57P01",
  ERR_ACCEPTOR_CONTROL_MISSING: "XX000",
  ERR_ACCEPTOR_CONTROL_CORRUPT: "XX000",
  ERR_ACCEPTOR_CONTROL_VERSION: "XX000",
  ERR_ACCEPTOR_WAL_MISSING: "XX000",
  ERR_ACCEPTOR_SEGMENT_REMOVED: "58P01",
  ERR_ACCEPTOR_RECORDS_CORRUPT: "XX000",
  ERR_ACCEPTOR_TERM_CHANGED: "XX000",
  ERR_ACCEPTOR_NOT_IN_HISTORY: "XX000",
  ERR_ACCEPTOR_PG_TIMELINE_REFUSED: "22023",
  ERR_ACCEPTOR_PG_TIMELINE_CONFLICT: "42710",
  ERR_ACCEPTOR_RANGE: "22023",
  ERR_ACCEPTOR_SLOT_NAME: "42602",
  ERR_ACCEPTOR_SLOT_EXISTS: "42710",
  ERR_ACCEPTOR_SLOT_NOT_FOUND: "42704",
  ERR_ACCEPTOR_SLOT_IN_USE: "55006",
  ERR_ACCEPTOR_SLOT_LIMIT: "53400",
  ERR_ACCEPTOR_TIMELINE_NOT_FOUND: "42704",
  ERR_ACCEPTOR_TIMELINE_EXISTS: "42710",
  ERR_ACCEPTOR_TIMELINE_LOADING: "57P03",
  ERR_ACCEPTOR_TIMELINE_CREATING: "55006",
  ERR_ACCEPTOR_TIMELINE_DELETED: "57P01",
  ERR_ACCEPTOR_CANCELLED: "57P01",
  ERR_ACCEPTOR_TIMELINE_REFUSED: "XX000",
  ERR_ACCEPTOR_STARTUP: "08P01",
  ERR_ACCEPTOR_COMMAND_SYNTAX: "42601",
  ERR_ACCEPTOR_COMMAND_VALUE: "22023",
  ERR_ACCEPTOR_UNSUPPORTED: "0A000",
  ERR_ACCEPTOR_UNKNOWN_SETTING: "42704",
  ERR_ACCEPTOR_NO_HISTORY_FILE: "58P01",
  ERR_ACCEPTOR_FORBIDDEN: "42501",
  ERR_ACCEPTOR_CONNECTION_LIMIT: "53300",
  ERR_ACCEPTOR_NO_GREETING: "XX000",
  ERR_ACCEPTOR_TASK_PANICKED: "XX000",
  ERR_ACCEPTOR_SHUTTING_DOWN: "57P01",
  ERR_ACCEPTOR_DIRECTORY_LOCKED: "55006",
  ERR_ACCEPTOR_NODE_ID: "XX000",
  ERR_ACCEPTOR_TOMBSTONES_CORRUPT: "XX000",
  ERR_ACCEPTOR_JSON: "22023",
};

/** Any expected failure of this package. */
export class AcceptorError extends Error {
  override readonly name = "AcceptorError";
  readonly code: AcceptorErrorCode;

  constructor(code: AcceptorErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  /** The SQLSTATE under which the WAL port reports this error. */
  get sqlState(): string {
    return SQL_STATES[this.code];
  }
}

/** Whether `error` is this package's error with that code; compares by code, so that two installed copies agree. */
export function isAcceptorError(error: unknown, code: AcceptorErrorCode): error is AcceptorError {
  return error instanceof Error && (error as { code?: unknown }).code === code;
}

const OPERATING_CODE = /^ERR_(ACCEPTOR|CHANNEL|GATE|LSN|PROTOCOL|WAL|WIRE)_/;

/**
 * Whether `error` is an expected failure: of this package or of one it is built on. Anything else (a failed
 * assertion, a TypeError) is a bug, after which the state that was being changed cannot be trusted.
 */
export function isOperatingError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return typeof code === "string" && OPERATING_CODE.test(code);
}

/** What the kernel says when there is no room: the disk is full, or the user's or project's quota is. */
const NO_SPACE_CODES: ReadonlySet<unknown> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);

/** What errors of system calls carry: an errno's name as `code`, or as `errnoCode` if a package of ours has wrapped it. */
interface FailedCall extends Error {
  readonly code?: unknown;
  readonly errnoCode?: unknown;
}

/**
 * Wraps a failed system call once, adding what was being done.
 *
 * @returns ERR_ACCEPTOR_NO_SPACE for a full disk, quota or file-size limit, ERR_ACCEPTOR_IO otherwise; an error of
 *   this package comes back unchanged
 */
export function storageError(doing: string, cause: unknown): AcceptorError {
  if (cause instanceof AcceptorError) return cause;
  // A file of @millrace/virtual-file: it knows the errno, and may have wrapped what this package's file system threw.
  if (cause instanceof Error && cause.cause instanceof AcceptorError) return cause.cause;
  const { code: own, errnoCode } = cause instanceof Error ? (cause as FailedCall) : {};
  const errno = errnoCode ?? own;
  const reason = cause instanceof Error ? cause.message : String(cause);
  const code = NO_SPACE_CODES.has(errno) ? "ERR_ACCEPTOR_NO_SPACE" : "ERR_ACCEPTOR_IO";
  return new AcceptorError(code, `${doing}: ${reason}`, { cause });
}

/**
 * Why a page could not be replayed.
 *
 * An error names the record and the page, so that an operator can look at both. None of them leaves a page half
 * changed: what was asked for is not given at all.
 */
import { formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

export type RedoErrorCode =
  | "ERR_REDO_UNSUPPORTED" // a record type that is not replayed here, and no image of the page came with it
  | "ERR_REDO_INVARIANT" // the record does not fit the page: wrong base page, damaged page or foreign record
  | "ERR_REDO_BASE_MISSING" // the record changes a page, and no earlier state of it was given
  | "ERR_REDO_PROCESS_DIED" // the worker or process that had the request ended, and so did each that tried again
  | "ERR_REDO_TIMEOUT" // it did not answer in time, and was ended
  | "ERR_REDO_LAUNCH" // no worker or process could be started
  | "ERR_REDO_PROTOCOL" // it answered something that is no answer, and was ended
  | "ERR_REDO_QUARANTINED" // the same page failed in all attempts a moment ago
  | "ERR_REDO_CLOSED"; // the manager is closed or closing

/** The block that could not be replayed. */
export interface RedoPlace {
  /** Start of the record. */
  readonly lsn: Lsn;
  readonly rmid: number;
  /** Upper half of the record's info byte. */
  readonly operation: number;
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
  readonly block: number;
}

/** Any expected failure of redo. Compare `code`. */
export class RedoError extends Error {
  override readonly name = "RedoError";
  readonly code: RedoErrorCode;
  /** Record and block, where one of them is to blame and known. */
  readonly place: RedoPlace | undefined;

  constructor(code: RedoErrorCode, place: RedoPlace | undefined, message: string, options?: ErrorOptions) {
    super(place === undefined ? message : `${textOf(place)}: ${message}`, options);
    this.code = code;
    this.place = place;
  }
}

function textOf({ lsn, rmid, operation, spc, db, rel, fork, block }: RedoPlace): string {
  const page = `block ${String(block)} of ${String(spc)}/${String(db)}/${String(rel)} fork ${String(fork)}`;
  return `${page}, record ${formatLsn(lsn)} (rmgr ${String(rmid)}, operation 0x${operation.toString(16)})`;
}

/** Thrown inside a replay function, where page and record are not at hand; `applyBlock` says which they were. */
export class InvariantViolation extends Error {
  override readonly name = "InvariantViolation";
}

/** Thrown inside for a record type that is not replayed. */
export class NotSupported extends Error {
  override readonly name = "NotSupported";
}

/** Fails the replay of the record at hand unless `holds`. */
export function invariant(holds: boolean, problem: string): asserts holds {
  if (!holds) throw new InvariantViolation(problem);
}

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
  | "ERR_REDO_BASE_MISSING"; // the record changes a page, and no earlier state of it was given

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
  readonly place: RedoPlace;

  constructor(code: RedoErrorCode, place: RedoPlace, message: string, options?: ErrorOptions) {
    const { lsn, rmid, operation, spc, db, rel, fork, block } = place;
    const page = `block ${String(block)} of ${String(spc)}/${String(db)}/${String(rel)} fork ${String(fork)}`;
    const record = `record ${formatLsn(lsn)} (rmgr ${String(rmid)}, operation 0x${operation.toString(16)})`;
    super(`${page}, ${record}: ${message}`, options);
    this.code = code;
    this.place = place;
  }
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

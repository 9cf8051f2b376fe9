/**
 * Everything that can be wrong with a text that claims to hold LSNs.
 *
 * Only text from outside (a message, a command, a file) ends here. A number that the caller computed and that
 * does not fit is a RangeError instead: it is a bug in the program and not a property of its input.
 * Codes are compared, classes are not: two copies of this package may be installed.
 */
export type LsnErrorCode =
  | "ERR_LSN_SYNTAX" // the text is not an LSN of the form X/X
  | "ERR_LSN_HISTORY_SYNTAX" // a line of a timeline history file is malformed
  | "ERR_LSN_HISTORY_ORDER" // timeline ids of a history file do not increase towards the file's own timeline
  | "ERR_LSN_HISTORY_LIMIT"; // a history file, or a line of it, is longer than any that PostgreSQL can read

/** Any expected failure of this package. Compare `code`. */
export class LsnError extends Error {
  override readonly name: string = "LsnError";
  readonly code: LsnErrorCode;

  constructor(code: LsnErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A timeline history file that cannot be used. */
export class TimelineHistoryError extends LsnError {
  override readonly name: string = "TimelineHistoryError";
  /** The offending line, counted from 1 as editors do. */
  readonly line: number;

  constructor(code: LsnErrorCode, line: number, message: string) {
    super(code, `timeline history, line ${String(line)}: ${message}`);
    this.line = line;
  }
}

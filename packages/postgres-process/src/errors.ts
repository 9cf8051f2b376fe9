/**
 * What can go wrong while a real PostgreSQL is found, created, started or stopped.
 *
 * One class, told apart by `code`. Messages name the path or the tool and carry the end of the server's log,
 * because whoever reads them usually cannot repeat the run.
 */

export type PostgresProcessErrorCode =
  | "ERR_POSTGRES_NOT_FOUND" // no installation of the wanted kind, or none of a supported version
  | "ERR_POSTGRES_UNREACHABLE" // the unprivileged user that runs the server cannot reach a path
  | "ERR_POSTGRES_INITDB" // initdb failed; the message has its output
  | "ERR_POSTGRES_START" // the server ended, or did not become ready in time
  | "ERR_POSTGRES_STOP_TIMEOUT" // the server did not end in the time allowed; it is still running
  | "ERR_POSTGRES_TOOL"; // a client tool is missing or could not be started

/** Any expected failure of this package. */
export class PostgresProcessError extends Error {
  override readonly name = "PostgresProcessError";
  readonly code: PostgresProcessErrorCode;
  constructor(code: PostgresProcessErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * The server's error class and what each failure means to whoever started the process.
 *
 * Every expected failure of a command (a wrong option, a data directory in use, PostgreSQL that does not start)
 * is a ServerError. Its message is written for a person at a terminal and says what to do; no stack trace is
 * printed for it. Anything else that escapes is a defect and is printed with its stack.
 *
 * Exit codes follow sysexits.h where that has a fitting number, so that a supervisor can tell a wrong
 * configuration (do not restart) from a failed disk (restart and recover).
 */
import { inspect } from "node:util";

export type ServerErrorCode =
  | "ERR_SERVER_OPTION" // an option, a variable or a line of the configuration file is wrong
  | "ERR_SERVER_LOCKED" // another running process uses this data directory
  | "ERR_SERVER_DATA" // the data directory holds something this command cannot go on with
  | "ERR_SERVER_POSTGRES" // PostgreSQL is missing, does not start, or lacks a setting
  | "ERR_SERVER_PORT" // no free port, or the asked one is taken
  | "ERR_SERVER_CHILD" // a part of the all-in-one did not become ready
  | "ERR_SERVER_NOT_RUNNING" // status was asked of a data directory that no millrace runs on
  | "ERR_SERVER_HTTP" // another node's HTTP side refused or did not answer
  | "ERR_SERVER_DEMO"; // the demo could not run to its end, so nothing was proven

/** Process exit codes of every `millrace` command. */
export const EXIT = {
  ok: 0,
  /** Anything not listed here; for `demo`, at least one row of the table failed; for `status`, commits wait. */
  failure: 1,
  /** A wrong option, variable or configuration file (EX_USAGE). */
  usage: 64,
  /** PostgreSQL or another node is not available, or PostgreSQL lacks a setting (EX_UNAVAILABLE). */
  unavailable: 69,
  /** An fsync failed: what is durable is unknown until the process starts again and recovers (EX_SOFTWARE). */
  syncFailed: 70,
  /** The data directory is in use by another process (EX_TEMPFAIL). */
  locked: 75,
  /** Another proposer holds a higher term: this bridge must not go on by itself. */
  termLost: 76,
  /** PostgreSQL's log is not the acceptors' log: somebody has to rebuild one of them before this bridge may go on. */
  refused: 77,
  /** Ended at once by a second SIGINT. */
  interrupted: 130,
} as const;

const EXIT_CODES: Readonly<Record<ServerErrorCode, number>> = {
  ERR_SERVER_OPTION: EXIT.usage,
  ERR_SERVER_LOCKED: EXIT.locked,
  ERR_SERVER_DATA: EXIT.failure,
  ERR_SERVER_POSTGRES: EXIT.unavailable,
  ERR_SERVER_PORT: EXIT.unavailable,
  ERR_SERVER_CHILD: EXIT.unavailable,
  ERR_SERVER_NOT_RUNNING: EXIT.unavailable,
  ERR_SERVER_HTTP: EXIT.unavailable,
  ERR_SERVER_DEMO: EXIT.failure,
};

/** Any expected failure of a command; the message is shown as it is. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  readonly code: ServerErrorCode;

  constructor(code: ServerErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  /** The exit code of a process that ends because of this error. */
  get exitCode(): number {
    return EXIT_CODES[this.code];
  }
}

/** The message of anything that was thrown, with the messages of its causes; never empty. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  // A chain longer than this is a cycle or noise.
  for (let depth = 0; current !== undefined && current !== null && depth < 5; depth += 1) {
    const other = typeof current === "string" ? current : inspect(current);
    const text = current instanceof Error ? current.message || current.name : other;
    if (!parts.some((part) => part.includes(text))) parts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(": ");
}

/**
 * What errors say: their code, which decides whether a correct cluster may see them, and their words for reports.
 */

/** The code of an error, or its name. */
export function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  return typeof code === "string" ? code : error.name;
}

/** Whether a start may fail with this: a disk that is out of order for a while. */
export function isDiskTrouble(error: unknown): boolean {
  return ["ERR_ACCEPTOR_IO", "ERR_ACCEPTOR_NO_SPACE", "ERR_ACCEPTOR_POISONED"].includes(errorCode(error));
}

/** An error in words. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Message and stack, for errors that nobody expects. */
export function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

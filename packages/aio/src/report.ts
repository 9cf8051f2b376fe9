/**
 * Raising a result: the issuer turns data back into an error, when it wants to.
 */
import { getSystemErrorName } from "node:util";

import { AioError, AioIoError } from "./errors.js";
import type { AioRegistry, ReportLevel } from "./registry.js";
import type { IoReturn } from "./result.js";

/** The symbolic name of an error number, "E<number>" where the platform has none. */
export function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `E${errno}`;
  }
}

/** The error of a failed operation. */
export function ioError(operation: string, errno: number, what: string, cause?: unknown): AioIoError {
  const name = errnoName(errno);
  const options = cause === undefined ? undefined : { cause };
  return new AioIoError(operation, errno, name, `could not ${operation} ${what}: ${name}`, options);
}

/**
 * Reports a result through the callback that it names; a result that no callback took charge of is reported as the
 * system call's.
 *
 * @throws {AioError} ERR_AIO_BAD_STATE: the result is unknown or fine, so there is nothing to report
 */
export function reportResult(
  registry: AioRegistry,
  slot: Readonly<IoReturn>,
  level: ReportLevel,
  what: string,
): void {
  const { result, target } = slot;
  if (result.status === "unknown" || result.status === "ok") {
    throw new AioError("ERR_AIO_BAD_STATE", `nothing to report: the result is ${result.status}`);
  }
  const callbacks = registry.callbacksOf(result.callback);
  if (callbacks?.report !== undefined) callbacks.report(result, target, level);
  else if (level === "error") throw ioError("do I/O on", result.error, what);
}

/**
 * What all parts of an all-in-one have in common: how much they log, and how they are described.
 */
import type { LogOptions } from "../logging.js";
import type { ProcessReport } from "../status/cluster-status.js";
import type { SupervisedProcess } from "./supervisor.js";

/** At level info the whole speaks; every connection and state of its parts is for level debug. */
export function partLogLevel(level: LogOptions["level"]): LogOptions["level"] {
  return level === "info" ? "warn" : level;
}

/** A part's process as the status shows it; one that does not exist yet is stopped. */
export function describeProcess(part: SupervisedProcess | undefined): ProcessReport {
  return {
    state: part?.state ?? "stopped",
    pid: part?.pid,
    restarts: part?.restarts ?? 0,
    lastEnd: part?.lastEnd,
  };
}

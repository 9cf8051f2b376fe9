/**
 * From an error to the reason that a bridge ends with.
 *
 * Reasons are what an operator or a supervisor acts by, so few: errors that call for the same action share one.
 */
import type { BridgeEnd } from "./bridge-options.js";
import { ProposerError } from "./errors.js";
import type { ProposerErrorCode } from "./errors.js";

/** The reasons that are not just "failed": what they have in common is what an operator does about them. */
const END_REASONS: Partial<Record<ProposerErrorCode, BridgeEnd["reason"]>> = {
  ERR_BRIDGE_TIMELINE_CONFLICT: "divergence",
  ERR_BRIDGE_WAL_LOST: "divergence",
  ERR_BRIDGE_DIVERGED: "divergence",
  ERR_BRIDGE_WAL_CHANGED: "divergence",
  ERR_BRIDGE_WAL_GAP: "divergence",
  ERR_BRIDGE_WAL_INVALID: "divergence",
  ERR_BRIDGE_POSTGRES: "pg_lost",
};

/** How a bridge ends that cannot go on because of `error`. */
export function endOf(error: unknown): BridgeEnd {
  const detail = error instanceof Error ? error.message : String(error);
  const reason = (error instanceof ProposerError ? END_REASONS[error.code] : undefined) ?? "failed";
  return { reason, detail, error };
}

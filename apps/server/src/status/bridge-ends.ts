/**
 * Counts how the bridges of an all-in-one have ended.
 *
 * A bridge tells its reason right before it ends; one that could not (killed, crashed, never opened) is counted by how
 * its process ended. Every reason is there from the beginning with 0, because a monitoring system sees no increase in
 * a counter that appears with its first event.
 */
import type { BridgeEndReason } from "@millrace/wal-proposer";

/** Why a bridge ended; the last two are what its supervisor saw. */
type CountedEnd = BridgeEndReason | "signal" | "exit";

const REASONS: Readonly<Record<CountedEnd, true>> = {
  higher_term: true,
  generation_change: true,
  refused_vote: true,
  divergence: true,
  pg_lost: true,
  config_change: true,
  empty_timeline: true,
  closed: true,
  failed: true,
  signal: true,
  exit: true,
};

/** The counts of one all-in-one. */
export class BridgeEnds {
  readonly #counts = new Map<string, number>(Object.keys(REASONS).map((reason) => [reason, 0]));
  #told: string | undefined;

  /** The running bridge says why it ends. */
  told(reason: string): void {
    this.#told = reason;
  }

  /** Its process has ended. @param exitCode undefined after a signal, or where it did not start */
  ended(exitCode: number | undefined): void {
    const reason = this.#told ?? (exitCode === undefined ? "signal" : "exit");
    this.#told = undefined;
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
  }

  /** Count by reason. */
  get counts(): ReadonlyMap<string, number> {
    return this.#counts;
  }
}

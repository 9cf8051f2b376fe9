/**
 * The verdict over a run: the checks by name, and the first that failed.
 *
 * A violation is recorded, never thrown: the code under test catches errors, as it should, and must not catch this.
 */
import type { Lsn } from "@millrace/lsn";
import { firstDifference, sameBytes } from "./byte-log.js";

/** What can be violated; "Liveness" and "Internal" stand for no progress and for an error nobody expects. */
export type Invariant =
  | "I1 ElectionSafety"
  | "I2 LogSafety"
  | "I3 DurableAcknowledgement"
  | "I4 DurableVote"
  | "I5 VotePromise"
  | "I6 LogMatching"
  | "I7 CommitWithinLog"
  | "I8 TruncateAboveCommit"
  | "I9 WriteOnce"
  | "I10 VoteCoversAcks"
  | "I11 CommitFromOwnTerm"
  | "I12 Membership"
  | "I13 ReaderLimits"
  | "Liveness"
  | "Internal";

/** The first thing that went wrong in a run. */
export interface Violation {
  readonly invariant: Invariant;
  readonly detail: string;
  readonly atMs: number;
}

/** Collects the first violation of a run. */
export class Verdict {
  readonly #nowMs: () => number;
  #violation: Violation | undefined;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  get violation(): Violation | undefined {
    return this.#violation;
  }

  /** Records a violation; only the first counts. */
  violate(invariant: Invariant, detail: string): void {
    this.#violation ??= { invariant, detail, atMs: this.#nowMs() };
  }

  check(holds: boolean, invariant: Invariant, detail: () => string): void {
    if (!holds) this.violate(invariant, detail());
  }

  /**
   * Checks that two stretches of WAL are the same.
   *
   * @param fromLsn where both begin
   * @param detail gets the position of the first difference
   */
  compare(
    actual: Uint8Array,
    expected: Uint8Array,
    fromLsn: Lsn,
    invariant: Invariant,
    detail: (at: string) => string,
  ): void {
    if (sameBytes(actual, expected)) return;
    this.violate(invariant, detail(show(fromLsn + BigInt(firstDifference(actual, expected)))));
  }
}

/** An LSN in words, for reports. */
export function show(lsn: bigint | undefined): string {
  return lsn === undefined
    ? "nothing"
    : `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffff_ffffn).toString(16).toUpperCase()}`;
}

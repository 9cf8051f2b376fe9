/**
 * The sha256 of a stretch of WAL, and of chosen shorter stretches with the same start, in one pass.
 *
 * Prefixes of two logs are equal up to the first difference and different from there on: so digests of growing
 * prefixes can be bisected for it without reading anything twice.
 */
import { createHash } from "node:crypto";
import { addBytes, distanceBytes } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

/** Digests of [startLsn, end) for each end that was asked for. */
export class PrefixDigest {
  readonly #hash = createHash("sha256");
  readonly #ends: readonly Lsn[];
  readonly #digests = new Map<Lsn, string>();
  #nextLsn: Lsn;

  /** @param ends positions above `startLsn`, in any order, repetitions allowed */
  constructor(startLsn: Lsn, ends: Iterable<Lsn>) {
    this.#nextLsn = startLsn;
    this.#ends = [...new Set(ends)].sort((a, b) => (a < b ? -1 : 1));
  }

  /** All digests are there. */
  get complete(): boolean {
    return this.#digests.size === this.#ends.length;
  }

  /** In hexadecimal digits; undefined if `endLsn` was not asked for or not reached. */
  at(endLsn: Lsn): string | undefined {
    return this.#digests.get(endLsn);
  }

  /** Takes the bytes that follow; those behind the last end count for nothing. @param bytes borrowed for the call */
  add(bytes: Uint8Array): void {
    let rest = bytes;
    for (let end = this.#nextEnd(); end !== undefined && rest.byteLength > 0; end = this.#nextEnd()) {
      const taken = Math.min(rest.byteLength, Number(distanceBytes(this.#nextLsn, end)));
      this.#hash.update(rest.subarray(0, taken));
      this.#nextLsn = addBytes(this.#nextLsn, taken);
      if (this.#nextLsn === end) this.#digests.set(end, this.#hash.copy().digest("hex"));
      rest = rest.subarray(taken);
    }
  }

  #nextEnd(): Lsn | undefined {
    return this.#ends[this.#digests.size];
  }
}

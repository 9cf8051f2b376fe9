/**
 * Write-back hints: after some pages have been written, the kernel is asked to begin writing them to the disk, so that a later
 * sync finds little left to do instead of stalling everybody.
 *
 * Blocks are collected until there are as many as the limit says; then they are sorted, neighbours become one range, and a
 * block that was written twice counts once. A hint is never more than a hint: nothing here fails. Each of those who write has
 * a list of its own. After WritebackContext of PostgreSQL.
 */
import type { Counters } from "./statistics.js";
import { COUNTED } from "./statistics.js";
import type { FileLayer } from "./file-layer.js";
import type { Fork, Relation } from "./tag.js";

/** Most blocks that a list may collect. */
export const WRITE_BACK_MAX = 256;
/** Pages after which PostgreSQL asks, for each of those who write. */
export const WRITE_BACK_AFTER = { checkpoint: 32, backgroundWriter: 64, backend: 0 } as const;

interface Pending {
  readonly relation: Relation;
  readonly fork: Fork;
  readonly block: number;
}

/** A list of blocks that have been written. */
export class WriteBack {
  readonly #files: FileLayer;
  readonly #counters: Counters;
  readonly #limit: number;
  #pending: Pending[] = [];

  /**
   * @param limit blocks; 0: no hints. There are none for direct I/O either, which leaves the kernel nothing to write.
   * @throws {RangeError} the limit is out of its range
   */
  constructor(files: FileLayer, counters: Counters, limit: number) {
    if (!Number.isInteger(limit) || limit < 0 || limit > WRITE_BACK_MAX) {
      throw new RangeError(`blocks before a hint: from 0 to ${WRITE_BACK_MAX}, not ${limit}`);
    }
    this.#files = files;
    this.#counters = counters;
    this.#limit = files.isDirect ? 0 : limit;
  }

  /** Notes blocks that have been written. @param context of the statistics, for the case that they fill the list */
  note(relation: Relation, fork: Fork, block: number, count: number, context: number): void {
    if (this.#limit === 0) return;
    for (let index = 0; index < count; index++) {
      this.#pending.push({ relation, fork, block: block + index });
      if (this.#pending.length >= this.#limit) this.issue(context);
    }
  }

  /** Gives the hints for what is left. */
  issue(context: number): void {
    const pending = this.#pending;
    if (pending.length === 0) return;
    this.#pending = [];
    const begun = performance.now();
    pending.sort(compare);
    for (let at = 0; at < pending.length;) {
      const { relation, fork, block } = pending[at] as Pending;
      let count = 1;
      for (at++; at < pending.length; at++) {
        const next = pending[at] as Pending;
        if (compareForks(next, { relation, fork }) !== 0 || next.block > block + count) break;
        if (next.block === block + count) count += 1;
      }
      this.#files.writeBack(relation, fork, block, count);
    }
    this.#counters.count(COUNTED.writeback, context, false, pending.length);
    this.#counters.time(COUNTED.writeback, context, false, performance.now() - begun);
  }
}

function compareForks(one: Omit<Pending, "block">, other: Omit<Pending, "block">): number {
  return (
    one.relation.tablespace - other.relation.tablespace ||
    one.relation.database - other.relation.database ||
    one.relation.relation - other.relation.relation ||
    one.fork - other.fork
  );
}

function compare(one: Pending, other: Pending): number {
  return compareForks(one, other) || one.block - other.block;
}

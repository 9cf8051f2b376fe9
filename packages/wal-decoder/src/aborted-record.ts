/**
 * Records that a crash cut off, and what PostgreSQL puts in their place.
 *
 * After a crash that lost the rest of a record, PostgreSQL does not go back to the record's start: parts of it may
 * have been archived or streamed already. It goes on in the first page that was lost, marks that page, and writes a
 * record first of all that names the aborted one (XLOG_OVERWRITE_CONTRECORD, since PostgreSQL 14). Mark and record
 * never come without each other, and both must mean the record that was dropped here: anything else is a splice of
 * two histories. Only the decoder asks and tells.
 */
import { formatLsn } from "@millrace/lsn";
import { OVERWRITE_RECORD, RECORD, XLOG_OVERWRITE_CONTRECORD } from "./layout.js";
import { isBelow, lsnOf } from "./position.js";

/** What is known of the record that the next one has to replace. */
export class AbortedRecord {
  /** A page was marked: the next record must be the one that replaces. */
  due = false;
  #known = false;
  #high = 0;
  #low = 0;

  /**
   * A marked page was met.
   *
   * @param known whether the dropped record's start was seen; its halves mean nothing otherwise
   */
  expect(known: boolean, high: number, low: number): void {
    this.due = true;
    this.#known = known;
    this.#high = high;
    this.#low = low;
  }

  /** Nothing is expected any more. */
  clear(): void {
    this.due = false;
  }

  /**
   * Looks at a verified record that is due to replace, or does so unasked. What was due is then no longer.
   *
   * @param operation of resource manager 0, or -1 for a record of another one
   * @param at index in `view` of the record's first byte; all of a record that replaces is there
   * @param first whether no record was read before: reading that began behind the page's header missed the mark
   * @returns what is wrong, or undefined
   */
  problem(
    operation: number,
    view: DataView,
    at: number,
    startHigh: number,
    startLow: number,
    first: boolean,
  ): string | undefined {
    const { due } = this;
    this.due = false;
    if (!due) return first ? undefined : "the record replaces an aborted one, and none is";
    const { totalBytes, mainDataId, mainDataBytes, abortedLsn } = OVERWRITE_RECORD;
    if (
      operation !== XLOG_OVERWRITE_CONTRECORD ||
      view.getUint32(at + RECORD.totalBytes, true) !== totalBytes ||
      view.getUint8(at + mainDataId) !== 255 ||
      view.getUint8(at + mainDataBytes) !== 16
    ) {
      return "the page replaces an aborted record, its first record does not";
    }
    const low = view.getInt32(at + abortedLsn, true);
    const high = view.getInt32(at + abortedLsn + 4, true);
    const matches = this.#known
      ? low === this.#low && high === this.#high
      : isBelow(high, low, startHigh, startLow);
    if (matches) return undefined;
    return `the record replaces the one at ${formatLsn(lsnOf(high, low, 0))}, which was not dropped`;
  }
}

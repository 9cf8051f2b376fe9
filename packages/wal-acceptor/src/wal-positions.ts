/**
 * The positions of a log's end, and the only rules by which they move. Pure bookkeeping, shared by all WAL stores.
 *
 * Four positions: bytes given to the kernel, the last whole record among them, bytes known durable, and the last
 * whole durable record. Only the last may be told to others. It moves forward by syncs, backward by `reset` alone.
 */
import { INVALID_LSN, minLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

/** Positions of one log. */
export class WalPositions {
  #writeLsn: Lsn = INVALID_LSN;
  #writeRecordLsn: Lsn = INVALID_LSN;
  #syncedLsn: Lsn = INVALID_LSN;
  #flushLsn: Lsn = INVALID_LSN;

  /** Where the next byte goes. */
  get writeLsn(): Lsn {
    return this.#writeLsn;
  }

  /** End of the last whole record written. */
  get writeRecordLsn(): Lsn {
    return this.#writeRecordLsn;
  }

  /** End of the last whole record that is durable. */
  get flushLsn(): Lsn {
    return this.#flushLsn;
  }

  /** Up to where a reader finds bytes, all durable: behind a segment switch the rest of the segment reads as zeros. */
  get readableLsn(): Lsn {
    return this.#flushLsn > this.#syncedLsn ? this.#flushLsn : this.#syncedLsn;
  }

  /** Bytes a crash may lose. */
  get unflushedBytes(): number {
    return this.#syncedLsn >= this.#writeLsn ? 0 : Number(this.#writeLsn - this.#syncedLsn);
  }

  /** Everything ends at `lsn`, durably. */
  reset(lsn: Lsn): void {
    this.#writeLsn = lsn;
    this.#writeRecordLsn = lsn;
    this.#syncedLsn = lsn;
    this.#flushLsn = lsn;
  }

  /** Bytes up to `writeLsn` were written; the last whole record among them ends at `recordLsn`. */
  wrote(writeLsn: Lsn, recordLsn: Lsn): void {
    this.#writeLsn = writeLsn;
    this.#writeRecordLsn = recordLsn;
  }

  /** A segment was completed and synced as a whole. */
  segmentSynced(boundaryLsn: Lsn): void {
    this.#syncedLsn = boundaryLsn;
    const record = minLsn(this.#writeRecordLsn, boundaryLsn);
    if (record > this.#flushLsn) this.#flushLsn = record;
  }

  /** A sync covered everything that was written when it began. */
  synced(writeLsn: Lsn, recordLsn: Lsn): void {
    this.#syncedLsn = writeLsn;
    this.#flushLsn = recordLsn;
  }
}

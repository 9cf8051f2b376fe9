/**
 * Reads a record's main data or a block's data front to back, never beyond their end.
 *
 * A record whose parts are shorter than its type needs is refused before any of its neighbours' bytes could be taken
 * for its own. One reader is used again and again: replay makes no objects.
 */
import type { BlockRef, WalRecord } from "@millrace/wal-decoder";
import { invariant } from "./errors.js";

export class ByteReader {
  /** The memory that is read; lent by the record. */
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(this.bytes.buffer);
  /** Index of the next byte, and of the first that is not the reader's any more. */
  at = 0;
  end = 0;
  #start = 0;

  /** Starts at a record's main data. */
  readMain(record: WalRecord): this {
    return this.#begin(record, record.mainAt, record.mainBytes);
  }

  /** Starts at the data of a block. */
  readData(record: WalRecord, ref: BlockRef): this {
    return this.#begin(record, ref.dataAt, ref.dataBytes);
  }

  #begin(record: WalRecord, at: number, count: number): this {
    this.bytes = record.source;
    this.view = record.view;
    this.at = this.#start = at;
    this.end = at + count;
    return this;
  }

  /** Bytes that are left. */
  get left(): number {
    return this.end - this.at;
  }

  u8(): number {
    return this.view.getUint8(this.take(1));
  }

  u16(): number {
    return this.view.getUint16(this.take(2), true);
  }

  u32(): number {
    return this.view.getUint32(this.take(4), true);
  }

  /** Passes over bytes that are of no interest. */
  skip(count: number): this {
    this.take(count);
    return this;
  }

  /** Passes over padding up to a multiple of `alignment`, counted from where the data begin. */
  align(alignment: number): void {
    const past = (this.at - this.#start) % alignment;
    if (past > 0) this.take(alignment - past);
  }

  /** The index of `count` bytes, which are then behind the reader. */
  take(count: number): number {
    const { at } = this;
    invariant(count >= 0 && at + count <= this.end, "the record's data end early");
    this.at = at + count;
    return at;
  }

  /** Everything must have been used: what is left over was not understood. */
  finish(): void {
    invariant(this.at === this.end, `${String(this.end - this.at)} bytes of the record's data are left over`);
  }
}

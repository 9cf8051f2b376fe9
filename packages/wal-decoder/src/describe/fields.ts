/**
 * The fields of a record's main data and of its blocks' data, read in order, for describing them.
 *
 * Text is not made in hot loops, so that clarity wins over speed here: each part gets a view of its own, and a record that
 * is shorter than its type is refused.
 */
import type { BlockRef } from "../block-ref.js";
import { WalDecodeError } from "../errors.js";
import type { WalRecord } from "../wal-record.js";

/** PostgreSQL counts time from 2000-01-01, in microseconds. */
const EPOCH_MS = 946_684_800_000n;

export class Fields {
  readonly #record: WalRecord;
  readonly #view: DataView;
  #at = 0;

  private constructor(record: WalRecord, bytes: Uint8Array) {
    this.#record = record;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  static ofMain(record: WalRecord): Fields {
    return new Fields(record, record.main);
  }

  static ofBlock(record: WalRecord, ref: BlockRef): Fields {
    return new Fields(record, record.dataOf(ref));
  }

  static ofBytes(record: WalRecord, bytes: Uint8Array): Fields {
    return new Fields(record, bytes);
  }

  /** Bytes that are left. */
  get left(): number {
    return this.#view.byteLength - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  i8(): number {
    return this.#view.getInt8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  /** `T` or `F`, as PostgreSQL prints a boolean in most places. */
  flag(): string {
    return truth(this.u8() !== 0);
  }

  /** An LSN as two numbers without leading zeros, which is how descriptions have them. */
  lsn(): string {
    return lsnText(this.u64());
  }

  /** A full transaction id as `epoch:xid`. */
  fullXid(): string {
    const value = this.u64();
    return `${String(value >> 32n)}:${String(value & 0xffff_ffffn)}`;
  }

  /** A time as pg_waldump prints it where the time zone is UTC. */
  time(): string {
    return timeText(this.i64());
  }

  /** `tablespace/database/relation`. */
  locator(): string {
    return `${String(this.u32())}/${String(this.u32())}/${String(this.u32())}`;
  }

  /** `count` numbers of 16 bits in brackets. */
  offsets(count: number): string {
    return list(count, () => String(this.u16()));
  }

  /** Text up to a zero byte, which is passed over. */
  text(): string {
    const start = this.#at;
    while (this.u8() !== 0);
    return this.#decode(start, this.#at - 1 - start);
  }

  /** `count` bytes as text. */
  textOf(count: number): string {
    return this.#decode(this.#take(count), count);
  }

  bytes(count: number): Uint8Array {
    const at = this.#take(count);
    return new Uint8Array(this.#view.buffer, this.#view.byteOffset + at, count);
  }

  skip(count: number): this {
    this.#take(count);
    return this;
  }

  /** Passes over padding up to a multiple of `alignment`, counted from the start of the data. */
  align(alignment: number): this {
    this.#take((alignment - (this.#at % alignment)) % alignment);
    return this;
  }

  #decode(at: number, count: number): string {
    return Buffer.from(this.#view.buffer, this.#view.byteOffset + at, count).toString("utf8");
  }

  #take(count: number): number {
    const at = this.#at;
    if (count < 0 || count > this.left) {
      const { startLsn, rmid } = this.#record;
      const text = `record of resource manager ${String(rmid)}: its data end early`;
      throw new WalDecodeError("ERR_WAL_RECORD_STRUCTURE", startLsn, text);
    }
    this.#at = at + count;
    return at;
  }
}

export function truth(value: boolean): string {
  return value ? "T" : "F";
}

export function lsnText(value: bigint): string {
  return `${(value >> 32n).toString(16)}/${(value & 0xffff_ffffn).toString(16)}`.toUpperCase();
}

export function timeText(microseconds: bigint): string {
  const fraction = ((microseconds % 1_000_000n) + 1_000_000n) % 1_000_000n;
  const text = new Date(Number((microseconds - fraction) / 1000n + EPOCH_MS)).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, 19)}.${String(fraction).padStart(6, "0")} UTC`;
}

/** ` [a, b]`, or ` []`, as PostgreSQL prints arrays since version 16. */
export function list(count: number, element: (index: number) => string): string {
  return ` [${Array.from({ length: count }, (_, index) => element(index)).join(", ")}]`;
}

/** Names of the flags that are set, from the lowest bit on. */
export function flagNames(bits: number, names: readonly string[]): readonly string[] {
  return names.filter((_, bit) => (bits & (1 << bit)) !== 0);
}

export function hexByte(value: number): string {
  return value.toString(16).toUpperCase().padStart(2, "0");
}

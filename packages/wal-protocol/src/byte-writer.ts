/**
 * A cursor that fills one message of a length known beforehand.
 *
 * Callers compute the length first, so that a message is allocated once and never copied. Numbers are range-checked
 * here: DataView would silently keep the low bits of a term that is too large, and a truncated term or LSN on the
 * wire is the kind of error that shows up as lost data months later. Such a number is our own caller's mistake and
 * raises a RangeError.
 */
import { Buffer } from "node:buffer";
import type { TermHistory } from "./term-history.js";

const U64_MAX = 0xffff_ffff_ffff_ffffn;

export class ByteWriter {
  /** The message; complete once every field was written. Given to the caller. */
  readonly bytes: Buffer;
  readonly #view: DataView;
  readonly #littleEndian: boolean;
  #position = 0;

  constructor(byteLength: number, littleEndian: boolean) {
    // Small messages come out of Node's pool, which is much cheaper than an ArrayBuffer of their own.
    this.bytes = Buffer.allocUnsafe(byteLength);
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset, byteLength);
    this.#littleEndian = littleEndian;
  }

  get position(): number {
    return this.#position;
  }

  u8(value: number): this {
    checkUnsigned(value, 0xff);
    this.#view.setUint8(this.#advance(1), value);
    return this;
  }

  u16(value: number): this {
    checkUnsigned(value, 0xffff);
    this.#view.setUint16(this.#advance(2), value, this.#littleEndian);
    return this;
  }

  u32(value: number): this {
    checkUnsigned(value, 0xffff_ffff);
    this.#view.setUint32(this.#advance(4), value, this.#littleEndian);
    return this;
  }

  u64(value: bigint): this {
    if (value < 0n || value > U64_MAX) throw new RangeError(`${String(value)} does not fit a u64`);
    this.#view.setBigUint64(this.#advance(8), value, this.#littleEndian);
    return this;
  }

  i64(value: bigint): this {
    if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${String(value)} does not fit an i64`);
    this.#view.setBigInt64(this.#advance(8), value, this.#littleEndian);
    return this;
  }

  copy(source: Uint8Array): this {
    this.bytes.set(source, this.#advance(source.byteLength));
    return this;
  }

  zeros(count: number): this {
    const start = this.#advance(count);
    this.bytes.fill(0, start, start + count);
    return this;
  }

  termHistory(history: TermHistory): this {
    this.u32(history.length);
    for (const entry of history) this.u64(entry.term).u64(entry.lsn);
    return this;
  }

  #advance(count: number): number {
    const start = this.#position;
    this.#position = start + count;
    return start;
  }
}

function checkUnsigned(value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${String(value)} is not an integer from 0 to ${String(max)}`);
  }
}

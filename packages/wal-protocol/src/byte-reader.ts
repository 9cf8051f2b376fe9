/**
 * A cursor over one message that cannot be made to read past its end or to allocate more than the message holds.
 *
 * Every read checks the bytes left first and turns a shortage into a ProtocolError; counts are checked against the
 * bytes left before anything of that length is allocated. One reader serves both byte orders: version 2 is
 * little-endian throughout, version 3 and the feedback tail are big-endian. The reader borrows the bytes.
 */
import type { Lsn } from "@millrace/lsn";
import { ProtocolError } from "./errors.js";
import type { TermLsn } from "./term-history.js";

const TERM_LSN_BYTES = 16;
// ignoreBOM keeps a leading byte order mark in the string: a host must come back as it was sent.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #littleEndian: boolean;
  #position = 0;

  constructor(bytes: Uint8Array, littleEndian: boolean) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#littleEndian = littleEndian;
  }

  get remainingBytes(): number {
    return this.#bytes.byteLength - this.#position;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2), this.#littleEndian);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), this.#littleEndian);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), this.#littleEndian);
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#advance(8), this.#littleEndian);
  }

  lsn(): Lsn {
    return this.u64() as Lsn; // a u64 read from eight bytes is in the range of an Lsn by construction
  }

  /** The next `count` bytes as a view, borrowed from the message. */
  view(count: number): Uint8Array {
    const start = this.#advance(count);
    return this.#bytes.subarray(start, start + count);
  }

  skip(count: number): void {
    this.#advance(count);
  }

  /** A NUL-terminated UTF-8 string. */
  string(): string {
    const end = this.#bytes.indexOf(0, this.#position);
    if (end < 0) throw new ProtocolError("ERR_PROTOCOL_TRUNCATED", "string without terminator");
    const text = this.view(end - this.#position);
    this.#position = end + 1;
    try {
      return decoder.decode(text);
    } catch (cause) {
      throw new ProtocolError("ERR_PROTOCOL_FIELD", "string is not valid UTF-8", { cause });
    }
  }

  /** A u32 count of things that take at least `elementBytes` each, checked against what is left. */
  count(elementBytes: number, what: string): number {
    const count = this.u32();
    if (count * elementBytes > this.remainingBytes) {
      throw new ProtocolError(
        "ERR_PROTOCOL_TRUNCATED",
        `${String(count)} ${what} announced, ${String(this.remainingBytes)} bytes left`,
      );
    }
    return count;
  }

  termHistory(): TermLsn[] {
    const count = this.count(TERM_LSN_BYTES, "term history entries");
    const history: TermLsn[] = [];
    for (let index = 0; index < count; index += 1) history.push({ term: this.u64(), lsn: this.lsn() });
    return history;
  }

  /** For replies, whose readers insist on having understood every byte. */
  expectEnd(what: string): void {
    if (this.remainingBytes > 0) {
      throw new ProtocolError(
        "ERR_PROTOCOL_TRAILING",
        `${String(this.remainingBytes)} bytes follow the ${what}`,
      );
    }
  }

  #advance(count: number): number {
    const start = this.#position;
    if (count > this.#bytes.byteLength - start) {
      throw new ProtocolError(
        "ERR_PROTOCOL_TRUNCATED",
        `message of ${String(this.#bytes.byteLength)} bytes ends within a field at ${String(start)}`,
      );
    }
    this.#position = start + count;
    return start;
  }
}

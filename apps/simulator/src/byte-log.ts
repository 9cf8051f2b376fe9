/**
 * A plain copy of a log's bytes: the simulator's own memory of what was written where, independent of any store.
 */
import type { Lsn } from "@millrace/lsn";

/** Bytes from a fixed start, with one end. */
export class ByteLog {
  readonly #start: number;
  #bytes = new Uint8Array(1 << 14);
  #length = 0;

  constructor(startLsn: Lsn) {
    this.#start = Number(startLsn);
  }

  get endLsn(): Lsn {
    return BigInt(this.#start + this.#length) as Lsn;
  }

  /** Writes at `lsn`, which becomes followed by nothing but `bytes`; a gap before it reads as zeros. */
  put(lsn: Lsn, bytes: Uint8Array): void {
    const at = Number(lsn) - this.#start;
    const end = at + bytes.byteLength;
    this.#grow(end);
    if (at > this.#length) this.#bytes.fill(0, this.#length, at);
    this.#bytes.set(bytes, at);
    this.#length = end;
  }

  /** Makes `lsn` the end: cuts, or adds zeros. */
  setEnd(lsn: Lsn): void {
    const end = Math.max(0, Number(lsn) - this.#start);
    this.#grow(end);
    if (end > this.#length) this.#bytes.fill(0, this.#length, end);
    this.#length = end;
  }

  /** The bytes of [from, to), borrowed; the caller stays within the log. */
  view(from: Lsn, to: Lsn): Uint8Array {
    return this.#bytes.subarray(Number(from) - this.#start, Math.min(this.#length, Number(to) - this.#start));
  }

  #grow(length: number): void {
    if (length <= this.#bytes.byteLength) return;
    const grown = new Uint8Array(Math.max(length, this.#bytes.byteLength * 2));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}

/** Whether both hold the same bytes. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && Buffer.compare(a, b) === 0;
}

/** Index of the first difference, for reports; the shorter length if there is none before it. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.byteLength, b.byteLength);
  for (let index = 0; index < length; index += 1) if (a[index] !== b[index]) return index;
  return length;
}

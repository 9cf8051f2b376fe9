/**
 * What is kept of a record that comes in parts: its first bytes, or all of them.
 *
 * The buffer grows by what has arrived and passed the checks of its pages, so that a false length costs nothing. Only
 * the decoder uses it; `bytes` and `view` change when it grows.
 */
import { HEAD_BYTES } from "./record-visit.js";

/** A buffer beyond this is given back after its record: one record of a gigabyte must not stay in memory for ever. */
const KEPT_BUFFER_BYTES_MAX = 1024 * 1024;

export class RecordParts {
  /** What has been kept, from index 0 on. */
  bytes: Uint8Array = new Uint8Array(HEAD_BYTES);
  view: DataView = new DataView(this.bytes.buffer);
  readonly #whole: boolean;

  constructor(whole: boolean) {
    this.#whole = whole;
  }

  /** Keeps what is wanted of `count` bytes at `at`, the first of which is the record's byte number `fill`. */
  keep(bytes: Uint8Array, at: number, count: number, fill: number): void {
    let wanted = count;
    if (!this.#whole) {
      if (fill >= HEAD_BYTES) return;
      wanted = Math.min(count, HEAD_BYTES - fill);
    } else if (fill + count > this.bytes.byteLength) {
      this.#resize(Math.max(2 * this.bytes.byteLength, fill + count), fill);
    } else if (fill <= HEAD_BYTES && this.bytes.byteLength > KEPT_BUFFER_BYTES_MAX) {
      this.#resize(Math.max(HEAD_BYTES, fill + count), fill);
    }
    this.bytes.set(bytes.subarray(at, at + wanted), fill);
  }

  #resize(capacity: number, fill: number): void {
    const before = this.bytes;
    this.bytes = new Uint8Array(capacity);
    this.bytes.set(before.subarray(0, fill));
    this.view = new DataView(this.bytes.buffer);
  }
}

/**
 * What was submitted and is not known to be in the file: readable from memory until it is.
 *
 * Segments follow each other without gaps, from `confirmed` to `submitted`. Nothing may assume their lengths: a shutdown and a
 * bypass make short and long ones.
 */
import type { IoBuffer } from "@millrace/aligned-buffers";
import type { SegmentInfo } from "./flush-probe.js";

/** A segment with its bytes. */
export interface Segment extends SegmentInfo {
  /** The list's until it is confirmed. */
  readonly buffer: IoBuffer;
  /** The buffer is one of the writer's own, to be used again. */
  readonly isOwn: boolean;
}

/** Invariant: `confirmed <= submitted`, and the segments are exactly what is between. */
export class SegmentList {
  readonly #segments: Segment[] = [];
  #count = 0;
  /** In the file, bytes: everything below has been written. */
  confirmed: number;
  /** In the file, bytes: everything below is confirmed or in a segment. */
  submitted: number;

  constructor(startOffset: number) {
    this.confirmed = startOffset;
    this.submitted = startOffset;
  }

  /** Segments that are not confirmed. */
  get size(): number {
    return this.#segments.length;
  }

  get last(): Segment | undefined {
    return this.#segments.at(-1);
  }

  /** Takes over a buffer. */
  add(buffer: IoBuffer, isOwn: boolean): Segment {
    const { length } = buffer;
    const segment = { index: this.#count, offset: this.submitted, length, buffer, isOwn };
    this.#segments.push(segment);
    this.#count += 1;
    this.submitted += length;
    return segment;
  }

  /** The oldest segment is in the file. Its buffer is the caller's. */
  confirm(): void {
    const segment = this.#segments.shift();
    if (segment !== undefined) this.confirmed += segment.length;
  }

  /**
   * Copies what is in segments.
   *
   * @param target borrowed; `from` goes to its start
   * @param from, to in the file, bytes; at least `confirmed`, at most `submitted`
   */
  copyInto(target: Uint8Array, from: number, to: number): void {
    for (const { buffer, offset, length } of this.#segments) {
      const [begin, end] = [Math.max(from, offset), Math.min(to, offset + length)];
      if (begin < end) target.set(buffer.unsafeView().subarray(begin - offset, end - offset), begin - from);
    }
  }

  /** Drops all buffers. */
  clear(): void {
    for (const { buffer } of this.#segments) buffer[Symbol.dispose]();
    this.#segments.length = 0;
  }
}

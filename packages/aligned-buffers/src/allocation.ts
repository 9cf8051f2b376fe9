/**
 * A piece of an arena's memory while somebody owns it, and what handles need of the arena it came from.
 *
 * `references` counts handles and loans; the last one to go gives the memory back. Only handles touch an allocation,
 * and only on the arena's own thread: other threads see bytes, never this.
 */
import { crc32 } from "node:zlib";
import type { LeakTracker } from "./leak-tracker.js";
import type { MemorySegment } from "./memory-segment.js";

/** The arena as its buffers see it. */
export interface Home {
  readonly segment: MemorySegment;
  /** The whole segment, for writing by offset. */
  readonly whole: Uint8Array;
  /** Default of `isAligned`, bytes. */
  readonly alignment: number;
  /** Present in debug mode. */
  readonly tracker: LeakTracker | undefined;
  /** Takes the memory back. */
  reclaim(allocation: Allocation): void;
}

/** Invariant: while `references` is above 0, nobody else is given these bytes. */
export class Allocation {
  readonly home: Home;
  /** In the segment's buffer. */
  readonly byteOffset: number;
  /** Exactly what was asked for. */
  readonly capacity: number;
  /** Alignment that was asked for. */
  readonly align: number;
  references = 1;
  /** Bytes in use from the start. */
  length = 0;
  /** Bytes from the start that somebody may have written since the memory was handed out. At least `length`. */
  written = 0;
  /** Debug: checksum of the bytes at freeze. */
  frozenChecksum = 0;

  constructor(home: Home, byteOffset: number, capacity: number, align: number) {
    this.home = home;
    this.byteOffset = byteOffset;
    this.capacity = capacity;
    this.align = align;
  }

  /** Drops one reference. */
  release(): void {
    this.references -= 1;
    if (this.references === 0) this.home.reclaim(this);
  }

  /** Bytes `begin` to `end` of the allocation. */
  view(begin: number, end: number): Uint8Array {
    return new Uint8Array(this.home.whole.buffer, this.byteOffset + begin, end - begin);
  }

  /** Checksum of the bytes in use; for debug mode, where its cost does not matter. */
  checksum(): number {
    return crc32(this.view(0, this.length));
  }
}

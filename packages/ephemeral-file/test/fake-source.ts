/** A file for reads only, that records them, fails or waits where it is told to, and counts how many there are at a time. */
import { AlignedArena } from "@millrace/aligned-buffers";
import type { IoBufferMut } from "@millrace/aligned-buffers";
import type { ReadSource } from "../src/index.js";
import { noise } from "./world.js";

export class FakeSource implements ReadSource {
  readonly path = "/d/file";
  readonly alignmentBytes: number;
  readonly content: Uint8Array;
  /** Offset and length of each read. */
  readonly reads: [number, number][] = [];
  /** By offset, what a read there fails with. */
  readonly failing: Map<number, Error> = new Map();
  /** Every read waits for this first. */
  before: (offsetBytes: number) => Promise<unknown> = () => Promise.resolve();
  inFlight = 0;
  inFlightMax = 0;

  constructor(lengthBytes: number, alignmentBytes = 512) {
    this.content = noise(lengthBytes);
    this.alignmentBytes = alignmentBytes;
  }

  async readAt(target: IoBufferMut, offsetBytes: number, lengthBytes: number): Promise<number> {
    this.reads.push([offsetBytes, lengthBytes]);
    this.inFlight += 1;
    this.inFlightMax = Math.max(this.inFlightMax, this.inFlight);
    try {
      await this.before(offsetBytes);
      const error = this.failing.get(offsetBytes);
      if (error !== undefined) throw error;
      const bytes = this.content.subarray(offsetBytes, offsetBytes + lengthBytes);
      target.append(bytes);
      return bytes.length;
    } finally {
      this.inFlight -= 1;
    }
  }
}

export function createArena(bytes: number = 2 ** 21): AlignedArena {
  return new AlignedArena({ bytes, alignment: 512, debug: true });
}

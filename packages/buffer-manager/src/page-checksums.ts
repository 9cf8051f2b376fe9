/**
 * Sets the checksums of pages where they lie, in frames that nobody else changes meanwhile.
 *
 * A page that was never initialised has none. After PageSetChecksumInplace of PostgreSQL.
 */
import type { PoolMemory } from "@millrace/aligned-buffers";
import { createPageChecksummer } from "@millrace/checksums";
import type { PageChecksummer } from "@millrace/checksums";

const CHECKSUM_AT = 8;
const UPPER_AT = 14;

/** Checksums of one thread. */
export class PageChecksums {
  readonly #frames: PoolMemory;
  readonly #checksummers: PageChecksummer[] = [];
  readonly #views: DataView[] = [];

  constructor(frames: PoolMemory) {
    this.#frames = frames;
  }

  /** Sets the checksum of the page in a frame. @param block its number in the fork */
  set(frame: number, block: number): void {
    const index = this.#frames.segmentIndexOf(frame);
    const offset = this.#frames.byteOffsetOf(frame);
    const view = this.#viewOf(index);
    if (view.getUint16(offset + UPPER_AT, true) === 0) return;
    view.setUint16(offset + CHECKSUM_AT, this.#checksummerOf(index).checksum(offset, block), true);
  }

  #viewOf(index: number): DataView {
    return (this.#views[index] ??= new DataView(this.#segment(index).buffer));
  }

  #checksummerOf(index: number): PageChecksummer {
    return (this.#checksummers[index] ??= createPageChecksummer(this.#segment(index).memory));
  }

  #segment(index: number): PoolMemory["segments"][number] {
    return this.#frames.segments[index] as PoolMemory["segments"][number];
  }
}

/**
 * Whether a page that was read is one: the look at its header, and its checksum, where it lies in the pool.
 *
 * A page of zeros is what an extension leaves and a crash may leave; it is good, and has no checksum. Otherwise the header
 * must make sense and, if the pool has checksums, the checksum must be the page's own for its block. A header that makes
 * sense proves little; the checksum is what finds what a disk did. After PageIsVerified of PostgreSQL 18.
 */
import { createPageChecksummer } from "@millrace/checksums";
import type { PageChecksummer } from "@millrace/checksums";
import type { PoolMemory } from "@millrace/aligned-buffers";

import { PAGE_BYTES } from "./settings.js";

/** What is wrong with a page: bits. */
export const PAGE_FAULT = { none: 0, checksum: 1, header: 2 } as const;

/** Fields of the header as 16-bit words. */
const FIELD = { checksum: 4, flags: 5, lower: 6, upper: 7, special: 8 } as const;
/** Flags that PostgreSQL knows. */
const VALID_FLAGS = 0x7;
/** What `special` is a multiple of. */
const ALIGNMENT_MASK = 7;
const ZEROS = Buffer.alloc(PAGE_BYTES);

/** A segment of the pool, as pages in it are checked. */
interface CheckedSegment {
  readonly words: Uint16Array;
  readonly checksummer: PageChecksummer | undefined;
}

/** Checks pages of a pool. For one thread. */
export class PageChecker {
  readonly #frames: PoolMemory;
  readonly #hasChecksums: boolean;
  /** Made when a page of the segment is first checked: a checksummer is code compiled for a memory. */
  readonly #segments: (CheckedSegment | undefined)[] = [];

  /** @param hasChecksums whether pages have checksums; without them only the header is looked at */
  constructor(frames: PoolMemory, hasChecksums: boolean) {
    this.#frames = frames;
    this.#hasChecksums = hasChecksums;
  }

  /**
   * What is wrong with a page.
   *
   * @param frame nobody writes to it meanwhile
   * @param block of the page in its fork, over all segments
   * @returns bits of {@link PAGE_FAULT}
   */
  check(frame: number, block: number): number {
    const index = this.#frames.segmentIndexOf(frame);
    const { words, checksummer } = this.#segments[index] ?? this.#open(index);
    const offset = this.#frames.byteOffsetOf(frame);
    const at = offset >>> 1;
    const upper = words[at + FIELD.upper] as number;
    if (upper === 0) return this.#isZero(frame) ? PAGE_FAULT.none : PAGE_FAULT.header;
    let fault: number = PAGE_FAULT.none;
    if (checksummer !== undefined && checksummer.checksum(offset, block) !== words[at + FIELD.checksum]) {
      fault = PAGE_FAULT.checksum;
    }
    const special = words[at + FIELD.special] as number;
    const isSane =
      ((words[at + FIELD.flags] as number) & ~VALID_FLAGS) === 0 &&
      (words[at + FIELD.lower] as number) <= upper &&
      upper <= special &&
      special <= PAGE_BYTES &&
      (special & ALIGNMENT_MASK) === 0;
    return isSane ? fault : fault | PAGE_FAULT.header;
  }

  #open(index: number): CheckedSegment {
    const segment = this.#frames.segments[index];
    if (segment === undefined) throw new RangeError(`no segment ${index}`);
    const opened: CheckedSegment = {
      words: new Uint16Array(segment.buffer),
      checksummer: this.#hasChecksums ? createPageChecksummer(segment.memory, PAGE_BYTES) : undefined,
    };
    this.#segments[index] = opened;
    return opened;
  }

  #isZero(frame: number): boolean {
    return ZEROS.compare(this.#frames.view(frame)) === 0;
  }
}

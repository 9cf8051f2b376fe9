/**
 * The segments of a log that is being written: which one is open, how it is cut, and where zeros are known to be.
 *
 * Invariant while writes are allowed: behind the end of the log its segment reads as zeros, and there is no later segment
 * but one that was made full of zeros. So the last block of a write can be filled up with zeros, a reader finds zeros behind
 * a segment switch, and what a crash leaves behind the end is no WAL. Where zeros begin is remembered from write to write,
 * so that a cut rewrites only what was written; after a restart nothing is known, and the rest of the segment is rewritten.
 *
 * It knows segments and offsets, no positions: what a log is, and when it may be cut, is the store's business.
 */
import * as assert from "node:assert";
import type { PlacedPageHeader } from "@millrace/wal-decoder";

import type { AcceptorError } from "./errors.js";
import { closeQuietly } from "./file-system.js";
import { LogTail } from "./log-tail.js";
import type { AcceptorMeasures } from "./measures.js";
import type { SegmentFiles } from "./segment-files.js";
import { SegmentSupply } from "./segment-supply.js";

/** A place in a log. */
export interface SegmentPlace {
  readonly segno: bigint;
  readonly offsetBytes: number;
}

/** The segments of one log. One call at a time, except for those that say that they wait for nothing. */
export class LogSegments {
  readonly #files: SegmentFiles;
  readonly #supply: SegmentSupply;
  readonly #segmentBytes: number;
  readonly #measures: AcceptorMeasures;
  #tail: LogTail | undefined;
  /** Where zeros begin in the segment that was written last, if that is known. */
  #zeros: SegmentPlace | undefined;

  constructor(files: SegmentFiles, segmentBytes: number, measures: AcceptorMeasures) {
    this.#files = files;
    this.#supply = new SegmentSupply(files);
    this.#segmentBytes = segmentBytes;
    this.#measures = measures;
  }

  /** The segment that is open for writing; undefined where the next write begins a new one. */
  get tail(): LogTail | undefined {
    return this.#tail;
  }

  /** Resolves when nothing is done in the background. */
  idle(): Promise<void> {
    return this.#supply.idle();
  }

  /** Why a segment could not be given its full name since this was last asked. */
  takeFailure(): unknown {
    return this.#supply.takeFailure();
  }

  /**
   * Makes the page headers in front of a timeline's start readable.
   *
   * @param start where the timeline starts; the headers lie before
   * @param isFresh no WAL was ever stored: what is there is left of an attempt that got no further, and goes
   */
  async initialize(
    start: SegmentPlace,
    headers: readonly PlacedPageHeader[],
    isFresh: boolean,
  ): Promise<void> {
    const { segno, offsetBytes } = start;
    const end = await this.#closeForNow();
    if (isFresh) await this.#files.remove(segno);
    if (!this.#files.has(segno)) await this.#create(segno);
    await this.#files.stamp(segno, headers);
    if (this.#zeros?.segno === segno && this.#zeros.offsetBytes < offsetBytes) this.#zeros = start;
    if (end !== undefined) await this.#open(end);
  }

  /** The tail of a segment: the open one, or that of the next segment, from its start. */
  async openTail(segno: bigint): Promise<LogTail> {
    if (this.#tail?.segno === segno) return this.#tail;
    assert.ok(this.#tail === undefined, "another segment is open for writing");
    await this.#create(segno);
    return await this.#open({ segno, offsetBytes: 0 });
  }

  /** Begins to make the next segment once half of this one is written. Waits for nothing. */
  prepareAfter({ segno, offsetBytes }: SegmentPlace): void {
    if (offsetBytes >= this.#segmentBytes / 2) this.#supply.prepare(segno + 1n);
  }

  /** Closes the open segment, which is full and durable, and begins to give it its full name. */
  async completeTail(): Promise<void> {
    const segno = this.#tail?.segno;
    assert.ok(segno !== undefined, "no segment is open");
    await this.closeTail();
    this.#supply.complete(segno);
  }

  /**
   * Closes the open segment, if there is one. What it has not written is lost.
   *
   * @returns what a write or sync of it has failed with: perhaps nobody has heard of it yet
   */
  async closeTail(): Promise<AcceptorError | undefined> {
    const tail = this.#tail;
    if (tail === undefined) return undefined;
    this.#tail = undefined;
    this.#zeros = { segno: tail.segno, offsetBytes: tail.zeroFromBytes };
    return await tail.close();
  }

  /**
   * Ends the log at `end`, durably, and opens that segment for writing unless it begins there.
   *
   * @param end everything before is durable
   * @param switched where zeros begin in an earlier segment that was switched away from
   * @param isFresh the log begins here: segments before it are left of attempts that got no further, and go
   */
  async cut(end: SegmentPlace, switched: SegmentPlace | undefined, isFresh: boolean): Promise<void> {
    const { segno, offsetBytes } = end;
    const firstGone = offsetBytes === 0 ? segno : segno + 1n;
    // From the end, so that a crash in between leaves a log without a hole.
    for (const later of this.#files.from(firstGone).toReversed()) await this.#files.remove(later);
    if (isFresh) {
      for (const stale of this.#files.upTo(segno - 1n)) await this.#files.remove(stale);
    }
    await this.#finishBefore(segno, switched);
    if (offsetBytes > 0) await this.#cutOpen(end);
    await this.#files.syncDirectory();
  }

  // The block in which the log ends is in the tail's memory, too: nobody else writes while it is open.
  async #closeForNow(): Promise<SegmentPlace | undefined> {
    const tail = this.#tail;
    if (tail === undefined) return undefined;
    await tail.flush();
    await this.closeTail();
    return { segno: tail.segno, offsetBytes: tail.zeroFromBytes };
  }

  // Segments that kept their partial name are full, or were switched away from; nobody will write to them again, so that
  // they get their zeros and their name now.
  async #finishBefore(segno: bigint, switched: SegmentPlace | undefined): Promise<void> {
    for (const before of this.#files.upTo(segno - 1n)) {
      if (!this.#files.isPartial(before)) continue;
      if (switched?.segno === before) await this.#files.cut(before, switched.offsetBytes, this.#segmentBytes);
      await this.#files.complete(before);
    }
  }

  async #cutOpen(end: SegmentPlace): Promise<void> {
    const { segno, offsetBytes } = end;
    if (this.#files.has(segno)) await this.#files.uncomplete(segno);
    else await this.#create(segno);
    const zeroFrom = this.#zeros?.segno === segno ? this.#zeros.offsetBytes : this.#segmentBytes;
    await this.#files.cut(segno, offsetBytes, zeroFrom);
    this.#zeros = end;
    await this.#open(end);
  }

  async #create(segno: bigint): Promise<void> {
    await this.#supply.ensure(segno);
    this.#zeros = { segno, offsetBytes: 0 };
  }

  async #open({ segno, offsetBytes }: SegmentPlace): Promise<LogTail> {
    const file = await this.#files.openForWriting(segno);
    const { arena } = this.#files;
    try {
      const blockHead = await this.#files.blockHead(file, offsetBytes);
      const tail = new LogTail({
        segno,
        file,
        endBytes: offsetBytes,
        blockHead,
        arena,
        measures: this.#measures,
      });
      this.#tail = tail;
      return tail;
    } catch (error) {
      await closeQuietly(file);
      throw error;
    }
  }
}

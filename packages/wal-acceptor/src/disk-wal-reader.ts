/**
 * A cursor over segment files, for whoever serves WAL.
 *
 * Runs beside the writer. A truncation may replace a file under the reader's descriptor, so every read notes the
 * store's layout version, and what was read under an old version is read again. Bytes in front of a timeline's
 * start are made up (page headers, zeros) when their file is not there.
 */
import {
  formatLsn,
  minLsn,
  segmentFileName,
  segmentNumber,
  segmentOffset,
  segmentStart,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { VirtualFile } from "@millrace/virtual-file";
import { AcceptorError, storageError } from "./errors.js";
import { closeQuietly } from "./file-system.js";
import { copySyntheticBytes, FILE_TIMELINE_ID, firstSegmentHeaders } from "./first-segment.js";
import type { PersistentState } from "./persistent-state.js";
import { readBytes } from "./read-bytes.js";
import { segmentEnd } from "./record-tracker.js";
import { isMissing } from "./segment-files.js";
import type { SegmentFiles } from "./segment-files.js";
import type { WalReader } from "./wal-store.js";

/** Times that a segment is opened for one read: it has two names, and loses one of them at most twice. */
const OPENINGS_MAX = 3;

/** What a reader sees of the store it belongs to. */
export interface ReaderSource {
  readonly files: SegmentFiles;
  readonly closed: boolean;
  /** Grows whenever files may have been cut or replaced. */
  readonly layoutVersion: number;
  /** Where the bytes end. */
  readonly readableLsn: Lsn;
  state(): PersistentState;
}

/** Reader of segment files. */
export class DiskWalReader implements WalReader {
  readonly #source: ReaderSource;
  #lsn: Lsn;
  #open: { readonly segno: bigint; readonly version: number; readonly file: VirtualFile } | undefined;
  #closed = false;

  constructor(source: ReaderSource, lsn: Lsn) {
    this.#source = source;
    this.#lsn = lsn;
  }

  get lsn(): Lsn {
    return this.#lsn;
  }

  async read(target: Uint8Array): Promise<number> {
    for (;;) {
      if (this.#closed || this.#source.closed) {
        throw new AcceptorError("ERR_ACCEPTOR_CLOSED", "the WAL reader or its store is closed");
      }
      const version = this.#source.layoutVersion;
      const { segmentBytes } = this.#source.state().server;
      const end = minLsn(this.#source.readableLsn, segmentEnd(this.#lsn, segmentBytes));
      if (this.#lsn >= end || target.byteLength === 0) return 0;
      const limit = end - this.#lsn;
      const wanted = BigInt(target.byteLength) <= limit ? target : target.subarray(0, Number(limit));
      const count = await this.#readSegment(wanted, version, segmentBytes);
      if (version !== this.#source.layoutVersion) continue;
      if (count === 0) {
        throw new AcceptorError("ERR_ACCEPTOR_IO", `WAL file ends before ${formatLsn(end)}`);
      }
      this.#lsn = (this.#lsn + BigInt(count)) as Lsn;
      return count;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#closeFile();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #readSegment(target: Uint8Array, version: number, segmentBytes: number): Promise<number> {
    const segno = segmentNumber(this.#lsn, segmentBytes);
    for (let attempt = 1; ; attempt += 1) {
      if (this.#open?.segno !== segno || this.#open.version !== version) {
        await this.#closeFile();
        const file = await this.#source.files.openForReading(segno);
        if (file === undefined) return this.#synthesize(target, segno, segmentBytes);
        this.#open = { segno, version, file };
      }
      try {
        const offset = segmentOffset(this.#lsn, segmentBytes);
        return await readBytes(this.#open.file, target, offset, this.#source.files.arena);
      } catch (error) {
        // Its descriptor was given up to another file, and it was renamed since: it is there under another name.
        if (attempt === OPENINGS_MAX || !isMissing(error))
          throw storageError(`read WAL at ${formatLsn(this.#lsn)}`, error);
        await this.#closeFile();
      }
    }
  }

  #synthesize(target: Uint8Array, segno: bigint, segmentBytes: number): number {
    const { timelineStartLsn, server } = this.#source.state();
    const isFirst = segmentNumber(timelineStartLsn, segmentBytes) === segno;
    if (!isFirst || this.#lsn >= timelineStartLsn) {
      const name = segmentFileName(FILE_TIMELINE_ID, segno, segmentBytes);
      throw new AcceptorError(
        "ERR_ACCEPTOR_SEGMENT_REMOVED",
        `requested WAL segment ${name} has already been removed (WAL starts in a later segment than ${formatLsn(segmentStart(segno, segmentBytes))})`,
      );
    }
    const count = Math.min(target.byteLength, Number(timelineStartLsn - this.#lsn));
    copySyntheticBytes(firstSegmentHeaders(timelineStartLsn, server), this.#lsn, target.subarray(0, count));
    return count;
  }

  async #closeFile(): Promise<void> {
    const open = this.#open;
    this.#open = undefined;
    await closeQuietly(open?.file);
  }
}

/**
 * Reading segment files in order while recovery looks for the end of the log. At most one is open.
 *
 * A missing segment and the end of a short file are answers here, not errors: they are where the log ends.
 */
import { formatLsn, segmentNumber, segmentOffset } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import type { VirtualFile } from "@millrace/virtual-file";
import { storageError } from "./errors.js";
import { closeQuietly } from "./file-system.js";
import { readFully } from "./read-bytes.js";
import type { SegmentFiles } from "./segment-files.js";

/** Reads segments for recovery, one open at a time. */
export class ScanFiles {
  readonly #files: SegmentFiles;
  readonly #segmentBytes: number;
  #open: { readonly segno: bigint; readonly file: VirtualFile } | undefined;

  constructor(files: SegmentFiles, segmentBytes: number) {
    this.#files = files;
    this.#segmentBytes = segmentBytes;
  }

  /** Fills `target` from `lsn` on, which lies in one segment, as far as there are bytes. */
  async read(lsn: Lsn, target: Uint8Array): Promise<number> {
    const file = await this.#file(segmentNumber(lsn, this.#segmentBytes));
    if (file === undefined) return 0;
    const offset = segmentOffset(lsn, this.#segmentBytes);
    try {
      return await readFully(file, target, offset, this.#files.arena);
    } catch (error) {
      throw storageError(`read WAL at ${formatLsn(lsn)}`, error);
    }
  }

  /** 0 for a missing segment. */
  async sizeBytes(segno: bigint): Promise<number> {
    const file = await this.#file(segno);
    if (file === undefined) return 0;
    try {
      return await file.size();
    } catch (error) {
      throw storageError("stat WAL segment", error);
    }
  }

  async close(): Promise<void> {
    await closeQuietly(this.#open?.file);
    this.#open = undefined;
  }

  async #file(segno: bigint): Promise<VirtualFile | undefined> {
    if (this.#open?.segno === segno) return this.#open.file;
    await this.close();
    const file = await this.#files.openForReading(segno);
    if (file !== undefined) this.#open = { segno, file };
    return file;
  }
}

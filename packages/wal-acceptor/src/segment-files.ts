/**
 * The segment files of one timeline's directory: their names, and the steps that make, complete, cut and remove them.
 *
 * A segment is `waltmp` while it gets its size, `<name>.partial` while it is written, `<name>` when it is complete.
 * Every step that changes a name syncs the directory before the next relies on it. If a crash has left both names of
 * a segment, the partial one counts. What is on disk is remembered here, so that no step lists the directory again.
 *
 * Errors of calls other than syncs become ERR_ACCEPTOR_NO_SPACE or _IO. A failed sync goes to `poison`, which ends
 * the store: the kernel may have dropped the pages, and a retry that succeeds would prove nothing.
 */
import { parseSegmentFileName, PARTIAL_SUFFIX, segmentFileName } from "@millrace/lsn";
import * as path from "node:path";
import { storageError } from "./errors.js";
import type { AcceptorError } from "./errors.js";
import { closeQuietly } from "./file-system.js";
import type { FileSystem, OpenFile } from "./file-system.js";
import { FILE_TIMELINE_ID } from "./first-segment.js";

/** Name of a segment before it has its full size. */
export const SEGMENT_TEMPORARY_NAME = "waltmp";

/** Which names of a segment exist. */
interface Names {
  partial: boolean;
  full: boolean;
}

/** The files of one timeline. One caller at a time, except for `openForReading`. */
export class SegmentFiles {
  readonly #fileSystem: FileSystem;
  readonly #directory: string;
  readonly #segmentBytes: number;
  readonly #poison: (cause: AcceptorError) => AcceptorError;
  readonly #names = new Map<bigint, Names>();

  /** @param poison called when a sync failed; gives the error to throw */
  constructor(
    fileSystem: FileSystem,
    directory: string,
    segmentBytes: number,
    poison: (cause: AcceptorError) => AcceptorError,
  ) {
    this.#fileSystem = fileSystem;
    this.#directory = directory;
    this.#segmentBytes = segmentBytes;
    this.#poison = poison;
  }

  /** Reads the directory, and removes a segment whose creation was interrupted. */
  async load(): Promise<void> {
    const names = await this.#attempt("list", this.#directory, () =>
      this.#fileSystem.readdir(this.#directory),
    );
    this.#names.clear();
    for (const name of names) {
      if (name === SEGMENT_TEMPORARY_NAME) await this.#unlink(name);
      const parsed = parseSegmentFileName(name, this.#segmentBytes);
      if (parsed === undefined || parsed.timelineId !== FILE_TIMELINE_ID) continue;
      this.#note(parsed.segmentNumber, parsed.partial ? { partial: true } : { full: true });
    }
  }

  has(segno: bigint): boolean {
    return this.#names.has(segno);
  }

  /** Whether the segment exists and is still being written, as far as its name says. */
  isPartial(segno: bigint): boolean {
    return this.#names.get(segno)?.partial === true;
  }

  get oldest(): bigint | undefined {
    let oldest: bigint | undefined;
    for (const segno of this.#names.keys()) if (oldest === undefined || segno < oldest) oldest = segno;
    return oldest;
  }

  /** Numbers from `first` on, ascending. */
  from(first: bigint): readonly bigint[] {
    return [...this.#names.keys()].filter((segno) => segno >= first).toSorted(ascending);
  }

  /** Numbers up to and including `last`, ascending. */
  upTo(last: bigint): readonly bigint[] {
    return [...this.#names.keys()].filter((segno) => segno <= last).toSorted(ascending);
  }

  /** Opens the segment for writing, whatever it is called. */
  openExisting(segno: bigint): Promise<OpenFile> {
    const file = this.#path(segno, this.isPartial(segno));
    return this.#attempt("open", file, () => this.#fileSystem.open(file, "write"));
  }

  /** Opens the segment for reading, or gives undefined if it is not there. May run beside a change of its name. */
  async openForReading(segno: bigint): Promise<OpenFile | undefined> {
    if (!this.#names.has(segno)) return undefined;
    // Between the two attempts the segment may be completed, or cut and partial again: whichever name is there.
    for (const partial of [true, false, true]) {
      const file = this.#path(segno, partial);
      try {
        return await this.#fileSystem.open(file, "read");
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw storageError(`open ${file}`, error);
      }
    }
    return undefined;
  }

  /** Makes a segment of zeros, durably, and gives it open under its partial name. */
  async create(segno: bigint): Promise<OpenFile> {
    const temporary = path.join(this.#directory, SEGMENT_TEMPORARY_NAME);
    const file = await this.#attempt("create", temporary, () => this.#fileSystem.open(temporary, "create"));
    try {
      await this.#attempt("extend", temporary, () => file.ftruncate(this.#segmentBytes));
      await this.sync(temporary, () => file.fsync());
      const partial = this.#path(segno, true);
      await this.#attempt("rename", partial, () => this.#fileSystem.rename(temporary, partial));
      this.#note(segno, { partial: true });
      await this.syncDirectory();
      return file;
    } catch (error) {
      await closeQuietly(file);
      throw error;
    }
  }

  /** Gives a completely written and synced segment its full name, durably. */
  async complete(segno: bigint): Promise<void> {
    const partial = this.#path(segno, true);
    await this.#attempt("rename", partial, () => this.#fileSystem.rename(partial, this.#path(segno, false)));
    this.#names.set(segno, { partial: false, full: true });
    await this.syncDirectory();
  }

  /** Takes a full name back, because the segment will be written again. The directory is the caller's to sync. */
  async uncomplete(segno: bigint): Promise<void> {
    const names = this.#names.get(segno);
    if (names?.full !== true) return;
    const full = this.#path(segno, false);
    if (names.partial) await this.#unlink(path.basename(full));
    else await this.#attempt("rename", full, () => this.#fileSystem.rename(full, this.#path(segno, true)));
    this.#names.set(segno, { partial: true, full: false });
  }

  /** Zeroes the file from `offsetBytes` to the segment's end, durably. */
  async cut(file: OpenFile, segno: bigint, offsetBytes: number): Promise<void> {
    const name = this.#path(segno, this.isPartial(segno));
    await this.#attempt("cut", name, () => file.ftruncate(offsetBytes));
    await this.#attempt("extend", name, () => file.ftruncate(this.#segmentBytes));
    await this.sync(name, () => file.fsync());
  }

  /** Removes a segment under all its names. The directory is the caller's to sync. */
  async remove(segno: bigint): Promise<void> {
    const names = this.#names.get(segno);
    if (names?.partial === true) await this.#unlink(path.basename(this.#path(segno, true)));
    if (names?.full === true) await this.#unlink(path.basename(this.#path(segno, false)));
    this.#names.delete(segno);
  }

  /** Makes bytes and size of a segment durable that an earlier process may have left in the page cache. */
  async settle(segno: bigint): Promise<void> {
    const file = await this.openExisting(segno);
    try {
      await this.sync(this.#path(segno, this.isPartial(segno)), () => file.fsync());
    } finally {
      await closeQuietly(file);
    }
  }

  syncDirectory(): Promise<void> {
    return this.sync(this.#directory, () => this.#fileSystem.fsyncDirectory(this.#directory));
  }

  /** Runs a sync; its failure poisons. */
  async sync(what: string, call: () => Promise<void>): Promise<void> {
    try {
      await call();
    } catch (error) {
      throw this.#poison(storageError(`sync ${what}`, error));
    }
  }

  async #attempt<T>(doing: string, what: string, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      throw storageError(`${doing} ${what}`, error);
    }
  }

  async #unlink(name: string): Promise<void> {
    const file = path.join(this.#directory, name);
    try {
      await this.#fileSystem.unlink(file);
    } catch (error) {
      // Gone is what it was to become.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw storageError(`remove ${file}`, error);
    }
  }

  #note(segno: bigint, found: Partial<Names>): void {
    this.#names.set(segno, { partial: false, full: false, ...this.#names.get(segno), ...found });
  }

  #path(segno: bigint, partial: boolean): string {
    const name = segmentFileName(FILE_TIMELINE_ID, segno, this.#segmentBytes);
    return path.join(this.#directory, partial ? name + PARTIAL_SUFFIX : name);
  }
}

function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

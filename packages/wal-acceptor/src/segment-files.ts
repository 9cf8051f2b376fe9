/**
 * The segment files of one timeline's directory: their names, and the steps that make, complete, cut and remove them.
 *
 * A segment is `waltmp` while it is filled with zeros, `<name>.partial` while it is written, `<name>` when it is complete.
 * Every step that changes a name syncs the directory before the next relies on it. If a crash has left both names of
 * a segment, the partial one counts. What is on disk is remembered here, so that no step lists the directory again. A
 * segment is renamed only while nobody writes to it; who reads it opens it again if the descriptor was given up meanwhile.
 *
 * Errors of calls other than syncs become ERR_ACCEPTOR_NO_SPACE or _IO. A failed sync goes to `poison`, which ends
 * the store: the kernel may have dropped the pages, and a retry that succeeds would prove nothing.
 */
import * as path from "node:path";
import type { AlignedArena } from "@millrace/aligned-buffers";
import { parseSegmentFileName, PARTIAL_SUFFIX, segmentFileName, segmentOffset } from "@millrace/lsn";
import { FileIoError, syncDirectory, VirtualFile } from "@millrace/virtual-file";
import type { FileEnvironment } from "@millrace/virtual-file";
import type { PlacedPageHeader } from "@millrace/wal-decoder";

import { AcceptorError, isAcceptorError, storageError } from "./errors.js";
import { closeQuietly, environmentOf } from "./file-system.js";
import type { FileSystem } from "./file-system.js";
import { FILE_TIMELINE_ID } from "./first-segment.js";
import { readBytes } from "./read-bytes.js";
import { openForFilling, openLogFile, patchBlock, readBlockHead, writeZeros } from "./segment-writing.js";

/** Name of a segment before it is full of zeros. */
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

  /** Memory for the I/O of these files. */
  get arena(): AlignedArena {
    return this.#fileSystem.arena;
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

  /** Opens the segment to write WAL into it, whatever it is called. */
  openForWriting(segno: bigint): Promise<VirtualFile> {
    const file = this.#currentPath(segno);
    return this.#attempt("open", file, () => openLogFile(file, this.#environment));
  }

  /** Opens the segment for reading, or gives undefined if it is not there. May run beside a change of its name. */
  async openForReading(segno: bigint): Promise<VirtualFile | undefined> {
    if (!this.#names.has(segno)) return undefined;
    // Between the two attempts the segment may be completed, or cut and partial again: whichever name is there.
    for (const partial of [true, false, true]) {
      const file = this.#path(segno, partial);
      try {
        return await VirtualFile.open(file, {}, this.#environment);
      } catch (error) {
        if (!isMissing(error)) throw storageError(`open ${file}`, error);
      }
    }
    return undefined;
  }

  /** Makes a segment of zeros under its partial name, durably. A failure leaves nothing that takes room. */
  async create(segno: bigint): Promise<void> {
    const temporary = path.join(this.#directory, SEGMENT_TEMPORARY_NAME);
    try {
      await this.#fill(temporary);
      const partial = this.#path(segno, true);
      await this.#attempt("rename", partial, () => this.#fileSystem.rename(temporary, partial));
    } catch (error) {
      if (!isAcceptorError(error, "ERR_ACCEPTOR_POISONED"))
        await this.#unlink(SEGMENT_TEMPORARY_NAME).catch(() => undefined);
      throw error;
    }
    this.#note(segno, { partial: true });
    await this.syncDirectory();
  }

  /** Gives a completely written and durable segment its full name, durably. */
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

  /**
   * Zeroes the segment from `offsetBytes` on, durably.
   *
   * @param zeroFromBytes from here on it is zero already
   */
  async cut(segno: bigint, offsetBytes: number, zeroFromBytes: number): Promise<void> {
    const name = this.#currentPath(segno);
    const file = await this.#attempt("open", name, () => openForFilling(name, this.#environment));
    try {
      await this.#attempt("cut", name, () => this.#zeroBehind(file, offsetBytes, zeroFromBytes));
      await this.sync(name, () => file.sync("all"));
    } finally {
      await closeQuietly(file);
    }
  }

  /** The bytes between the start of the block that `offsetBytes` lies in and `offsetBytes`, as direct I/O has blocks. */
  blockHead(file: VirtualFile, offsetBytes: number): Promise<Uint8Array> {
    return this.#attempt("read", file.path, async () => {
      const head = await readBlockHead(file, offsetBytes, this.arena);
      if (head.byteLength === offsetBytes % file.alignmentBytes) return head;
      throw new AcceptorError("ERR_ACCEPTOR_IO", `the file ends before ${String(offsetBytes)}`);
    });
  }

  /** Writes page headers into the segment, durably, where there is none yet. */
  async stamp(segno: bigint, headers: readonly PlacedPageHeader[]): Promise<void> {
    const name = this.#currentPath(segno);
    const file = await this.#attempt("open", name, () => openForFilling(name, this.#environment));
    try {
      await this.#attempt("write the first segment's headers to", name, async () => {
        const magic = new Uint8Array(2);
        for (const { lsn, header } of headers) {
          const offset = segmentOffset(lsn, this.#segmentBytes);
          magic.fill(0);
          await readBytes(file, magic, offset, this.arena);
          // A header that is there already may have come with real WAL.
          if (magic[0] === 0 && magic[1] === 0) await patchBlock(file, header, offset, this.arena);
        }
      });
      await this.sync(name, () => file.sync("all"));
    } finally {
      await closeQuietly(file);
    }
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
    const name = this.#currentPath(segno);
    const file = await this.#attempt("open", name, () => openForFilling(name, this.#environment));
    try {
      await this.sync(name, () => file.sync("all"));
    } finally {
      await closeQuietly(file);
    }
  }

  syncDirectory(): Promise<void> {
    return this.sync(this.#directory, () => syncDirectory(this.#directory, this.#environment));
  }

  /** Runs a sync; its failure poisons. */
  async sync(what: string, call: () => Promise<void>): Promise<void> {
    try {
      await call();
    } catch (error) {
      throw this.#poison(storageError(`sync ${what}`, error));
    }
  }

  async #fill(temporary: string): Promise<void> {
    const options = { create: true, truncate: true };
    const file = await this.#attempt("create", temporary, () =>
      openForFilling(temporary, this.#environment, options),
    );
    try {
      await this.#attempt("fill", temporary, () => writeZeros(file, 0, this.#segmentBytes, this.arena));
      await this.sync(temporary, () => file.sync("all"));
    } finally {
      await closeQuietly(file);
    }
  }

  async #zeroBehind(file: VirtualFile, offsetBytes: number, zeroFromBytes: number): Promise<void> {
    const unit = file.alignmentBytes;
    const until = Math.min(Math.ceil(zeroFromBytes / unit) * unit, this.#segmentBytes);
    if (until <= offsetBytes) return;
    const head = await this.blockHead(file, offsetBytes);
    try {
      const from = offsetBytes - head.byteLength;
      if (head.byteLength === 0) {
        await writeZeros(file, from, until, this.arena);
        return;
      }
      const block = new Uint8Array(unit);
      block.set(head);
      await patchBlock(file, block, from, this.arena);
      await writeZeros(file, from + unit, until, this.arena);
    } catch (error) {
      if (!isAcceptorError(storageError("cut", error), "ERR_ACCEPTOR_NO_SPACE")) throw error;
      // A file with holes, on a full disk: a hole costs nothing, and elections go on.
      await file.setLength(offsetBytes);
      await file.setLength(this.#segmentBytes);
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

  get #environment(): FileEnvironment {
    return environmentOf(this.#fileSystem);
  }

  #note(segno: bigint, found: Partial<Names>): void {
    this.#names.set(segno, { partial: false, full: false, ...this.#names.get(segno), ...found });
  }

  #currentPath(segno: bigint): string {
    return this.#path(segno, this.isPartial(segno));
  }

  #path(segno: bigint, partial: boolean): string {
    const name = segmentFileName(FILE_TIMELINE_ID, segno, this.#segmentBytes);
    return path.join(this.#directory, partial ? name + PARTIAL_SUFFIX : name);
  }
}

/** Whether a file was not there when it was opened, for the first time or again. */
export function isMissing(error: unknown): boolean {
  return error instanceof FileIoError && error.errnoCode === "ENOENT";
}

function ascending(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

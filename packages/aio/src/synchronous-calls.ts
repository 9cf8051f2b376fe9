/**
 * The blocking system calls behind synchronous execution, two ways: Node's, everywhere, and the native part's.
 *
 * Node's throw on failure and need typed arrays; the native ones return a negative errno, take addresses and allocate
 * nothing, which is worth 11 to 15 per cent on reads from the page cache. Both retry EINTR.
 */
import { fdatasyncSync, fsyncSync, readSync, readvSync, writeSync, writevSync } from "node:fs";
import { constants } from "node:os";

import { VECTOR } from "./layout.js";
import type { SegmentTable } from "./segment-table.js";

/** Blocking positional I/O on memory segments. Each returns bytes (0 for a sync), or a negative errno. */
export interface SynchronousCalls {
  readonly name: "node" | "native";
  read(
    fd: number,
    segments: SegmentTable,
    segment: number,
    offset: number,
    length: number,
    position: number,
  ): number;
  write(
    fd: number,
    segments: SegmentTable,
    segment: number,
    offset: number,
    length: number,
    position: number,
  ): number;
  /** Pieces as words of `words` from `first` on, see VECTOR. */
  vectored(
    isWrite: boolean,
    fd: number,
    segments: SegmentTable,
    words: Int32Array,
    first: number,
    count: number,
    position: number,
  ): number;
  sync(fd: number, dataOnly: boolean): number;
}

/** The negative errno of an exception of node:fs. What is not a system error is a defect and thrown on. */
function errnoOf(error: unknown): number {
  const errno = (error as NodeJS.ErrnoException).errno;
  if (typeof errno === "number" && errno < 0) return errno;
  // Node checks some arguments itself; a descriptor or a length out of range is what the kernel calls EINVAL.
  if ((error as NodeJS.ErrnoException).code === "ERR_OUT_OF_RANGE") return -constants.errno.EINVAL;
  throw error;
}

/** The calls of node:fs. */
export const nodeCalls: SynchronousCalls = {
  name: "node",
  read(fd, segments, segment, offset, length, position) {
    try {
      return readSync(fd, segments.view(segment), offset, length, position);
    } catch (error) {
      return errnoOf(error);
    }
  },
  write(fd, segments, segment, offset, length, position) {
    try {
      return writeSync(fd, segments.view(segment), offset, length, position);
    } catch (error) {
      return errnoOf(error);
    }
  },
  vectored(isWrite, fd, segments, words, first, count, position) {
    const views: Uint8Array[] = [];
    for (let at = first; at < first + count * VECTOR.words; at += VECTOR.words) {
      const offset = words[at + VECTOR.offset] as number;
      const segment = segments.view(words[at + VECTOR.segment] as number);
      views.push(segment.subarray(offset, offset + (words[at + VECTOR.length] as number)));
    }
    try {
      return isWrite ? writevSync(fd, views, position) : readvSync(fd, views, position);
    } catch (error) {
      return errnoOf(error);
    }
  },
  sync(fd, dataOnly) {
    try {
      if (dataOnly) fdatasyncSync(fd);
      else fsyncSync(fd);
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  },
};

/**
 * Compares WAL on disk byte for byte: PostgreSQL's pg_wal against the segments of one acceptor.
 *
 * Every byte of the range is read from both sides; nothing is sampled, hashed or skipped, and a segment that is
 * missing on either side is a difference, not a gap to step over. The range must begin at a segment boundary or
 * inside the first segment both sides have, and end at a position that both have made durable; bytes past the end
 * are not looked at, because PostgreSQL recycles old segments and an acceptor extends new ones with zeros.
 *
 * The two sides may name the timeline differently: acceptors always write 00000001, PostgreSQL its own.
 */
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";

import {
  addBytes,
  formatLsn,
  segmentFileName,
  segmentNumber,
  segmentOffset,
  segmentStart,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

/** One side of the comparison. */
export interface WalDirectory {
  /** For messages, for example "acceptor 2". */
  readonly name: string;
  readonly directory: string;
  /** The timeline in its file names. */
  readonly timelineId: number;
  /** Also look for `<segment>.partial`, the segment that an acceptor still writes. */
  readonly partial: boolean;
}

/** The outcome: all equal, or the first difference. */
export type WalComparison =
  | { readonly equal: true; readonly bytes: number; readonly segments: number }
  | {
      readonly equal: false;
      /** Bytes that were equal before the difference. */
      readonly bytes: number;
      readonly differsAt: Lsn;
      readonly reason: string;
    };

/** One read; a segment of the usual 16 MiB takes sixteen. */
const CHUNK_BYTES = 1024 * 1024;

async function openSegment(
  side: WalDirectory,
  segment: bigint,
  segmentBytes: number,
): Promise<FileHandle | undefined> {
  const name = segmentFileName(side.timelineId, segment, segmentBytes);
  // The partial file wins where both exist: it is the one that is written.
  for (const candidate of side.partial ? [`${name}.partial`, name] : [name]) {
    try {
      return await open(join(side.directory, candidate), "r");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
  return undefined;
}

/** Fills as much of `target` as the file has at `offset`. */
async function readFully(file: FileHandle, target: Uint8Array, offset: number): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await file.read(target, done, target.length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

function firstDifference(left: Uint8Array, right: Uint8Array, length: number): number {
  for (let index = 0; index < length; index += 1) if (left[index] !== right[index]) return index;
  return length;
}

/** The first differing offset within a segment's part [from, until), or undefined when all of it is equal. */
async function compareSegment(
  left: FileHandle,
  right: FileHandle,
  from: number,
  until: number,
): Promise<{ offset: number; short?: "left" | "right" } | undefined> {
  const leftBytes = Buffer.allocUnsafe(CHUNK_BYTES);
  const rightBytes = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let offset = from; offset < until; offset += CHUNK_BYTES) {
    const wanted = Math.min(CHUNK_BYTES, until - offset);
    const haveLeft = await readFully(left, leftBytes.subarray(0, wanted), offset);
    const haveRight = await readFully(right, rightBytes.subarray(0, wanted), offset);
    const common = Math.min(haveLeft, haveRight);
    // `equals` is a memcmp; the slow loop runs once, for the message.
    if (!leftBytes.subarray(0, common).equals(rightBytes.subarray(0, common))) {
      return { offset: offset + firstDifference(leftBytes, rightBytes, common) };
    }
    if (common < wanted) return { offset: offset + common, short: haveLeft < haveRight ? "left" : "right" };
  }
  return undefined;
}

/**
 * Compares [startLsn, endLsn) of both directories.
 *
 * @param segmentBytes the cluster's WAL segment size
 * @returns the first difference, a missing segment or a short file included; `bytes` is 0 and `equal` true for an
 *   empty range, so the caller decides whether an empty range proves anything
 * @throws what the file system throws, other than for a missing file
 */
export async function compareWal(
  reference: WalDirectory,
  other: WalDirectory,
  startLsn: Lsn,
  endLsn: Lsn,
  segmentBytes: number,
): Promise<WalComparison> {
  let bytes = 0;
  let segments = 0;
  let at = startLsn;
  while (at < endLsn) {
    const segment = segmentNumber(at, segmentBytes);
    const from = segmentOffset(at, segmentBytes);
    const nextStart = segmentStart(segment + 1n, segmentBytes);
    const until = nextStart <= endLsn ? segmentBytes : segmentOffset(endLsn, segmentBytes);
    const left = await openSegment(reference, segment, segmentBytes);
    const right = await openSegment(other, segment, segmentBytes);
    try {
      if (left === undefined || right === undefined) {
        const name = segmentFileName(
          (left === undefined ? reference : other).timelineId,
          segment,
          segmentBytes,
        );
        const owner = left === undefined ? reference.name : other.name;
        return { equal: false, bytes, differsAt: at, reason: `${owner} has no segment ${name}` };
      }
      const difference = await compareSegment(left, right, from, until);
      if (difference !== undefined) {
        const differsAt = addBytes(segmentStart(segment, segmentBytes), difference.offset);
        const owner = difference.short === "left" ? reference.name : other.name;
        const reason =
          difference.short === undefined
            ? `${other.name} differs from ${reference.name} at ${formatLsn(differsAt)}`
            : `the segment file of ${owner} ends at ${formatLsn(differsAt)}`;
        return { equal: false, bytes: bytes + difference.offset - from, differsAt, reason };
      }
    } finally {
      await left?.close();
      await right?.close();
    }
    bytes += until - from;
    segments += 1;
    at = addBytes(at, until - from);
  }
  return { equal: true, bytes, segments };
}

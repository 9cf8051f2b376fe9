/**
 * What readers of a file that is being written look at: the file up to a point, memory from there on.
 *
 * A snapshot is taken and used within one step of the event loop. Whoever waits in between, say for a read of the file, copies
 * from memory first: a segment that is confirmed afterwards may be filled again, but is in the file by then.
 */
import { WriterError } from "./errors.js";
import type { SegmentList } from "./segments.js";

/** What there is to read. */
export interface WriterSnapshot {
  /** Bytes from the start of the file that belong to writes which have returned. There is nothing to read beyond. */
  readonly acknowledged: number;
  /** Bytes from the start of the file that are in it; the others are in memory. */
  readonly fileUpTo: number;
  /**
   * Copies from memory. Only until the caller awaits something: then take another snapshot.
   *
   * @param target borrowed; `from` goes to its start
   * @param from, to in the file, bytes; from `fileUpTo` to `acknowledged`
   * @throws {RangeError} not within these
   * @throws {WriterError} ERR_WRITER_STALE_SNAPSHOT: bytes may have moved since
   */
  copyInto(target: Uint8Array, from: number, to: number): void;
}

/** The writer, as a snapshot sees it. */
export interface SnapshotSource {
  readonly segments: SegmentList;
  /** The buffer being filled, whose start belongs at `segments.submitted`. */
  readonly room: Uint8Array;
  readonly hasMemory: () => boolean;
}

/** Takes a snapshot. */
export function takeSnapshot(source: SnapshotSource, acknowledged: number): WriterSnapshot {
  const { segments } = source;
  const { confirmed, submitted } = segments;
  const fileUpTo = Math.min(confirmed, acknowledged);
  return {
    acknowledged,
    fileUpTo,
    copyInto(target, from, to) {
      if (!(from >= fileUpTo && from <= to && to <= acknowledged))
        throw new RangeError(`not in memory: ${String(from)} to ${String(to)}`);
      if (segments.confirmed !== confirmed || segments.submitted !== submitted || !source.hasMemory())
        throw new WriterError("ERR_WRITER_STALE_SNAPSHOT", "take a snapshot after each wait");
      segments.copyInto(target, from, to);
      const begin = Math.max(from, submitted);
      if (begin < to) target.set(source.room.subarray(begin - submitted, to - submitted), begin - from);
    },
  };
}

/**
 * Segment files of a directory, read in order.
 *
 * Read with Node's own calls: this is a tool that looks at files which somebody else writes, once, front to back, through
 * the page cache like pg_waldump.
 */
import { closeSync, existsSync, openSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";

import {
  parseSegmentFileName,
  SEGMENT_BYTES_DEFAULT,
  segmentFileName,
  segmentNumber,
  segmentOffset,
} from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";
import { LONG_HEADER_BYTES, readSegmentHeader, WalDecodeError } from "@millrace/wal-decoder";
import type { SegmentHeader } from "@millrace/wal-decoder";

import { describeError, ServerError } from "../errors.js";

/** The segments of one timeline in a directory. One file is open at a time. */
export class WalFiles implements Disposable {
  readonly #directory: string;
  readonly #timelineId: number;
  readonly #segmentBytes: number;
  #open: { readonly name: string; readonly fd: number } | undefined;
  /** What the first segment says. */
  readonly first: SegmentHeader;

  /**
   * @throws {ServerError} ERR_SERVER_DATA: there is no such directory, no segment of the timeline in it, or one that cannot be
   *   read
   */
  constructor(directory: string, timelineId: number) {
    this.#directory = directory;
    this.#timelineId = timelineId;
    let names: string[];
    try {
      // The numbers in a name depend on the segment's size, its timeline does not.
      names = readdirSync(directory)
        .filter((name) => parseSegmentFileName(name, SEGMENT_BYTES_DEFAULT)?.timelineId === timelineId)
        .sort();
    } catch (error) {
      throw new ServerError("ERR_SERVER_DATA", `${directory} cannot be read: ${describeError(error)}`, {
        cause: error,
      });
    }
    const [name] = names;
    if (name === undefined) {
      const text = `${directory} holds no segment of timeline ${String(timelineId)}`;
      throw new ServerError("ERR_SERVER_DATA", text);
    }
    this.first = this.#header(name);
    this.#segmentBytes = this.first.segmentBytes;
  }

  /** Reads bytes at `lsn`, all of one segment; gives how many there are, 0 for a segment that is missing. */
  read(lsn: Lsn, target: Uint8Array): number {
    const name = segmentFileName(
      this.#timelineId,
      segmentNumber(lsn, this.#segmentBytes),
      this.#segmentBytes,
    );
    const fd = this.#file(name);
    if (fd === undefined) return 0;
    let count = 0;
    while (count < target.byteLength) {
      const at = segmentOffset(lsn, this.#segmentBytes) + count;
      const read = readSync(fd, target, count, target.byteLength - count, at);
      if (read === 0) break;
      count += read;
    }
    return count;
  }

  [Symbol.dispose](): void {
    if (this.#open !== undefined) closeSync(this.#open.fd);
    this.#open = undefined;
  }

  #file(name: string): number | undefined {
    if (this.#open?.name === name) return this.#open.fd;
    this[Symbol.dispose]();
    const path = join(this.#directory, name);
    if (!existsSync(path)) return undefined;
    this.#open = { name, fd: openSync(path, "r") };
    return this.#open.fd;
  }

  #header(name: string): SegmentHeader {
    const bytes = new Uint8Array(LONG_HEADER_BYTES);
    const fd = this.#file(name);
    const count = fd === undefined ? 0 : readSync(fd, bytes, 0, bytes.byteLength, 0);
    try {
      if (count < bytes.byteLength) throw new RangeError("it is too short");
      return readSegmentHeader(bytes);
    } catch (error) {
      if (!(error instanceof WalDecodeError || error instanceof RangeError)) throw error;
      const text = `${join(this.#directory, name)} is no segment of WAL: ${error.message}`;
      throw new ServerError("ERR_SERVER_DATA", text, { cause: error });
    }
  }
}

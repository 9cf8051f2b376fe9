/**
 * Filling a range of a file with zeros, for the extension of a relation.
 *
 * More than a few blocks are allocated at once where the file system can do that; zeros are written otherwise. A hole
 * would be cheaper than either, but the disk could be full when its pages are written. After mdzeroextend of PostgreSQL 18.
 */
import { writeSync } from "node:fs";
import { createMemorySegment } from "@millrace/aligned-buffers";
import { errnoName } from "@millrace/aio";
import { fallocate } from "@millrace/io-uring";

/** Bytes of zeros written at a time. */
const ZEROS_BYTES = 131_072;
/** Extensions above this are allocated instead of written: PostgreSQL's 8 blocks. */
const WRITTEN_BYTES_MAX = 65_536;

/** Page-aligned, for direct I/O; one for the thread, and never written to. */
let zeros: Uint8Array | undefined;

/**
 * Makes sure that a range of a file exists and is zero; it lies at the file's end, or beyond.
 *
 * @throws an error of Node's, with `code`
 */
export function zeroBlocks(fd: number, offsetBytes: number, lengthBytes: number): void {
  if (lengthBytes > WRITTEN_BYTES_MAX) {
    const result = fallocate(fd, 0, offsetBytes, lengthBytes);
    if (result === 0) return;
    if (result !== "unsupported" && errnoName(-result) !== "EOPNOTSUPP") throw fallocateError(-result);
  }
  zeros ??= createMemorySegment(ZEROS_BYTES).bytes;
  let done = 0;
  while (done < lengthBytes) {
    const length = Math.min(ZEROS_BYTES, lengthBytes - done);
    done += writeSync(fd, zeros, 0, length, offsetBytes + done);
  }
}

function fallocateError(errno: number): NodeJS.ErrnoException {
  const code = errnoName(errno);
  return Object.assign(new Error(`${code}: fallocate`), { errno: -errno, code, syscall: "fallocate" });
}

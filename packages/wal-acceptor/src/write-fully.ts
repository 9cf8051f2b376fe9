/**
 * Writing all of a list of buffers: positional, gathered, and as few system calls as the limits allow.
 *
 * A write may be short (a nearly full disk, a file-size limit, a signal): the rest is tried again, and the next call
 * then reports the reason. Nothing is copied; only views are made, and only where a limit or a short write cuts.
 */
import { AcceptorError } from "./errors.js";
import { WRITE_BUFFERS_MAX } from "./file-system.js";
import type { OpenFile } from "./file-system.js";

/** Bytes of one write call: large enough to be cheap per byte, small enough not to occupy a pool thread for long. */
export const WRITE_BYTES_MAX: number = 1024 * 1024;

/**
 * Writes every byte of `buffers` at `offsetBytes`. The first system call is issued before this returns its promise.
 *
 * @param buffers lent until the promise settles
 * @throws {AcceptorError} ERR_ACCEPTOR_IO if a call writes nothing; what `pwritev` rejects with otherwise
 */
export async function writeFully(
  file: OpenFile,
  buffers: readonly Uint8Array[],
  offsetBytes: number,
): Promise<void> {
  // Never an empty buffer in front: a call then always has bytes to take.
  let rest = buffers[0]?.byteLength === 0 ? dropBytes(buffers, 0) : buffers;
  let offset = offsetBytes;
  while (rest.length > 0) {
    const batch = firstBatch(rest);
    const written = await file.pwritev(batch, offset);
    if (written <= 0) throw new AcceptorError("ERR_ACCEPTOR_IO", "write: the kernel took no bytes");
    offset += written;
    rest = dropBytes(rest, written);
  }
}

/** Bytes in all of `buffers`. */
export function totalBytes(buffers: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const buffer of buffers) bytes += buffer.byteLength;
  return bytes;
}

/** What is left of `buffers` without the first `bytes`; empty buffers at the cut go too. */
export function dropBytes(buffers: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let index = 0;
  let left = bytes;
  for (; index < buffers.length; index += 1) {
    const length = buffers[index]?.byteLength ?? 0;
    if (left < length) break;
    left -= length;
  }
  const cut = buffers[index];
  if (cut === undefined) return [];
  return left === 0 ? buffers.slice(index) : [cut.subarray(left), ...buffers.slice(index + 1)];
}

/** The first `bytes` of `buffers`, or all of them if there are fewer. */
export function takeBytes(buffers: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  const taken: Uint8Array[] = [];
  let left = bytes;
  for (const buffer of buffers) {
    if (left === 0) break;
    taken.push(buffer.byteLength <= left ? buffer : buffer.subarray(0, left));
    left -= Math.min(left, buffer.byteLength);
  }
  return taken;
}

function firstBatch(buffers: readonly Uint8Array[]): readonly Uint8Array[] {
  if (buffers.length <= WRITE_BUFFERS_MAX && totalBytes(buffers) <= WRITE_BYTES_MAX) return buffers;
  return takeBytes(buffers.slice(0, WRITE_BUFFERS_MAX), WRITE_BYTES_MAX);
}

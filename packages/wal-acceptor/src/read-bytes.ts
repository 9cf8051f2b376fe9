/**
 * Reading files into memory of any kind, at any position.
 *
 * Direct I/O goes into the engine's memory, in whole blocks; whoever reads WAL has a buffer of its own and starts in the
 * middle of a page. The blocks around the bytes are read into memory that is borrowed for the read, and the bytes copied:
 * a few microseconds for what a walsender sends at a time.
 */
import type { AlignedArena } from "@millrace/aligned-buffers";
import type { VirtualFile } from "@millrace/virtual-file";

/** Bytes of one read at most, so that a large target does not take the memory of many small ones. */
const READ_BYTES_MAX: number = 1024 * 1024;

/**
 * Reads what follows `offsetBytes`.
 *
 * @param target lent until the promise settles
 * @returns bytes read: 0 at or beyond the end of the file, otherwise possibly fewer than asked
 * @throws {FileError} as the file's `readAt`
 */
export async function readBytes(
  file: VirtualFile,
  target: Uint8Array,
  offsetBytes: number,
  arena: AlignedArena,
): Promise<number> {
  const unit = file.alignmentBytes;
  const before = offsetBytes % unit;
  const wanted = Math.min(target.byteLength, READ_BYTES_MAX);
  const blocks = Math.ceil((before + wanted) / unit) * unit;
  using buffer = await arena.allocAsync(blocks);
  const got = await file.readAt(buffer, offsetBytes - before, blocks);
  const count = Math.max(0, Math.min(got - before, wanted));
  target.set(buffer.view().subarray(before, before + count));
  return count;
}

/**
 * Fills `target`, as far as there are bytes.
 *
 * @returns bytes read: fewer than asked for only at the end of the file
 */
export async function readFully(
  file: VirtualFile,
  target: Uint8Array,
  offsetBytes: number,
  arena: AlignedArena,
): Promise<number> {
  let filled = 0;
  while (filled < target.byteLength) {
    const count = await readBytes(file, target.subarray(filled), offsetBytes + filled, arena);
    if (count === 0) break;
    filled += count;
  }
  return filled;
}

/**
 * How a segment is opened to be written, filled with zeros, and cut.
 *
 * WAL goes past the page cache, and a write that has returned is durable (O_DIRECT | O_DSYNC): one system call, no copy in
 * the kernel, and no metadata, because the blocks are there and written already. Where O_DSYNC is refused a sync follows
 * the writes; where direct I/O is refused they go through the page cache, and a sync follows.
 *
 * Zeros are really written. fallocate, or a hole, would make every first write change metadata that a durable write then
 * has to wait for: on ext4 three times as long. PostgreSQL fills its segments for the same reason (wal_init_zero).
 */
import type { AlignedArena } from "@millrace/aligned-buffers";
import { FileIoError, VirtualFile } from "@millrace/virtual-file";
import type { FileEnvironment, OpenOptions } from "@millrace/virtual-file";

import { FILE_PERMISSIONS } from "./file-system.js";

/** Bytes of one write of zeros: large enough for a device, small enough for an arena that others use, too. */
export const ZERO_WRITE_BYTES: number = 1024 * 1024;

/** What is tried, best first. */
const LADDER: readonly OpenOptions[] = [
  { direct: "require", dataSync: true },
  { direct: "require" },
  { direct: "off" },
];
const LAST = LADDER.length - 1;

/** What open(2) says about flags that a file system does not know. */
const REFUSALS: ReadonlySet<string> = new Set(["EINVAL", "EOPNOTSUPP"]);

/**
 * Opens an existing segment to write WAL into it; `isDirect` and `isDataSync` of the file tell what was to be had.
 *
 * @throws {FileIoError} ERR_FILE_IO
 */
export async function openLogFile(path: string, environment: FileEnvironment): Promise<VirtualFile> {
  for (const [step, options] of LADDER.entries()) {
    try {
      return await VirtualFile.open(path, { ...options, read: true, write: true }, environment);
    } catch (error) {
      if (step === LAST || !(error instanceof FileIoError) || !REFUSALS.has(error.errnoCode)) throw error;
    }
  }
  throw new FileIoError(path, "open", "EINVAL");
}

/** Opens a file whose writes are made durable all at once, by a sync that follows them. */
export function openForFilling(
  path: string,
  environment: FileEnvironment,
  options: Pick<OpenOptions, "create" | "truncate"> = {},
): Promise<VirtualFile> {
  const access = { ...options, read: true, write: true, mode: FILE_PERMISSIONS };
  return VirtualFile.open(path, access, environment);
}

/** Writes zeros to [`fromBytes`, `untilBytes`), both multiples of the file's alignment. Not durable by itself. */
export async function writeZeros(
  file: VirtualFile,
  fromBytes: number,
  untilBytes: number,
  arena: AlignedArena,
): Promise<void> {
  if (fromBytes >= untilBytes) return;
  const bytes = Math.min(ZERO_WRITE_BYTES, untilBytes - fromBytes);
  using buffer = await arena.allocAsync(bytes);
  buffer.fill(0, bytes);
  using zeros = buffer.freeze();
  for (let at = fromBytes; at < untilBytes; at += bytes) {
    if (untilBytes - at >= bytes) {
      await file.writeAllAt(zeros, at);
    } else {
      using rest = zeros.slice(0, untilBytes - at);
      await file.writeAllAt(rest, at);
    }
  }
}

/**
 * Reads what is in the block that `offsetBytes` lies in, before it.
 *
 * @returns given; empty if `offsetBytes` is the start of a block, or if the file has none; fewer bytes than that if the
 *   file ends there
 */
export async function readBlockHead(
  file: VirtualFile,
  offsetBytes: number,
  arena: AlignedArena,
): Promise<Uint8Array> {
  const unit = file.alignmentBytes;
  const head = offsetBytes % unit;
  if (head === 0) return new Uint8Array(0);
  using block = await arena.allocAsync(unit);
  const got = await file.readAt(block, offsetBytes - head, unit);
  return block.view().slice(0, Math.min(got, head));
}

/**
 * Writes `bytes` over the file at `offsetBytes`, with whatever is around them in their blocks. Not durable by itself.
 *
 * @param bytes within one block of the file's alignment, or the file has none
 */
export async function patchBlock(
  file: VirtualFile,
  bytes: Uint8Array,
  offsetBytes: number,
  arena: AlignedArena,
): Promise<void> {
  const unit = file.alignmentBytes;
  const head = offsetBytes % unit;
  const length = Math.max(unit, bytes.byteLength);
  using block = await arena.allocAsync(length);
  const got = unit === 1 ? 0 : await file.readAt(block, offsetBytes - head, length);
  block.fill(0, length - got);
  block.view().set(bytes, head);
  using patched = block.freeze();
  await file.writeAllAt(patched, offsetBytes - head);
}

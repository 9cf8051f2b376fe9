/**
 * Replacing a small file so that after a crash it holds all of the old bytes or all of the new ones.
 *
 * New bytes go to a second file, are synced there, and take the name by a rename, whose own durability is the directory's
 * sync. Whoever calls this for the same final path at once gets an error, or one complete winner, never a mixture.
 */
import { constants } from "node:fs";
import { basename, dirname, join } from "node:path";
import type { FileEnvironment } from "./environment.js";
import { errnoCodeOf, FileError, FileIoError, ioFailure } from "./errors.js";
import type { FileDescriptor } from "./file-engine.js";
import { writeAll } from "./transfer.js";

const MODE_DEFAULT = 0o666;
/** Bytes that are copied into memory for I/O at a time. */
const CHUNK_BYTES: number = 256 * 1024;

/**
 * Replaces the contents of a file, or makes it, and makes that durable.
 *
 * @param finalPath must have a directory part
 * @param temporaryPath in the same file system; what is there is removed
 * @param content borrowed until the promise settles
 * @param options `mode`: permissions of the file, less the process's mask; 0o666 unless said otherwise
 * @throws {FileIoError} ERR_FILE_IO: EINVAL for a path without a directory; until the rename the old contents are
 *   untouched, afterwards the new ones are there, durable or not
 */
export async function crashsafeOverwrite(
  finalPath: string,
  temporaryPath: string,
  content: Uint8Array,
  environment: Pick<FileEnvironment, "engine" | "arena">,
  options: { readonly mode?: number } = {},
): Promise<void> {
  const { engine } = environment;
  if (basename(finalPath) === finalPath) throw new FileIoError(finalPath, "open", "EINVAL");
  await attempt(temporaryPath, "unlink", () => unlinkIfThere(temporaryPath, environment));
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
  const { mode = MODE_DEFAULT } = options;
  const file = await attempt(temporaryPath, "open", () => engine.open(temporaryPath, flags, mode, 1));
  await closing(temporaryPath, file, async () => {
    await attempt(temporaryPath, "write", () => writeContent(temporaryPath, file, content, environment));
    await attempt(temporaryPath, "fsync", () => file.sync(false));
  });
  await attempt(finalPath, "rename", () => engine.rename(temporaryPath, finalPath));
  await syncDirectory(dirname(finalPath), environment);
}

/**
 * Makes the names in a directory durable.
 *
 * @throws {FileIoError} ERR_FILE_IO
 */
export async function syncDirectory(
  path: string,
  { engine }: Pick<FileEnvironment, "engine">,
): Promise<void> {
  // With the slash, what is no directory is not opened.
  const flags = constants.O_RDONLY | constants.O_DIRECTORY;
  const directory = await attempt(path, "open", () => engine.open(join(path, "/"), flags, 0, 1));
  await closing(path, directory, () => attempt(path, "fsync", () => directory.sync(false)));
}

/** Removes a name; it may be missing. */
export async function unlinkIfThere(
  path: string,
  { engine }: Pick<FileEnvironment, "engine">,
): Promise<void> {
  try {
    await engine.unlink(path);
  } catch (error) {
    if (errnoCodeOf(error) !== "ENOENT") throw error;
  }
}

async function writeContent(
  path: string,
  file: FileDescriptor,
  content: Uint8Array,
  { arena }: Pick<FileEnvironment, "arena">,
): Promise<void> {
  for (let offset = 0; offset < content.length; offset += CHUNK_BYTES) {
    const chunk = content.subarray(offset, offset + CHUNK_BYTES);
    using buffer = await arena.allocAsync(chunk.length);
    buffer.append(chunk);
    await writeAll(path, file, buffer.view(), offset, 1);
  }
}

/** Closes whatever happens; the first error is the one that counts. */
async function closing(path: string, file: FileDescriptor, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    await file.close().catch(() => undefined);
    throw error;
  }
  await attempt(path, "close", () => file.close());
}

async function attempt<T>(path: string, syscall: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw error instanceof FileError ? error : ioFailure(path, syscall, error);
  }
}

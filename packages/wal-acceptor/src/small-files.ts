/**
 * Small whole files and directory trees, over the injected file system.
 *
 * A file written here is replaced in one step: after a crash its name leads to the old or the new content, and after
 * the promise has resolved only to the new. Used for what is not a control file or WAL: the node's id and the list of
 * deleted timelines.
 */
import * as path from "node:path";
import { crashsafeOverwrite, syncDirectory, VirtualFile } from "@millrace/virtual-file";

import { AcceptorError, storageError } from "./errors.js";
import { environmentOf, FILE_PERMISSIONS } from "./file-system.js";
import type { FileSystem } from "./file-system.js";
import { readFully } from "./read-bytes.js";

/** Suffix of a file that is being written; whoever finds one may remove it. */
export const PARTIAL_SUFFIX = ".partial";

/**
 * Reads a whole file.
 *
 * @param bytesMax a longer file is not what it should be and is refused before it is read
 * @returns its bytes, given; `undefined` when there is no such file
 * @throws {AcceptorError} ERR_ACCEPTOR_IO
 */
export async function readSmallFile(
  fileSystem: FileSystem,
  file: string,
  bytesMax: number,
): Promise<Uint8Array | undefined> {
  try {
    if ((await fileSystem.stat(file)) === undefined) return undefined;
    await using opened = await VirtualFile.open(file, { direct: "off" }, environmentOf(fileSystem));
    const size = await opened.size();
    if (size > bytesMax)
      throw new AcceptorError("ERR_ACCEPTOR_IO", `${file} has ${size} bytes, at most ${bytesMax}`);
    const bytes = new Uint8Array(size);
    return bytes.subarray(0, await readFully(opened, bytes, 0, fileSystem.arena));
  } catch (error) {
    throw storageError(`read ${file}`, error);
  }
}

/**
 * Replaces a whole file, durably: written under another name, synced, renamed, directory synced.
 *
 * @param bytes lent until the promise settles
 * @throws {AcceptorError} ERR_ACCEPTOR_IO, ERR_ACCEPTOR_NO_SPACE; the old content is still in place unless the very
 *   last step, the sync of the directory, failed
 */
export async function writeFileDurably(
  fileSystem: FileSystem,
  file: string,
  bytes: Uint8Array,
): Promise<void> {
  try {
    const partial = `${file}${PARTIAL_SUFFIX}`;
    await crashsafeOverwrite(file, partial, bytes, environmentOf(fileSystem), { mode: FILE_PERMISSIONS });
  } catch (error) {
    throw storageError(`write ${file}`, error);
  }
}

/** Makes the directory if there is none, and its name durable. */
export async function ensureDirectory(fileSystem: FileSystem, directory: string): Promise<void> {
  try {
    if ((await fileSystem.stat(directory)) !== undefined) return;
    const parent = path.dirname(directory);
    if (parent !== directory) await ensureDirectory(fileSystem, parent);
    await fileSystem.mkdir(directory).catch((error: unknown) => {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    });
    await syncDirectory(parent, environmentOf(fileSystem));
  } catch (error) {
    throw storageError(`make directory ${directory}`, error);
  }
}

/**
 * Removes a directory and everything in it; nothing happens if it is not there. Two levels of names are all that
 * this package ever makes, deeper ones are followed too. Not durable by itself: sync the parent.
 *
 * @returns whether there was anything
 * @throws {AcceptorError} ERR_ACCEPTOR_IO; part of it may be gone, repeating it removes the rest
 */
export async function removeTree(fileSystem: FileSystem, directory: string): Promise<boolean> {
  try {
    const status = await fileSystem.stat(directory);
    if (status === undefined) return false;
    if (!status.isDirectory) {
      await fileSystem.unlink(directory);
      return true;
    }
    for (const name of await fileSystem.readdir(directory)) {
      await removeTree(fileSystem, path.join(directory, name));
    }
    await fileSystem.rmdir(directory);
    return true;
  } catch (error) {
    throw storageError(`remove ${directory}`, error);
  }
}

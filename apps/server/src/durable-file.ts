/**
 * Small files that the server itself keeps: its identity, its ports, the password.
 *
 * Each is replaced whole (temporary file, fsync, rename, fsync of the directory), so that a crash leaves the old or
 * the new content and never a mixture. For the acceptors' own files see @millrace/wal-acceptor; nothing here is on the
 * path of a commit.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Replaces the file at `path` with `text`, durably.
 *
 * @param mode permission bits of the new file, whatever the umask allows of them
 */
export function writeDurably(path: string, text: string, mode = 0o644): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = openSync(temporary, "w", mode);
  try {
    const bytes = Buffer.from(text);
    for (let written = 0; written < bytes.length;) written += writeSync(file, bytes, written);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** The text of the file at `path`, or undefined when there is none. */
export function readIfPresent(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

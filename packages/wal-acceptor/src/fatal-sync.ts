/**
 * A file system on which a failed sync is final, for whoever has no owner of its own to poison.
 *
 * After a failed sync the kernel may have dropped the pages or the names, and a repetition that succeeds proves nothing.
 * WAL and control files have stores that remember such a failure; directories and small files have nobody, so here the
 * failure is told at once, and the process is to end.
 */
import { AcceptorError } from "./errors.js";
import { overFile } from "./file-system.js";
import type { FileSystem } from "./file-system.js";

/**
 * The same file system, whose failing syncs reject with ERR_ACCEPTOR_POISONED.
 *
 * @param onFatal called with that error before the caller gets it
 */
export function withFatalSync(fileSystem: FileSystem, onFatal: (error: AcceptorError) => void): FileSystem {
  const orFatal = async (what: string, sync: Promise<void>): Promise<void> => {
    try {
      await sync;
    } catch (cause) {
      const poisoned = new AcceptorError("ERR_ACCEPTOR_POISONED", `sync of ${what} failed`, { cause });
      onFatal(poisoned);
      throw poisoned;
    }
  };
  return {
    async open(file, mode) {
      const opened = await fileSystem.open(file, mode);
      return overFile(opened, {
        fdatasync: () => orFatal(file, opened.fdatasync()),
        fsync: () => orFatal(file, opened.fsync()),
      });
    },
    rename: (from, to) => fileSystem.rename(from, to),
    unlink: (file) => fileSystem.unlink(file),
    mkdir: (directory) => fileSystem.mkdir(directory),
    rmdir: (directory) => fileSystem.rmdir(directory),
    readdir: (directory) => fileSystem.readdir(directory),
    stat: (file) => fileSystem.stat(file),
    fsyncDirectory: (directory) => orFatal(directory, fileSystem.fsyncDirectory(directory)),
  };
}

/**
 * A file system on which a failed sync is final, for whoever has no owner of its own to poison.
 *
 * After a failed sync the kernel may have dropped the pages or the names, and a repetition that succeeds proves nothing.
 * WAL and control files have stores that remember such a failure, and judge failed writes of files with O_DSYNC; directories
 * and small files have nobody, so here the failure is told at once, and the process is to end.
 */
import { AcceptorError } from "./errors.js";
import { overDescriptor, overFileSystem } from "./file-system.js";
import type { FileSystem } from "./file-system.js";

/**
 * The same file system, whose failing syncs reject with ERR_ACCEPTOR_POISONED.
 *
 * @param onFatal called with that error before the caller gets it
 */
export function withFatalSync(fileSystem: FileSystem, onFatal: (error: AcceptorError) => void): FileSystem {
  return overFileSystem(fileSystem, {
    async open(path, flags, mode, alignmentBytes) {
      const file = await fileSystem.open(path, flags, mode, alignmentBytes);
      return overDescriptor(file, {
        async sync(dataOnly) {
          try {
            await file.sync(dataOnly);
          } catch (cause) {
            const poisoned = new AcceptorError("ERR_ACCEPTOR_POISONED", `sync of ${path} failed`, { cause });
            onFatal(poisoned);
            throw poisoned;
          }
        },
      });
    },
  });
}

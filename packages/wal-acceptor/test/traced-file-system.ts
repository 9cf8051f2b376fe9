/**
 * A real directory with syncs counted instead of made, and calls that can be held or made to fail.
 */
import { nodeFileSystem } from "../src/file-system.js";
import type { FileSystem, OpenFile } from "../src/file-system.js";

export interface FileCall {
  readonly name: keyof FileSystem | keyof OpenFile;
  readonly path: string;
}

export class TracedFileSystem implements FileSystem {
  /** Sees every call before it happens; may throw, or return a promise to delay it. */
  onCall: ((call: FileCall) => Promise<void> | void) | undefined;
  /** Data syncs of WAL segments since the file system was made. */
  walSyncs = 0;
  /** Writes into WAL segments. */
  walWrites = 0;
  openFiles = 0;

  async open(path: string, mode: "read" | "write" | "create"): Promise<OpenFile> {
    await this.onCall?.({ name: "open", path });
    const file = await nodeFileSystem.open(path, mode);
    this.openFiles += 1;
    const wal = /\/[0-9A-F]{24}(\.partial)?$/.test(path) || path.endsWith("waltmp");
    const step = async (name: keyof OpenFile): Promise<void> => await this.onCall?.({ name, path });
    return {
      pwritev: async (buffers, offsetBytes) => {
        await step("pwritev");
        if (wal) this.walWrites += 1;
        return await file.pwritev(buffers, offsetBytes);
      },
      pread: async (target, offsetBytes) => {
        await step("pread");
        return await file.pread(target, offsetBytes);
      },
      fdatasync: async () => {
        await step("fdatasync");
        if (wal) this.walSyncs += 1;
      },
      fsync: async () => await step("fsync"),
      ftruncate: async (lengthBytes) => {
        await step("ftruncate");
        await file.ftruncate(lengthBytes);
      },
      size: async () => await file.size(),
      close: async () => {
        await step("close");
        this.openFiles -= 1;
        await file.close();
      },
    };
  }

  async rename(from: string, to: string): Promise<void> {
    await this.onCall?.({ name: "rename", path: to });
    await nodeFileSystem.rename(from, to);
  }

  async unlink(path: string): Promise<void> {
    await this.onCall?.({ name: "unlink", path });
    await nodeFileSystem.unlink(path);
  }

  async mkdir(path: string): Promise<void> {
    await this.onCall?.({ name: "mkdir", path });
    await nodeFileSystem.mkdir(path);
  }

  async rmdir(path: string): Promise<void> {
    await this.onCall?.({ name: "rmdir", path });
    await nodeFileSystem.rmdir(path);
  }

  async readdir(path: string): Promise<string[]> {
    await this.onCall?.({ name: "readdir", path });
    return await nodeFileSystem.readdir(path);
  }

  async stat(path: string): ReturnType<FileSystem["stat"]> {
    await this.onCall?.({ name: "stat", path });
    return await nodeFileSystem.stat(path);
  }

  async fsyncDirectory(path: string): Promise<void> {
    await this.onCall?.({ name: "fsyncDirectory", path });
  }
}

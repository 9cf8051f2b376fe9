/**
 * A real directory with syncs counted instead of made, and calls that can be held or made to fail. A write that is durable by
 * itself (O_DSYNC) counts as a write and a sync.
 */
import { constants } from "node:fs";
import { IoEngine } from "@millrace/aio";
import type { AlignedArena } from "@millrace/aligned-buffers";
import type { FdCache, FileDescriptor } from "@millrace/virtual-file";
import { createFileSystem, ENGINE_FILES_MAX } from "../src/file-system.js";
import type { FileStatus, FileSystem } from "../src/file-system.js";
import type { CallName } from "./memory-file-system.js";

export interface FileCall {
  readonly name: CallName;
  readonly path: string;
}

/** Of all tests of a process, which are done with it when the process is. */
let engine: IoEngine | undefined;

export class TracedFileSystem implements FileSystem {
  readonly #machine: FileSystem;
  /** Sees every call before it happens; may throw, or return a promise to delay it. */
  onCall: ((call: FileCall) => Promise<void> | void) | undefined;
  /** Data syncs of WAL segments since the file system was made. */
  walSyncs = 0;
  /** Writes into WAL segments. */
  walWrites = 0;
  openFiles = 0;

  constructor() {
    engine ??= IoEngine.create({ filesMax: ENGINE_FILES_MAX, fixBuffers: false });
    this.#machine = createFileSystem(engine);
  }

  get arena(): AlignedArena {
    return this.#machine.arena;
  }

  get descriptors(): FdCache {
    return this.#machine.descriptors;
  }

  async open(path: string, flags: number, mode: number, alignmentBytes: number): Promise<FileDescriptor> {
    const isDirectory = (flags & constants.O_DIRECTORY) !== 0;
    if (!isDirectory) await this.onCall?.({ name: "open", path });
    const isDataSync = (flags & constants.O_DSYNC) === constants.O_DSYNC;
    const file = await this.#machine.open(path, flags & ~constants.O_DSYNC, mode, alignmentBytes);
    return isDirectory ? this.#directory(path.replace(/\/$/, ""), file) : this.#file(path, file, isDataSync);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.onCall?.({ name: "rename", path: to });
    await this.#machine.rename(from, to);
  }

  async unlink(path: string): Promise<void> {
    await this.onCall?.({ name: "unlink", path });
    await this.#machine.unlink(path);
  }

  async mkdir(path: string): Promise<void> {
    await this.onCall?.({ name: "mkdir", path });
    await this.#machine.mkdir(path);
  }

  async rmdir(path: string): Promise<void> {
    await this.onCall?.({ name: "rmdir", path });
    await this.#machine.rmdir(path);
  }

  async readdir(path: string): Promise<string[]> {
    await this.onCall?.({ name: "readdir", path });
    return await this.#machine.readdir(path);
  }

  async stat(path: string): Promise<FileStatus | undefined> {
    await this.onCall?.({ name: "stat", path });
    return await this.#machine.stat(path);
  }

  #directory(path: string, file: FileDescriptor): FileDescriptor {
    return {
      ...refusing,
      sync: async () => await this.onCall?.({ name: "fsyncDirectory", path }),
      close: () => file.close(),
    };
  }

  #file(path: string, file: FileDescriptor, isDataSync: boolean): FileDescriptor {
    this.openFiles += 1;
    const wal = /\/[0-9A-F]{24}(\.partial)?$/.test(path);
    const step = async (name: CallName): Promise<void> => await this.onCall?.({ name, path });
    const sync = async (name: "fdatasync" | "fsync"): Promise<void> => {
      await step(name);
      if (wal && name === "fdatasync") this.walSyncs += 1;
    };
    return {
      write: async (source, offsetBytes) => {
        await step("pwrite");
        if (wal) this.walWrites += 1;
        const written = await file.write(source, offsetBytes);
        if (isDataSync) await sync("fdatasync");
        return written;
      },
      read: async (target, offsetBytes) => {
        await step("pread");
        return await file.read(target, offsetBytes);
      },
      sync: async (dataOnly) => await sync(dataOnly ? "fdatasync" : "fsync"),
      truncate: async (lengthBytes) => {
        await step("ftruncate");
        await file.truncate(lengthBytes);
      },
      size: async () => await file.size(),
      close: async () => {
        await step("close");
        this.openFiles -= 1;
        await file.close();
      },
    };
  }
}

function refuse(): Promise<never> {
  return Promise.reject(new Error("a directory is only synced"));
}

const refusing = { read: refuse, write: refuse, truncate: refuse, size: refuse };

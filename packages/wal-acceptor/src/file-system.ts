/**
 * The disk as the stores see it: the engine of @millrace/virtual-file, and directories.
 *
 * Every disk access of the control store and the WAL store goes through a `FileSystem`, so that tests can lose unsynced
 * pages, fail any call and stop at any step. The real one runs its reads, writes and syncs in an `IoEngine`: io_uring
 * where there is one, worker threads elsewhere. Names change in libuv's pool. Nothing blocks the event loop.
 *
 * Contract, as POSIX has it: data is durable after a `sync` of its file, or after the write itself on a descriptor that was
 * opened with O_DSYNC; a name after a sync of its directory (`syncDirectory` of @millrace/virtual-file, which opens it with
 * O_DIRECTORY); and nothing else promises anything. Errors carry an errno's name as `code` ("ENOSPC").
 */
import { constants } from "node:fs";
import { mkdir, readdir, rmdir, stat } from "node:fs/promises";
import type { IoEngine } from "@millrace/aio";
import type { AlignedArena } from "@millrace/aligned-buffers";
import { createFileEngine, FdCache } from "@millrace/virtual-file";
import type { FileDescriptor, FileEngine, FileEnvironment } from "@millrace/virtual-file";

/** What `stat` tells. */
export interface FileStatus {
  readonly sizeBytes: number;
  readonly isDirectory: boolean;
}

/** Files, their names, and what their I/O needs; paths are absolute. Rejections carry an errno's name as `code`. */
export interface FileSystem extends FileEngine {
  /** Memory that descriptors of this file system can do I/O on. */
  readonly arena: AlignedArena;
  /** The descriptors that are open, of all users of this file system together. */
  readonly descriptors: FdCache;
  /** One level; rejects with EEXIST. */
  mkdir(path: string): Promise<void>;
  /** An empty directory only. */
  rmdir(path: string): Promise<void>;
  /** Names in the directory without "." and "..", in no order. */
  readdir(path: string): Promise<string[]>;
  /** undefined when there is nothing of that name. */
  stat(path: string): Promise<FileStatus | undefined>;
}

/** Only the acceptor's user needs to see its files. */
export const FILE_PERMISSIONS = 0o600;

/** Descriptors of files at a time; those that are only open for a moment come on top. */
const DESCRIPTORS_MAX = 512;
/** `filesMax` of an engine for a file system: all descriptors, and room for those that are open for a moment. */
export const ENGINE_FILES_MAX: number = 2 * DESCRIPTORS_MAX;

const DATA_SYNC: number = (constants as { readonly O_DSYNC?: number }).O_DSYNC ?? 0;

/**
 * The machine's file system.
 *
 * @param io lent: the caller closes it, after everything that uses the file system. One file system for each engine
 */
export function createFileSystem(io: IoEngine): FileSystem {
  return {
    ...createFileEngine(io),
    arena: io.arena,
    descriptors: new FdCache(DESCRIPTORS_MAX),
    async mkdir(directory) {
      await mkdir(directory);
    },
    rmdir,
    readdir: (directory) => readdir(directory),
    async stat(file) {
      try {
        const status = await stat(file);
        return { sizeBytes: status.size, isDirectory: status.isDirectory() };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    },
  };
}

/** What files of @millrace/virtual-file are opened with. */
export function environmentOf(fileSystem: FileSystem): FileEnvironment {
  const { arena, descriptors } = fileSystem;
  return { engine: fileSystem, arena, descriptors };
}

/**
 * Closes a file whose bytes are synced, or whose loss is known by other means: a failing close takes nothing away that
 * counted, so it is no reason for anybody to fail.
 */
export async function closeQuietly(file: { close(): Promise<void> } | undefined): Promise<void> {
  await file?.close().catch(() => undefined);
}

/** The file system with some calls replaced. */
export function overFileSystem(fileSystem: FileSystem, calls: Partial<FileEngine>): FileSystem {
  return {
    get arena() {
      return fileSystem.arena;
    },
    get descriptors() {
      return fileSystem.descriptors;
    },
    open: (path, flags, mode, alignmentBytes) => fileSystem.open(path, flags, mode, alignmentBytes),
    rename: (source, target) => fileSystem.rename(source, target),
    unlink: (path) => fileSystem.unlink(path),
    mkdir: (path) => fileSystem.mkdir(path),
    rmdir: (path) => fileSystem.rmdir(path),
    readdir: (path) => fileSystem.readdir(path),
    stat: (path) => fileSystem.stat(path),
    ...calls,
  };
}

/** The descriptor with some calls replaced. */
export function overDescriptor(file: FileDescriptor, calls: Partial<FileDescriptor>): FileDescriptor {
  return {
    read: (target, offsetBytes) => file.read(target, offsetBytes),
    write: (source, offsetBytes) => file.write(source, offsetBytes),
    sync: (dataOnly) => file.sync(dataOnly),
    truncate: (lengthBytes) => file.truncate(lengthBytes),
    size: () => file.size(),
    close: () => file.close(),
    ...calls,
  };
}

/**
 * The same file system without any waiting for the disk. For tests and throw-away clusters: a power cut or a
 * kernel crash then loses acknowledged WAL.
 */
export function withoutSync(fileSystem: FileSystem): FileSystem {
  return overFileSystem(fileSystem, {
    async open(path, flags, mode, alignmentBytes) {
      const file = await fileSystem.open(path, flags & ~DATA_SYNC, mode, alignmentBytes);
      return overDescriptor(file, { sync: () => Promise.resolve() });
    },
  });
}

/**
 * The disk as the stores see it: the few calls they make, as an interface.
 *
 * Every disk access of the control store and the WAL store goes through a `FileSystem`, so that tests can lose
 * unsynced pages, fail any call and stop at any step, and so that another I/O method can take over. The default
 * is `nodeFileSystem`: positional calls on plain descriptors of node:fs, whose callback functions cost less per
 * call than FileHandle objects.
 *
 * Contract, as POSIX has it: data is durable after `fdatasync` or `fsync` of the file, a name after
 * `fsyncDirectory` of its directory, and nothing else promises anything. Errors carry node's `code` ("ENOSPC").
 */
import * as fs from "node:fs";

/** "read": must exist. "write": read and write, must exist. "create": read and write, made or emptied. */
export type OpenMode = "read" | "write" | "create";

/** An open file. One owner; no call may follow `close`. */
export interface OpenFile {
  /**
   * Writes the buffers one after another at `offsetBytes`.
   *
   * @param buffers lent until the promise settles; at most 1024 of them
   * @returns bytes written, at least 1 and possibly fewer than given: the caller goes on with the rest
   */
  pwritev(buffers: readonly Uint8Array[], offsetBytes: number): Promise<number>;
  /**
   * The same on this thread, for a few KiB that only have to be copied into the page cache. Absent where that would mean
   * to wait. It blocks while the kernel holds writers back, as it does when too much of its memory waits for the disk.
   *
   * @returns bytes written, at least 1 and possibly fewer than given
   */
  writeNow?(buffers: readonly Uint8Array[], offsetBytes: number): number;
  /**
   * Reads into `target`, which is lent until the promise settles.
   *
   * @returns bytes read; 0 at or beyond the end of the file, otherwise possibly fewer than asked
   */
  pread(target: Uint8Array, offsetBytes: number): Promise<number>;
  /** Makes the bytes and the length durable. A failure is final: the pages may be gone, so a later success proves nothing. */
  fdatasync(): Promise<void>;
  /** Makes bytes and all metadata durable. */
  fsync(): Promise<void>;
  /** Sets the length; what is added reads as zeros. */
  ftruncate(lengthBytes: number): Promise<void>;
  /** The length at this moment, in bytes. */
  size(): Promise<number>;
  close(): Promise<void>;
}

/** What `stat` tells. */
export interface FileStatus {
  readonly sizeBytes: number;
  readonly isDirectory: boolean;
}

/** File names and files; paths are absolute. Rejections carry node's error codes. */
export interface FileSystem {
  open(path: string, mode: OpenMode): Promise<OpenFile>;
  /** Replaces `to` if it exists, in one step. */
  rename(from: string, to: string): Promise<void>;
  /** Rejects with ENOENT when there is no such file. */
  unlink(path: string): Promise<void>;
  /** One level; rejects with EEXIST. */
  mkdir(path: string): Promise<void>;
  /** An empty directory only. */
  rmdir(path: string): Promise<void>;
  /** Names in the directory without "." and "..", in no order. */
  readdir(path: string): Promise<string[]>;
  /** undefined when there is nothing of that name. */
  stat(path: string): Promise<FileStatus | undefined>;
  /** Makes names created, renamed or removed in the directory durable. */
  fsyncDirectory(path: string): Promise<void>;
}

/** What one `writev` may carry (IOV_MAX of Linux). */
export const WRITE_BUFFERS_MAX = 1024;

const OPEN_FLAGS: Readonly<Record<OpenMode, number>> = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  create: fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_TRUNC,
};

/** Only the acceptor's user needs to see its files. */
const FILE_PERMISSIONS = 0o600;

function settle(resolve: () => void, reject: (error: Error) => void): (error: Error | null) => void {
  return (error) => {
    if (error === null) resolve();
    else reject(error);
  };
}

function settleWith<T>(
  resolve: (value: T) => void,
  reject: (error: Error) => void,
): (error: Error | null, value: T) => void {
  return (error, value) => {
    if (error === null) resolve(value);
    else reject(error);
  };
}

class NodeFile implements OpenFile {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  pwritev(buffers: readonly Uint8Array[], offsetBytes: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const [only] = buffers;
      if (buffers.length === 1 && only !== undefined) {
        fs.write(this.#fd, only, 0, only.byteLength, offsetBytes, settleWith(resolve, reject));
      } else {
        fs.writev(this.#fd, buffers, offsetBytes, settleWith(resolve, reject));
      }
    });
  }

  writeNow(buffers: readonly Uint8Array[], offsetBytes: number): number {
    const [only] = buffers;
    if (buffers.length === 1 && only !== undefined) {
      return fs.writeSync(this.#fd, only, 0, only.byteLength, offsetBytes);
    }
    return fs.writevSync(this.#fd, buffers, offsetBytes);
  }

  pread(target: Uint8Array, offsetBytes: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fs.read(this.#fd, target, 0, target.byteLength, offsetBytes, settleWith(resolve, reject));
    });
  }

  fdatasync(): Promise<void> {
    return new Promise((resolve, reject) => fs.fdatasync(this.#fd, settle(resolve, reject)));
  }

  fsync(): Promise<void> {
    return new Promise((resolve, reject) => fs.fsync(this.#fd, settle(resolve, reject)));
  }

  ftruncate(lengthBytes: number): Promise<void> {
    return new Promise((resolve, reject) => fs.ftruncate(this.#fd, lengthBytes, settle(resolve, reject)));
  }

  async size(): Promise<number> {
    const status = await new Promise<fs.Stats>((resolve, reject) => {
      fs.fstat(this.#fd, settleWith(resolve, reject));
    });
    return status.size;
  }

  close(): Promise<void> {
    return new Promise((resolve, reject) => fs.close(this.#fd, settle(resolve, reject)));
  }
}

function openDescriptor(file: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(file, flags, FILE_PERMISSIONS, settleWith(resolve, reject));
  });
}

/** The machine's file system. */
export const nodeFileSystem: FileSystem = {
  async open(file, mode) {
    return new NodeFile(await openDescriptor(file, OPEN_FLAGS[mode]));
  },
  rename: (from, to) => fs.promises.rename(from, to),
  unlink: (file) => fs.promises.unlink(file),
  async mkdir(directory) {
    await fs.promises.mkdir(directory);
  },
  rmdir: (directory) => fs.promises.rmdir(directory),
  readdir: (directory) => fs.promises.readdir(directory),
  async stat(file) {
    try {
      const status = await fs.promises.stat(file);
      return { sizeBytes: status.size, isDirectory: status.isDirectory() };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  },
  async fsyncDirectory(directory) {
    // A directory can be opened for reading only, and fsync takes such a descriptor on Linux and macOS.
    const opened = new NodeFile(await openDescriptor(directory, fs.constants.O_RDONLY));
    try {
      await opened.fsync();
    } finally {
      await opened.close();
    }
  },
};

/**
 * Closes a file whose bytes are synced, or whose loss is known by other means: a failing close takes nothing away that
 * counted, so it is no reason for anybody to fail.
 */
export async function closeQuietly(file: Pick<OpenFile, "close"> | undefined): Promise<void> {
  await file?.close().catch(() => undefined);
}

/** The file with some calls replaced. */
export function overFile(file: OpenFile, calls: Partial<OpenFile>): OpenFile {
  const writeNow = file.writeNow?.bind(file);
  return {
    ...(writeNow === undefined ? {} : { writeNow }),
    pwritev: (buffers, offsetBytes) => file.pwritev(buffers, offsetBytes),
    pread: (target, offsetBytes) => file.pread(target, offsetBytes),
    fdatasync: () => file.fdatasync(),
    fsync: () => file.fsync(),
    ftruncate: (lengthBytes) => file.ftruncate(lengthBytes),
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
  return {
    async open(file, mode) {
      return overFile(await fileSystem.open(file, mode), {
        fdatasync: () => Promise.resolve(),
        fsync: () => Promise.resolve(),
      });
    },
    rename: (from, to) => fileSystem.rename(from, to),
    unlink: (file) => fileSystem.unlink(file),
    mkdir: (directory) => fileSystem.mkdir(directory),
    rmdir: (directory) => fileSystem.rmdir(directory),
    readdir: (directory) => fileSystem.readdir(directory),
    stat: (file) => fileSystem.stat(file),
    fsyncDirectory: () => Promise.resolve(),
  };
}

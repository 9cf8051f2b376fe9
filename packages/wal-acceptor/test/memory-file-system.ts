/**
 * A file system in memory that loses what was not synced, fails where it is told to, and can stop at any step. It has
 * direct I/O, of blocks of 4 KiB only, and O_DSYNC, unless it is told to refuse them.
 *
 * Two copies of everything: what a running process sees and what survives. A crash keeps any subset of the pages
 * written since the last sync of their file, some torn at a sector, the old or the new length, and any subset of the
 * name changes made since the last sync of their directory. A rename is one change, also between two directories. A write
 * with O_DSYNC is two calls, a write and a sync of its range, and may stop or fail between them. All that is harsher than
 * any real file system on purpose.
 */
import { constants } from "node:fs";
import { AlignedArena } from "@millrace/aligned-buffers";
import { FdCache } from "@millrace/virtual-file";
import type { FileDescriptor } from "@millrace/virtual-file";
import type { FileStatus, FileSystem } from "../src/file-system.js";
import { Directory, Inode, NameJournal } from "./memory-tree.js";
import type { Node } from "./memory-tree.js";

/** Names of calls, after system calls. A sync of a directory is one call, its descriptor none. */
export type CallName =
  | "open"
  | "close"
  | "pread"
  | "pwrite"
  | "fsync"
  | "fdatasync"
  | "ftruncate"
  | "size"
  | "rename"
  | "unlink"
  | "mkdir"
  | "rmdir"
  | "readdir"
  | "stat"
  | "fsyncDirectory";

export interface Call {
  /** Counted from 0 since the file system was made. */
  readonly index: number;
  readonly name: CallName;
  readonly path: string;
  /** Bytes of a write. */
  readonly bytes: number;
}

/** Thrown by every call once the process is dead. */
export class ProcessDied extends Error {
  constructor() {
    super("the process is dead");
  }
}

/** For the stores of one life, which may forget to give back what they have. */
const ARENA_BYTES: number = 32 * 1024 * 1024;

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

export class MemoryFileSystem {
  readonly #root = new Directory();
  readonly #directories = new Set<Directory>([this.#root]);
  readonly #inodes = new Set<Inode>();
  readonly #journal = new NameJournal();
  /** Of this life: a dead process gives nothing back. */
  #arena = new AlignedArena({ bytes: ARENA_BYTES });
  #descriptors = new FdCache();
  #calls = 0;
  #life = 0;
  #dead = false;
  #openFiles = 0;
  /** Sees every call before it happens; may throw, or return a promise to delay it. */
  onCall: ((call: Call) => Promise<void> | void) | undefined;
  /** Flags that opens fail with EINVAL for. */
  refusedFlags = 0;
  /** How many bytes of a write the kernel takes; all when absent. */
  shortWrite: ((bytes: number) => number) | undefined;

  /** @param directories exist from the start, durably, with everything above them */
  constructor(...directories: readonly string[]) {
    for (const path of directories) {
      let at = this.#root;
      for (const name of path.split("/").slice(1)) {
        const found = at.seen.get(name);
        const next = found instanceof Directory ? found : new Directory();
        this.#directories.add(next);
        at.seen.set(name, next);
        at.durable.set(name, next);
        at = next;
      }
    }
  }

  /** What the process of this life works with; calls of one that was crashed or restarted since reject. */
  get face(): FileSystem {
    const life = this.#life;
    const alive = (): this => {
      if (life !== this.#life) throw new ProcessDied();
      return this;
    };
    return {
      arena: this.#arena,
      descriptors: this.#descriptors,
      open: async (path, flags, _mode, alignmentBytes) => await alive().#open(path, flags, alignmentBytes),
      rename: async (from, to) => await alive().#rename(from, to),
      unlink: async (path) => await alive().#unlink(path),
      mkdir: async (path) => await alive().#mkdir(path),
      rmdir: async (path) => await alive().#rmdir(path),
      readdir: async (path) => await alive().#readdir(path),
      stat: async (path) => await alive().#stat(path),
    };
  }

  get calls(): number {
    return this.#calls;
  }

  get openFiles(): number {
    return this.#openFiles;
  }

  /** The process dies: every call from now on fails, until `crash` starts a new life. */
  kill(): void {
    this.#dead = true;
  }

  /** Power cut and restart: what was not synced survives or not, page by page and name by name. */
  crash(random: () => number): void {
    for (const inode of this.#inodes) inode.crash(random);
    this.#journal.crash(random);
    for (const directory of this.#directories) directory.forget();
    this.restart();
  }

  /** Restart of the process alone: the kernel keeps everything it has seen. */
  restart(): void {
    this.#life += 1;
    this.#dead = false;
    this.#openFiles = 0;
    this.#arena = new AlignedArena({ bytes: ARENA_BYTES });
    this.#descriptors = new FdCache();
  }

  /** A file's bytes, for looking at or for damaging: write them back with `setBytes`. */
  bytes(path: string): Uint8Array {
    const inode = this.#inode(path);
    const bytes = new Uint8Array(inode.seen.size);
    inode.seen.read(0, bytes);
    return bytes;
  }

  /** Replaces or makes a file, durably, behind the process's back. */
  setBytes(path: string, bytes: Uint8Array): void {
    const { directory, name } = this.#parent(path);
    const inode = new Inode();
    inode.write(0, bytes);
    inode.sync();
    this.#inodes.add(inode);
    directory.seen.set(name, inode);
    directory.durable.set(name, inode);
  }

  /** Removes a file, durably, behind the process's back. */
  removeFile(path: string): void {
    const { directory, name } = this.#parent(path);
    directory.seen.delete(name);
    directory.durable.delete(name);
  }

  /** Gives a file a second name, durably. */
  link(from: string, to: string): void {
    const inode = this.#inode(from);
    const { directory, name } = this.#parent(to);
    directory.seen.set(name, inode);
    directory.durable.set(name, inode);
  }

  names(path: string): string[] {
    return [...this.#directory(path).seen.keys()].toSorted();
  }

  async #open(path: string, flags: number, alignmentBytes: number): Promise<FileDescriptor> {
    if ((flags & constants.O_DIRECTORY) !== 0) return this.#openDirectory(path.replace(/\/$/, ""));
    await this.#step("open", path);
    if ((flags & this.refusedFlags) !== 0) throw systemError("EINVAL");
    const { directory, name } = this.#parent(path);
    let inode = directory.seen.get(name);
    if (inode instanceof Directory) throw systemError("EISDIR");
    if (inode === undefined) {
      if ((flags & constants.O_CREAT) === 0) throw systemError("ENOENT");
      inode = new Inode();
      this.#inodes.add(inode);
      this.#journal.change({ directory, name, node: inode });
    } else {
      if ((flags & constants.O_EXCL) !== 0) throw systemError("EEXIST");
      if ((flags & constants.O_TRUNC) !== 0) inode.truncate(0);
    }
    this.#openFiles += 1;
    return this.#handle(path, inode, flags, alignmentBytes);
  }

  async #rename(from: string, to: string): Promise<void> {
    await this.#step("rename", from);
    const source = this.#parent(from);
    const target = this.#parent(to);
    const node = source.directory.seen.get(source.name);
    if (node === undefined) throw systemError("ENOENT");
    this.#journal.change({ ...source, node: undefined }, { ...target, node });
  }

  async #unlink(path: string): Promise<void> {
    await this.#step("unlink", path);
    const { directory, name } = this.#parent(path);
    if (!directory.seen.has(name)) throw systemError("ENOENT");
    this.#journal.change({ directory, name, node: undefined });
  }

  async #mkdir(path: string): Promise<void> {
    await this.#step("mkdir", path);
    const { directory, name } = this.#parent(path);
    if (directory.seen.has(name)) throw systemError("EEXIST");
    const made = new Directory();
    this.#directories.add(made);
    this.#journal.change({ directory, name, node: made });
  }

  async #rmdir(path: string): Promise<void> {
    await this.#step("rmdir", path);
    const { directory, name } = this.#parent(path);
    if (this.#directory(path).seen.size > 0) throw systemError("ENOTEMPTY");
    this.#journal.change({ directory, name, node: undefined });
  }

  async #readdir(path: string): Promise<string[]> {
    await this.#step("readdir", path);
    return this.names(path);
  }

  async #stat(path: string): Promise<FileStatus | undefined> {
    await this.#step("stat", path);
    const node = this.#find(path);
    if (node === undefined) return undefined;
    return node instanceof Directory
      ? { sizeBytes: 0, isDirectory: true }
      : { sizeBytes: node.seen.size, isDirectory: false };
  }

  #openDirectory(path: string): FileDescriptor {
    const directory = this.#directory(path);
    const refuse = (): Promise<never> => Promise.reject(systemError("EISDIR"));
    return {
      read: refuse,
      write: refuse,
      truncate: refuse,
      size: refuse,
      sync: async () => {
        await this.#step("fsyncDirectory", path);
        this.#journal.sync(directory);
      },
      close: () => Promise.resolve(),
    };
  }

  #handle(path: string, inode: Inode, flags: number, alignmentBytes: number): FileDescriptor {
    const life = this.#life;
    const isDataSync = (flags & constants.O_DSYNC) === constants.O_DSYNC;
    let open = true;
    const step = async (name: CallName, bytes = 0): Promise<void> => {
      if (life !== this.#life || !open) throw systemError("EBADF");
      await this.#step(name, path, bytes);
    };
    const checkAligned = (offset: number, bytes: number): void => {
      if ((flags & constants.O_DIRECT) === 0) return;
      if (offset % alignmentBytes !== 0 || bytes % alignmentBytes !== 0) throw systemError("EINVAL");
    };
    return {
      write: async (source, offset) => {
        checkAligned(offset, source.byteLength);
        await step("pwrite", source.byteLength);
        const taken = this.shortWrite?.(source.byteLength) ?? source.byteLength;
        inode.write(offset, source.subarray(0, taken));
        if (!isDataSync) return taken;
        await step("fdatasync");
        inode.syncRange(offset, taken);
        return taken;
      },
      read: async (target, offset) => {
        checkAligned(offset, target.byteLength);
        await step("pread");
        return inode.seen.read(offset, target);
      },
      sync: async (dataOnly) => {
        await step(dataOnly ? "fdatasync" : "fsync");
        inode.sync();
      },
      truncate: async (length) => {
        await step("ftruncate");
        inode.truncate(length);
      },
      size: async () => {
        await step("size");
        return inode.seen.size;
      },
      close: async () => {
        await step("close");
        open = false;
        this.#openFiles -= 1;
      },
    };
  }

  async #step(name: CallName, path: string, bytes = 0): Promise<void> {
    if (this.#dead) throw new ProcessDied();
    const index = this.#calls;
    this.#calls += 1;
    await this.onCall?.({ index, name, path, bytes });
    if (this.#isDead()) throw new ProcessDied();
  }

  #isDead(): boolean {
    return this.#dead;
  }

  #find(path: string): Node | undefined {
    let at: Node | undefined = this.#root;
    for (const name of path.split("/").slice(1)) {
      if (!(at instanceof Directory)) return undefined;
      at = at.seen.get(name);
    }
    return at;
  }

  #directory(path: string): Directory {
    const node = path === "" ? this.#root : this.#find(path);
    if (node === undefined) throw systemError("ENOENT");
    if (!(node instanceof Directory)) throw systemError("ENOTDIR");
    return node;
  }

  #parent(path: string): { directory: Directory; name: string } {
    const at = path.lastIndexOf("/");
    return { directory: this.#directory(path.slice(0, at)), name: path.slice(at + 1) };
  }

  #inode(path: string): Inode {
    const node = this.#find(path);
    if (!(node instanceof Inode)) throw systemError("ENOENT");
    return node;
  }
}

/**
 * A file system in memory that loses what was not synced, fails where it is told to, and can stop at any step.
 *
 * Two copies of everything: what a running process sees and what survives. A crash keeps any subset of the pages
 * written since the last sync of their file, some torn at a sector, the old or the new length, and any subset of the
 * name changes made since the last sync of their directory. A rename is one change. That is harsher than any real
 * file system on purpose.
 */
import type { FileStatus, FileSystem, OpenFile, OpenMode } from "../src/file-system.js";

const PAGE = 4096;
const SECTOR = 512;

export interface Call {
  /** Counted from 0 since the file system was made. */
  readonly index: number;
  readonly name: keyof FileSystem | keyof OpenFile;
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

export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: injected`), { code });
}

class Content {
  size = 0;
  readonly pages = new Map<number, Uint8Array>();

  read(at: number, target: Uint8Array): number {
    const count = Math.max(0, Math.min(target.byteLength, this.size - at));
    for (let done = 0; done < count;) {
      const inPage = (at + done) % PAGE;
      const bytes = Math.min(count - done, PAGE - inPage);
      const page = this.pages.get(Math.floor((at + done) / PAGE));
      if (page === undefined) target.fill(0, done, done + bytes);
      else target.set(page.subarray(inPage, inPage + bytes), done);
      done += bytes;
    }
    return count;
  }

  copyFrom(other: Content): void {
    this.size = other.size;
    this.pages.clear();
    for (const [number, page] of other.pages) this.pages.set(number, page.slice());
  }
}

class Inode {
  readonly seen = new Content();
  readonly durable = new Content();
  readonly dirty = new Set<number>();

  write(at: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.byteLength;) {
      const number = Math.floor((at + done) / PAGE);
      const inPage = (at + done) % PAGE;
      const count = Math.min(bytes.byteLength - done, PAGE - inPage);
      const page = this.seen.pages.get(number) ?? new Uint8Array(PAGE);
      page.set(bytes.subarray(done, done + count), inPage);
      this.seen.pages.set(number, page);
      this.dirty.add(number);
      done += count;
    }
    this.seen.size = Math.max(this.seen.size, at + bytes.byteLength);
  }

  truncate(length: number): void {
    for (const [number, page] of this.seen.pages) {
      const from = length - number * PAGE;
      if (from >= PAGE) continue;
      this.dirty.add(number);
      if (from <= 0) this.seen.pages.delete(number);
      else page.fill(0, from);
    }
    this.seen.size = length;
  }

  sync(): void {
    for (const number of this.dirty) {
      const page = this.seen.pages.get(number);
      if (page === undefined) this.durable.pages.delete(number);
      else this.durable.pages.set(number, page.slice());
    }
    this.dirty.clear();
    this.durable.size = this.seen.size;
  }

  crash(random: () => number): void {
    for (const number of this.dirty) {
      if (random() < 0.5) continue;
      const seen = this.seen.pages.get(number) ?? new Uint8Array(PAGE);
      const kept = random() < 0.25 ? Math.floor(random() * (PAGE / SECTOR)) * SECTOR : PAGE;
      const page = this.durable.pages.get(number)?.slice() ?? new Uint8Array(PAGE);
      page.set(seen.subarray(0, kept));
      this.durable.pages.set(number, page);
    }
    if (random() < 0.5) this.durable.size = this.seen.size;
    this.dirty.clear();
    this.seen.copyFrom(this.durable);
  }
}

/** One atomic change of names in a directory: each to what it then stands for. */
type NameChange = ReadonlyMap<string, Inode | undefined>;

class Directory {
  readonly seen = new Map<string, Inode>();
  readonly durable = new Map<string, Inode>();
  pending: NameChange[] = [];

  change(change: NameChange): void {
    apply(this.seen, change);
    this.pending.push(change);
  }

  sync(): void {
    for (const change of this.pending) apply(this.durable, change);
    this.pending = [];
  }

  crash(random: () => number): void {
    // Either a journal, which keeps a prefix, or something that keeps any subset.
    const ordered = random() < 0.5;
    const prefix = Math.floor(random() * (this.pending.length + 1));
    this.pending.forEach((change, index) => {
      if (ordered ? index < prefix : random() < 0.5) apply(this.durable, change);
    });
    this.pending = [];
    this.seen.clear();
    for (const [name, inode] of this.durable) this.seen.set(name, inode);
  }
}

function apply(names: Map<string, Inode>, change: NameChange): void {
  for (const [name, inode] of change) {
    if (inode === undefined) names.delete(name);
    else names.set(name, inode);
  }
}

export class MemoryFileSystem implements FileSystem {
  readonly #directories = new Map<string, Directory>();
  readonly #inodes = new Set<Inode>();
  #calls = 0;
  #life = 0;
  #dead = false;
  #openFiles = 0;
  /** Sees every call before it happens; may throw, or return a promise to delay it. */
  onCall: ((call: Call) => Promise<void> | void) | undefined;
  /** Whether files offer `writeNow`; a hook that returns a promise cannot delay such a call. */
  writesNow = false;
  /** How many bytes of a write the kernel takes; all when absent. */
  shortWrite: ((bytes: number) => number) | undefined;

  constructor(...directories: readonly string[]) {
    for (const path of directories) this.#directories.set(path, new Directory());
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
    for (const directory of this.#directories.values()) directory.crash(random);
    this.#life += 1;
    this.#dead = false;
    this.#openFiles = 0;
  }

  /** Restart of the process alone: the kernel keeps everything it has seen. */
  restart(): void {
    this.#life += 1;
    this.#dead = false;
    this.#openFiles = 0;
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
    return [...(this.#directories.get(path)?.seen.keys() ?? [])].toSorted();
  }

  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    await this.#step("open", path);
    const { directory, name } = this.#parent(path);
    let inode = directory.seen.get(name);
    if (inode === undefined && mode !== "create") throw systemError("ENOENT");
    if (inode === undefined) {
      inode = new Inode();
      this.#inodes.add(inode);
      directory.change(new Map([[name, inode]]));
    } else if (mode === "create") {
      inode.truncate(0);
    }
    this.#openFiles += 1;
    return this.#handle(path, inode);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#step("rename", from);
    const source = this.#parent(from);
    const target = this.#parent(to);
    const inode = source.directory.seen.get(source.name);
    if (inode === undefined) throw systemError("ENOENT");
    if (source.directory !== target.directory) throw systemError("EXDEV");
    source.directory.change(
      new Map<string, Inode | undefined>([
        [source.name, undefined],
        [target.name, inode],
      ]),
    );
  }

  async unlink(path: string): Promise<void> {
    await this.#step("unlink", path);
    const { directory, name } = this.#parent(path);
    if (!directory.seen.has(name)) throw systemError("ENOENT");
    directory.change(new Map([[name, undefined]]));
  }

  async mkdir(path: string): Promise<void> {
    await this.#step("mkdir", path);
    if (this.#directories.has(path)) throw systemError("EEXIST");
    this.#directories.set(path, new Directory());
  }

  async rmdir(path: string): Promise<void> {
    await this.#step("rmdir", path);
    this.#directories.delete(path);
  }

  async readdir(path: string): Promise<string[]> {
    await this.#step("readdir", path);
    return this.names(path);
  }

  async stat(path: string): Promise<FileStatus | undefined> {
    await this.#step("stat", path);
    if (this.#directories.has(path)) return { sizeBytes: 0, isDirectory: true };
    const { directory, name } = this.#parent(path);
    const inode = directory.seen.get(name);
    return inode === undefined ? undefined : { sizeBytes: inode.seen.size, isDirectory: false };
  }

  async fsyncDirectory(path: string): Promise<void> {
    await this.#step("fsyncDirectory", path);
    this.#directories.get(path)?.sync();
  }

  #handle(path: string, inode: Inode): OpenFile {
    const life = this.#life;
    let open = true;
    const step = async (name: Call["name"], bytes = 0): Promise<void> => {
      if (life !== this.#life || !open) throw systemError("EBADF");
      await this.#step(name, path, bytes);
    };
    const writeNow: OpenFile["writeNow"] = (buffers, offset) => {
      const all = Buffer.concat(buffers);
      if (life !== this.#life || !open) throw systemError("EBADF");
      this.#stepNow("writeNow", path, all.byteLength);
      const taken = this.shortWrite?.(all.byteLength) ?? all.byteLength;
      inode.write(offset, all.subarray(0, taken));
      return taken;
    };
    return {
      ...(this.writesNow ? { writeNow } : {}),
      pwritev: async (buffers, offset) => {
        const all = Buffer.concat(buffers);
        await step("pwritev", all.byteLength);
        const taken = this.shortWrite?.(all.byteLength) ?? all.byteLength;
        inode.write(offset, all.subarray(0, taken));
        return taken;
      },
      pread: async (target, offset) => {
        await step("pread");
        return inode.seen.read(offset, target);
      },
      fdatasync: async () => {
        await step("fdatasync");
        inode.sync();
      },
      fsync: async () => {
        await step("fsync");
        inode.sync();
      },
      ftruncate: async (length) => {
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

  async #step(name: Call["name"], path: string, bytes = 0): Promise<void> {
    if (this.#dead) throw new ProcessDied();
    const index = this.#calls;
    this.#calls += 1;
    await this.onCall?.({ index, name, path, bytes });
    if (this.#isDead()) throw new ProcessDied();
  }

  #stepNow(name: Call["name"], path: string, bytes: number): void {
    if (this.#dead) throw new ProcessDied();
    const index = this.#calls;
    this.#calls += 1;
    void this.onCall?.({ index, name, path, bytes });
    if (this.#isDead()) throw new ProcessDied();
  }

  #isDead(): boolean {
    return this.#dead;
  }

  #parent(path: string): { directory: Directory; name: string } {
    const at = path.lastIndexOf("/");
    const directory = this.#directories.get(path.slice(0, at));
    if (directory === undefined) throw systemError("ENOENT");
    return { directory, name: path.slice(at + 1) };
  }

  #inode(path: string): Inode {
    const { directory, name } = this.#parent(path);
    const inode = directory.seen.get(name);
    if (inode === undefined) throw systemError("ENOENT");
    return inode;
  }
}

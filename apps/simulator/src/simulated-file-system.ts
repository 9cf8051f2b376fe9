/**
 * A file system in memory that forgets what was not synced.
 *
 * It holds two pictures of every file and directory: what running processes see, and what is certain to survive. A
 * power cut keeps any subset of a file's pages written since its last sync, some torn at a sector, its old or new
 * length, and any subset of the name changes made since the directory's last sync, in order or not. That is more than
 * any one real file system does. A write to a descriptor with O_DSYNC is a write and a sync of it, and a power cut may come
 * between the two. A process that has died gets nothing done any more: each has its own face.
 */
import { constants } from "node:fs";
import type { AlignedArena } from "@millrace/aligned-buffers";
import { FdCache } from "@millrace/virtual-file";
import type { FileDescriptor } from "@millrace/virtual-file";
import type { FileStatus, FileSystem } from "@millrace/wal-acceptor";
import { systemError } from "./disk-behaviour.js";
import type { StepKind } from "./disk-behaviour.js";

const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;
const ZEROS: Buffer = Buffer.alloc(PAGE_BYTES);

class Content {
  sizeBytes = 0;
  readonly pages = new Map<number, Uint8Array>();

  read(offset: number, target: Uint8Array): number {
    const count = Math.max(0, Math.min(target.byteLength, this.sizeBytes - offset));
    for (let done = 0; done < count;) {
      const inPage = (offset + done) % PAGE_BYTES;
      const bytes = Math.min(count - done, PAGE_BYTES - inPage);
      const page = this.pages.get(Math.floor((offset + done) / PAGE_BYTES));
      if (page === undefined) target.fill(0, done, done + bytes);
      else target.set(page.subarray(inPage, inPage + bytes), done);
      done += bytes;
    }
    return count;
  }
}

class File {
  readonly seen = new Content();
  readonly durable = new Content();
  readonly #dirty = new Set<number>();

  write(offset: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.byteLength;) {
      const number = Math.floor((offset + done) / PAGE_BYTES);
      const inPage = (offset + done) % PAGE_BYTES;
      const count = Math.min(bytes.byteLength - done, PAGE_BYTES - inPage);
      // A segment's worth of zeros takes no memory.
      if (count === PAGE_BYTES && ZEROS.equals(bytes.subarray(done, done + count))) {
        this.seen.pages.delete(number);
        this.#dirty.add(number);
        done += count;
        continue;
      }
      let page = this.seen.pages.get(number);
      if (page === undefined) {
        page = new Uint8Array(PAGE_BYTES);
        this.seen.pages.set(number, page);
      }
      page.set(bytes.subarray(done, done + count), inPage);
      this.#dirty.add(number);
      done += count;
    }
    this.seen.sizeBytes = Math.max(this.seen.sizeBytes, offset + bytes.byteLength);
  }

  setSize(sizeBytes: number): void {
    for (const [number, page] of this.seen.pages) {
      const from = sizeBytes - number * PAGE_BYTES;
      if (from >= PAGE_BYTES) continue;
      this.#dirty.add(number);
      if (from <= 0) this.seen.pages.delete(number);
      else page.fill(0, from);
    }
    this.seen.sizeBytes = sizeBytes;
  }

  sync(): void {
    for (const number of this.#dirty) {
      const page = this.seen.pages.get(number);
      if (page === undefined) this.durable.pages.delete(number);
      else this.durable.pages.set(number, page.slice());
    }
    this.#dirty.clear();
    this.durable.sizeBytes = this.seen.sizeBytes;
  }

  powerCut(draw: () => number): void {
    for (const number of this.#dirty) {
      if (draw() < 0.5) continue;
      const page = this.durable.pages.get(number)?.slice() ?? new Uint8Array(PAGE_BYTES);
      const isTorn = draw() < 0.25;
      const kept = isTorn ? Math.floor(draw() * (PAGE_BYTES / SECTOR_BYTES)) * SECTOR_BYTES : PAGE_BYTES;
      page.set((this.seen.pages.get(number) ?? new Uint8Array(PAGE_BYTES)).subarray(0, kept));
      this.durable.pages.set(number, page);
    }
    if (draw() < 0.5) this.durable.sizeBytes = this.seen.sizeBytes;
    this.#dirty.clear();
    this.seen.sizeBytes = this.durable.sizeBytes;
    this.seen.pages.clear();
    for (const [number, page] of this.durable.pages) this.seen.pages.set(number, page.slice());
  }
}

/** Names that change in one step, and what each stands for afterwards. */
type NameChange = ReadonlyMap<string, File | undefined>;

/** The one directory of a simulated disk, and all files in it. */
export class SimulatedFileSystem {
  readonly #before: (kind: StepKind) => Promise<void> | undefined;
  readonly #directory: string;
  readonly #arena: AlignedArena;
  readonly #files = new Set<File>();
  readonly #seen = new Map<string, File>();
  readonly #durable = new Map<string, File>();
  #changes: NameChange[] = [];
  #life = 0;

  /**
   * @param before runs before every call: delays it, or throws to make it fail
   * @param arena memory that files can be read into and written from
   */
  constructor(before: (kind: StepKind) => Promise<void> | undefined, directory: string, arena: AlignedArena) {
    this.#before = before;
    this.#directory = directory;
    this.#arena = arena;
  }

  /** The face for the next process; that of the one before works no more. */
  newProcess(): FileSystem {
    this.#life += 1;
    return this.#face(this.#life);
  }

  /** No call of a running process takes effect any more; everything it did is seen by the next. */
  kill(): void {
    this.#life += 1;
  }

  /** As `kill`, and what was not synced survives or not. `draw` gives numbers in [0, 1). */
  powerCut(draw: () => number): void {
    this.#life += 1;
    for (const file of this.#files) file.powerCut(draw);
    const inOrder = draw() < 0.5;
    const prefix = Math.floor(draw() * (this.#changes.length + 1));
    this.#changes.forEach((change, index) => {
      if (inOrder ? index < prefix : draw() < 0.5) apply(this.#durable, change);
    });
    this.#changes = [];
    this.#seen.clear();
    for (const [name, file] of this.#durable) this.#seen.set(name, file);
    const named = new Set(this.#seen.values());
    for (const file of this.#files) if (!named.has(file)) this.#files.delete(file);
  }

  #face(life: number): FileSystem {
    const step = async (kind: StepKind): Promise<void> => {
      if (life !== this.#life) throw systemError("EBADF");
      await this.#before(kind);
      if (life !== this.#life) throw systemError("EBADF");
    };
    return {
      arena: this.#arena,
      descriptors: new FdCache(),
      open: async (path, flags, _mode, alignmentBytes) => {
        if ((flags & constants.O_DIRECTORY) !== 0) return this.#openDirectory(step);
        await step((flags & constants.O_CREAT) === 0 ? "read" : "name");
        return openFile(this.#find(path, flags), step, flags, alignmentBytes);
      },
      rename: async (from, to) => {
        await step("name");
        const file = this.#named(from);
        this.#change(new Map([[this.#name(from), undefined] as const, [this.#name(to), file] as const]));
      },
      unlink: async (path) => {
        await step("name");
        this.#named(path);
        this.#change(new Map([[this.#name(path), undefined]]));
      },
      mkdir: () => Promise.reject(systemError("EPERM")),
      rmdir: () => Promise.reject(systemError("EPERM")),
      readdir: async () => {
        await step("read");
        return [...this.#seen.keys()];
      },
      stat: async (path) => {
        await step("read");
        return this.#stat(path);
      },
    };
  }

  #find(path: string, flags: number): File {
    let file = this.#seen.get(this.#name(path));
    if (file === undefined && (flags & constants.O_CREAT) === 0) throw systemError("ENOENT");
    if (file === undefined) {
      file = new File();
      this.#files.add(file);
      this.#change(new Map([[this.#name(path), file]]));
      return file;
    }
    if ((flags & constants.O_EXCL) !== 0) throw systemError("EEXIST");
    if ((flags & constants.O_TRUNC) !== 0) file.setSize(0);
    return file;
  }

  /** The directory, which can only be synced. */
  #openDirectory(step: (kind: StepKind) => Promise<void>): FileDescriptor {
    const refuse = (): Promise<never> => Promise.reject(systemError("EISDIR"));
    return {
      read: refuse,
      write: refuse,
      truncate: refuse,
      size: refuse,
      sync: async () => {
        await step("sync");
        for (const change of this.#changes) apply(this.#durable, change);
        this.#changes = [];
      },
      close: () => Promise.resolve(),
    };
  }

  #stat(path: string): FileStatus | undefined {
    if (path === this.#directory) return { sizeBytes: 0, isDirectory: true };
    const file = this.#seen.get(this.#name(path));
    return file === undefined ? undefined : { sizeBytes: file.seen.sizeBytes, isDirectory: false };
  }

  #change(change: NameChange): void {
    apply(this.#seen, change);
    this.#changes.push(change);
  }

  #named(path: string): File {
    const file = this.#seen.get(this.#name(path));
    if (file === undefined) throw systemError("ENOENT");
    return file;
  }

  #name(path: string): string {
    if (!path.startsWith(`${this.#directory}/`)) throw systemError("ENOENT");
    return path.slice(this.#directory.length + 1);
  }
}

function apply(names: Map<string, File>, change: NameChange): void {
  for (const [name, file] of change) {
    if (file === undefined) names.delete(name);
    else names.set(name, file);
  }
}

function openFile(
  file: File,
  step: (kind: StepKind) => Promise<void>,
  flags: number,
  alignmentBytes: number,
): FileDescriptor {
  const isDataSync = (flags & constants.O_DSYNC) === constants.O_DSYNC;
  const sync = async (): Promise<void> => {
    await step("sync");
    file.sync();
  };
  const checkAligned = (offset: number, bytes: number): void => {
    if (offset % alignmentBytes !== 0 || bytes % alignmentBytes !== 0) throw systemError("EINVAL");
  };
  return {
    write: async (source, offset) => {
      checkAligned(offset, source.byteLength);
      await step("write");
      file.write(offset, source);
      if (isDataSync) await sync();
      return source.byteLength;
    },
    read: async (target, offset) => {
      checkAligned(offset, target.byteLength);
      await step("read");
      return file.seen.read(offset, target);
    },
    sync,
    truncate: async (length) => {
      await step("write");
      file.setSize(length);
    },
    size: async () => {
      await step("read");
      return file.seen.sizeBytes;
    },
    close: () => Promise.resolve(),
  };
}

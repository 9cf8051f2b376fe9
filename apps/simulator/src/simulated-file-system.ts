/**
 * A file system in memory that forgets what was not synced.
 *
 * It holds two pictures of every file and directory: what running processes see, and what is certain to survive. A
 * power cut keeps any subset of a file's pages written since its last sync, some torn at a sector, its old or new
 * length, and any subset of the name changes made since the directory's last sync, in order or not. That is more than
 * any one real file system does. A process that has died gets nothing done any more: each has its own face.
 */
import type { FileStatus, FileSystem, OpenFile, OpenMode } from "@millrace/wal-acceptor";
import { systemError } from "./disk-behaviour.js";
import type { StepKind } from "./disk-behaviour.js";

const PAGE_BYTES = 4096;
const SECTOR_BYTES = 512;

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
  readonly #files = new Set<File>();
  readonly #seen = new Map<string, File>();
  readonly #durable = new Map<string, File>();
  #changes: NameChange[] = [];
  #life = 0;

  /** @param before runs before every call: delays it, or throws to make it fail */
  constructor(before: (kind: StepKind) => Promise<void> | undefined, directory: string) {
    this.#before = before;
    this.#directory = directory;
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
      open: async (path, mode) => {
        await step(mode === "create" ? "name" : "read");
        return this.#open(path, mode, step);
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
      fsyncDirectory: async () => {
        await step("sync");
        for (const change of this.#changes) apply(this.#durable, change);
        this.#changes = [];
      },
    };
  }

  #open(path: string, mode: OpenMode, step: (kind: StepKind) => Promise<void>): OpenFile {
    let file = this.#seen.get(this.#name(path));
    if (file === undefined && mode !== "create") throw systemError("ENOENT");
    if (file === undefined) {
      file = new File();
      this.#files.add(file);
      this.#change(new Map([[this.#name(path), file]]));
    } else if (mode === "create") {
      file.setSize(0);
    }
    return openFile(file, step);
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

function openFile(file: File, step: (kind: StepKind) => Promise<void>): OpenFile {
  const sync = async (): Promise<void> => {
    await step("sync");
    file.sync();
  };
  return {
    pwritev: async (buffers, offset) => {
      await step("write");
      let at = offset;
      for (const buffer of buffers) {
        file.write(at, buffer);
        at += buffer.byteLength;
      }
      return at - offset;
    },
    pread: async (target, offset) => {
      await step("read");
      return file.seen.read(offset, target);
    },
    fdatasync: sync,
    fsync: sync,
    ftruncate: async (length) => {
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

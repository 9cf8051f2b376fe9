/**
 * What a file system in memory is made of: files with pages, directories with names, and the journal of name changes.
 *
 * Everything is there twice: what a running process sees, and what survives a power cut.
 */
const PAGE = 4096;
const SECTOR = 512;

class Content {
  size = 0;
  readonly pages: Map<number, Uint8Array> = new Map();

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

export class Inode {
  readonly seen: Content = new Content();
  readonly durable: Content = new Content();
  readonly dirty: Set<number> = new Set();

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

  /** Makes the pages of a range durable, and the length. */
  syncRange(at: number, bytes: number): void {
    for (let number = Math.floor(at / PAGE); number * PAGE < at + bytes; number += 1) {
      const page = this.seen.pages.get(number);
      if (page !== undefined) this.durable.pages.set(number, page.slice());
      this.dirty.delete(number);
    }
    this.durable.size = Math.max(this.durable.size, Math.min(this.seen.size, at + bytes));
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

export type Node = Inode | Directory;

/** A directory is there twice as well; its changes are in the file system's journal until it is synced. */
export class Directory {
  readonly seen: Map<string, Node> = new Map();
  readonly durable: Map<string, Node> = new Map();

  forget(): void {
    this.seen.clear();
    for (const [name, node] of this.durable) this.seen.set(name, node);
  }
}

/** A name that comes to stand for something, or for nothing. */
export interface NameChange {
  readonly directory: Directory;
  readonly name: string;
  readonly node: Node | undefined;
}

/** Changes of names that are not durable yet, each of one or two names that change together. */
export class NameJournal {
  #pending: (readonly NameChange[])[] = [];

  change(...changes: readonly NameChange[]): void {
    for (const { directory, name, node } of changes) set(directory.seen, name, node);
    this.#pending.push(changes);
  }

  /** Makes the directory's names durable; what changed together with one of them becomes so, too. */
  sync(directory: Directory): void {
    const isOurs = (changes: readonly NameChange[]): boolean =>
      changes.some((change) => change.directory === directory);
    for (const changes of this.#pending) if (isOurs(changes)) keep(changes);
    this.#pending = this.#pending.filter((changes) => !isOurs(changes));
  }

  /** Either a journal, which keeps a prefix, or something that keeps any subset. */
  crash(random: () => number): void {
    const ordered = random() < 0.5;
    const prefix = Math.floor(random() * (this.#pending.length + 1));
    this.#pending.forEach((changes, index) => {
      if (ordered ? index < prefix : random() < 0.5) keep(changes);
    });
    this.#pending = [];
  }
}

function keep(changes: readonly NameChange[]): void {
  for (const { directory, name, node } of changes) set(directory.durable, name, node);
}

function set(names: Map<string, Node>, name: string, node: Node | undefined): void {
  if (node === undefined) names.delete(name);
  else names.set(name, node);
}

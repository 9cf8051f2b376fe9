/**
 * An engine whose calls can be made to fail, to fall short, and to stop at named points, over a real one or over memory; and
 * the one over memory, which is as strict about direct I/O as a disk.
 */
import { constants } from "node:fs";
import type { FileDescriptor, FileEngine } from "@millrace/virtual-file";

export type Call = "open" | "read" | "write" | "close" | "unlink";

/** Takes the place of a call. May make it, with all of its bytes or with some, and as often as it likes. */
export type Act = (make: (bytes?: Uint8Array) => Promise<unknown>, bytes: Uint8Array) => Promise<unknown>;

const NO_BYTES = new Uint8Array(0);

export function errno(code: string): Error {
  return Object.assign(new Error(`${code}, says the test`), { code });
}

export const pass: Act = (make) => make();

export function fail(code: string): Act {
  return () => Promise.reject(errno(code));
}

export function short(bytes: number): Act {
  return (make, all) => make(all.subarray(0, bytes));
}

/** A call that stops before it is made, or in the middle: what `first` does happens before. */
export interface Stop {
  readonly act: Act;
  /** Settles when the call has come. */
  readonly arrived: Promise<void>;
  /** Settles when the call has ended. */
  readonly ended: Promise<void>;
  /** Lets it go on: with the whole call, or with something else. */
  release(act?: Act): void;
}

export function stop(first: Act = () => Promise.resolve()): Stop {
  const [arrived, ended, released] = [latch(), latch(), latch<Act>()];
  const act: Act = async (make, bytes) => {
    await first(make, bytes);
    arrived.open();
    const rest = await released.opened;
    try {
      return await rest(make, bytes);
    } finally {
      ended.open();
    }
  };
  return {
    act,
    arrived: arrived.opened,
    ended: ended.opened,
    release: (act = pass) => released.open(act),
  };
}

/** A promise and who ends it. */
export function latch<T = void>(): { readonly opened: Promise<T>; open(value: T): void } {
  let open: (value: T) => void = () => undefined;
  const opened = new Promise<T>((resolve) => (open = resolve));
  return { opened, open: (value) => open(value) };
}

export class TestEngine implements FileEngine {
  readonly #base: FileEngine;
  readonly #acts: Map<Call, Act[]> = new Map();
  /** What was asked of the base, such as "read 0+512". */
  readonly log: string[] = [];
  /** Takes the place of all calls that nothing was planned for. */
  usual: ((call: Call) => Act) | undefined;

  constructor(base: FileEngine) {
    this.#base = base;
  }

  /** The next calls of a kind do this, one after the other; afterwards what they should. */
  plan(call: Call, ...acts: Act[]): void {
    this.#acts.set(call, [...(this.#acts.get(call) ?? []), ...acts]);
  }

  /** The logged calls of a kind. */
  of(call: Call): string[] {
    return this.log.filter((line) => line.startsWith(call)).map((line) => line.slice(call.length + 1));
  }

  async open(path: string, flags: number, mode: number, alignmentBytes: number): Promise<FileDescriptor> {
    const base = (await this.#run("open", "", () =>
      this.#base.open(path, flags, mode, alignmentBytes),
    )) as FileDescriptor;
    return {
      read: (target, offset) => this.#move("read", target, offset, (part) => base.read(part, offset)),
      write: (source, offset) => this.#move("write", source, offset, (part) => base.write(part, offset)),
      sync: (dataOnly) => base.sync(dataOnly),
      truncate: (length) => base.truncate(length),
      size: () => base.size(),
      close: async () => void (await this.#run("close", "", () => base.close())),
    };
  }

  rename(source: string, target: string): Promise<void> {
    return this.#base.rename(source, target);
  }

  async unlink(path: string): Promise<void> {
    await this.#run("unlink", "", () => this.#base.unlink(path));
  }

  async #move(
    call: "read" | "write",
    bytes: Uint8Array,
    offset: number,
    move: (part: Uint8Array) => Promise<number>,
  ): Promise<number> {
    return (await this.#run(call, `${String(offset)}+${String(bytes.length)}`, move, bytes)) as number;
  }

  async #run(
    call: Call,
    detail: string,
    make: (bytes: Uint8Array) => Promise<unknown>,
    bytes: Uint8Array = NO_BYTES,
  ): Promise<unknown> {
    this.log.push(`${call} ${detail}`);
    const act = this.#acts.get(call)?.shift() ?? this.usual?.(call) ?? pass;
    return await act((part = bytes) => make(part), bytes);
  }
}

const DIRECT: number = (constants as { readonly O_DIRECT?: number }).O_DIRECT ?? 0;

/** Files in memory. */
export class MemoryEngine implements FileEngine {
  readonly files: Map<string, { bytes: Uint8Array }> = new Map();

  async open(path: string, flags: number, _mode: number, alignmentBytes: number): Promise<FileDescriptor> {
    await Promise.resolve();
    let file = this.files.get(path);
    if (file !== undefined && (flags & constants.O_EXCL) !== 0) throw errno("EEXIST");
    if (file === undefined && (flags & constants.O_CREAT) === 0) throw errno("ENOENT");
    file ??= { bytes: NO_BYTES };
    this.files.set(path, file);
    return new MemoryDescriptor(file, (flags & DIRECT) === 0 ? 1 : alignmentBytes);
  }

  async rename(): Promise<void> {
    await Promise.reject(errno("ENOSYS"));
  }

  async unlink(path: string): Promise<void> {
    await Promise.resolve();
    if (!this.files.delete(path)) throw errno("ENOENT");
  }
}

class MemoryDescriptor implements FileDescriptor {
  readonly #file: { bytes: Uint8Array };
  readonly #alignmentBytes: number;
  #isClosed = false;

  constructor(file: { bytes: Uint8Array }, alignmentBytes: number) {
    this.#file = file;
    this.#alignmentBytes = alignmentBytes;
  }

  async read(target: Uint8Array, offset: number): Promise<number> {
    await this.#check(target, offset);
    const source = this.#file.bytes.subarray(offset, offset + target.length);
    target.set(source);
    return source.length;
  }

  async write(source: Uint8Array, offset: number): Promise<number> {
    await this.#check(source, offset);
    const end = offset + source.length;
    // In one step: a write beside this one must not see the length that was.
    if (end > this.#file.bytes.length) this.#resize(end);
    this.#file.bytes.set(source, offset);
    return source.length;
  }

  async sync(): Promise<void> {
    await Promise.resolve();
  }

  async truncate(length: number): Promise<void> {
    await Promise.resolve();
    this.#resize(length);
  }

  async size(): Promise<number> {
    return await Promise.resolve(this.#file.bytes.length);
  }

  async close(): Promise<void> {
    await Promise.resolve();
    this.#isClosed = true;
  }

  #resize(length: number): void {
    const bytes = new Uint8Array(length);
    bytes.set(this.#file.bytes.subarray(0, length));
    this.#file.bytes = bytes;
  }

  async #check({ byteOffset, length }: Uint8Array, offset: number): Promise<void> {
    await Promise.resolve();
    if (this.#isClosed) throw errno("EBADF");
    if ([byteOffset, length, offset].some((value) => value % this.#alignmentBytes !== 0))
      throw errno("EINVAL");
  }
}

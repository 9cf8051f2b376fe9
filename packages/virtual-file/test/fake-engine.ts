/**
 * A file system in memory that records every call, fails or shortens the ones it is told to, and stops at named points.
 *
 * It is strict where a real one is forgiving: no call on a closed descriptor, no close under a call.
 */
import { constants } from "node:fs";
import { AlignedArena } from "@millrace/aligned-buffers";
import type { IoBuffer } from "@millrace/aligned-buffers";
import { expect } from "vitest";
import { FdCache } from "../src/index.js";
import type { FileDescriptor, FileEngine, FileEnvironment } from "../src/index.js";

export type Call =
  "open" | "read" | "write" | "fsync" | "fdatasync" | "truncate" | "size" | "close" | "rename" | "unlink";

/** What becomes of a call: fails with an errno, moves so many bytes, or waits first. */
export type Act = string | number | Promise<unknown>;

const FLAG_NAMES = ["O_CREAT", "O_EXCL", "O_TRUNC", "O_DIRECT", "O_DIRECTORY", "O_DSYNC"] as const;

interface Content {
  bytes: Uint8Array;
}

export function errno(code: string): Error {
  return Object.assign(new Error(`${code}, says the test`), { code });
}

export function flagNames(flags: number): string {
  const access = ["O_RDONLY", "O_WRONLY", "O_RDWR"][flags & 3] ?? "O_NONE";
  const known = constants as unknown as Readonly<Record<string, number>>;
  return [access, ...FLAG_NAMES.filter((name) => (flags & (known[name] ?? 0)) !== 0)].join("|");
}

export class FakeEngine implements FileEngine {
  readonly files: Map<string, Content> = new Map();
  readonly log: string[] = [];
  readonly #acts: Map<Call, Act[]> = new Map();
  openNow = 0;
  openMax = 0;
  /** Descriptors of one file at a time, at most. */
  openMaxOfFile = 0;
  readonly openNowOfFile: Map<string, number> = new Map();
  /** Every call waits for this first; for schedulers. */
  before: ((call: Call, path: string) => Promise<void>) | undefined;

  /** The next calls of a kind do this, one after the other; afterwards what they should. */
  plan(call: Call, ...acts: Act[]): void {
    this.#acts.set(call, [...(this.#acts.get(call) ?? []), ...acts]);
  }

  text(path: string): string | undefined {
    const content = this.files.get(path);
    return content === undefined ? undefined : Buffer.from(content.bytes).toString("latin1");
  }

  put(path: string, text: string): void {
    this.files.set(path, { bytes: Buffer.from(text, "latin1") });
  }

  async open(path: string, flags: number): Promise<FileDescriptor> {
    await this.act("open", path, flagNames(flags));
    let content = this.files.get(path);
    if (content !== undefined && (flags & constants.O_EXCL) !== 0) throw errno("EEXIST");
    if ((flags & constants.O_DIRECTORY) !== 0) content = { bytes: new Uint8Array(0) };
    else if (content === undefined) {
      if ((flags & constants.O_CREAT) === 0) throw errno("ENOENT");
      content = { bytes: new Uint8Array(0) };
      this.files.set(path, content);
    } else if ((flags & constants.O_TRUNC) !== 0) content.bytes = new Uint8Array(0);
    this.count(path, 1);
    return new FakeDescriptor(this, path, content);
  }

  async rename(source: string, target: string): Promise<void> {
    await this.act("rename", source, target);
    const content = this.files.get(source);
    if (content === undefined) throw errno("ENOENT");
    this.files.delete(source);
    this.files.set(target, content);
  }

  async unlink(path: string): Promise<void> {
    await this.act("unlink", path);
    if (!this.files.delete(path)) throw errno("ENOENT");
  }

  /** A descriptor more or less. */
  count(path: string, change: 1 | -1): void {
    const ofFile = (this.openNowOfFile.get(path) ?? 0) + change;
    this.openNowOfFile.set(path, ofFile);
    this.openNow += change;
    this.openMax = Math.max(this.openMax, this.openNow);
    this.openMaxOfFile = Math.max(this.openMaxOfFile, ofFile);
  }

  /** Records a call and does what was planned for it: the number of bytes to move, if that was. */
  async act(call: Call, path: string, detail = ""): Promise<number | undefined> {
    this.log.push(`${call} ${path} ${detail}`.trim());
    await this.before?.(call, path);
    const act = this.#acts.get(call)?.shift();
    if (typeof act === "string") throw errno(act);
    if (typeof act === "number") return act;
    await act;
    return undefined;
  }
}

class FakeDescriptor implements FileDescriptor {
  readonly #engine: FakeEngine;
  readonly #path: string;
  readonly #content: Content;
  #inFlight = 0;
  #isClosed = false;

  constructor(engine: FakeEngine, path: string, content: Content) {
    this.#engine = engine;
    this.#path = path;
    this.#content = content;
  }

  read(target: Uint8Array, offset: number): Promise<number> {
    return this.#call("read", `${String(offset)}+${String(target.length)}`, (count) => {
      const source = this.#content.bytes.subarray(offset, offset + (count ?? target.length));
      target.set(source.subarray(0, target.length));
      return Math.min(source.length, target.length);
    });
  }

  write(source: Uint8Array, offset: number): Promise<number> {
    return this.#call("write", `${String(offset)}+${String(source.length)}`, (count) => {
      const moved = source.subarray(0, count ?? source.length);
      this.#resize(Math.max(this.#content.bytes.length, offset + moved.length));
      this.#content.bytes.set(moved, offset);
      return moved.length;
    });
  }

  sync(dataOnly: boolean): Promise<void> {
    return this.#call(dataOnly ? "fdatasync" : "fsync", "", () => undefined);
  }

  truncate(length: number): Promise<void> {
    return this.#call("truncate", String(length), () => this.#resize(length));
  }

  size(): Promise<number> {
    return this.#call("size", "", () => this.#content.bytes.length);
  }

  async close(): Promise<void> {
    expect([this.#inFlight, this.#isClosed], `close of ${this.#path}`).toEqual([0, false]);
    this.#isClosed = true;
    try {
      await this.#engine.act("close", this.#path);
    } finally {
      this.#engine.count(this.#path, -1);
    }
  }

  #resize(length: number): void {
    const bytes = new Uint8Array(length);
    bytes.set(this.#content.bytes.subarray(0, length));
    this.#content.bytes = bytes;
  }

  async #call<T>(call: Call, detail: string, effect: (count: number | undefined) => T): Promise<T> {
    expect(this.#isClosed, `${call} of ${this.#path}, which is closed`).toBe(false);
    this.#inFlight += 1;
    try {
      return effect(await this.#engine.act(call, this.#path, detail));
    } finally {
      this.#inFlight -= 1;
    }
  }
}

/** An engine with memory, and an environment that is direct nowhere unless asked for. */
export interface World {
  readonly engine: FakeEngine;
  readonly arena: AlignedArena;
  readonly environment: FileEnvironment;
}

export function createWorld(options: Partial<FileEnvironment> = {}): World {
  const engine = new FakeEngine();
  const arena = new AlignedArena({ bytes: 1024 * 1024, alignment: 512, debug: true });
  const descriptors = options.descriptors ?? new FdCache(10);
  const environment = { engine, arena, descriptors, alignment: 512, ioMode: "buffered", ...options } as const;
  return { engine, arena, environment };
}

export function frozen(arena: AlignedArena, content: string | Uint8Array): IoBuffer {
  return arena.copyFrom(typeof content === "string" ? Buffer.from(content, "latin1") : content).freeze();
}

/** A promise and who ends it. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open: () => open() };
}

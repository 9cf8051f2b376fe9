/**
 * The list of pages to load: what is written is read back, what is damaged is refused with its line, and a crash at any
 * moment leaves the old list or the new one.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

import fc from "fast-check";
import { describe, expect, test } from "vitest";

import { DumpFormatError } from "../src/errors.js";
import { compareTags, formatPageList, parsePageList, readPageList, writePageList } from "../src/page-list.js";
import type { PageListFiles } from "../src/page-list.js";
import { INVALID_BLOCK } from "../src/tag.js";
import type { Fork, Tag } from "../src/tag.js";

const uint32 = fc.oneof(fc.nat(5), fc.integer({ min: 0, max: 0xffff_ffff }));
const tag: fc.Arbitrary<Tag> = fc.record({
  tablespace: uint32,
  database: uint32,
  relation: uint32,
  fork: fc.nat(3) as fc.Arbitrary<Fork>,
  block: uint32.filter((block) => block !== INVALID_BLOCK),
});
const tags = fc.array(tag, { maxLength: 40, size: "max" });
/** Tags that differ in few fields. */
const close: fc.Arbitrary<Tag> = fc.record({
  tablespace: fc.nat(1),
  database: fc.nat(1),
  relation: fc.nat(1),
  fork: fc.nat(1) as fc.Arbitrary<Fork>,
  block: fc.nat(1),
});
const SAMPLE: readonly Tag[] = [
  { tablespace: 1664, database: 0, relation: 1262, fork: 0, block: 0 },
  { tablespace: 1663, database: 5, relation: 16_384, fork: 2, block: 4_294_967_294 },
];

/** The line that a text is refused for; undefined if it is accepted. */
function badLine(text: string): number | undefined {
  try {
    parsePageList(text);
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(DumpFormatError);
    expect((error as DumpFormatError).code).toBe("ERR_BUFFER_BAD_DUMP");
    expect((error as DumpFormatError).message).toContain(`line ${(error as DumpFormatError).line}`);
    return (error as DumpFormatError).line;
  }
}

describe("the text of a list", () => {
  test("is PostgreSQL's: a count, then database, tablespace, relation, fork and block", () => {
    expect(formatPageList(SAMPLE)).toBe("<<2>>\n0,1664,1262,0,0\n5,1663,16384,2,4294967294\n");
    expect(parsePageList("<<0>>\n")).toEqual([]);
  });

  test("is read back as it was written", () => {
    fc.assert(
      fc.property(tags, (pages) => {
        expect(parsePageList(formatPageList(pages))).toEqual(pages);
      }),
    );
  });

  test("that is damaged at its third line is refused for that line", () => {
    expect(badLine("<<3>>\n0,1664,1262,0,0\n5,1663,sixteen,2,4\n5,1663,16384,2,4\n")).toBe(3);
  });

  test("is refused for what no line may be", () => {
    for (const line of [
      "",
      "1,2,3,0",
      "1,2,3,0,5,6",
      "1,2,3,0,-5",
      " 1,2,3,0,5",
      "01,2,3,0,5",
      "1,2,3,4,5",
      "1,2,3,0,4294967295",
      "4294967296,2,3,0,5",
      "1,2,3,0,1e3",
      "1,2,3,0,5\r",
    ]) {
      expect(badLine(`<<2>>\n1,2,3,0,4\n${line}\n`), line).toBe(3);
    }
    for (const text of ["", "<<x>>\n", "<<1>>", "2\n", "<<-1>>\n", "<<1>>\n", "<<2>>\n1,2,3,0,4\n"]) {
      expect(badLine(text), text).toBeDefined();
    }
    expect(badLine("<<1>>\n1,2,3,0,4\n1,2,3,0,5\n")).toBe(3);
    expect(badLine("<<1>>\n1,2,3,0,4"), "a last line without its end").toBe(2);
  });

  // Aim: no damage is read as pages. Method: one line of a good list is replaced by text that is no line, or the list is cut.
  test("is refused for any bad line, with its number, and wherever it is cut", () => {
    const junk = fc
      .string({ maxLength: 12 })
      .filter((text) => !/^\d+(,\d+){4}$/.test(text) && !text.includes("\n"));
    fc.assert(
      fc.property(fc.array(tag, { minLength: 1, maxLength: 30 }), fc.nat(), junk, (pages, which, bad) => {
        const lines = formatPageList(pages).split("\n");
        const at = 1 + (which % pages.length);
        lines[at] = bad;
        expect(badLine(lines.join("\n"))).toBe(at + 1);
        const whole = formatPageList(pages);
        expect(badLine(whole.slice(0, which % whole.length))).toBeDefined();
      }),
    );
  });

  test("is loaded in the order of database, tablespace, relation, fork and block", () => {
    const key = ({ database, tablespace, relation, fork, block }: Tag): string =>
      [database, tablespace, relation, fork, block].map((part) => String(part).padStart(10, "0")).join();
    fc.assert(
      fc.property(fc.array(close, { maxLength: 40, size: "max" }), (pages) => {
        const keys = pages.toSorted(compareTags).map(key);
        expect(keys).toEqual(pages.map(key).toSorted());
      }),
    );
  });
});

/** A directory in memory, with what is durable of it and what would be lost with the power. */
class VolatileFiles implements PageListFiles {
  /** Calls let through before the next one fails. */
  callsLeft = Infinity;
  /** Bytes of a write that are taken at a time. */
  chunk = 7;
  calls = 0;
  readonly #names = new Map<string, number>();
  /** What the directory looks like after a crash, whichever of the later changes reached the disk: oldest first. */
  #directories: ReadonlyMap<string, number>[] = [new Map()];
  readonly #contents: { now: Uint8Array; durable: Uint8Array | undefined }[] = [];
  readonly #open = new Map<number, number>();
  #nextFd = 3;

  constructor(path: string, text: string) {
    const fd = this.openSync(path, "w");
    this.writeSync(fd, Buffer.from(text), 0, text.length);
    while (this.#text(this.#open.get(fd) ?? -1).length < text.length) {
      const done = this.#text(this.#open.get(fd) ?? -1).length;
      this.writeSync(fd, Buffer.from(text), done, text.length - done);
    }
    this.fsyncSync(fd);
    this.closeSync(fd);
    this.fsyncSync(this.openSync("/directory", "r"));
    this.#open.clear();
    this.calls = 0;
  }

  get openCount(): number {
    return this.#open.size;
  }

  openSync(path: string, flags: string): number {
    this.#count();
    const fd = this.#nextFd++;
    if (flags === "r") {
      this.#open.set(fd, -1);
      return fd;
    }
    let file = this.#names.get(path);
    if (file === undefined) {
      file = this.#contents.length;
      this.#contents.push({ now: new Uint8Array(0), durable: undefined });
      this.#names.set(path, file);
      this.#changed();
    }
    (this.#contents[file] as { now: Uint8Array }).now = new Uint8Array(0);
    this.#open.set(fd, file);
    return fd;
  }

  writeSync(fd: number, bytes: Uint8Array, offset: number, length: number): number {
    this.#count();
    const content = this.#contents[this.#open.get(fd) as number] as { now: Uint8Array };
    const part = bytes.subarray(offset, offset + Math.min(length, this.chunk));
    content.now = Buffer.concat([content.now, part]);
    return part.length;
  }

  fsyncSync(fd: number): void {
    this.#count();
    const file = this.#open.get(fd) as number;
    if (file < 0) this.#directories = [new Map(this.#names)];
    else {
      const content = this.#contents[file] as { now: Uint8Array; durable: Uint8Array | undefined };
      content.durable = content.now;
    }
  }

  closeSync(fd: number): void {
    this.#open.delete(fd);
    this.#count();
  }

  renameSync(from: string, to: string): void {
    this.#count();
    this.#names.set(to, this.#names.get(from) as number);
    this.#names.delete(from);
    this.#changed();
  }

  rmSync(path: string): void {
    // Also after a call has failed: the process is alive then.
    if (this.#names.delete(path)) this.#changed();
  }

  /** Every text that the file may have after a crash now; undefined where it may be lost or be anything. */
  afterCrash(path: string): (string | undefined)[] {
    return this.#directories.map((names) => {
      const file = names.get(path);
      const durable = file === undefined ? undefined : this.#contents[file]?.durable;
      return durable === undefined ? undefined : Buffer.from(durable).toString();
    });
  }

  /** What a process reads that goes on. */
  now(path: string): string | undefined {
    const file = this.#names.get(path);
    return file === undefined ? undefined : this.#text(file);
  }

  #text(file: number): string {
    return Buffer.from(this.#contents[file]?.now ?? []).toString();
  }

  #changed(): void {
    this.#directories.push(new Map(this.#names));
  }

  #count(): void {
    if (this.calls >= this.callsLeft) throw new Error("the power is gone");
    this.calls += 1;
  }
}

describe("writing a list", () => {
  const path = "/directory/pages.list";
  const old = formatPageList(SAMPLE);
  const pages = Array.from({ length: 9 }, (_, block): Tag => ({ ...(SAMPLE[0] as Tag), block }));

  // Aim: the file is never half, and the new one is durable in the end. Method: a file system that forgets what was not
  // synced; the write is stopped after every number of calls, once as a failure and once as the end of the machine.
  test("leaves the old file or the new one, whenever it fails or the power goes", () => {
    const whole = new VolatileFiles(path, old);
    writePageList(path, pages, whole);
    const calls = whole.calls;
    expect(calls).toBeGreaterThan(10);
    expect(whole.afterCrash(path)).toEqual([formatPageList(pages)]);
    expect(whole.openCount).toBe(0);
    let newSeen = 0;
    for (let callsLeft = 0; callsLeft < calls; callsLeft++) {
      const files = new VolatileFiles(path, old);
      files.callsLeft = callsLeft;
      expect(() => writePageList(path, pages, files)).toThrow("the power is gone");
      for (const text of [...files.afterCrash(path), files.now(path)]) {
        expect([old, formatPageList(pages)], `after ${callsLeft} calls`).toContain(text);
        if (text !== old) newSeen += 1;
      }
      expect(files.openCount, `after ${callsLeft} calls`).toBe(0);
    }
    expect(newSeen, "the crash after the renaming is among them").toBeGreaterThan(0);
  });

  test("and reading it, on a real file system", () => {
    const directory = mkdtempSync(join(tmpdir(), "page-list-"));
    try {
      const file = join(directory, "pages.list");
      expect(readPageList(file)).toBeUndefined();
      writePageList(file, SAMPLE);
      writePageList(file, pages);
      expect(readPageList(file)).toEqual(pages);
      expect(readFileSync(file, "utf8").split("\n")).toHaveLength(11);
      expect(readdirSync(directory)).toEqual([basename(file)]);
      writeFileSync(file, "<<1>>\nnothing\n");
      expect(() => readPageList(file)).toThrow(expect.objectContaining({ line: 2 }));
      expect(() => readPageList(directory)).toThrow(expect.objectContaining({ code: "EISDIR" }));
      expect(() => writePageList(join(directory, "missing", "file"), pages)).toThrow(
        expect.objectContaining({ code: "ENOENT" }),
      );
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

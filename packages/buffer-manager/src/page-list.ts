/**
 * The file that remembers which pages a pool held: PostgreSQL's autoprewarm.blocks, line for line.
 *
 *     <<count>>
 *     database,tablespace,relation,fork,block
 *
 * It is written beside its name, made durable, and moved over the old one, whose name is made durable too: after a crash
 * the file is the old one or the new one, whole. What is left of an interrupted write is overwritten by the next.
 */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";

import { DumpFormatError } from "./errors.js";
import { FORKS, INVALID_BLOCK } from "./tag.js";
import type { Fork, Tag } from "./tag.js";

/** What writing a list needs of a file system: Node's own calls. Tests give others. */
export interface PageListFiles {
  openSync(path: string, flags: string): number;
  writeSync(fd: number, bytes: Uint8Array, offset: number, length: number): number;
  fsyncSync(fd: number): void;
  closeSync(fd: number): void;
  renameSync(from: string, to: string): void;
  rmSync(path: string, options: { readonly force: true }): void;
}

const NODE_FILES: PageListFiles = { openSync, writeSync, fsyncSync, closeSync, renameSync, rmSync };
const UINT32_MAX = 0xffff_ffff;
const HEADER_PATTERN = /^<<(0|[1-9]\d{0,8})>>$/;
const LINE_PATTERN = /^(?:0|[1-9]\d{0,9})(?:,(?:0|[1-9]\d{0,9})){4}$/;

/** The order in which pages are loaded: by database, tablespace, relation, fork, block. */
export function compareTags(a: Tag, b: Tag): number {
  return (
    a.database - b.database ||
    a.tablespace - b.tablespace ||
    a.relation - b.relation ||
    a.fork - b.fork ||
    a.block - b.block
  );
}

/** The text of a list. */
export function formatPageList(pages: readonly Tag[]): string {
  const lines = pages.map(
    ({ database, tablespace, relation, fork, block }) =>
      `${database},${tablespace},${relation},${fork},${block}\n`,
  );
  return `<<${pages.length}>>\n${lines.join("")}`;
}

function parseLine(line: string, number: number): Tag {
  if (!LINE_PATTERN.test(line)) throw new DumpFormatError(number, "not five numbers");
  const fields = line.split(",").map(Number) as [number, number, number, number, number];
  const [database, tablespace, relation, fork, block] = fields;
  if (fields.some((field) => field > UINT32_MAX)) throw new DumpFormatError(number, "a number is too large");
  if (fork >= FORKS) throw new DumpFormatError(number, `there is no fork ${fork}`);
  if (block === INVALID_BLOCK) throw new DumpFormatError(number, "no block has this number");
  return { database, tablespace, relation, fork: fork as Fork, block };
}

/**
 * The pages of a list.
 *
 * Stricter than PostgreSQL, which reads numbers wherever it finds them: the file has as many lines as its header says.
 *
 * @throws {DumpFormatError} ERR_BUFFER_BAD_DUMP, with the line
 */
export function parsePageList(text: string): Tag[] {
  const lines = text.split("\n");
  const count = HEADER_PATTERN.exec(lines[0] ?? "")?.[1];
  if (count === undefined) throw new DumpFormatError(1, "no count of pages");
  const expected = Number(count);
  const pages: Tag[] = [];
  for (let index = 1; index <= expected; index++) {
    const line = lines[index];
    // What has no end was not written to its end.
    if (line === undefined || index === lines.length - 1) throw new DumpFormatError(index + 1, "cut off");
    pages.push(parseLine(line, index + 1));
  }
  if (lines.length !== expected + 2 || lines[expected + 1] !== "") {
    throw new DumpFormatError(expected + 2, "more than the header announces");
  }
  return pages;
}

/** Reads a list. @returns undefined if there is no such file @throws as `parsePageList`, and what the file system throws */
export function readPageList(path: string): Tag[] | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  return parsePageList(text);
}

function writeDurably(files: PageListFiles, path: string, bytes: Uint8Array): void {
  const fd = files.openSync(path, "w");
  try {
    for (let done = 0; done < bytes.length;) done += files.writeSync(fd, bytes, done, bytes.length - done);
    files.fsyncSync(fd);
  } finally {
    files.closeSync(fd);
  }
}

/**
 * Writes a list in the place of the one at `path`. When this returns, the new one outlives a crash; if it throws, or the
 * machine dies before, the file is the old one or the new one.
 *
 * Blocking, as PostgreSQL's: its callers are the shutdown and a background worker.
 */
export function writePageList(path: string, pages: readonly Tag[], files: PageListFiles = NODE_FILES): void {
  const beside = `${path}.tmp`;
  try {
    writeDurably(files, beside, Buffer.from(formatPageList(pages)));
    files.renameSync(beside, path);
  } catch (error) {
    files.rmSync(beside, { force: true });
    throw error;
  }
  const directory = files.openSync(dirname(path), "r");
  try {
    files.fsyncSync(directory);
  } finally {
    files.closeSync(directory);
  }
}

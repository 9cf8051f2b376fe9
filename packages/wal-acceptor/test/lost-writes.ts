/**
 * What a power cut takes from a directory whose writes were journaled: any part of what was not durable.
 *
 * Of each write that nobody had made durable each page stays, goes, or is torn at a sector; of the names that were changed
 * since their directory's last sync a first part stays, as file systems keep a journal, and the rest is taken back.
 */
import { existsSync, linkSync, openSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { closeSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { directoryOf } from "./write-journal.mjs";
import type { JournalEntry, NameEntry } from "./write-journal.mjs";

const PAGE = 4096;
const SECTOR = 512;

type WriteEntry = Extract<JournalEntry, { readonly type: "write" }>;

/** What was lost, for whoever wants to know that anything was. */
export interface Lost {
  readonly pages: number;
  readonly names: number;
}

/** Takes back a random part of what the journal says is not durable. The process that wrote it is dead. */
export function loseUnsynced(directory: string, journal: string, random: () => number): Lost {
  const entries = readEntries(journal);
  const durable = new Set(entries.flatMap((entry) => (entry.type === "durable" ? entry.ids : [])));
  const writes = entries.filter(
    (entry): entry is WriteEntry => entry.type === "write" && !durable.has(entry.id),
  );
  const paths = pathsByInode(directory);
  let pages = 0;
  for (const write of writes.toReversed()) {
    const path = paths.get(write.ino);
    if (path !== undefined) pages += losePages(path, write, random);
  }
  const pending = entries.filter(isName).filter((change) => !isSynced(change, entries));
  const kept = Math.floor(random() * (pending.length + 1));
  for (const change of pending.slice(kept).toReversed()) undo(change);
  return { pages, names: pending.length - kept };
}

function readEntries(journal: string): readonly JournalEntry[] {
  const lines = readFileSync(journal, "utf8").split("\n");
  // Behind the last newline is nothing, or a note that the process died in, before the call that it was about.
  return lines.slice(0, -1).map((line) => JSON.parse(line) as JournalEntry);
}

function pathsByInode(directory: string): ReadonlyMap<number, string> {
  const paths = new Map<number, string>();
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    paths.set(statSync(path).ino, path);
  }
  return paths;
}

function losePages(path: string, { offset, bytes, before }: WriteEntry, random: () => number): number {
  const old = Buffer.alloc(bytes);
  Buffer.from(before, "base64").copy(old);
  const file = openSync(path, "r+");
  let lost = 0;
  for (let at = 0; at < bytes; at += PAGE) {
    if (random() < 0.5) continue;
    const length = Math.min(PAGE, bytes - at);
    const torn = random() < 0.25 ? Math.floor(random() * Math.ceil(length / SECTOR)) * SECTOR : 0;
    // The process may have died before the write: then the file may end here.
    if (offset + at < statSync(path).size) writeSync(file, old, at + torn, length - torn, offset + at + torn);
    lost += 1;
  }
  closeSync(file);
  return lost;
}

function isName(entry: JournalEntry): entry is NameEntry {
  return (
    entry.type === "create" || entry.type === "mkdir" || entry.type === "rename" || entry.type === "unlink"
  );
}

function isSynced(change: NameEntry, entries: readonly JournalEntry[]): boolean {
  return entries.some(
    (entry) => entry.type === "names" && entry.directory === directoryOf(change) && entry.upTo > change.id,
  );
}

/** The note comes before the call: it may not have happened. */
function undo(change: NameEntry): void {
  if (change.type === "create" || change.type === "mkdir")
    rmSync(change.path, { recursive: true, force: true });
  else if (change.type === "unlink") {
    if (!existsSync(change.path)) linkSync(change.kept, change.path);
  } else if (!existsSync(change.source) && existsSync(change.target)) {
    renameSync(change.target, change.source);
    if (change.kept !== "") linkSync(change.kept, change.target);
  }
}

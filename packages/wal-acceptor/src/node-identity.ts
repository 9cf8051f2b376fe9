/**
 * Whose data directory this is: the node's id, written once, and a lock that keeps a second process out.
 *
 * The id is part of every vote. A directory that answered as node 1 and comes back as node 2 would count twice in a
 * quorum, so `safekeeper.id` is written before anything else and a different id is refused for ever after.
 *
 * The lock is `safekeeper.pid`, in the manner of PostgreSQL's postmaster.pid: Node offers no flock. It is made with
 * link(2), which fails if the name exists, from a file that is complete already, so nobody reads half a lock. A lock
 * counts as stale when its process is gone or has another start time. Removing a stale lock needs a claim on exactly
 * that lock, so that a slow contender cannot remove the lock of a faster one. Processes on other machines, or in
 * other pid namespaces, that share the directory are not seen.
 */
import { createHash, randomUUID } from "node:crypto";
import { constants, promises as fs, readFileSync } from "node:fs";
import * as path from "node:path";

import { AcceptorError, storageError } from "./errors.js";
import type { FileSystem } from "./file-system.js";
import { readSmallFile, writeFileDurably } from "./small-files.js";

/** File that holds the node's id in decimal. */
export const NODE_ID_FILE = "safekeeper.id";
/** File that holds the process id of the owner, and its start time where the kernel tells it. */
export const LOCK_FILE = "safekeeper.pid";

/** A u64 in decimal and a newline. */
const NODE_ID_FILE_BYTES_MAX = 32;
const U64_MAX = 2n ** 64n - 1n;

/**
 * Reads the directory's node id, or writes `nodeId` there, durably, if it has none.
 *
 * @param nodeId `undefined` to take what the directory says
 * @throws {AcceptorError} ERR_ACCEPTOR_NODE_ID: the directory has another id, an unreadable one, or none and none is
 *   given. ERR_ACCEPTOR_IO, ERR_ACCEPTOR_NO_SPACE
 * @throws {RangeError} `nodeId` is not within 1 to 2^64 - 1
 */
export async function ensureNodeId(
  fileSystem: FileSystem,
  directory: string,
  nodeId: bigint | undefined,
): Promise<bigint> {
  if (nodeId !== undefined && (nodeId <= 0n || nodeId > U64_MAX)) throw new RangeError(`node id ${nodeId}`);
  const file = path.join(directory, NODE_ID_FILE);
  const bytes = await readSmallFile(fileSystem, file, NODE_ID_FILE_BYTES_MAX);
  if (bytes === undefined) {
    if (nodeId === undefined) {
      throw new AcceptorError("ERR_ACCEPTOR_NODE_ID", `${file} does not exist and no node id was given`);
    }
    await writeFileDurably(fileSystem, file, Buffer.from(`${nodeId}\n`, "ascii"));
    return nodeId;
  }
  const text = Buffer.from(bytes).toString("latin1").trim();
  const stored = /^[0-9]{1,20}$/.test(text) ? BigInt(text) : 0n;
  if (stored <= 0n || stored > U64_MAX)
    throw new AcceptorError("ERR_ACCEPTOR_NODE_ID", `${file} holds no node id`);
  if (nodeId !== undefined && stored !== nodeId) {
    throw new AcceptorError(
      "ERR_ACCEPTOR_NODE_ID",
      `${directory} belongs to node ${stored}, not to node ${nodeId}`,
    );
  }
  return stored;
}

/** A held lock. Disposing removes the file; twice is allowed. */
export type DirectoryLock = AsyncDisposable;

/** Process facts the lock depends on; a test replaces them. */
export interface ProcessTable {
  readonly pid: number;
  /** When a process started, in any form that differs between two processes with one pid; undefined: unknown. */
  startTime(pid: number): string | undefined;
  isAlive(pid: number): boolean;
}

/** The machine's processes: signal 0, and field 22 of Linux's /proc/<pid>/stat. */
export const systemProcesses: ProcessTable = {
  pid: process.pid,
  startTime(pid) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
      // The command name may contain blanks and parentheses; fields are counted behind its closing one.
      return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
    } catch {
      return undefined;
    }
  },
  isAlive(pid) {
    try {
      process.kill(pid, 0);
      return true;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "EPERM"; // it exists and belongs to somebody else
    }
  },
};

// Directories locked by this process: its own lock file looks like that of a live owner, and like its own.
const lockedHere = new Set<string>();
/** Contenders that may come in between before giving up; each round one of them has won. */
const ATTEMPTS_MAX = 8;

/**
 * Takes the lock of an existing directory on the machine's file system.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_DIRECTORY_LOCKED, ERR_ACCEPTOR_IO, ERR_ACCEPTOR_NO_SPACE
 */
export async function lockDirectory(
  directory: string,
  processes: ProcessTable = systemProcesses,
): Promise<DirectoryLock> {
  const real = await fs.realpath(directory).catch((error: unknown) => {
    throw storageError(`lock ${directory}`, error);
  });
  if (lockedHere.has(real)) throw lockedError(real, processes.pid);
  lockedHere.add(real);
  try {
    const content = `${processes.pid}\n${processes.startTime(processes.pid) ?? ""}\n${randomUUID()}\n`;
    await takeLockFile(real, content, processes);
    return heldLock(real, content);
  } catch (error) {
    lockedHere.delete(real);
    throw storageError(`lock ${directory}`, error);
  }
}

function heldLock(directory: string, content: string): DirectoryLock {
  const file = path.join(directory, LOCK_FILE);
  return {
    async [Symbol.asyncDispose]() {
      if (!lockedHere.delete(directory)) return;
      // Somebody who wrongly took the lock for stale owns the file now: leave it to them.
      if ((await readOrUndefined(file)) === content) await fs.rm(file, { force: true });
    },
  };
}

async function takeLockFile(directory: string, content: string, processes: ProcessTable): Promise<void> {
  const file = path.join(directory, LOCK_FILE);
  const own = path.join(directory, `${LOCK_FILE}.${randomUUID()}`);
  const claims: string[] = [];
  await fs.writeFile(own, content, { flag: "wx", mode: 0o600 });
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      if (await linkIfAbsent(own, file)) return;
      const found = await readOrUndefined(file);
      if (found === undefined) continue; // its owner has just left
      if (!isStale(found, processes)) throw lockedError(directory, Number.parseInt(found, 10));
      if (!(await claimRemoval(file, found, own, processes, claims))) continue;
      // Nobody else may remove this lock as long as the claim stands, so it is still the one that was looked at.
      if ((await readOrUndefined(file)) === found) await fs.rm(file, { force: true });
    }
    throw lockedError(directory, undefined);
  } finally {
    for (const name of [own, ...claims]) await fs.rm(name, { force: true });
  }
}

/**
 * Wins the sole right to remove one stale lock, or says false when somebody else has it. The right is a file named
 * after the lock's content, which no two locks share. If its holder has died, the right passes to whoever claims
 * the holder's claim in the same way.
 *
 * @param claims the files to remove in the end are added; after that a latecomer may claim the same lock again, and
 *   finds that it is gone
 */
async function claimRemoval(
  file: string,
  stale: string,
  own: string,
  processes: ProcessTable,
  claims: string[],
): Promise<boolean> {
  const passed: string[] = [];
  let dead = stale;
  for (let depth = 0; depth < ATTEMPTS_MAX; depth += 1) {
    const claim = `${file}.${createHash("sha256").update(dead).digest("hex").slice(0, 32)}`;
    passed.push(claim);
    if (await linkIfAbsent(own, claim)) {
      claims.push(...passed);
      return true;
    }
    const claimer = await readOrUndefined(claim);
    if (claimer === undefined || !isStale(claimer, processes)) return false;
    dead = claimer;
  }
  return false;
}

async function linkIfAbsent(own: string, file: string): Promise<boolean> {
  try {
    await fs.link(own, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function isStale(content: string, processes: ProcessTable): boolean {
  const [pidText, startTime] = content.split("\n");
  const pid = /^[0-9]{1,10}$/.test(pidText ?? "") ? Number(pidText) : 0;
  if (pid === 0) return true; // never written by us: a file that a full disk or a power cut left empty
  if (!processes.isAlive(pid)) return true;
  const now = processes.startTime(pid);
  if (startTime === undefined || startTime === "" || now === undefined) {
    return pid === processes.pid; // from an earlier boot: this process holds no lock here, `lockedHere` says so
  }
  return startTime !== now;
}

async function readOrUndefined(file: string): Promise<string | undefined> {
  try {
    return await fs.readFile(file, { encoding: "latin1", flag: constants.O_RDONLY });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

function lockedError(directory: string, pid: number | undefined): AcceptorError {
  const owner = pid === undefined ? "another process" : `process ${pid}`;
  return new AcceptorError("ERR_ACCEPTOR_DIRECTORY_LOCKED", `${directory} is in use by ${owner}`);
}

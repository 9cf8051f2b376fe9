/**
 * One process a data directory: a lock file that names its owner, survives kill -9, and cannot be taken twice.
 *
 * The owner is a process id with that process's start time and the machine's boot id, so that a process id used
 * again by somebody else is not mistaken for the owner. A lock whose owner has ended is stale and is taken over.
 *
 * Taking over by unlink-and-create is a race (two processes see the same stale lock; the slower one removes the
 * lock of the faster one). So lock files are numbered and a number is never used again: the highest number is the
 * lock, taking it means creating the next one with link(2), which fails if it exists, and whoever then sees a
 * still higher number steps back. For the same reason a release does not remove the file but marks it released.
 *
 * Not covered: two machines, or two containers with process ids of their own, sharing one directory.
 */
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ServerError } from "./errors.js";

/** Who holds the lock; `released` is set by an owner that ended the regular way. */
interface Owner {
  readonly pid: number;
  readonly startedAt: string;
  readonly released?: boolean;
}

/** Asks whether a process still runs; injected by tests. */
export interface ProcessTable {
  readonly pid: number;
  /** A text that differs for every process that ever had this id, or undefined when none has it now. */
  startTime(pid: number): string | undefined;
}

const LOCK_NAME = /^millrace\.lock\.(\d{1,15})$/;
/** Losing this many races in a row to others means that something is wrong. */
const ATTEMPTS_MAX = 20;

function linuxStartTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command name may hold spaces and brackets; fields are counted behind its last bracket.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // Field 3 is the state; a zombie has ended. Field 22 is the start time in ticks since boot.
    if (fields[0] === "Z" || fields[19] === undefined) return undefined;
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim()}/${fields[19]}`;
  } catch {
    return undefined;
  }
}

function otherStartTime(pid: number): string | undefined {
  try {
    const text = execFileSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" }).trim();
    return text === "" ? undefined : text;
  } catch {
    return undefined;
  }
}

/** The processes of this machine. */
export const systemProcesses: ProcessTable = {
  pid: process.pid,
  startTime: process.platform === "linux" ? linuxStartTime : otherStartTime,
};

function readOwner(file: string): Owner | undefined {
  try {
    const parsed = JSON.parse(readFileSync(file, "utf8")) as Partial<Owner> | null;
    if (typeof parsed?.pid !== "number" || typeof parsed.startedAt !== "string") return undefined;
    return { pid: parsed.pid, startedAt: parsed.startedAt, released: parsed.released === true };
  } catch {
    return undefined;
  }
}

function lockNumbers(directory: string): number[] {
  const numbers: number[] = [];
  for (const name of readdirSync(directory)) {
    const match = LOCK_NAME.exec(name);
    if (match !== null) numbers.push(Number(match[1]));
  }
  return numbers.sort((a, b) => b - a);
}

/** Creates `file` with all of its content or not at all; false when it exists. */
function createWhole(file: string, owner: Owner): boolean {
  const temporary = `${file}.${owner.pid}.tmp`;
  writeFileSync(temporary, `${JSON.stringify(owner)}\n`);
  try {
    linkSync(temporary, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** The lock on a data directory, held until `release` or the end of the process. */
export class DataLock implements Disposable {
  readonly #file: string;
  readonly #owner: Owner;
  #released = false;

  private constructor(file: string, owner: Owner) {
    this.#file = file;
    this.#owner = owner;
  }

  /**
   * Takes the lock on `directory`, which is created when missing.
   *
   * @throws {ServerError} ERR_SERVER_LOCKED when a running process holds it; nothing has been changed then
   */
  static acquire(directory: string, processes: ProcessTable = systemProcesses): DataLock {
    mkdirSync(directory, { recursive: true });
    const owner: Owner = { pid: processes.pid, startedAt: processes.startTime(processes.pid) ?? "unknown" };
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
      const highest = lockNumbers(directory)[0] ?? 0;
      const current = highest === 0 ? undefined : readOwner(join(directory, `millrace.lock.${highest}`));
      if (current !== undefined && isHeld(current, processes)) {
        throw new ServerError(
          "ERR_SERVER_LOCKED",
          `${directory} is in use by a running millrace (process ${current.pid}). ` +
            "Stop that one first, or give this one another --data-dir.",
        );
      }
      const number = highest + 1;
      const file = join(directory, `millrace.lock.${number}`);
      if (!createWhole(file, owner)) continue;
      if (lockNumbers(directory)[0] !== number) {
        rmSync(file, { force: true });
        continue;
      }
      for (const older of lockNumbers(directory)) {
        if (older < number) rmSync(join(directory, `millrace.lock.${older}`), { force: true });
      }
      return new DataLock(file, owner);
    }
    throw new ServerError("ERR_SERVER_LOCKED", `${directory}: others keep taking the lock; try again`);
  }

  /** Gives the lock up. A second call does nothing, nor does one after the directory has gone. */
  release(): void {
    if (this.#released) return;
    this.#released = true;
    const temporary = `${this.#file}.${this.#owner.pid}.tmp`;
    try {
      writeFileSync(temporary, `${JSON.stringify({ ...this.#owner, released: true })}\n`);
      renameSync(temporary, this.#file);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

function isHeld(owner: Owner, processes: ProcessTable): boolean {
  if (owner.released === true) return false;
  return processes.startTime(owner.pid) === owner.startedAt;
}

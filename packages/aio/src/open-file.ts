/**
 * Opening a file for the promise face: the flags, and whether its I/O can go past the page cache.
 *
 * Whether a file system has direct I/O is found out by trying: open(2) says EINVAL or EOPNOTSUPP where it has not. It looks
 * for that only after it has made the file, so a file that must be new cannot be tried for in one call: the second
 * call would find what the first has left and say EEXIST. Such a file is made first, through the page cache, and its
 * descriptor opened once more for direct I/O: whether the file was new stays the kernel's word. What memory and positions
 * must be multiples of is asked for where the kernel tells.
 */
import { close, constants, fstat, open, stat, unlink } from "node:fs";
import { promisify } from "node:util";

import { directIoAlignment } from "@millrace/io-uring";

import type { AioBackend } from "./backend.js";
import type { IoEngine } from "./engine.js";
import { IoFile } from "./engine-file.js";
import { AioError } from "./errors.js";
import { ioError } from "./report.js";

/** Alignment that every block device so far accepts; where the file system tells, its own is used. */
const ALIGNMENT_DEFAULT = 4096;
const MODE_DEFAULT = 0o666;

/** How a file is opened. */
export interface OpenOptions {
  /**
   * "r" read, "r+" read and write, "w" create or truncate and write, "w+" and read, "wx" create or fail; "r" by default.
   * Or the flags of open(2), from `fs.constants`, without O_DIRECT and O_APPEND.
   */
  readonly flags?: "r" | "r+" | "w" | "w+" | "wx" | "wx+" | number;
  /**
   * Past the page cache: "require" it, "prefer" it where the file system has it, or not ("off", the default). A new file
   * ("wx", "wx+") that cannot have what is required is removed again.
   */
  readonly direct?: "require" | "prefer" | "off";
  /** What direct I/O must be multiples of, where the caller knows better than the file system tells: a power of two. */
  readonly alignmentBytes?: number;
  /** O_DSYNC: a write that has completed is durable. */
  readonly dataSync?: boolean;
  /** Permissions of a new file; 0o666 less the process's mask by default. */
  readonly mode?: number;
}

const ACCESS: Readonly<Record<Exclude<NonNullable<OpenOptions["flags"]>, number>, number>> = {
  r: constants.O_RDONLY,
  "r+": constants.O_RDWR,
  w: constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC,
  "w+": constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC,
  wx: constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL,
  "wx+": constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
};
const DIRECT = (constants as { readonly O_DIRECT?: number }).O_DIRECT;
/** Both: the file must be new. One without the other means something else, or nothing. */
const MUST_BE_NEW = constants.O_CREAT | constants.O_EXCL;
/** What has been done once a file is made. The link in /proc is to be followed. */
const CREATION = MUST_BE_NEW | constants.O_TRUNC | constants.O_NOFOLLOW;
/** What open(2) says where a file system has no direct I/O. */
const REFUSALS: ReadonlySet<string | undefined> = new Set(["EINVAL", "EOPNOTSUPP"]);
/** What it says besides where a new file's descriptor cannot be opened once more: permissions of its own, no /proc. */
const NOT_AGAIN: ReadonlySet<string | undefined> = new Set([...REFUSALS, "EACCES", "ENOENT", "ENOTDIR"]);

/** open(2); tests put a kernel in its place whose file systems they choose. */
export type OpenCall = (path: string, flags: number, mode: number) => Promise<number>;

const openDescriptor: OpenCall = promisify(open);
const closeDescriptor = promisify(close);
const statDescriptor = promisify(fstat);
const statPath = promisify(stat);
const unlinkPath = promisify(unlink);

interface Opened {
  readonly fd: number;
  readonly isDirect: boolean;
}

/** A file to open, with bits of open(2). */
interface Wish {
  readonly path: string;
  readonly bits: number;
  readonly mode: number;
  readonly isRequired: boolean;
}

/** Opens a file for an engine. For {@link IoEngine.open}. */
export async function openIoFile(
  engine: IoEngine,
  backend: AioBackend,
  path: string,
  options: OpenOptions,
  call: OpenCall = openDescriptor,
): Promise<IoFile> {
  const { flags = "r", direct = "off", dataSync = false, mode = MODE_DEFAULT } = options;
  const bits = (typeof flags === "number" ? flags : ACCESS[flags]) | (dataSync ? constants.O_DSYNC : 0);
  if (direct === "require" && DIRECT === undefined) throw noDirect(path, "this platform has none");
  const wish = { path, bits, mode, isRequired: direct === "require" };
  const { fd, isDirect } = await openDescribed(wish, direct === "off" ? undefined : DIRECT, call);
  try {
    const alignmentBytes = isDirect ? (options.alignmentBytes ?? alignmentOf(fd)) : 1;
    return new IoFile(engine, backend, path, { fd, isDirect, alignmentBytes });
  } catch (error) {
    await closeDescriptor(fd);
    throw error;
  }
}

/** @param extra the bit of direct I/O; undefined if it is not wanted, or not to be had on this platform */
async function openDescribed(wish: Wish, extra: number | undefined, call: OpenCall): Promise<Opened> {
  const { path, bits, mode } = wish;
  try {
    if (extra === undefined) return { fd: await call(path, bits, mode), isDirect: false };
    if ((bits & MUST_BE_NEW) === MUST_BE_NEW) return await openNew(wish, extra, call);
    return await openThere(wish, extra, call);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    throw errno === undefined ? error : ioError("open", -errno, path, error);
  }
}

/** A file that may be there: with direct I/O, or if that is refused once more without. */
async function openThere(wish: Wish, extra: number, call: OpenCall): Promise<Opened> {
  const { path, bits, mode, isRequired } = wish;
  try {
    return { fd: await call(path, bits | extra, mode), isDirect: true };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (!REFUSALS.has(code)) throw error;
    if (isRequired) throw noDirect(path, `the file system refuses it: ${code}`);
  }
  return { fd: await call(path, bits, mode), isDirect: false };
}

/** A file that must be new. If direct I/O is required and refused, it is removed again. */
async function openNew(wish: Wish, extra: number, call: OpenCall): Promise<Opened> {
  const { path, bits, mode, isRequired } = wish;
  const made = await call(path, bits, mode);
  try {
    // By its descriptor, since the name may be another file's by now. Direct I/O is Linux's, and so is /proc.
    const fd = await call(`/proc/self/fd/${made}`, (bits & ~CREATION) | extra, mode);
    await closeDescriptor(made);
    return { fd, isDirect: true };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const isRefused = NOT_AGAIN.has(code);
    if (isRefused && !isRequired) return { fd: made, isDirect: false };
    await removeMade(path, made);
    await closeDescriptor(made);
    if (!isRefused) throw error;
    const why = REFUSALS.has(code) ? "the file system refuses it" : "a new file cannot be opened again";
    throw noDirect(path, `${why}: ${code}`);
  }
}

/** Takes away a file that was just made, unless its name is another one's or nobody's by now. */
async function removeMade(path: string, fd: number): Promise<void> {
  try {
    const [made, there] = await Promise.all([
      statDescriptor(fd, { bigint: true }),
      statPath(path, { bigint: true }),
    ]);
    if (made.ino === there.ino && made.dev === there.dev) await unlinkPath(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function noDirect(path: string, why: string): AioError {
  return new AioError("ERR_AIO_UNAVAILABLE", `no direct I/O on ${path}: ${why}`);
}

/** What memory and position must be multiples of; the larger where they differ. */
function alignmentOf(fd: number): number {
  const told = directIoAlignment(fd);
  return typeof told === "object" ? Math.max(told.memory, told.offset) : ALIGNMENT_DEFAULT;
}

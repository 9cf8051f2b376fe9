/**
 * Opening a file for the promise face: the flags, and whether its I/O can go past the page cache.
 *
 * Whether a file system has direct I/O is found out by trying: open(2) says EINVAL or EOPNOTSUPP where it has not. What
 * memory and positions must be multiples of is asked for where the kernel tells.
 */
import { constants, open } from "node:fs";
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
  /** Past the page cache: "require" it, "prefer" it where the file system has it, or not ("off", the default). */
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
const openDescriptor = promisify(open);

/** Opens a file for an engine. For {@link IoEngine.open}. */
export async function openIoFile(
  engine: IoEngine,
  backend: AioBackend,
  path: string,
  options: OpenOptions,
): Promise<IoFile> {
  const { flags = "r", direct = "off", dataSync = false, mode = MODE_DEFAULT } = options;
  const bits = (typeof flags === "number" ? flags : ACCESS[flags]) | (dataSync ? constants.O_DSYNC : 0);
  if (direct === "require" && DIRECT === undefined) throw noDirect(path, "this platform has none");
  const tries =
    direct === "off" || DIRECT === undefined ? [0] : direct === "require" ? [DIRECT] : [DIRECT, 0];
  for (const extra of tries) {
    try {
      const fd = await openDescriptor(path, bits | extra, mode);
      const isDirect = extra !== 0;
      const alignmentBytes = isDirect ? (options.alignmentBytes ?? alignmentOf(fd)) : 1;
      return new IoFile(engine, backend, path, { fd, isDirect, alignmentBytes });
    } catch (error) {
      const { errno, code } = error as NodeJS.ErrnoException;
      if (errno === undefined) throw error;
      // What open(2) says where a file system has no direct I/O.
      const isRefused = extra !== 0 && (code === "EINVAL" || code === "EOPNOTSUPP");
      if (isRefused && direct === "prefer") continue;
      if (isRefused) throw noDirect(path, `the file system refuses it: ${code}`);
      throw ioError("open", -errno, path, error);
    }
  }
  throw noDirect(path, "no way to open it is left");
}

function noDirect(path: string, why: string): AioError {
  return new AioError("ERR_AIO_UNAVAILABLE", `no direct I/O on ${path}: ${why}`);
}

/** What memory and position must be multiples of; the larger where they differ. */
function alignmentOf(fd: number): number {
  const told = directIoAlignment(fd);
  return typeof told === "object" ? Math.max(told.memory, told.offset) : ALIGNMENT_DEFAULT;
}

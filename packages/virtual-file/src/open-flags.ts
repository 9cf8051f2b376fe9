/**
 * How a file is opened: which flags, and whether past the page cache.
 *
 * The table is the I/O mode of Neon's pageserver: `direct` covers what is only read, `direct-rw` also what is written;
 * a file opened with `direct: "off"` is never direct, whatever the mode. There is no append: every operation has to be
 * idempotent, because it may be repeated, and direct I/O needs to know where it goes.
 */
import { constants } from "node:fs";

/** Which files are direct, for all files of an environment. */
export type IoMode = "buffered" | "direct" | "direct-rw";

/** How a file is opened; only to be read, unless said otherwise. */
export interface OpenOptions {
  /** True unless only `write` is. */
  readonly read?: boolean;
  readonly write?: boolean;
  /** Make it if it is not there. Needs `write`, as the next two do. */
  readonly create?: boolean;
  /** Make it, or fail with EEXIST. */
  readonly createNew?: boolean;
  /** Cut it to nothing. */
  readonly truncate?: boolean;
  /** Permissions of a new file, less the process's mask; 0o666 unless said otherwise. */
  readonly mode?: number;
  /**
   * Where the mode asks for direct I/O: "prefer" it, the default, and do without where the file system has none;
   * "require" it; or keep this file off it.
   */
  readonly direct?: "require" | "prefer" | "off";
  /**
   * A write that has returned is durable (O_DSYNC), and one that fails poisons the file as a failed sync does, unless there
   * was no room for it. Needs `write`. Opening fails with EINVAL where there is no such thing.
   */
  readonly dataSync?: boolean;
}

const DIRECT: number | undefined = (constants as { readonly O_DIRECT?: number }).O_DIRECT;

const DATA_SYNC: number | undefined = (constants as { readonly O_DSYNC?: number }).O_DSYNC;

/** What only the first open of a file may do: re-opening neither makes nor empties it. */
const ONCE: number = constants.O_CREAT | constants.O_EXCL | constants.O_TRUNC;

/**
 * Flags of open(2), without O_DIRECT.
 *
 * @throws {TypeError} options that contradict each other, or append
 */
export function accessFlags(options: OpenOptions): number {
  if ((options as { readonly append?: unknown }).append === true)
    throw new TypeError("append: not for files whose operations must be repeatable");
  const { write = false, create = false, createNew = false, truncate = false, dataSync = false } = options;
  const { read = !write } = options;
  if (!read && !write) throw new TypeError("a file is opened to be read, to be written, or both");
  if (!write && (create || createNew || truncate))
    throw new TypeError("only a file to be written is made or cut");
  if (!write && dataSync) throw new TypeError("only what is written can be durable: dataSync needs write");
  const access = read && write ? constants.O_RDWR : write ? constants.O_WRONLY : constants.O_RDONLY;
  const creation = createNew ? constants.O_CREAT | constants.O_EXCL : create ? constants.O_CREAT : 0;
  const truncation = truncate && !createNew ? constants.O_TRUNC : 0;
  return access | creation | truncation | (dataSync ? (DATA_SYNC ?? 0) : 0);
}

/** The flags with which a file is opened again. */
export function reopenFlags(flags: number): number {
  return flags & ~ONCE;
}

/** Flags to try, in this order. The next one is for when a file system refuses direct I/O. */
export function flagsToTry(ioMode: IoMode, options: OpenOptions): readonly number[] {
  const flags = accessFlags(options);
  const { write = false, direct = "prefer" } = options;
  const isWanted = direct !== "off" && (ioMode === "direct-rw" || (ioMode === "direct" && !write));
  if (!isWanted || (DIRECT === undefined && direct === "prefer")) return [flags];
  const directFlags = flags | (DIRECT ?? 0);
  if (direct === "require") return [directFlags];
  // The kernel makes a file before it refuses O_DIRECT: whoever got so far with O_EXCL has made the file himself.
  return [directFlags, flags & ~constants.O_EXCL];
}

/** Whether flags ask for direct I/O. */
export function isDirectFlags(flags: number): boolean {
  return DIRECT !== undefined && (flags & DIRECT) !== 0;
}

/** Whether files can be opened with `dataSync` here at all. */
export const HAS_DATA_SYNC: boolean = DATA_SYNC !== undefined;

/** What open(2) says where a file system has no direct I/O. */
export function isDirectRefusal(errnoCode: string): boolean {
  return errnoCode === "EINVAL" || errnoCode === "EOPNOTSUPP";
}

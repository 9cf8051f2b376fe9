/**
 * The control store over a file, replaced as a whole.
 *
 * A new state is written next to the old one, synced, renamed over it, and the directory is synced: a crash at any
 * step leaves one of the two. A failure before the rename leaves the old state valid in memory and on disk. A failed
 * sync, or a failed rename whose outcome is unknown, ends all trust: the store is poisoned and the owner of the
 * process hears of it, because a vote that may or may not be on disk must not be answered either way.
 */
import { dirname, join } from "node:path";
import {
  crashsafeOverwrite,
  FileError,
  FileIoError,
  syncDirectory,
  VirtualFile,
} from "@millrace/virtual-file";

import { decodeControlFile, encodeControlFile } from "./control-file.js";
import { CONTROL_FILE_BYTES_MAX, CONTROL_FILE_NAME, CONTROL_FILE_PARTIAL_NAME } from "./control-file.js";
import type { ControlStore } from "./control-store.js";
import { AcceptorError, storageError } from "./errors.js";
import { closeQuietly, environmentOf, FILE_PERMISSIONS, withoutSync } from "./file-system.js";
import type { FileSystem } from "./file-system.js";
import { AcceptorMeasures } from "./measures.js";
import { sameState } from "./persistent-state.js";
import type { PersistentState } from "./persistent-state.js";
import { readFully } from "./read-bytes.js";

/** Where the file is and how it is reached. */
export interface DiskControlStoreOptions {
  /** The timeline's directory. */
  readonly directory: string;
  readonly fileSystem: FileSystem;
  /** Skip every sync: for tests and throw-away clusters. */
  readonly noSync?: boolean;
  /** Called once, when a sync has failed: the process must not go on. */
  readonly onFatal?: (error: AcceptorError) => void;
  /** Where times go; nowhere when absent. */
  readonly measures?: AcceptorMeasures;
}

/**
 * Writes the first control file of a timeline, durably, into a directory that has none; the directory's own name is
 * the caller's to sync.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_NO_SPACE, _IO, _POISONED
 */
export async function createDiskControlFile(
  options: DiskControlStoreOptions & { readonly state: PersistentState },
): Promise<void> {
  await new DiskControlStore(options, options.state).write(options.state);
}

/**
 * Opens the control file of a timeline. What it says is durable when this resolves, even if the process died before
 * it had synced it.
 *
 * @throws {AcceptorError} ERR_ACCEPTOR_CONTROL_MISSING, _CONTROL_CORRUPT, _CONTROL_VERSION: the directory is left as
 *   it is; ERR_ACCEPTOR_IO, _POISONED
 */
export async function openDiskControlStore(options: DiskControlStoreOptions): Promise<ControlStore> {
  const fileSystem = fileSystemOf(options);
  const bytes = await readWhole(fileSystem, join(options.directory, CONTROL_FILE_NAME));
  const store = new DiskControlStore(options, decodeControlFile(bytes));
  await store.settle();
  return store;
}

function fileSystemOf(options: DiskControlStoreOptions): FileSystem {
  return options.noSync === true ? withoutSync(options.fileSystem) : options.fileSystem;
}

async function readWhole(fileSystem: FileSystem, file: string): Promise<Uint8Array> {
  let opened: VirtualFile;
  try {
    opened = await VirtualFile.open(file, { direct: "off" }, environmentOf(fileSystem));
  } catch (error) {
    if (error instanceof FileIoError && error.errnoCode === "ENOENT") {
      throw new AcceptorError("ERR_ACCEPTOR_CONTROL_MISSING", `no control file ${file}`, { cause: error });
    }
    throw storageError(`open ${file}`, error);
  }
  try {
    const size = await opened.size();
    if (size > CONTROL_FILE_BYTES_MAX) {
      throw new AcceptorError("ERR_ACCEPTOR_CONTROL_CORRUPT", `control file has ${String(size)} bytes`);
    }
    const bytes = new Uint8Array(size);
    return bytes.subarray(0, await readFully(opened, bytes, 0, fileSystem.arena));
  } catch (error) {
    throw storageError(`read ${file}`, error);
  } finally {
    await closeQuietly(opened);
  }
}

/** Invariant: unless poisoned, `#state` is what the file says. */
class DiskControlStore implements ControlStore {
  readonly #fileSystem: FileSystem;
  readonly #directory: string;
  readonly #onFatal: ((error: AcceptorError) => void) | undefined;
  readonly #measures: AcceptorMeasures;
  #state: PersistentState;
  #poison: AcceptorError | undefined;

  constructor(options: DiskControlStoreOptions, state: PersistentState) {
    this.#fileSystem = fileSystemOf(options);
    this.#directory = options.directory;
    this.#onFatal = options.onFatal;
    this.#measures = options.measures ?? new AcceptorMeasures();
    this.#state = state;
  }

  get(): PersistentState {
    return this.#state;
  }

  async persist(next: PersistentState): Promise<void> {
    if (this.#poison !== undefined) throw this.#poison;
    if (sameState(next, this.#state)) return;
    const began = this.#measures.now();
    await this.write(next);
    this.#measures.persistControlFileSeconds.observe(this.#measures.secondsSince(began));
    this.#state = next;
  }

  /** Makes what was just read durable, and removes what a crash in the middle of `write` left. */
  async settle(): Promise<void> {
    const partial = join(this.#directory, CONTROL_FILE_PARTIAL_NAME);
    try {
      if ((await this.#fileSystem.stat(partial)) !== undefined) await this.#fileSystem.unlink(partial);
    } catch (error) {
      throw storageError(`remove ${partial}`, error);
    }
    const file = join(this.#directory, CONTROL_FILE_NAME);
    const environment = environmentOf(this.#fileSystem);
    let opened: VirtualFile;
    try {
      opened = await VirtualFile.open(file, { read: true, write: true, direct: "off" }, environment);
    } catch (error) {
      throw storageError(`open ${file}`, error);
    }
    try {
      await this.#orPoison(`sync ${file}`, () => opened.sync("all"));
    } finally {
      await closeQuietly(opened);
    }
    await this.#orPoison(`sync ${this.#directory}`, () => syncDirectory(this.#directory, environment));
  }

  async write(next: PersistentState): Promise<void> {
    const partial = join(this.#directory, CONTROL_FILE_PARTIAL_NAME);
    const file = join(this.#directory, CONTROL_FILE_NAME);
    const environment = environmentOf(this.#fileSystem);
    const options = { mode: FILE_PERMISSIONS };
    try {
      await crashsafeOverwrite(file, partial, encodeControlFile(next), environment, options);
    } catch (error) {
      const failure = storageError(`replace ${file}`, error);
      throw isInDoubt(error, file) ? this.#poisonWith(failure) : failure;
    }
  }

  async #orPoison(doing: string, sync: () => Promise<void>): Promise<void> {
    try {
      await sync();
    } catch (error) {
      throw this.#poisonWith(storageError(doing, error));
    }
  }

  #poisonWith(cause: AcceptorError): AcceptorError {
    const poison = new AcceptorError("ERR_ACCEPTOR_POISONED", `control file: ${cause.message}`, { cause });
    this.#poison = poison;
    this.#onFatal?.(poison);
    return poison;
  }
}

/**
 * Whether a failed overwrite leaves it open what is on disk: a sync has failed, or anything behind the rename. So does a
 * failed rename itself, after which either state may be there, unless there was no room for it: a full disk refuses before
 * it changes anything.
 */
function isInDoubt(error: unknown, file: string): boolean {
  if (!(error instanceof FileIoError)) return !(error instanceof FileError);
  if (error.syscall === "fsync" || error.path === dirname(file)) return true;
  return error.syscall === "rename" && error.errnoCode !== "ENOSPC" && error.errnoCode !== "EDQUOT";
}

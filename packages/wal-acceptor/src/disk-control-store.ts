/**
 * The control store over a file, replaced as a whole.
 *
 * A new state is written next to the old one, synced, renamed over it, and the directory is synced: a crash at any
 * step leaves one of the two. A failure before the rename leaves the old state valid in memory and on disk. A failed
 * sync, or a failed rename whose outcome is unknown, ends all trust: the store is poisoned and the owner of the
 * process hears of it, because a vote that may or may not be on disk must not be answered either way.
 */
import { decodeControlFile, encodeControlFile } from "./control-file.js";
import { CONTROL_FILE_BYTES_MAX, CONTROL_FILE_NAME, CONTROL_FILE_PARTIAL_NAME } from "./control-file.js";
import * as path from "node:path";
import type { ControlStore } from "./control-store.js";
import { AcceptorError, storageError } from "./errors.js";
import { closeQuietly, nodeFileSystem, withoutSync } from "./file-system.js";
import type { FileSystem, OpenFile } from "./file-system.js";
import { AcceptorMeasures } from "./measures.js";
import { sameState } from "./persistent-state.js";
import type { PersistentState } from "./persistent-state.js";
import { writeFully } from "./write-fully.js";

/** Where the file is and how it is reached. */
export interface DiskControlStoreOptions {
  /** The timeline's directory. */
  readonly directory: string;
  /** Default: the machine's. */
  readonly fileSystem?: FileSystem;
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
  const file = path.join(options.directory, CONTROL_FILE_NAME);
  const bytes = await readWhole(fileSystem, file);
  const store = new DiskControlStore(options, decodeControlFile(bytes));
  await store.settle();
  return store;
}

function fileSystemOf(options: DiskControlStoreOptions): FileSystem {
  const fileSystem = options.fileSystem ?? nodeFileSystem;
  return options.noSync === true ? withoutSync(fileSystem) : fileSystem;
}

async function readWhole(fileSystem: FileSystem, file: string): Promise<Uint8Array> {
  let opened: OpenFile;
  try {
    opened = await fileSystem.open(file, "read");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
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
    let filled = 0;
    while (filled < size) {
      const count = await opened.pread(bytes.subarray(filled), filled);
      if (count === 0) break;
      filled += count;
    }
    return bytes.subarray(0, filled);
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
    const partial = path.join(this.#directory, CONTROL_FILE_PARTIAL_NAME);
    try {
      if ((await this.#fileSystem.stat(partial)) !== undefined) await this.#fileSystem.unlink(partial);
    } catch (error) {
      throw storageError(`remove ${partial}`, error);
    }
    const file = path.join(this.#directory, CONTROL_FILE_NAME);
    let opened: OpenFile;
    try {
      opened = await this.#fileSystem.open(file, "write");
    } catch (error) {
      throw storageError(`open ${file}`, error);
    }
    try {
      await this.#orPoison(`sync ${file}`, () => opened.fsync());
    } finally {
      await closeQuietly(opened);
    }
    await this.#orPoison(`sync ${this.#directory}`, () => this.#fileSystem.fsyncDirectory(this.#directory));
  }

  async write(next: PersistentState): Promise<void> {
    const partial = path.join(this.#directory, CONTROL_FILE_PARTIAL_NAME);
    const file = path.join(this.#directory, CONTROL_FILE_NAME);
    await this.#writePartial(partial, encodeControlFile(next));
    try {
      await this.#fileSystem.rename(partial, file);
    } catch (error) {
      const failure = storageError(`rename ${partial}`, error);
      // A full disk refuses before it changes anything; after any other error either name may be on disk.
      if (failure.code === "ERR_ACCEPTOR_NO_SPACE") throw failure;
      throw this.#poisonWith(failure);
    }
    await this.#orPoison(`sync ${this.#directory}`, () => this.#fileSystem.fsyncDirectory(this.#directory));
  }

  async #writePartial(partial: string, bytes: Uint8Array): Promise<void> {
    let opened: OpenFile;
    try {
      opened = await this.#fileSystem.open(partial, "create");
    } catch (error) {
      throw storageError(`create ${partial}`, error);
    }
    try {
      await writeFully(opened, [bytes], 0);
      await this.#orPoison(`sync ${partial}`, () => opened.fsync());
    } catch (error) {
      throw storageError(`write ${partial}`, error);
    } finally {
      await closeQuietly(opened);
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

/**
 * A file that is gone when it is disposed of, unless it was disarmed.
 *
 * Names are never used twice in a process: the descriptor cache opens files by their path, and a late re-opening of one that
 * is gone must not find another one there. Process and thread are part of the name, so that threads need not agree; a
 * name that a process of another time has left behind is passed over.
 */
import { join } from "node:path";
import { threadId } from "node:worker_threads";
import { unlinkIfThere } from "./crashsafe-overwrite.js";
import type { FileEnvironment } from "./environment.js";
import { FileIoError, ioFailure } from "./errors.js";
import { VirtualFile } from "./virtual-file.js";

/** Names that are left behind by others before that is an error. */
const NAMES_MAX = 100;

let namesOfThread = 0;

/** What a temporary file holds until it is gone: a `GateGuard` of @millrace/duplex, for example. */
export interface TempFileGuard {
  release(): void;
}

/**
 * Makes a temporary file, open to be read and written.
 *
 * @param prefix of its name, which goes on with numbers
 * @param guard the file's from now on: released when it is gone or disarmed, and if it cannot be made
 * @throws {FileIoError} ERR_FILE_IO
 */
export async function createTempFile(
  directory: string,
  prefix: string,
  environment: FileEnvironment,
  guard?: TempFileGuard,
): Promise<TempFile> {
  try {
    for (let attempt = 1; ; attempt++) {
      const name = `${prefix}${String(process.pid)}-${String(threadId)}-${String(++namesOfThread)}`;
      try {
        const options = { read: true, write: true, createNew: true };
        const file = await VirtualFile.open(join(directory, name), options, environment);
        return new TempFile(file, environment, guard);
      } catch (error) {
        const isTaken = error instanceof FileIoError && error.errnoCode === "EEXIST";
        if (!isTaken || attempt === NAMES_MAX) throw error;
      }
    }
  } catch (error) {
    guard?.release();
    throw error;
  }
}

/** A temporary file. Disposing closes it, removes its name, and then releases the guard. */
export class TempFile implements AsyncDisposable {
  readonly file: VirtualFile;
  readonly #environment: FileEnvironment;
  #guard: TempFileGuard | undefined;
  #isArmed = true;
  #disposing: Promise<void> | undefined;

  constructor(file: VirtualFile, environment: FileEnvironment, guard: TempFileGuard | undefined) {
    this.file = file;
    this.#environment = environment;
    this.#guard = guard;
  }

  /** Makes it a file like others, which is the caller's. Disposing of this object then does nothing. */
  disarm(): VirtualFile {
    this.#isArmed = false;
    this.#release();
    return this.file;
  }

  /** A second call waits for the first. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isArmed) return;
    this.#disposing ??= this.#dispose();
    await this.#disposing;
  }

  /** The name goes even if the close fails. What fails is told: nobody else would say that a file is left. */
  async #dispose(): Promise<void> {
    const { path } = this.file;
    const failure = await this.file.close().catch((error: unknown) => error);
    try {
      await unlinkIfThere(path, this.#environment);
    } catch (error) {
      throw ioFailure(path, "unlink", error);
    } finally {
      this.#release();
    }
    if (failure !== undefined) throw failure;
  }

  #release(): void {
    const guard = this.#guard;
    this.#guard = undefined;
    guard?.release();
  }
}

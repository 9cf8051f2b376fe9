/**
 * The engine of this package over the promise face of @millrace/aio.
 *
 * Reads and writes go through the raw calls, which hand over what the kernel said: who continues a short one, and from
 * where, is decided in one place (transfer.ts). Buffers must lie in memory of that engine, such as its own arena.
 */
import { constants, ftruncate } from "node:fs";
import { rename, unlink } from "node:fs/promises";
import { promisify } from "node:util";
import { errnoName } from "@millrace/aio";
import type { IoEngine, IoFile, MethodChoice } from "@millrace/aio";
import type { FileDescriptor, FileEngine } from "./file-engine.js";

const DIRECT: number = (constants as { readonly O_DIRECT?: number }).O_DIRECT ?? 0;

const truncateDescriptor = promisify(ftruncate);

/** An engine over @millrace/aio. */
export interface AioFileEngine extends FileEngine {
  /** What does reads, writes and syncs: io_uring where there is one, unless asked otherwise; and why no better method does. */
  readonly choice: MethodChoice;
}

/**
 * Makes an engine for files of I/O that an `IoEngine` does. Opening, cutting, renaming and removing, which have no place in a
 * ring's queue, are calls of `node:fs`.
 *
 * @param engine stays the caller's, who closes it after all files
 */
export function createFileEngine(engine: IoEngine): AioFileEngine {
  return {
    choice: engine.choice,
    async open(path, flags, mode, alignmentBytes) {
      const isDirect = DIRECT !== 0 && (flags & DIRECT) !== 0;
      const access = { flags: flags & ~DIRECT, mode, direct: isDirect ? "require" : "off" } as const;
      try {
        return new AioDescriptor(await engine.open(path, isDirect ? { ...access, alignmentBytes } : access));
      } catch (error) {
        throw asErrno(error);
      }
    },
    rename,
    unlink,
  };
}

class AioDescriptor implements FileDescriptor {
  readonly #file: IoFile;

  constructor(file: IoFile) {
    this.#file = file;
  }

  read(target: Uint8Array, offsetBytes: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#file.readRaw(target, offsetBytes, (result) => settle("read", result, resolve, reject), 0);
    });
  }

  write(source: Uint8Array, offsetBytes: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#file.writeRaw(source, offsetBytes, (result) => settle("write", result, resolve, reject), 0);
    });
  }

  async sync(dataOnly: boolean): Promise<void> {
    try {
      await this.#file.sync(dataOnly);
    } catch (error) {
      throw asErrno(error);
    }
  }

  async truncate(lengthBytes: number): Promise<void> {
    await truncateDescriptor(this.#file.fd, lengthBytes);
  }

  size(): Promise<number> {
    return this.#file.size();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

function settle(
  syscall: string,
  result: number,
  resolve: (bytes: number) => void,
  reject: (error: unknown) => void,
): void {
  if (result >= 0) resolve(result);
  else reject(errnoError(errnoName(-result), `${syscall} failed`));
}

/** What the engine threw, with an errno's name for its code; other errors as they are. */
function asErrno(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { code, errnoName: name } = error as { readonly code?: unknown; readonly errnoName?: unknown };
  // What open(2) says where a file system has no direct I/O.
  if (code === "ERR_AIO_UNAVAILABLE") return errnoError("EINVAL", error.message, error);
  return typeof name === "string" ? errnoError(name, error.message, error) : error;
}

function errnoError(code: string, message: string, cause?: unknown): Error {
  return Object.assign(new Error(message, cause === undefined ? {} : { cause }), { code });
}

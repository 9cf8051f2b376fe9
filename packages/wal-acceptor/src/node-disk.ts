/**
 * The disk of a node: the engine that its I/O runs in, unless a file system was handed in.
 *
 * io_uring where it can be set up, worker threads elsewhere, and the reason is told: a slow method that nobody notices is
 * the worst outcome.
 */
import { IoEngine } from "@millrace/aio";
import type { MethodChoice, MethodName } from "@millrace/aio";

import { publish } from "./diagnostics.js";
import { createFileSystem, ENGINE_FILES_MAX } from "./file-system.js";
import type { FileSystem } from "./file-system.js";

/** Address space for I/O: some fifty logs that are being written to at a moment, and their readers. */
const ARENA_BYTES: number = 64 * 1024 * 1024;

/** How a disk is opened. */
export interface NodeDiskOptions {
  /** Lent; default: the machine's, on an engine of its own. */
  readonly fileSystem?: FileSystem | undefined;
  /** Default "auto". */
  readonly ioMethod?: MethodName | "auto" | undefined;
}

/** An opened disk. Dispose of it after everything that uses it. */
export interface NodeDisk extends AsyncDisposable {
  readonly fileSystem: FileSystem;
  /** What runs the I/O, and why nothing better; undefined for a file system that was handed in. */
  readonly choice: MethodChoice | undefined;
}

/**
 * Opens a node's disk.
 *
 * @throws {AioError} ERR_AIO_* where no engine can be made
 */
export function openNodeDisk(options: NodeDiskOptions): NodeDisk {
  const { fileSystem, ioMethod = "auto" } = options;
  if (fileSystem !== undefined) {
    return { fileSystem, choice: undefined, [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  // Memory that is registered with a ring stays in memory; this is rarely used all at once.
  const engine = IoEngine.create({
    method: ioMethod,
    arenaBytes: ARENA_BYTES,
    filesMax: ENGINE_FILES_MAX,
    fixBuffers: false,
  });
  const { method, fallbacks } = engine.choice;
  publish(() => ({ type: "disk-io", level: fallbacks.length > 0 ? "warn" : "info", method, fallbacks }));
  return {
    fileSystem: createFileSystem(engine),
    choice: engine.choice,
    [Symbol.asyncDispose]: () => engine.close(),
  };
}

/**
 * The public face of @millrace/virtual-file: positional files with checked direct I/O over a bounded number of
 * descriptors, crash-safe replacement, and temporary files.
 */
export { createFileEngine } from "./aio-file-engine.js";
export type { AioFileEngine } from "./aio-file-engine.js";
export { crashsafeOverwrite, syncDirectory } from "./crashsafe-overwrite.js";
export type { FileEnvironment } from "./environment.js";
export { AlignmentError, FileError, FileIoError, UnexpectedEofError, WriteZeroError } from "./errors.js";
export type { FileErrorCode } from "./errors.js";
export { FdCache } from "./fd-cache.js";
export type { FdCacheStats } from "./fd-cache.js";
export type { FileDescriptor, FileEngine } from "./file-engine.js";
export type { IoMode, OpenOptions } from "./open-flags.js";
export { probeAlignment } from "./probe-alignment.js";
export { createTempFile } from "./temp-file.js";
export type { TempFile, TempFileGuard } from "./temp-file.js";
export { VirtualFile } from "./virtual-file.js";
export type { PositionalReader, PositionalWriter } from "./virtual-file.js";

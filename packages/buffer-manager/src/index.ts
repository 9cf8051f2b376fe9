/** The public face of @millrace/buffer-manager: a pool of pages that the threads of a process share. */
export { BufferError, DumpFormatError } from "./errors.js";
export type { BufferErrorCode } from "./errors.js";
export type { FileLayer, WalHooks } from "./file-layer.js";
export type { PoolHook, PoolPoint } from "./points.js";
export type { PoolCore, PoolShared } from "./pool-core.js";
export { BufferPool } from "./pool.js";
export type { PoolOptions } from "./pool.js";
export { relationPath, segmentPath } from "./relation-path.js";
export { SegmentedFiles, segmentedFiles } from "./segmented-files.js";
export type { SegmentedFilesOptions } from "./segmented-files.js";
export type { PoolSettings, RingSizes } from "./settings.js";
export { FORK } from "./tag.js";
export type { Fork, Persistence, Relation, Tag } from "./tag.js";

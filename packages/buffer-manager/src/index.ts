/** The public face of @millrace/buffer-manager: a pool of pages that the threads of a process share. */
export type { AutoPrewarm, LoadReport } from "./auto-prewarm.js";
export type { AttachOptions } from "./backend-context.js";
export type {
  BackgroundWriter,
  BackgroundWriterOptions,
  BackgroundWriterRound,
} from "./background-writer.js";
export type { BackgroundWriterPaceOptions } from "./background-writer-pace.js";
export { BufferManager } from "./buffer-manager.js";
export type { ReadOptions } from "./buffer-reads.js";
export type { CheckpointOptions, CheckpointReport } from "./checkpoint.js";
export type { ChecksumFailureRow } from "./checksum-failures.js";
export { BUFFER_CHANNEL } from "./diagnostics.js";
export type { BufferEvent } from "./diagnostics.js";
export { allForks } from "./drop.js";
export type { ForkFrom } from "./drop.js";
export { BufferError, DumpFormatError, InvalidPageError } from "./errors.js";
export type { BufferErrorCode, BufferWarningCode } from "./errors.js";
export type { EvictCounts, Eviction } from "./evict.js";
export type { Extension, ExtendOptions, ExtendToOptions } from "./extension.js";
export type { FileLayer, WalHooks } from "./file-layer.js";
export { InvalidPages } from "./invalid-pages.js";
export type { InvalidPage } from "./invalid-pages.js";
export type { PageRow, PoolSummary, UsageRow } from "./inspection.js";
export type { OperationStatistics, StatisticsRow } from "./io-statistics.js";
export type { BackendKind } from "./layout.js";
export type { LatchMode } from "./latch.js";
export type { PoolHook, PoolPoint } from "./points.js";
export type { PoolCore, PoolShared } from "./pool-core.js";
export type { PoolScope } from "./pool-scope.js";
export { BufferPool } from "./pool.js";
export type { PoolOptions } from "./pool.js";
export { READ_FLAG } from "./read-callbacks.js";
export type { PrefetchResult, ReadMode } from "./page-reader.js";
export type { PrewarmMode, PrewarmOptions } from "./prewarm.js";
export type { ReadOperation } from "./read-operation.js";
export type { RedoReader, RedoReadOptions } from "./redo-reader.js";
export { relationPath, segmentPath } from "./relation-path.js";
export type { ResizeOptions, ResizeReport } from "./resize.js";
export type { Ring } from "./ring.js";
export type { RingKind } from "./ring-sizes.js";
export { SegmentedFiles, segmentedFiles } from "./segmented-files.js";
export type { SegmentedFilesOptions } from "./segmented-files.js";
export type { Session } from "./session.js";
export type { TablespaceConcurrency } from "./session.js";
export type { PoolSettings, RingSizes } from "./settings.js";
export { FORK } from "./tag.js";
export type { Fork, Persistence, Relation, Tag } from "./tag.js";

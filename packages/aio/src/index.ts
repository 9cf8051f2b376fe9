/** The public face of @millrace/aio: asynchronous I/O after PostgreSQL 18, for the threads of a Node.js process. */
export { attachBackend } from "./attach.js";
export type { AioBackend } from "./backend.js";
export type { BackendOptions, BackendProbe } from "./backend-options.js";
export { IoEngine } from "./engine.js";
export type { IoEngineOptions } from "./engine.js";
export type { CallOptions, FileAdvice, FileWriteOptions, IoFile } from "./engine-file.js";
export type { OpenOptions } from "./open-file.js";
export type { RawDone } from "./engine-request.js";
export { createBlockCallbacks } from "./block-callbacks.js";
export type { BlockCallbacksOptions, BlockRange } from "./block-callbacks.js";
export { AioError, AioIoError } from "./errors.js";
export type { AioErrorCode, AioWarningCode } from "./errors.js";
export type { ArmedFault, Faults, FaultPoint, FaultSpec } from "./faults.js";
export {
  createFileRegistry,
  FILE_CALLBACK,
  FILE_TARGET,
  fileCallbacks,
  fileTarget,
} from "./file-registry.js";
export type { FileLease } from "./file-table.js";
export type { HandleStateName } from "./handle-state.js";
export type { IoHandle, WriteSync } from "./io-handle.js";
export { mergeVectors, remainingVectors, totalBytes } from "./io-vector.js";
export type { IoVector } from "./io-vector.js";
export { autoConcurrency, CombineLimit } from "./limits.js";
export type { MethodName } from "./method.js";
export type { MethodChoice, MethodWish, UringProbe } from "./method-choice.js";
export { ManualController } from "./methods/manual.js";
export type { IoFlag, IoOperation } from "./operations.js";
export { AioRegistry, TARGET_IDS } from "./registry.js";
export type { Callbacks, IoView, ReportLevel, Target } from "./registry.js";
export { errnoName } from "./report.js";
export {
  CALLBACK_IDS,
  createIoResult,
  createIoReturn,
  packResult,
  TARGET_WORDS,
  unpackResult,
} from "./result.js";
export type { IoResult, IoReturn, IoStatus } from "./result.js";
export type { AioRow, BackendRow } from "./rows.js";
export type { IoScope, ScopeEndHook } from "./scope.js";
export type { IoCount, IoStatistics } from "./statistics.js";
export { AioSystem } from "./system.js";
export type { AioSystemOptions } from "./system.js";
export type { AioShared } from "./thread-context.js";
export { INVALID_HANDLE, NO_WAIT_REF } from "./wait-ref.js";
export type { WaitRef } from "./wait-ref.js";
export { WAL_TARGET, walTarget, walTargetWords } from "./wal-target.js";
export type { WalPlace } from "./wal-target.js";
export { WalWriter } from "./wal-writer.js";
export type { WalPiece, WalWriterOptions } from "./wal-writer.js";
export type { AutoSizing, PoolClock, WorkerPool } from "./worker-pool.js";

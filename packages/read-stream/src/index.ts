/** The public face of @millrace/read-stream: look-ahead reads over a buffer pool, after PostgreSQL 18. */
export { STREAM_CHANNEL } from "./diagnostics.js";
export type { StreamDiagnostic } from "./diagnostics.js";
export { ReadStreamError } from "./errors.js";
export type { ReadStreamErrorCode } from "./errors.js";
export { STREAM_FLAG } from "./options.js";
export type { NextBlock, ReadStreamOptions, StreamScope } from "./options.js";
export { READ_FLAG } from "./pool.js";
export type { ReadOperation, StreamFork, StreamPool, StreamRelation, StreamRing } from "./pool.js";
export { ReadStream } from "./read-stream.js";
export type { Buffer, StreamInfo, StreamItem } from "./read-stream.js";
export type { StreamStatistics } from "./statistics.js";
export type { StreamEvent } from "./trace.js";

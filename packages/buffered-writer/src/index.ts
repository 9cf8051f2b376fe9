/**
 * The public face of @millrace/buffered-writer: the writer, what it says when it fails, control over its background for
 * tests, and its face as a stream.
 */
export { BufferedWriter } from "./buffered-writer.js";
export { FlushCancelledError, WriterClosedError, WriterError, WriterPoisonedError } from "./errors.js";
export type { WriterErrorCode } from "./errors.js";
export { FlushProbe } from "./flush-probe.js";
export type { FlushStage, HeldStage, SegmentInfo } from "./flush-probe.js";
export type { BufferedWriterOptions } from "./options.js";
export { classifyError } from "./retry.js";
export type { Classify, WriterClock } from "./retry.js";
export type { WriterSnapshot } from "./snapshot.js";
export type { ShutdownMode } from "./tail.js";
export { createWritable } from "./writable.js";
export type { CallOptions, ShutdownResult, WriterState, WriterStats } from "./writer-state.js";

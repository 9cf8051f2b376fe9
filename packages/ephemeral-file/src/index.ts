/**
 * The public face of @millrace/ephemeral-file: a temporary file that is appended to and read everywhere at once, and reads of
 * many ranges of any file.
 */
export type { ReadSource } from "./batched-read.js";
export { EphemeralFile } from "./ephemeral-file.js";
export type { CallOptions, EphemeralFileOptions } from "./ephemeral-file.js";
export { EphemeralFileError } from "./errors.js";
export type { EphemeralFileErrorCode } from "./errors.js";
export type { ByteRange } from "./read-plan.js";
export { readVectored, VECTORED_BYTES_MAX } from "./vectored.js";
export type { VectoredOptions, VectoredResult } from "./vectored.js";

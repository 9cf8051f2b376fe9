/**
 * What can be expected to go wrong with a stream itself, by code.
 *
 * Errors of the pool (a page that cannot be read, no buffer to be had) and of the caller's own callback pass through
 * `next` as they are: this layer knows nothing to add to them. What it adds is what the stream is worth afterwards.
 */
export type ReadStreamErrorCode =
  | "ERR_STREAM_BUSY" // a call while another call of the same stream runs or waits; nothing was done
  | "ERR_STREAM_DEAD" // the scope that owned the stream's pins has ended under it; make a new stream
  | "ERR_STREAM_ENDED" // the stream was ended; only `next` (which gives 0) and `end` are left
  | "ERR_STREAM_FAILED" // an earlier call threw (`cause`); `reset` or `end` is what is left
  | "ERR_STREAM_FOREIGN_TEMPORARY"; // a temporary relation of another session: its buffers are out of reach

/** Any expected failure of this package. */
export class ReadStreamError extends Error {
  override readonly name = "ReadStreamError";
  readonly code: ReadStreamErrorCode;

  constructor(code: ReadStreamErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/**
 * Whether `error` says that a thread that must not sleep would have had to. Whoever throws it has done nothing, so the
 * same step can be taken again, asynchronously.
 */
export function isWouldBlock(error: unknown): boolean {
  const code = error instanceof Error ? (error as Error & { code?: unknown }).code : undefined;
  return typeof code === "string" && code.endsWith("_WOULD_BLOCK");
}

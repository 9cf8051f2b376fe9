/**
 * What a writer says of itself, and what is left of it.
 *
 * States and counters are for whoever watches; a program decides by the errors of its calls.
 */

/** Where a writer is in its life. "cancelled" and "poisoned" end with `abandon` or disposal. */
export type WriterState = "open" | "closing" | "closed" | "cancelled" | "poisoned";

/** What a writer has done. */
export interface WriterStats {
  /** Segments that are in the file. */
  readonly flushes: number;
  readonly bytesCopied: number;
  readonly bytesBypassed: number;
  /** Attempts that were repeated. */
  readonly retries: number;
  /** Buffers that came back while somebody held a share of them, and were replaced. */
  readonly replacedBuffers: number;
}

/** How a single call can be given up. */
export interface CallOptions {
  /** Abort while the call waits for its turn: it was never made. Later it has no effect. */
  readonly signal?: AbortSignal;
}

/** What is left of a writer that was shut down. */
export interface ShutdownResult<F> {
  /** Bytes from the start of the file that the writer has put there, or had been there before. */
  readonly finalLength: number;
  /** The caller's again. Nothing is synced. */
  readonly file: F;
}

/**
 * What can be expected to go wrong with a writer: it was cancelled, it has failed, or it was closed.
 *
 * The three are told apart by `code`, so that a shutdown is not taken for a broken disk. Compare `code`, not the class: two
 * copies of this package may be installed.
 */
export type WriterErrorCode =
  | "ERR_FLUSH_CANCELLED" // the writer's signal was aborted; `cause` is its reason
  | "ERR_WRITER_POISONED" // a write or a change of length failed for good; `cause` is the error
  | "ERR_WRITER_CLOSED" // the writer was shut down, abandoned or disposed of
  | "ERR_WRITER_STALE_SNAPSHOT"; // a snapshot was used after its caller had waited for something

/** Any expected failure of this package. */
export class WriterError extends Error {
  override readonly name: string = "WriterError";
  readonly code: WriterErrorCode;

  constructor(code: WriterErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The writer's signal was aborted: what is not on its way to the disk stays in memory, readable. */
export class FlushCancelledError extends WriterError {
  override readonly name: string = "FlushCancelledError";
  declare readonly code: "ERR_FLUSH_CANCELLED";

  constructor(cause: unknown) {
    super("ERR_FLUSH_CANCELLED", "the writer was cancelled", { cause });
  }
}

/** Bytes could not be written, and repeating that is of no use. */
export class WriterPoisonedError extends WriterError {
  override readonly name: string = "WriterPoisonedError";
  declare readonly code: "ERR_WRITER_POISONED";

  constructor(cause: unknown) {
    super("ERR_WRITER_POISONED", "a write has failed for good", { cause });
  }
}

/** The call came after the end. */
export class WriterClosedError extends WriterError {
  override readonly name: string = "WriterClosedError";
  declare readonly code: "ERR_WRITER_CLOSED";

  constructor() {
    super("ERR_WRITER_CLOSED", "the writer is closed");
  }
}

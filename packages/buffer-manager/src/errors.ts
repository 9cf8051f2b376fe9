/**
 * What can be expected to go wrong in a buffer pool, by code.
 *
 * A code says what a caller can do about it; which file and block it was about is in the message, and in the fields of
 * {@link InvalidPageError} where a program may want them.
 */
export type BufferErrorCode =
  | "ERR_BUFFER_BAD_DUMP" // a list of pages to load is damaged, at a line that is named
  | "ERR_BUFFER_BAD_ID" // not the number of a buffer of this pool, or the backend has no pin or lock on it
  | "ERR_BUFFER_BEYOND_EOF_DATA" // a relation is to be extended by a block whose page is in the pool and not empty
  | "ERR_BUFFER_CLEANUP_WAITER" // another backend waits already for the only pin on the page
  | "ERR_BUFFER_CLOSED" // the backend has left the pool, or the pool is closed
  | "ERR_BUFFER_FILE" // a data file is missing, or could not be opened or extended; `cause` says why
  | "ERR_BUFFER_INVALID_PAGE" // pages were read and are not valid: their header or checksum is wrong
  | "ERR_BUFFER_LIMIT" // a fixed table of the pool is full
  | "ERR_BUFFER_LOCAL_IN_USE" // the number of local buffers cannot change any more
  | "ERR_BUFFER_MAX_BLOCKS" // a relation cannot have more blocks
  | "ERR_BUFFER_MISSING_PAGE" // the log that is redone changes pages that are not there, and that nothing drops
  | "ERR_BUFFER_NO_ADVICE" // the kernel cannot be advised to read ahead: direct I/O, or no native part
  | "ERR_BUFFER_NO_LOCAL" // all local buffers are pinned
  | "ERR_BUFFER_NO_READ" // a read is waited for that needs no waiting
  | "ERR_BUFFER_NO_UNPINNED" // all buffers are pinned; release some
  | "ERR_BUFFER_PANIC" // a thread died inside an update of shared state: nothing in the pool can be trusted any more
  | "ERR_BUFFER_PINNED_IN_DROP" // a page that is to be dropped is pinned by the backend that drops it
  | "ERR_BUFFER_PIN_COUNT" // the call needs this backend to have exactly one pin on the page
  | "ERR_BUFFER_POISONED" // an earlier sync of a data file failed: what is durable is unknown, recover with a new pool
  | "ERR_BUFFER_READ_FAILED" // the kernel failed a read; `cause` has the errno
  | "ERR_BUFFER_SHORT_READ" // a file ends before a block that was to be read
  | "ERR_BUFFER_RESIZE_BUSY" // the pool is being resized already
  | "ERR_BUFFER_RESIZE_PINNED" // buffers that were to go are in use; the pool has the size that it had
  | "ERR_BUFFER_WOULD_BLOCK" // a blocking call on a thread that must not sleep; use its asynchronous twin
  | "ERR_BUFFER_WRITE"; // a page could not be written, or its WAL not made durable: it stays dirty; `cause` says why

/** What a backend warns of. */
export type BufferWarningCode = "BUFFER_LEAKED_PIN"; // a scope or a backend ended with a pin; it was given back

/** Any expected failure of this package. */
export class BufferError extends Error {
  override readonly name: string = "BufferError";
  readonly code: BufferErrorCode;

  constructor(code: BufferErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A list of pages that cannot be read: which line is wrong. */
export class DumpFormatError extends BufferError {
  override readonly name = "DumpFormatError";
  /** From 1; the header is line 1. */
  readonly line: number;

  constructor(line: number, message: string) {
    super("ERR_BUFFER_BAD_DUMP", `the list of pages is damaged at line ${line}: ${message}`);
    this.line = line;
  }
}

/** Pages that were read and are not valid: which is the first, and how many of the read's. */
export class InvalidPageError extends BufferError {
  override readonly name = "InvalidPageError";
  /** The first such block. */
  readonly block: number;
  /** Pages of the read that are not valid; 127 for more. */
  readonly pages: number;

  constructor(message: string, block: number, pages: number) {
    super("ERR_BUFFER_INVALID_PAGE", message);
    this.block = block;
    this.pages = pages;
  }
}

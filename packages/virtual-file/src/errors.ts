/**
 * What can be expected to go wrong with files.
 *
 * The operating system's word is in `errnoCode`, because callers decide by it: a full disk is waited for, a broken one is
 * not. A failed sync is final for its file: the kernel may have dropped what was written, and a later sync that succeeds
 * would prove nothing. Compare `code`, not the class: two copies of this package may be installed.
 */
export type FileErrorCode =
  | "ERR_FILE_IO" // the operating system failed a call; `errnoCode` and `syscall` say how
  | "ERR_FILE_CLOSED" // the file was closed before the call; nothing was issued
  | "ERR_FILE_POISONED" // an earlier sync failed: what is durable is unknown, reopen and recover
  | "ERR_FILE_ALIGNMENT" // direct I/O with an address, offset or length that is no multiple; nothing was issued
  | "ERR_FILE_WRITE_ZERO" // several writes in a row moved nothing
  | "ERR_FILE_UNEXPECTED_EOF"; // the file ends before all bytes were read

/** Any expected failure of this package. */
export class FileError extends Error {
  override readonly name: string = "FileError";
  readonly code: FileErrorCode;
  readonly path: string;

  constructor(code: FileErrorCode, path: string, message: string, options?: ErrorOptions) {
    super(`${path}: ${message}`, options);
    this.code = code;
    this.path = path;
  }
}

/** The operating system failed a call. */
export class FileIoError extends FileError {
  override readonly name: string = "FileIoError";
  declare readonly code: "ERR_FILE_IO";
  /** Such as "ENOSPC". */
  readonly errnoCode: string;
  /** Such as "write". */
  readonly syscall: string;

  constructor(path: string, syscall: string, errnoCode: string, options?: ErrorOptions) {
    super("ERR_FILE_IO", path, `${syscall} failed with ${errnoCode}`, options);
    this.errnoCode = errnoCode;
    this.syscall = syscall;
  }
}

/** An operation on a direct file that the kernel would refuse, or accept by luck. */
export class AlignmentError extends FileError {
  override readonly name: string = "AlignmentError";
  declare readonly code: "ERR_FILE_ALIGNMENT";
  /** What is no multiple: where the bytes are in memory, where they are in the file, or how many there are. */
  readonly what: "address" | "offset" | "length";

  constructor(path: string, what: "address" | "offset" | "length", value: number, alignmentBytes: number) {
    super("ERR_FILE_ALIGNMENT", path, `${what} ${String(value)} is no multiple of ${String(alignmentBytes)}`);
    this.what = what;
  }
}

/** The operating system accepted no byte, several times in a row. */
export class WriteZeroError extends FileError {
  override readonly name: string = "WriteZeroError";
  declare readonly code: "ERR_FILE_WRITE_ZERO";

  constructor(path: string, offsetBytes: number) {
    super("ERR_FILE_WRITE_ZERO", path, `nothing can be written at ${String(offsetBytes)}`);
  }
}

/** Fewer bytes than had to be there. */
export class UnexpectedEofError extends FileError {
  override readonly name: string = "UnexpectedEofError";
  declare readonly code: "ERR_FILE_UNEXPECTED_EOF";
  readonly offsetBytes: number;
  readonly wantedBytes: number;
  readonly gotBytes: number;

  constructor(path: string, offsetBytes: number, wantedBytes: number, gotBytes: number) {
    super(
      "ERR_FILE_UNEXPECTED_EOF",
      path,
      `only ${String(gotBytes)} of ${String(wantedBytes)} bytes at ${String(offsetBytes)}`,
    );
    this.offsetBytes = offsetBytes;
    this.wantedBytes = wantedBytes;
    this.gotBytes = gotBytes;
  }
}

/** The code of an error that an engine gave, such as "ENOSPC"; "EUNKNOWN" if it has none. */
export function errnoCodeOf(error: unknown): string {
  const code: unknown = (error as { readonly code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : "EUNKNOWN";
}

/** The failure of a call to the engine, with what this layer knows. */
export function ioFailure(path: string, syscall: string, error: unknown): FileIoError {
  return new FileIoError(path, syscall, errnoCodeOf(error), { cause: error });
}

/**
 * What can be expected to go wrong in asynchronous I/O, by code.
 *
 * An operating system's error of an I/O is not among them while the I/O runs: it is data (a distilled result) until the
 * issuer asks for it to be raised, because whoever completes an I/O may be a stranger to it. Misuse of the handle
 * protocol has codes too, as PostgreSQL has errors for it: a caller can write a test for each.
 */
export type AioErrorCode =
  | "ERR_AIO_BAD_CALLBACK" // no such callback, or it has neither of the two completion functions
  | "ERR_AIO_BAD_RELEASE" // release of a handle that is not the one handed out
  | "ERR_AIO_BAD_STATE" // a handle's call is not legal in its state; nothing was changed
  | "ERR_AIO_CLOSED" // the system, the backend or the file was closed; nothing was issued
  | "ERR_AIO_HANDLE_ALREADY_OUT" // a handle is handed out already; define or release it first
  | "ERR_AIO_IO" // the kernel failed the operation; `errno` and `syscall` say how
  | "ERR_AIO_LIMIT" // a fixed table (backends, files, segments, queue) is full
  | "ERR_AIO_MEMORY" // the bytes do not lie in one of the system's memory segments, or not aligned as the file needs
  | "ERR_AIO_NESTED_BATCH" // batch mode was entered twice
  | "ERR_AIO_NOT_IN_BATCH" // batch mode was left without having been entered
  | "ERR_AIO_PANIC" // an exception escaped a completion, or a WAL write failed: nothing here can be trusted any more
  | "ERR_AIO_POISONED" // an earlier sync failed: what is durable is unknown, reopen and recover
  | "ERR_AIO_REGISTRY_MISMATCH" // this thread's callbacks or targets are not those the system was made with
  | "ERR_AIO_SHORT" // fewer bytes than asked for, where a short transfer is an error
  | "ERR_AIO_TOO_MANY_CALLBACKS" // a fifth callback on one handle
  | "ERR_AIO_UNAVAILABLE" // the method that was insisted on cannot run here; the message says why
  | "ERR_AIO_WAIT_OWN_UNSUBMITTED" // a wait for an own I/O that nobody will ever submit
  | "ERR_AIO_WOULD_BLOCK"; // a blocking wait on a thread that must not block; use the async twin

/** Any expected failure of this package. */
export class AioError extends Error {
  override readonly name: string = "AioError";
  readonly code: AioErrorCode;

  constructor(code: AioErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A failed I/O, raised by its issuer. */
export class AioIoError extends AioError {
  override readonly name: string = "AioIoError";
  declare readonly code: "ERR_AIO_IO";
  /** The kernel's error number, above zero. */
  readonly errno: number;
  /** Its symbolic name, such as "EIO"; "E<number>" where the platform has none. */
  readonly errnoName: string;
  /** The operation, such as "readv". */
  readonly operation: string;

  constructor(operation: string, errno: number, errnoName: string, message: string, options?: ErrorOptions) {
    super("ERR_AIO_IO", message, options);
    this.operation = operation;
    this.errno = errno;
    this.errnoName = errnoName;
  }
}

/** What is wrong with a caller's bookkeeping but harms nobody. Given to `onWarning`, never thrown. */
export type AioWarningCode =
  | "AIO_LEAKED_HANDLE" // a scope ended normally with a handle neither defined nor released
  | "AIO_NOT_SUBMITTED" // a scope ended normally with staged I/O; it has been submitted
  | "AIO_OPEN_BATCH"; // a transaction ended in batch mode; the batch has been submitted and left

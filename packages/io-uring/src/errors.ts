/**
 * What can be expected to go wrong outside a single call: no native part, a kernel that refuses, a ring that is gone.
 *
 * Calls on rings and descriptors do not throw for what the kernel says: they return a negative errno. Bad arguments
 * are TypeError or RangeError before anything is issued. Compare `code`, not the class: two copies of this package
 * may be installed.
 */
export type UringErrorCode =
  | "ERR_URING_UNAVAILABLE" // there is no native part here; nativeStatus() has the reason
  | "ERR_URING_SETUP" // the kernel refused to set the ring up; `errno` and the message say why
  | "ERR_URING_CLOSED" // the ring was closed before the call
  | "ERR_URING_NOT_FOUND" // no ring of this process has the id: never had, or it is closed
  | "ERR_URING_POLL"; // the ring has a poll already, or the event loop refused one; see `errno`

/** Any expected failure of this package. */
export class UringError extends Error {
  override readonly name: string = "UringError";
  readonly code: UringErrorCode;

  constructor(code: UringErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A failure with the kernel's reason. */
export class UringSystemError extends UringError {
  override readonly name: string = "UringSystemError";
  /** A negative errno, as every call of this package returns them. */
  readonly errno: number;

  constructor(code: "ERR_URING_SETUP" | "ERR_URING_POLL", errno: number, message: string) {
    super(code, message);
    this.errno = errno;
  }
}

/**
 * What can be expected to go wrong with an ephemeral file itself: only that it is gone.
 *
 * Everything else is told by whoever knows it: appends fail as those of @millrace/buffered-writer, reads of the disk as those
 * of @millrace/virtual-file. Compare `code`, not the class: two copies of this package may be installed.
 */
export type EphemeralFileErrorCode = "ERR_EPHEMERAL_CLOSED"; // disposed of before the call or in the middle of it

/** Any expected failure of this package's own. */
export class EphemeralFileError extends Error {
  override readonly name = "EphemeralFileError";
  readonly code: EphemeralFileErrorCode;

  constructor(code: EphemeralFileErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

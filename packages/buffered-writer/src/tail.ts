/**
 * What becomes of the bytes that do not fill a buffer when a writer is shut down.
 *
 * Padding makes the last write a multiple of what direct I/O needs, not of the buffer's capacity, and the length of the file is
 * set only if there was padding to be cut off.
 */

/** "dropTail": they are not written. "padThenTruncate": all bytes, exactly. `zeroPadTo`: zeros up to a multiple of so many bytes. */
export type ShutdownMode = "dropTail" | "padThenTruncate" | { readonly zeroPadTo: number };

/** What is to be done with a tail. */
export interface TailPlan {
  /** Zeros to be added behind it. */
  readonly padBytes: number;
  /** The length of the file in the end, as far as the writer knows; shorter than what is written if padding is cut off. */
  readonly finalLength: number;
}

/**
 * @throws {RangeError} `zeroPadTo` is no positive multiple of the alignment
 * @throws {TypeError} no such mode
 */
export function checkMode(mode: ShutdownMode, alignment: number): void {
  if (mode === "dropTail" || mode === "padThenTruncate") return;
  const multiple: unknown = (mode as { readonly zeroPadTo?: unknown } | undefined)?.zeroPadTo;
  if (typeof multiple !== "number") throw new TypeError("no such mode of shutting down");
  if (!Number.isSafeInteger(multiple) || multiple <= 0 || multiple % alignment !== 0)
    throw new RangeError(
      `zeroPadTo must be a positive multiple of ${String(alignment)}: ${String(multiple)}`,
    );
}

/**
 * Plans for a tail that is written. Where nothing is left over, nothing is padded.
 *
 * @param length of everything, the tail included, bytes from the start of the file
 */
export function planTail(
  mode: Exclude<ShutdownMode, "dropTail">,
  length: number,
  alignment: number,
): TailPlan {
  const padBytes = bytesTo(mode === "padThenTruncate" ? alignment : mode.zeroPadTo, length);
  return { padBytes, finalLength: mode === "padThenTruncate" ? length : length + padBytes };
}

function bytesTo(multiple: number, length: number): number {
  const over = length % multiple;
  return over === 0 ? 0 : multiple - over;
}

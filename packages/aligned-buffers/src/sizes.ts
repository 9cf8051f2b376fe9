/**
 * Checks of the numbers that callers pass, before anything is done.
 *
 * What is wrong here was never right and is a bug of the caller: RangeError, without a code. Whether a size fits is
 * another question, which the arena and its buffers answer.
 */

/** @throws {RangeError} not a number of bytes */
export function checkSize(value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a size: ${String(value)}`);
}

/** @throws {RangeError} not 0 to 255 */
export function checkByte(value: number): void {
  if (!Number.isInteger(value) || value < 0 || value > 255)
    throw new RangeError(`not a byte: ${String(value)}`);
}

/** Whether a number is a power of two in a range. */
export function isPowerOfTwo(value: number, min: number, max: number): boolean {
  return Number.isInteger(Math.log2(value)) && value >= min && value <= max;
}

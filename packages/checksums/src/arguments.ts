/**
 * Checks of arguments that several functions have in common.
 *
 * What is wrong here is a bug of the caller; it would otherwise give a checksum, and a wrong one.
 */

/** An ArrayBuffer or a DataView has no elements to read, and would pass for empty. */
export function checkBytes(bytes: Uint8Array): void {
  // Not `instanceof`: Node's buffers are made in another realm than the code of some test runners.
  if (!ArrayBuffer.isView(bytes) || bytes.BYTES_PER_ELEMENT !== 1)
    throw new TypeError("expected a Uint8Array");
}

/**
 * Copying bytes into or out of shared memory as fast as each Node can.
 *
 * `set` of a typed array, which `Buffer.copy` of a whole buffer ends up in too, goes byte by byte in V8 as soon as one
 * side is shared: 8 KiB took 650 ns with Node 24. From Node 22 on, `Buffer.copy` of a part of a buffer is a native
 * memmove: 200 ns. So all but the last byte is copied as a part. With Node 20 a part costs a view more and gains nothing.
 */
const copy = Buffer.prototype.copy;

const HAS_NATIVE_PARTS: boolean = Number.parseInt(process.versions.node, 10) >= 22;
/** Below this the second step costs more than the first one saves, bytes. */
const PART_BYTES_MIN = 1024;

/**
 * Copies all of `source`, or as much as fits. The two may overlap.
 *
 * @param source borrowed for the call
 * @param target borrowed for the call
 * @param at where in `target` to start; up to its length
 * @returns bytes copied
 * @throws {TypeError} one of them is not an array of bytes
 */
export function copyBytes(source: Uint8Array, target: Uint8Array, at: number): number {
  checkBytes(source);
  checkBytes(target);
  const { length } = source;
  if (!HAS_NATIVE_PARTS || length < PART_BYTES_MIN || at + length > target.length)
    return copy.call(source, target, at);
  // Read before the copy, which may write over it.
  const last = source[length - 1] as number;
  copy.call(source, target, at, 0, length - 1);
  target[at + length - 1] = last;
  return length;
}

/** Node 24 takes every view here, and counts its elements where bytes are meant. */
function checkBytes(bytes: Uint8Array): void {
  // Not `instanceof`: Node's buffers are made in another realm than the code of some test runners.
  if (!ArrayBuffer.isView(bytes) || bytes.BYTES_PER_ELEMENT !== 1)
    throw new TypeError("expected a Uint8Array");
}

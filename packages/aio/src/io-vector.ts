/**
 * Pieces of memory for one I/O: merging neighbours, and what is left after some bytes.
 *
 * A piece names its memory segment by number, because other threads and the kernel must find the same bytes: a
 * typed array means nothing to them.
 */

/** A piece of a memory segment. */
export interface IoVector {
  /** Number of the segment within its system. */
  readonly segment: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

/**
 * Joins pieces that lie side by side in one segment. The order stays; the kernel fills them one after the other.
 *
 * @returns a new array, at most as long as `vectors`; empty pieces are dropped
 */
export function mergeVectors(vectors: readonly IoVector[]): IoVector[] {
  const merged: IoVector[] = [];
  for (const vector of vectors) {
    if (vector.lengthBytes === 0) continue;
    const last = merged.at(-1);
    if (
      last !== undefined &&
      last.segment === vector.segment &&
      last.offsetBytes + last.lengthBytes === vector.offsetBytes
    ) {
      merged[merged.length - 1] = { ...last, lengthBytes: last.lengthBytes + vector.lengthBytes };
    } else {
      merged.push(vector);
    }
  }
  return merged;
}

/**
 * What remains of `vectors` after their first `bytes` bytes: whole pieces go, then the first that is left is cut.
 *
 * @param bytes from 0 to the sum of the lengths; at the sum nothing remains
 */
export function remainingVectors(vectors: readonly IoVector[], bytes: number): IoVector[] {
  let skip = bytes;
  const rest: IoVector[] = [];
  for (const vector of vectors) {
    if (skip >= vector.lengthBytes) {
      skip -= vector.lengthBytes;
    } else {
      rest.push({
        segment: vector.segment,
        offsetBytes: vector.offsetBytes + skip,
        lengthBytes: vector.lengthBytes - skip,
      });
      skip = 0;
    }
  }
  return rest;
}

/** The bytes of all pieces together. */
export function totalBytes(vectors: readonly IoVector[]): number {
  let sum = 0;
  for (const { lengthBytes } of vectors) sum += lengthBytes;
  return sum;
}

/**
 * LZ4's raw block format, the way back.
 *
 * A block is a row of sequences: a token with two lengths of 4 bits, literals, a distance of 16 bits, and a copy of what
 * was written already. A length of 15 goes on in bytes of which each 255 is followed by another. The last sequence ends
 * with its literals. The format is lz4_Block_format.md's.
 */
import { copyWithin } from "./pglz.js";

const SHORTEST_COPY = 4;

/**
 * Fills `target` from `source`.
 *
 * @returns whether the two ended together; if not, the contents of `target` are undefined
 */
export function lz4Decompress(source: Uint8Array, target: Uint8Array): boolean {
  const sourceEnd = source.byteLength;
  const targetEnd = target.byteLength;
  let from = 0;
  let to = 0;
  while (from < sourceEnd) {
    const token = source[from++] ?? 0;
    let literals = token >> 4;
    if (literals === 15) {
      let more: number;
      do {
        if (from === sourceEnd) return false;
        more = source[from++] ?? 0;
        literals += more;
      } while (more === 255);
    }
    if (from + literals > sourceEnd || to + literals > targetEnd) return false;
    target.set(source.subarray(from, from + literals), to);
    from += literals;
    to += literals;
    if (from === sourceEnd) return to === targetEnd;
    if (from + 2 > sourceEnd) return false;
    const distance = (source[from] ?? 0) | ((source[from + 1] ?? 0) << 8);
    from += 2;
    let length = token & 0x0f;
    if (length === 15) {
      let more: number;
      do {
        if (from === sourceEnd) return false;
        more = source[from++] ?? 0;
        length += more;
      } while (more === 255);
    }
    length += SHORTEST_COPY;
    if (distance === 0 || distance > to || to + length > targetEnd) return false;
    copyWithin(target, to, distance, to + length);
    to += length;
  }
  // A block ends with literals; an empty one holds nothing at all.
  return false;
}

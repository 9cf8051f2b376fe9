/**
 * Bytes that look random and are the same in every run, so that a checksum of the work can be compared across runs.
 */

/**
 * Fills a new array by xorshift32.
 *
 * @param bytes a multiple of 4
 * @param seed not 0
 */
export function pseudoRandomBytes(bytes: number, seed = 0x9e3779b9): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4);
  let state = seed;
  for (let at = 0; at < words.length; at += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[at] = state;
  }
  return new Uint8Array(words.buffer);
}

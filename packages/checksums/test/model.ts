/** The dumbest correct CRC-32C, bit by bit, and inputs for it. */

/** RFC 3720's polynomial, reflected; written out again here, so that a slip in the sources shows. */
const CASTAGNOLI = 0x82f63b78;

export function bitwiseCrc32c(bytes: Uint8Array, previous = 0): number {
  let register = ~previous;
  for (const byte of bytes) {
    register ^= byte;
    for (let bit = 0; bit < 8; bit++) register = (register >>> 1) ^ ((register & 1) === 1 ? CASTAGNOLI : 0);
  }
  return ~register >>> 0;
}

/** Bytes that look random and are the same every time (xorshift32). */
export function noise(length: number, seed = 1): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state & 255;
  });
}

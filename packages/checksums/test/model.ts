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

/** The start values of PostgreSQL's 32 columns; written out again here, for the same reason. */
export const COLUMN_STARTS: readonly number[] = [
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
];

/** The dumbest correct page checksum: column by column, in integers of any size, cut to 32 bits. */
export function columnwisePageChecksum(page: Uint8Array, blockNumber: number): number {
  const words = new DataView(page.slice().buffer);
  words.setUint16(8, 0);
  let combined = BigInt(blockNumber);
  for (const [column, start] of COLUMN_STARTS.entries()) {
    let hash = BigInt(start);
    for (let at = column * 4; at < page.length + 256; at += 128) {
      const mixed = hash ^ (at < page.length ? BigInt(words.getUint32(at, true)) : 0n);
      hash = ((mixed * 16_777_619n) & 0xffff_ffffn) ^ (mixed >> 17n);
    }
    combined ^= hash;
  }
  return Number(combined % 65_535n) + 1;
}

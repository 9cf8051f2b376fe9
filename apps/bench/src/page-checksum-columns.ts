/**
 * PostgreSQL's page checksum in plain JavaScript: the stated reference of the suite `checksum`, not a product.
 *
 * Written for this purpose after PostgreSQL's storage/checksum_impl.h, four of the 32 columns at a time, which is as many
 * as stay in registers; other numbers of columns were slower. It stays apart from @millrace/checksums, so that a change
 * there cannot move the reference.
 */

const STARTS: Int32Array = Int32Array.from([
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
]);

/**
 * The checksum of a page. The rounds are written out and their numbers are too: the bundler makes a `var` of a constant
 * at the top, which V8 loads again for each word.
 *
 * @param words the page as 32-bit words in the machine's order, which is little-endian; borrowed
 * @returns 1 to 65535
 */
export function pageChecksumByColumns(words: Int32Array, blockNumber: number): number {
  let combined = blockNumber;
  for (let column = 0; column < 32; column += 4) {
    let a = STARTS[column] as number;
    let b = STARTS[column + 1] as number;
    let c = STARTS[column + 2] as number;
    let d = STARTS[column + 3] as number;
    // The low half of the third word is the page's own checksum. Taken out of the start value, it cancels itself.
    if (column === 0) c ^= (words[2] as number) & 0xffff;
    for (let at = column; at < words.length; at += 32) {
      a ^= words[at] as number;
      b ^= words[at + 1] as number;
      c ^= words[at + 2] as number;
      d ^= words[at + 3] as number;
      a = Math.imul(a, 16_777_619) ^ (a >>> 17);
      b = Math.imul(b, 16_777_619) ^ (b >>> 17);
      c = Math.imul(c, 16_777_619) ^ (c >>> 17);
      d = Math.imul(d, 16_777_619) ^ (d >>> 17);
    }
    combined ^= twoZeros(a) ^ twoZeros(b) ^ twoZeros(c) ^ twoZeros(d);
  }
  return ((combined >>> 0) % 65_535) + 1;
}

function twoZeros(hash: number): number {
  const once = Math.imul(hash, 16_777_619) ^ (hash >>> 17);
  return Math.imul(once, 16_777_619) ^ (once >>> 17);
}

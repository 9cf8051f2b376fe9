/**
 * The numbers of PostgreSQL's page checksum, and the checksum in plain JavaScript.
 *
 * A page is a table of 32-bit words, 32 to a row. Each column has a hash of its own, so that vector units can work on
 * many at a time: `hash = (hash ^ word) * prime ^ (hash ^ word) >> 17`, from its own start value. Two rows of zeros
 * follow, so that the last words are mixed as well, and the columns are combined by exclusive or.
 *
 * Serves machines without WebAssembly, and the tests as a second opinion. Source: src/include/storage/checksum_impl.h.
 */
import { CHECKSUM_AT, PAGE_BYTES_MAX } from "./page-layout.js";

/** Words of a row. */
export const LANES = 32;
/** FNV's prime of 32 bits. */
export const PRIME = 16_777_619;
/** The shift that lets high bits reach low ones, which a multiplication alone never does. */
export const MIX_SHIFT = 17;
/** Largest remainder plus one: a checksum is 1 to 65535, as 0 means that there is none. */
export const CHECKSUM_MODULUS = 65_535;

/** The columns' start values. */
export const LANE_OFFSETS: Int32Array = Int32Array.from([
  0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c, 0xf8d4474f,
  0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb, 0xe58f764b, 0x187636bc,
  0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4, 0x783125bb, 0x6ca8eaa2, 0xe407eac6,
  0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
]);

/** A copy of the page, where its checksum can be taken out and words are aligned. Made at first use. */
let scratch: { readonly bytes: Uint8Array; readonly words: Int32Array } | undefined;

/**
 * The checksum of a page.
 *
 * @param page borrowed; a valid size
 * @param blockNumber unsigned 32-bit
 * @returns 1 to 65535
 */
export function pageChecksumInJavaScript(page: Uint8Array, blockNumber: number): number {
  scratch ??= createScratch();
  const { bytes, words } = scratch;
  bytes.set(page);
  bytes[CHECKSUM_AT] = 0;
  bytes[CHECKSUM_AT + 1] = 0;
  const hash = hashRows(words, page.length / Int32Array.BYTES_PER_ELEMENT);
  return (((hash ^ blockNumber) >>> 0) % CHECKSUM_MODULUS) + 1;
}

/** Four columns at a time, which is what fits in registers. Every index is in range. */
function hashRows(words: Int32Array, wordCount: number): number {
  // Bundlers make a `var` of a constant at the top, which V8 would load again for each word.
  const [prime, mixShift] = [PRIME, MIX_SHIFT];
  let combined = 0;
  for (let lane = 0; lane < LANES; lane += 4) {
    let a = LANE_OFFSETS[lane] as number;
    let b = LANE_OFFSETS[lane + 1] as number;
    let c = LANE_OFFSETS[lane + 2] as number;
    let d = LANE_OFFSETS[lane + 3] as number;
    for (let at = lane; at < wordCount; at += LANES) {
      a ^= words[at] as number;
      b ^= words[at + 1] as number;
      c ^= words[at + 2] as number;
      d ^= words[at + 3] as number;
      a = Math.imul(a, prime) ^ (a >>> mixShift);
      b = Math.imul(b, prime) ^ (b >>> mixShift);
      c = Math.imul(c, prime) ^ (c >>> mixShift);
      d = Math.imul(d, prime) ^ (d >>> mixShift);
    }
    combined ^= twoZeros(a) ^ twoZeros(b) ^ twoZeros(c) ^ twoZeros(d);
  }
  return combined;
}

/** The two rows of zeros at the end of a column. */
function twoZeros(hash: number): number {
  const once = Math.imul(hash, PRIME) ^ (hash >>> MIX_SHIFT);
  return Math.imul(once, PRIME) ^ (once >>> MIX_SHIFT);
}

function createScratch(): NonNullable<typeof scratch> {
  const bytes = new Uint8Array(PAGE_BYTES_MAX);
  return { bytes, words: new Int32Array(bytes.buffer) };
}

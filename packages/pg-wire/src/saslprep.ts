/**
 * SASLprep (RFC 4013) for passwords, to the depth that decides a login.
 *
 * Non-ASCII spaces become a space, characters that are "commonly mapped to nothing" vanish, the rest is normalised
 * with NFKC. A result that is empty, has prohibited characters or breaks the bidirectional rule means that the
 * password is used as it is, byte for byte: that is what PostgreSQL's server and libpq do, and both must agree. What
 * differs: PostgreSQL also falls back for code points that Unicode 3.2 did not assign. Those that NFKC leaves alone,
 * emoji among them, come out the same either way.
 */

/** RFC 3454 table C.1.2. */
const NON_ASCII_SPACES = /[\u00A0\u1680\u2000-\u200B\u202F\u205F\u3000]/gu;
/** RFC 3454 table B.1 without U+200B, which C.1.2 has taken. */
const MAPPED_TO_NOTHING =
  /\u00AD|\u034F|\u1806|[\u180B-\u180D]|\u200C|\u200D|\u2060|[\uFE00-\uFE0F]|\uFEFF/gu;
/** RFC 3454 tables C.2.1 to C.9: control, private use, non-character, tagging and the like, as code point ranges. */
const PROHIBITED_RANGES: readonly (readonly [first: number, last: number])[] = [
  [0x00, 0x1f],
  [0x7f, 0xa0],
  [0x340, 0x341],
  [0x6dd, 0x6dd],
  [0x70f, 0x70f],
  [0x1680, 0x1680],
  [0x180e, 0x180e],
  [0x2000, 0x200f],
  [0x2028, 0x202f],
  [0x205f, 0x2063],
  [0x206a, 0x206f],
  [0x2ff0, 0x2ffb],
  [0x3000, 0x3000],
  [0xd800, 0xf8ff], // surrogates (only lone ones are seen here) and private use
  [0xfdd0, 0xfdef],
  [0xfeff, 0xfeff],
  [0xfff9, 0xffff],
  [0x1d173, 0x1d17a],
  [0xe0001, 0xe0001],
  [0xe0020, 0xe007f],
  [0xf0000, 0x10ffff],
];
const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;
/** Letters of right-to-left scripts, close to RFC 3454 table D.1. */
const RIGHT_TO_LEFT =
  /[\u05BE\u05C0\u05C3\u05D0-\u05F4\u061B-\u064A\u066D-\u06D5\u06E5-\u07BF\u200F\uFB1D-\uFDFC\uFE70-\uFEFC]/u;
const RIGHT_TO_LEFT_ENDS = new RegExp(`^${RIGHT_TO_LEFT.source}(?:.*${RIGHT_TO_LEFT.source})?$`, "su");
/** Letters of other scripts: table D.2 as far as a mixture is concerned. */
const LEFT_TO_RIGHT = /(?![\u0590-\u08FF\uFB1D-\uFDFF\uFE70-\uFEFF])\p{L}/u;

/** The password as SCRAM hashes it. */
export function saslPrep(password: string): string {
  if (PRINTABLE_ASCII.test(password)) return password;
  const mapped = password.replace(NON_ASCII_SPACES, " ").replace(MAPPED_TO_NOTHING, "");
  const normalised = mapped.normalize("NFKC");
  if (normalised === "" || Array.from(normalised).some(isProhibited)) return password;
  if (RIGHT_TO_LEFT.test(normalised)) {
    if (LEFT_TO_RIGHT.test(normalised) || !RIGHT_TO_LEFT_ENDS.test(normalised)) return password;
  }
  return normalised;
}

function isProhibited(char: string): boolean {
  const point = char.codePointAt(0) ?? 0;
  if ((point & 0xfffe) === 0xfffe) return true; // the last two of every plane
  return PROHIBITED_RANGES.some(([first, last]) => first <= point && point <= last);
}

/**
 * Arithmetic with remainders modulo the Castagnoli polynomial, and the tables made of them.
 *
 * A CRC register is a polynomial over GF(2) of degree below 32 with its bits reflected: bit 31 is the coefficient of
 * x^0. Feeding a zero byte multiplies by x^8. Both table families below are that one fact: what a byte contributes
 * once more bytes have followed it, and what a whole register becomes after many zero bytes.
 *
 * Polynomial and bit order: RFC 3720, section 12.1, and PostgreSQL's pg_crc32c. The method of combining is the
 * one of zlib's crc32_combine. Here exponents are not reduced modulo 2^32 - 1: this polynomial is not primitive.
 */

/** 0x1EDC6F41 with its bits reflected. */
export const POLYNOMIAL = 0x82f63b78;

/** Tables for slicing: as many bytes are looked up at once. */
export const SLICES = 8;

/** The register that stands for 1, x^0. */
const ONE = 0x8000_0000;

/** Exponents of two that `powerOfX8` can need: byte counts are below 2^53, times eight bits. */
const POWERS = 56;

/** Product of two registers modulo the polynomial, as unsigned 32-bit. */
export function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let bit = 31; bit >= 0; bit--) {
    if (((a >>> bit) & 1) === 1) product ^= shifted;
    shifted = (shifted & 1) === 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product >>> 0;
}

let squares: readonly number[] | undefined;

/** x^(2^index) for every index that can be needed; made at the first use. */
function powersOfTwo(): readonly number[] {
  if (squares !== undefined) return squares;
  const made: number[] = [];
  for (let index = 0, power = ONE >>> 1; index < POWERS; index++) {
    made.push(power);
    power = multiply(power, power);
  }
  squares = made;
  return made;
}

/** x^(8 * `count`): the factor that `count` zero bytes put on a register. `count` is a safe integer, not negative. */
export function powerOfX8(count: number): number {
  let power = ONE;
  let rest = count;
  // The exponent of two starts at 3, for the eight bits of a byte.
  for (const square of powersOfTwo().slice(3)) {
    if (rest === 0) break;
    if (rest % 2 === 1) power = multiply(square, power);
    rest = Math.floor(rest / 2);
  }
  return power >>> 0;
}

/**
 * Tables for slicing, one after the other: entry `slice * 256 + byte` is what `byte` contributes to the register when
 * `slice` bytes follow it.
 */
export function slicingTables(): Int32Array {
  const tables = new Int32Array(SLICES * 256);
  for (let slice = 0; slice < SLICES; slice++) fillTable(tables, slice * 256, powerOfX8(slice + 1), 0);
  return tables;
}

/**
 * Four tables, one for each byte of a register from the lowest up: the xor of the four entries is the register after
 * `count` zero bytes.
 */
export function shiftTables(count: number): Int32Array {
  const tables = new Int32Array(4 * 256);
  for (let position = 0; position < 4; position++)
    fillTable(tables, position * 256, powerOfX8(count), position * 8);
  return tables;
}

/** Writes `factor` times each byte, the byte standing `shift` bits up in its register. */
function fillTable(target: Int32Array, start: number, factor: number, shift: number): void {
  for (let byte = 0; byte < 256; byte++) target[start + byte] = multiply(byte << shift, factor);
}

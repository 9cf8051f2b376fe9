/**
 * Just enough of an assembler to write a WebAssembly module down in TypeScript.
 *
 * Code is a list of bytes; a function here returns the bytes of one instruction or of one part of the module, and
 * bigger pieces are made by spreading smaller ones. Nothing is checked: the engine validates the module when it
 * compiles it, which the tests do. Only what the CRC kernel needs is here.
 *
 * Encoding: WebAssembly core specification 1.0, chapter 5.
 */

/** Bytes of instructions, of an operand, or of a part of a module. */
export type Code = readonly number[];

/** Value type i32, the only one used. */
const I32 = 0x7f;
/** Block type "no result". */
const EMPTY = 0x40;
const END = 0x0b;
/** "\\0asm" and the version, 1. */
const HEADER: Code = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];

/** Variable-length unsigned integer (LEB128), for indexes, sizes and offsets. `value` is below 2^31. */
export function unsigned(value: number): Code {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}

/** Variable-length signed integer, for constants. */
export function signed(value: number): Code {
  const bytes: number[] = [];
  let rest = value | 0;
  for (; rest < -0x40 || rest > 0x3f; rest >>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest & 0x7f];
}

export const get = (local: number): Code => [0x20, ...unsigned(local)];
export const set = (local: number): Code => [0x21, ...unsigned(local)];
export const constant = (value: number): Code => [0x41, ...signed(value)];
export const lessThan: Code = [0x49]; // unsigned
export const add: Code = [0x6a];
export const and: Code = [0x71];
export const xor: Code = [0x73];
export const shiftLeft: Code = [0x74];
export const shiftRight: Code = [0x76]; // unsigned

/** The 32-bit word at the address on the stack plus `offset`, little-endian, at any alignment. */
export const loadWord = (offset: number): Code => [0x28, 0, ...unsigned(offset)];
/** The byte at the address on the stack plus `offset`. */
export const loadByte = (offset: number): Code => [0x2d, 0, ...unsigned(offset)];

/** `while (condition) body`. The condition leaves one value on the stack. */
export function whileLoop(condition: Code, body: Code): Code {
  const block = [0x02, EMPTY];
  const loop = [0x03, EMPTY];
  const leaveUnless = [...condition, 0x45, 0x0d, 1]; // i32.eqz, br_if to the end of the block
  const again = [0x0c, 0]; // br to the start of the loop
  return [...block, ...loop, ...leaveUnless, ...body, ...again, END, END];
}

/** `do body while (condition)`. */
export function doLoop(body: Code, condition: Code): Code {
  return [0x03, EMPTY, ...body, ...condition, 0x0d, 0, END];
}

/** What a module of one function and one memory consists of. */
export interface ModuleParts {
  /** Parameters of the function, all i32; they are the first locals. Its result is one i32. */
  readonly parameterCount: number;
  /** Further locals, all i32, zero at the start. */
  readonly localCount: number;
  /** The function; leaves its result on the stack. */
  readonly body: Code;
  /** Size of the memory in pages of 64 KiB; it never grows. */
  readonly pages: number;
}

/** A module that exports its memory as `memory` and its function as `update`. */
export function assembleModule(parts: ModuleParts): Uint8Array<ArrayBuffer> {
  const type = [
    0x60,
    ...vector(Array.from({ length: parts.parameterCount }, () => [I32])),
    ...vector([[I32]]),
  ];
  const limits = [0x01, ...unsigned(parts.pages), ...unsigned(parts.pages)];
  const locals = vector([[...unsigned(parts.localCount), I32]]);
  const code = [...locals, ...parts.body, END];
  return Uint8Array.from([
    ...HEADER,
    ...section(1, [type]),
    ...section(3, [unsigned(0)]), // function 0 has type 0
    ...section(5, [limits]),
    ...section(7, [
      [...name("memory"), 0x02, ...unsigned(0)],
      [...name("update"), 0x00, ...unsigned(0)],
    ]),
    ...section(10, [[...unsigned(code.length), ...code]]),
  ]);
}

function section(id: number, items: readonly Code[]): Code {
  const body = vector(items);
  return [id, ...unsigned(body.length), ...body];
}

function vector(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function name(text: string): Code {
  return vector(Array.from(text, (letter) => [letter.charCodeAt(0)]));
}

/**
 * Just enough of an assembler to write a WebAssembly module down in TypeScript.
 *
 * Code is a list of bytes; a function here returns the bytes of one instruction or of one part of the module, and
 * bigger pieces are made by spreading smaller ones. Nothing is checked: the engine validates the module when it
 * compiles it, which the tests do. Only what the kernels of this package need is here.
 *
 * Encoding: WebAssembly core specification 2.0, chapter 5, and the limits of shared memories from the threads proposal.
 */

/** Bytes of instructions, of an operand, or of a part of a module. */
export type Code = readonly number[];

const I32 = 0x7f;
const V128 = 0x7b;
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
export const remainder: Code = [0x70]; // unsigned
export const notEqual: Code = [0x47];
/** Like `set`, and leaves the value on the stack. */
export const tee = (local: number): Code => [0x22, ...unsigned(local)];

/** The 32-bit word at the address on the stack plus `offset`, little-endian, at any alignment. */
export const loadWord = (offset: number): Code => [0x28, 0, ...unsigned(offset)];
/** The byte at the address on the stack plus `offset`. */
export const loadByte = (offset: number): Code => [0x2d, 0, ...unsigned(offset)];

/** The same for four words at once: a vector of 128 bits. */
export const vector = {
  load: (offset: number): Code => [0xfd, 0x00, 0, ...unsigned(offset)],
  constant: (words: readonly number[]): Code => [0xfd, 0x0c, ...words.flatMap((word) => littleEndian(word))],
  and: [0xfd, 0x4e],
  xor: [0xfd, 0x51],
  multiply: [0xfd, 0xb5, 0x01],
  /** By the number of bits on the stack; unsigned. */
  shiftRight: [0xfd, 0xad, 0x01],
  word: (lane: number): Code => [0xfd, 0x1b, lane],
} as const;

/** One after the other. */
export const sequence = (...parts: readonly Code[]): Code => parts.flat();

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
  /** Locals after those, all v128, zero at the start. */
  readonly vectorCount?: number;
  /** The function; leaves its result on the stack. */
  readonly body: Code;
  /** A memory of its own, of so many pages of 64 KiB, which never grows; or an import, of any size. */
  readonly memory: { readonly pages: number } | { readonly imported: "shared" | "private" };
}

/**
 * A module that exports its function as `update`, and its memory as `memory` if that is its own. An imported memory is
 * called `memory` in `host`.
 */
export function assembleModule(parts: ModuleParts): Uint8Array<ArrayBuffer> {
  const { memory } = parts;
  const type = [0x60, ...list(Array.from({ length: parts.parameterCount }, () => [I32])), ...list([[I32]])];
  const locals = list([
    [...unsigned(parts.localCount), I32],
    [...unsigned(parts.vectorCount ?? 0), V128],
  ]);
  const code = [...locals, ...parts.body, END];
  const exported = [...name("memory"), 0x02, ...unsigned(0)];
  const update = [...name("update"), 0x00, ...unsigned(0)];
  const own = "pages" in memory ? [[0x01, ...unsigned(memory.pages), ...unsigned(memory.pages)]] : [];
  const imported = "pages" in memory ? [] : [[...name("host"), ...name("memory"), 0x02, ...anySize(memory)]];
  return Uint8Array.from([
    ...HEADER,
    ...section(1, [type]),
    ...section(2, imported),
    ...section(3, [unsigned(0)]), // function 0 has type 0
    ...section(5, own),
    ...section(7, "pages" in memory ? [exported, update] : [update]),
    ...section(10, [[...unsigned(code.length), ...code]]),
  ]);
}

/** The limits that every memory of a kind meets. A shared one always has a maximum, of 65536 pages at most. */
function anySize({ imported }: { readonly imported: "shared" | "private" }): Code {
  return imported === "shared" ? [0x03, ...unsigned(0), ...unsigned(65_536)] : [0x00, ...unsigned(0)];
}

/** Nothing at all if there are no items. */
function section(id: number, items: readonly Code[]): Code {
  if (items.length === 0) return [];
  const body = list(items);
  return [id, ...unsigned(body.length), ...body];
}

function list(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function name(text: string): Code {
  return list(Array.from(text, (letter) => [letter.charCodeAt(0)]));
}

function littleEndian(word: number): Code {
  return [0, 8, 16, 24].map((shift) => (word >>> shift) & 255);
}

/**
 * Just enough of an assembler to write a WebAssembly module of a few functions on one shared memory down in TypeScript.
 *
 * Code is a list of bytes; a function here returns those of one instruction or of one part of a module. Nothing is checked:
 * the engine validates the module when it compiles it. All values are i32, all words are aligned to four bytes.
 *
 * Encoding: WebAssembly core specification 2.0, chapter 5, and the threads proposal for atomics and shared memories.
 */

/** Bytes of instructions, of an operand, or of a part of a module. */
export type Code = readonly number[];

/** A function. Its parameters are the first locals; its result is one i32. */
export interface WasmFunction {
  readonly name: string;
  readonly parameters: number;
  /** Further locals, zero at the start. */
  readonly locals: number;
  readonly body: Code;
}

const I32 = 0x7f;
const EMPTY = 0x40;
const END = 0x0b;
const WORD_ALIGNMENT = 2;
/** "\\0asm" and the version, 1. */
const HEADER: Code = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
/** What a shared memory of any size meets: its pages are at least 0 and at most 65536. */
const ANY_SHARED_MEMORY: Code = [0x03, ...unsigned(0), ...unsigned(65_536)];

function unsigned(value: number): Code {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest >>>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest];
}

function signed(value: number): Code {
  const bytes: number[] = [];
  let rest = value | 0;
  for (; rest < -0x40 || rest > 0x3f; rest >>= 7) bytes.push((rest & 0x7f) | 0x80);
  return [...bytes, rest & 0x7f];
}

export const get = (local: number): Code => [0x20, ...unsigned(local)];
export const set = (local: number): Code => [0x21, ...unsigned(local)];
/** Like `set`, and leaves the value on the stack. */
export const tee = (local: number): Code => [0x22, ...unsigned(local)];
export const constant = (value: number): Code => [0x41, ...signed(value)];
export const isZero: Code = [0x45];
export const notEqual: Code = [0x47];
/** Unsigned. */
export const lessThan: Code = [0x49];
export const add: Code = [0x6a];
export const subtract: Code = [0x6b];
export const multiply: Code = [0x6c];
export const and: Code = [0x71];
export const or: Code = [0x72];
export const xor: Code = [0x73];
export const shiftLeft: Code = [0x74];
/** Unsigned. */
export const shiftRight: Code = [0x76];
export const leave: Code = [0x0f];

/** The word at the address on the stack plus `offset`. */
export const load = (offset: number): Code => [0x28, WORD_ALIGNMENT, ...unsigned(offset)];
/** Stores a word: address, value. */
export const store = (offset: number): Code => [0x36, WORD_ALIGNMENT, ...unsigned(offset)];
/** Address, expected, new: leaves what was there. */
export const compareExchange = (offset: number): Code => [0xfe, 0x48, WORD_ALIGNMENT, ...unsigned(offset)];

/** One after the other. */
export const sequence = (...parts: readonly Code[]): Code => parts.flat();
/** Runs the parts if the value on the stack is not 0. */
export const when = (...parts: readonly Code[]): Code => [0x04, EMPTY, ...parts.flat(), END];
/** Runs the parts once, and again each time that `again` is reached. */
export const loop = (...parts: readonly Code[]): Code => [0x03, EMPTY, ...parts.flat(), END];
/** Back to the start of the loop that is so many `loop`s and `when`s out. */
export const again = (depth: number): Code => [0x0c, depth];
/** The same if the value on the stack is not 0. */
export const againWhen = (depth: number): Code => [0x0d, depth];

/** A module that exports functions on the shared memory `host.memory`. */
export function assemble(functions: readonly WasmFunction[]): Uint8Array<ArrayBuffer> {
  const types = functions.map(({ parameters }) => {
    return [0x60, ...list(Array.from({ length: parameters }, () => [I32])), ...list([[I32]])];
  });
  const memory = [...name("host"), ...name("memory"), 0x02, ...ANY_SHARED_MEMORY];
  const exported = functions.map(({ name: itsName }, index) => [...name(itsName), 0x00, ...unsigned(index)]);
  const codes = functions.map(({ locals, body }) => {
    const code = [...list([[...unsigned(locals), I32]]), ...body, END];
    return [...unsigned(code.length), ...code];
  });
  return Uint8Array.from([
    ...HEADER,
    ...section(1, types),
    ...section(2, [memory]),
    ...section(
      3,
      functions.map((_, index) => unsigned(index)),
    ),
    ...section(7, exported),
    ...section(10, codes),
  ]);
}

function section(id: number, items: readonly Code[]): Code {
  const body = list(items);
  return [id, ...unsigned(body.length), ...body];
}

function list(items: readonly Code[]): Code {
  return [...unsigned(items.length), ...items.flat()];
}

function name(text: string): Code {
  return list(Array.from(Buffer.from(text, "latin1"), (byte) => [byte]));
}

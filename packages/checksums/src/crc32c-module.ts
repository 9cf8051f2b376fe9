/**
 * The CRC-32C kernel: a WebAssembly function, written down with the assembler, and the memory it works in.
 *
 * Looking up eight bytes needs the register of the eight bytes before, so that one stream of bytes waits for the
 * level-1 cache again and again. Hence three lanes: a block is cut in three, the lanes run side by side from three
 * registers, and shift tables then move the first two registers past the bytes that followed them. Long blocks fit
 * a page of 8 KiB, short ones serve what is left and records; the rest goes through one lane and then byte by byte.
 *
 * Memory, one page of 64 KiB that never grows: slicing tables | shift tables, long | shift tables, short | input.
 *
 * Idea: slicing-by-8, and the interleaving of Gopal et al. (Intel, 2011), with tables instead of their multiplier.
 */
import assert from "node:assert/strict";
import { shiftTables, slicingTables, SLICES } from "./polynomial.js";
import {
  add,
  and,
  assembleModule,
  constant,
  doLoop,
  get,
  lessThan,
  loadByte,
  loadWord,
  set,
  shiftLeft,
  shiftRight,
  whileLoop,
  xor,
} from "./wasm-assembler.js";
import type { Code } from "./wasm-assembler.js";

/** Bytes of a lane, multiples of 8. Three long lanes are 8184 bytes, one step short of a page. */
export const LONG_LANE_BYTES = 2728;
/** Three short lanes are 504 bytes. */
export const SHORT_LANE_BYTES = 168;

const TABLE_BYTES = 256 * Int32Array.BYTES_PER_ELEMENT;
const PAGE_BYTES = 65_536;
const SLICING_AT = 0;
const LONG_SHIFT_AT: number = SLICING_AT + SLICES * TABLE_BYTES;
const SHORT_SHIFT_AT: number = LONG_SHIFT_AT + 4 * TABLE_BYTES;

/** Where the input starts, bytes. */
export const INPUT_AT: number = SHORT_SHIFT_AT + 4 * TABLE_BYTES;

/**
 * Largest input of a call, bytes: two long blocks. A longer input is copied and read in chunks of this size, which stay
 * in the level-1 cache together with the slicing tables.
 */
export const INPUT_BYTES_MAX: number = 2 * 3 * LONG_LANE_BYTES;

assert(LONG_LANE_BYTES % 8 === 0 && SHORT_LANE_BYTES % 8 === 0);
assert(INPUT_AT + INPUT_BYTES_MAX <= PAGE_BYTES);

/** What goes to the start of the memory before the first call. */
export function kernelTables(): Int32Array {
  const tables = new Int32Array(INPUT_AT / Int32Array.BYTES_PER_ELEMENT);
  tables.set(slicingTables(), SLICING_AT / Int32Array.BYTES_PER_ELEMENT);
  tables.set(shiftTables(LONG_LANE_BYTES), LONG_SHIFT_AT / Int32Array.BYTES_PER_ELEMENT);
  tables.set(shiftTables(SHORT_LANE_BYTES), SHORT_SHIFT_AT / Int32Array.BYTES_PER_ELEMENT);
  return tables;
}

/** Locals: parameters first. `end` is an address, `length` counts the bytes from `at` on. */
const LOCAL = { register: 0, at: 1, length: 2, second: 3, third: 4, low: 5, high: 6, end: 7 } as const;
const PARAMETERS = 3;

/** The module: `update(register, address, length)` returns the register after those bytes of its memory. */
export function kernelModule(): Uint8Array<ArrayBuffer> {
  return assembleModule({
    parameterCount: PARAMETERS,
    localCount: Object.keys(LOCAL).length - PARAMETERS,
    memory: { pages: 1 },
    body: [
      ...threeLanes(LONG_LANE_BYTES, LONG_SHIFT_AT),
      ...threeLanes(SHORT_LANE_BYTES, SHORT_SHIFT_AT),
      ...oneLane(),
      ...byteByByte(),
      ...get(LOCAL.register),
    ],
  });
}

/** The word in a table for one byte of a local; position 0 is its lowest byte. */
function lookUp(local: number, position: number, tableAt: number): Code {
  // The byte is moved to where it is an offset in words: two bits up.
  const shift =
    position === 0 ? [...constant(2), ...shiftLeft] : [...constant(position * 8 - 2), ...shiftRight];
  return [...get(local), ...shift, ...constant(255 << 2), ...and, ...loadWord(tableAt)];
}

/** Feeds the eight bytes at `at` + `offset` to the register in `lane`. */
function eightBytes(lane: number, offset: number): Code {
  const lookups: Code[] = [];
  for (let byte = 0; byte < SLICES; byte++) {
    const table = SLICING_AT + (SLICES - 1 - byte) * TABLE_BYTES;
    lookups.push(lookUp(byte < 4 ? LOCAL.low : LOCAL.high, byte % 4, table));
  }
  return [
    ...assign(LOCAL.low, get(LOCAL.at), loadWord(offset), get(lane), xor),
    ...assign(LOCAL.high, get(LOCAL.at), loadWord(offset + 4)),
    ...assign(lane, xorAll(lookups)),
  ];
}

/** Leaves the register in `lane`, moved past the zero bytes that the tables are made for. */
function shifted(lane: number, tablesAt: number): Code {
  return xorAll([0, 1, 2, 3].map((position) => lookUp(lane, position, tablesAt + position * TABLE_BYTES)));
}

function xorAll(values: readonly Code[]): Code {
  return values.flatMap((value, index) => (index === 0 ? value : [...value, ...xor]));
}

/** `local = value`; the parts of the value are instructions in stack order. */
function assign(local: number, ...value: readonly Code[]): Code {
  return [...value.flat(), ...set(local)];
}

/** `local += amount`; the amount may be negative. */
function advance(local: number, amount: number): Code {
  return assign(local, get(local), constant(amount), add);
}

/** Blocks of three lanes, as long as there is one. */
function threeLanes(laneBytes: number, shiftAt: number): Code {
  const { register, at, length, second, third, end } = LOCAL;
  const enough = [...constant(3 * laneBytes - 1), ...get(length), ...lessThan];
  const lanes = [
    ...eightBytes(register, 0),
    ...eightBytes(second, laneBytes),
    ...eightBytes(third, 2 * laneBytes),
    ...advance(at, 8),
  ];
  return whileLoop(enough, [
    ...assign(second, constant(0)),
    ...assign(third, constant(0)),
    ...assign(end, get(at), constant(laneBytes), add),
    ...doLoop(lanes, [...get(at), ...get(end), ...lessThan]),
    // The first lane was followed by two others, the second by one.
    ...assign(register, shifted(register, shiftAt), get(second), xor),
    ...assign(register, shifted(register, shiftAt), get(third), xor),
    ...advance(at, 2 * laneBytes),
    ...advance(length, -3 * laneBytes),
  ]);
}

function oneLane(): Code {
  const { register, at, length } = LOCAL;
  const enough = [...constant(7), ...get(length), ...lessThan];
  return whileLoop(enough, [...eightBytes(register, 0), ...advance(at, 8), ...advance(length, -8)]);
}

function byteByByte(): Code {
  const { register, at, length, low } = LOCAL;
  return whileLoop(get(length), [
    ...assign(low, get(at), loadByte(0), get(register), xor),
    ...assign(register, lookUp(low, 0, SLICING_AT), get(register), constant(8), shiftRight, xor),
    ...advance(at, 1),
    ...advance(length, -1),
  ]);
}

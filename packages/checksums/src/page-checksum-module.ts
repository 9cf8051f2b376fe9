/**
 * The kernel of the page checksum: a WebAssembly function that reads a page where it lies in an imported memory.
 *
 * The 32 columns are eight vectors of four words. Nothing is written to the memory: the word with the page's own
 * checksum is masked on its way into the register, so that pages can be checked while others read them. The memory
 * is an import, because pages of a buffer pool must not be copied to be checked; the plain functions import a
 * memory of their own.
 */
import assert from "node:assert/strict";
import { CHECKSUM_MODULUS, LANE_OFFSETS, LANES, MIX_SHIFT, PRIME } from "./page-checksum-lanes.js";
import { CHECKSUM_AT } from "./page-layout.js";
import {
  add,
  assembleModule,
  constant,
  doLoop,
  get,
  notEqual,
  remainder,
  sequence,
  set,
  tee,
  vector,
  xor,
} from "./wasm-assembler.js";
import type { Code } from "./wasm-assembler.js";
import type { MemoryLike, WebAssemblyLike } from "./webassembly.js";

const VECTOR_WORDS = 4;
const VECTOR_BYTES = 16;
const VECTORS: number = LANES / VECTOR_WORDS;
const ROW_BYTES: number = VECTORS * VECTOR_BYTES;

/** Locals: parameters first, then i32, then vectors. `end` is an address. */
const LOCAL = { at: 0, length: 1, block: 2, end: 3, mixed: 4, prime: 5, sums: 6 } as const;
const PARAMETERS = 3;

// The mask below is for the third word of the first vector.
assert(CHECKSUM_AT === 2 * Int32Array.BYTES_PER_ELEMENT);
const NO_CHECKSUM = vector.constant([-1, -1, 0xffff_0000, -1]);

/** The kernel: the checksum of the page of `length` bytes at an address, as block `block`. All are taken as unsigned. */
export type PageKernel = (address: number, length: number, block: number) => number;

/**
 * Compiles the kernel for a memory.
 *
 * @throws whatever WebAssembly throws: no vectors on this machine, or this is not a memory
 */
export function createPageKernel(
  webAssembly: WebAssemblyLike,
  memory: MemoryLike,
  kind: "shared" | "private",
): PageKernel {
  const module = (modules[kind] ??= new webAssembly.Module(pageKernelModule(kind)));
  const { exports } = new webAssembly.Instance(module, { host: { memory } });
  return (exports as { readonly update: PageKernel }).update;
}

/** Compiled once in a thread, for all memories. */
const modules: { shared?: object; private?: object } = {};

/** The module, for memories of a kind. */
export function pageKernelModule(kind: "shared" | "private"): Uint8Array<ArrayBuffer> {
  const { at, length, end, prime, sums } = LOCAL;
  const nextRow = sequence(get(at), constant(ROW_BYTES), add, set(at));
  // Not "below the end": a page may end with the address space, and its end is then 0.
  const untilEnd = sequence(get(at), get(end), notEqual);
  return assembleModule({
    parameterCount: PARAMETERS,
    localCount: LOCAL.mixed - PARAMETERS,
    vectorCount: 2 + VECTORS,
    memory: { imported: kind },
    body: sequence(
      sequence(get(at), get(length), add, set(end)),
      sequence(vector.constant([PRIME, PRIME, PRIME, PRIME]), set(prime)),
      eachVector((index) => [...vector.constant(startOf(index)), ...set(sums + index)]),
      eachVector((index) => feed(index, index === 0 ? [...NO_CHECKSUM, ...vector.and] : [])),
      nextRow,
      doLoop([...eachVector((index) => feed(index, [])), ...nextRow], untilEnd),
      eachVector((index) => sequence(get(sums + index), mix, mix, set(sums + index))),
      reduce(),
    ),
  });
}

function eachVector(code: (index: number) => Code): Code {
  return Array.from({ length: VECTORS }, (_, index) => code(index)).flat();
}

function startOf(index: number): readonly number[] {
  return [...LANE_OFFSETS.subarray(index * VECTOR_WORDS, (index + 1) * VECTOR_WORDS)];
}

/** Feeds the vector at `at` to one of the sums, after `filter`. */
function feed(index: number, filter: Code): Code {
  const sum = LOCAL.sums + index;
  return sequence(
    get(LOCAL.at),
    vector.load(index * VECTOR_BYTES),
    filter,
    get(sum),
    vector.xor,
    mix,
    set(sum),
  );
}

/** `value * prime ^ value >> 17`, of the vector on the stack. */
const mix: Code = sequence(
  sequence(tee(LOCAL.mixed), get(LOCAL.prime), vector.multiply),
  sequence(get(LOCAL.mixed), constant(MIX_SHIFT), vector.shiftRight, vector.xor),
);

/** All columns to one word, mixed with the block number, to 1 to 65535. */
function reduce(): Code {
  const { block, mixed, sums } = LOCAL;
  const others = Array.from({ length: VECTORS - 1 }, (_, index) => [...get(sums + 1 + index), ...vector.xor]);
  const words = [1, 2, 3].map((word) => sequence(get(mixed), vector.word(word), xor));
  return sequence(
    sequence(get(sums), ...others, tee(mixed), vector.word(0), ...words),
    sequence(get(block), xor, constant(CHECKSUM_MODULUS), remainder, constant(1), add),
  );
}

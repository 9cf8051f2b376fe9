/**
 * The path of a hit as a WebAssembly module: find a block's buffer and pin it, and let go of it again.
 *
 * V8 compiles `Atomics` on a typed array to a call of some ten nanoseconds and checks array and bounds at each access; in
 * WebAssembly both are single instructions, which makes a hit more than twice as fast. What is done is exactly what mapping.ts, pins.ts and
 * headers.ts do, in the common case only: nobody has the header locked, nobody is waiting. In any other case the module does nothing
 * and says so, and the JavaScript does it.
 *
 * The module is made for one backend: where its tables are is part of the code. It reads and writes plain words and orders
 * them by the compare-exchange of the state, as the JavaScript does.
 */
import assert from "node:assert/strict";

import { REFCOUNT_ONE, STATE, USAGE_MASK, USAGE_MAX, USAGE_ONE, USAGE_SHIFT } from "./buffer-state.js";
import { BACKEND, DESCRIPTOR, HEADER } from "./layout.js";
import type { PoolLayout } from "./layout.js";
import { HASH } from "./tag.js";
import {
  add,
  again,
  againWhen,
  and,
  assemble,
  compareExchange,
  constant,
  get,
  isZero,
  leave,
  lessThan,
  load,
  loop,
  multiply,
  notEqual,
  or,
  sequence,
  set,
  shiftLeft,
  shiftRight,
  store,
  subtract,
  tee,
  when,
  xor,
} from "./wasm-code.js";
import type { Code } from "./wasm-code.js";

const WORD = 4;
const WORD_SHIFT = 2;
const DESCRIPTOR_SHIFT = 6;
/** What `pin` gives back for a buffer that it has pinned, and whose tag turned out to be another: this or less, plus the entry. */
export const STRAYED: number = -(2 ** 31);
/** `unpin` has done nothing: somebody has the header locked. */
export const NOT_DONE = 1;
/** Entries of a chain that a reader follows; see mapping.ts. */
export const STEPS_MAX = 64;

assert.equal(2 ** DESCRIPTOR_SHIFT, DESCRIPTOR.words * WORD);

/** What the module exports. */
export interface HitCalls {
  /**
   * Pins the buffer of a block, or counts one more pin if this backend has it pinned already.
   *
   * @param isRing 1 or 0
   * @returns the buffer + 1, negative if its page is not valid; 0 if there is none, a header is locked, or the pool has
   *   stopped: look for it in another way; {@link STRAYED} + buffer + 1: it is pinned, but not the block's
   */
  readonly pin: (
    tablespace: number,
    database: number,
    relation: number,
    fork: number,
    block: number,
    isRing: number,
  ) => number;
  /**
   * Takes this backend's last pin back.
   *
   * @param entry buffer + 1
   * @returns 0; {@link NOT_DONE}; or the flag that a backend waits for the only pin: the caller wakes it
   */
  readonly unpin: (entry: number) => number;
}

/** Parameters and locals of `pin`. */
const PIN = {
  tablespace: 0,
  database: 1,
  relation: 2,
  fork: 3,
  block: 4,
  isRing: 5,
  /** A buffer + 1; the hash before that. */
  entry: 6,
  at: 7,
  state: 8,
  next: 9,
  steps: 10,
  before: 11,
  countAt: 12,
  count: 13,
} as const;
const UNPIN = { entry: 0, at: 1, state: 2, countAt: 3, before: 4 } as const;
const STATE_BYTES = DESCRIPTOR.state * WORD;

const hasFlag = (local: number, flag: number): Code => sequence(get(local), constant(flag), and);
const finish = (value: Code): Code => sequence(value, leave);

/** The hash of tag.ts, into `entry`. */
function hash(): Code {
  const { entry } = PIN;
  const folded = sequence(get(entry), get(entry), constant(HASH.fold), shiftRight, xor);
  return sequence(
    sequence(get(PIN.relation), get(PIN.fork), constant(HASH.forkShift), shiftLeft, xor),
    sequence(constant(HASH.relation), multiply),
    sequence(get(PIN.database), constant(HASH.database), multiply, xor),
    sequence(get(PIN.tablespace), constant(HASH.tablespace), multiply, xor, set(entry)),
    sequence(folded, get(PIN.block), xor, constant(HASH.block), multiply, set(entry)),
    sequence(folded, set(entry)),
  );
}

/** Whether the descriptor at `at` has another tag: 0 if it has not. In this form it is one instruction a word and one more. */
function hasOtherTag(): Code {
  const difference = (word: number, local: number): Code =>
    sequence(get(PIN.at), load(word * WORD), get(local), xor);
  return sequence(
    difference(DESCRIPTOR.block, PIN.block),
    sequence(difference(DESCRIPTOR.relation, PIN.relation), or),
    sequence(difference(DESCRIPTOR.fork, PIN.fork), or),
    sequence(difference(DESCRIPTOR.database, PIN.database), or),
    sequence(difference(DESCRIPTOR.tablespace, PIN.tablespace), or),
  );
}

/** The state with one more pin, and one more use if the count of uses and the pool's size allow it, into `next`. */
function pinnedState(): Code {
  const { state, next } = PIN;
  const usage = hasFlag(state, USAGE_MASK);
  // A ring's pin raises it from nothing only.
  const usesMax = sequence(
    constant(USAGE_MAX << USAGE_SHIFT),
    get(PIN.isRing),
    constant((USAGE_MAX << USAGE_SHIFT) - 1),
    multiply,
    subtract,
  );
  // Nor does any pin of a buffer that is about to go: its entry, one more than its number, is above the mark.
  const low = sequence(constant(0), load(HEADER.low * WORD));
  const isStaying = sequence(low, get(PIN.entry), lessThan, isZero);
  return sequence(
    sequence(get(state), constant(REFCOUNT_ONE), add, set(next)),
    sequence(usage, usesMax, lessThan, isStaying, and),
    when(get(next), constant(USAGE_ONE), add, set(next)),
  );
}

/** What is done to words of one backend. */
interface BackendWords {
  /** Stores the buffer + 1 whose shared count is about to change; 0 when its own count says so too. */
  readonly intend: (value: Code) => Code;
  /** The address of the own count of the buffer before `entry`. */
  readonly countAt: Code;
  /** Adds to the number of different buffers pinned. */
  readonly addPinned: (count: number) => Code;
}

function backendWords(layout: PoolLayout, backendAt: number, entry: number): BackendWords {
  const word = (at: number): Code => constant((backendAt + at) * WORD);
  const before = word(layout.countsAt - 1);
  return {
    intend: (value) => sequence(word(BACKEND.pinIntent), value, store(0)),
    countAt: sequence(get(entry), constant(WORD_SHIFT), shiftLeft, before, add),
    addPinned: (count) =>
      sequence(word(BACKEND.pinned), word(BACKEND.pinned), load(0), constant(count), add, store(0)),
  };
}

function pinBody(layout: PoolLayout, backendAt: number): Code {
  const { entry, at, state, next, before, countAt, count, steps } = PIN;
  const backend = backendWords(layout, backendAt, entry);
  const found = sequence(
    sequence(hasFlag(state, STATE.valid), when(finish(get(entry)))),
    finish(sequence(constant(0), get(entry), subtract)),
  );
  const storeCount = sequence(get(countAt), get(count), constant(1), add, store(0));
  const exchange = loop(
    hasFlag(state, STATE.locked),
    when(backend.intend(constant(0)), finish(constant(0))),
    pinnedState(),
    sequence(get(at), get(state), get(next), compareExchange(STATE_BYTES), tee(before), get(state), notEqual),
    when(get(before), set(state), again(1)),
  );
  const pinIt = sequence(
    sequence(backend.countAt, tee(countAt), load(0), set(count)),
    sequence(get(at), load(STATE_BYTES), set(state)),
    sequence(get(count), when(storeCount, found)),
    backend.intend(get(entry)),
    exchange,
    storeCount,
    backend.addPinned(1),
    backend.intend(constant(0)),
    sequence(hasOtherTag(), when(finish(sequence(get(entry), constant(STRAYED), add)))),
    found,
  );
  return sequence(
    sequence(constant(0), load(HEADER.panic * WORD), when(finish(constant(0)))),
    hash(),
    sequence(get(entry), constant(layout.bucketMask), and, constant(WORD_SHIFT), shiftLeft),
    sequence(load(layout.bucketsAt * WORD), set(entry)),
    sequence(constant(STEPS_MAX), set(steps)),
    loop(
      sequence(get(entry), isZero, when(finish(constant(0)))),
      sequence(get(entry), constant(1), subtract, constant(DESCRIPTOR_SHIFT), shiftLeft),
      sequence(constant(layout.descriptorsAt * WORD), add, set(at)),
      hasOtherTag(),
      when(
        sequence(get(entry), constant(1), subtract, constant(WORD_SHIFT), shiftLeft),
        sequence(load(layout.chainAt * WORD), set(entry)),
        sequence(get(steps), constant(1), subtract, tee(steps), againWhen(1)),
        finish(constant(0)),
      ),
    ),
    pinIt,
  );
}

function unpinBody(layout: PoolLayout, backendAt: number): Code {
  const { entry, at, state, before } = UNPIN;
  const backend = backendWords(layout, backendAt, entry);
  const unpinned = sequence(get(state), constant(REFCOUNT_ONE), subtract);
  return sequence(
    sequence(get(entry), constant(1), subtract, constant(DESCRIPTOR_SHIFT), shiftLeft),
    sequence(constant(layout.descriptorsAt * WORD), add, set(at)),
    backend.intend(get(entry)),
    sequence(get(at), load(STATE_BYTES), set(state)),
    loop(
      hasFlag(state, STATE.locked),
      when(backend.intend(constant(0)), finish(constant(NOT_DONE))),
      sequence(
        get(at),
        get(state),
        unpinned,
        compareExchange(STATE_BYTES),
        tee(before),
        get(state),
        notEqual,
      ),
      when(get(before), set(state), again(1)),
    ),
    sequence(backend.countAt, constant(0), store(0)),
    backend.addPinned(-1),
    backend.intend(constant(0)),
    hasFlag(state, STATE.pinCountWaiter),
  );
}

interface WebAssemblyLike {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: unknown };
}

/**
 * The path of a hit for one backend.
 *
 * @param memory of the pool's words, from its first byte
 * @param backendAt first word of the backend
 */
export function createHitCalls(memory: object, layout: PoolLayout, backendAt: number): HitCalls {
  // Shared memory is WebAssembly's, so the runtime has it.
  const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyLike };
  const bytes = assemble([
    { name: "pin", parameters: 6, locals: 8, body: pinBody(layout, backendAt) },
    { name: "unpin", parameters: 1, locals: 4, body: unpinBody(layout, backendAt) },
  ]);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { host: { memory } });
  // What the module exports is decided above. Its own object is slow to look into.
  const { pin, unpin } = exports as HitCalls;
  return { pin, unpin };
}

/**
 * Layout of a duplex in shared memory: two rings of fixed slots, one for each direction, in one SharedArrayBuffer.
 *
 * Who writes what, for each ring: the sending thread alone stores `tail`, `txState` and the slots; the receiving thread
 * alone stores `head` and `rxState`; whoever learns that a thread has died stores `died` in its place. Head and tail count
 * frames and wrap as int32: `(tail - head) | 0` is the fill level across the wrap, as a ring has at most 2^20 slots. A
 * frame is written first and the tail stored second; Atomics are sequentially consistent, so that a receiver that sees
 * the tail sees the frame. The same holds for a slot that is read before the head is stored.
 *
 * Idea: the shared-memory message queue of PostgreSQL (shm_mq.c). Different: frames of a bounded size, two directions.
 */
import assert from "node:assert/strict";
import { isSharedArrayBuffer } from "node:util/types";

/** Words of the header. It is written once, before the memory is given to anybody. */
const HEADER = { magic: 0, version: 1, slots: 2, slotBytes: 3, attached: [4, 5] } as const;
const HEADER_WORDS = 16;

/** Words of a ring. 64 bytes between them: what one thread stores often is in no line that the other polls. */
export const RING = {
  tail: 0,
  head: 16,
  txState: 32,
  rxState: 33,
  txBell: 48,
  rxBell: 64,
  words: 80,
} as const;

/** What a side of a ring is. Only ever leaves `open`. */
export const STATE = { open: 0, closed: 1, died: 2 } as const;

/** Bytes in front of a frame: its length, and room that keeps frames on multiples of 8. */
const FRAME_HEADER_BYTES = 8;
const MAGIC = 0x6d_64_75_78; // "mdux"
const VERSION = 1;
const WORD_BYTES: number = Int32Array.BYTES_PER_ELEMENT;

/** Slots of a ring, at most. More is a leak with another name, and the fill level must stay far below 2^31. */
export const SHARED_SLOTS_MAX: number = 2 ** 20;
/** Memory of both rings together, at most, bytes. */
export const SHARED_BYTES_MAX: number = 2 ** 30;
assert(SHARED_SLOTS_MAX < 2 ** 30);

/** Size of a shared duplex. */
export interface SharedDuplexOptions {
  /** Frames that fit in each direction: a power of two from 2 to 2^20. */
  readonly slots: number;
  /** Bytes of a frame, at most: an integer from 1. Both rings together take at most 1 GiB. */
  readonly slotBytes: number;
  /** For tests: where the frame counters start, so that they wrap soon; an int32. */
  readonly initialCounter?: number;
}

/** A shared duplex as it travels: may be posted to any thread of the process. */
export interface SharedDuplexHandle {
  readonly memory: SharedArrayBuffer;
}

/** One direction of a handle, as both its threads see it. */
export interface SharedRing {
  readonly words: Int32Array;
  /** First word of the ring: `RING` counts from here. */
  readonly at: number;
  readonly slots: number;
  readonly slotBytes: number;
  /** The frames' bytes. */
  readonly frames: readonly DataView[];
  /** Where the length of the first frame is, words, and how far it is from one to the next. */
  readonly lengthsAt: number;
  readonly lengthStride: number;
}

/**
 * Makes the memory of a shared duplex.
 *
 * @throws {RangeError} a number is out of its range
 */
export function createSharedDuplex(options: SharedDuplexOptions): SharedDuplexHandle {
  const { slots, slotBytes, initialCounter = 0 } = options;
  if (!Number.isInteger(slots) || slots < 2 || slots > SHARED_SLOTS_MAX || (slots & (slots - 1)) !== 0)
    throw new RangeError(`slots must be a power of two from 2 to 2^20: ${String(slots)}`);
  if (!Number.isInteger(slotBytes) || slotBytes < 1)
    throw new RangeError(`slotBytes must be an integer from 1: ${String(slotBytes)}`);
  if ((initialCounter | 0) !== initialCounter)
    throw new RangeError(`initialCounter must be an int32: ${String(initialCounter)}`);
  const bytes = 2 * ringBytes(slots, slotBytes) + HEADER_WORDS * WORD_BYTES;
  if (bytes > SHARED_BYTES_MAX)
    throw new RangeError(`${String(bytes)} bytes are more than a duplex may take`);
  const memory = new SharedArrayBuffer(bytes);
  const words = new Int32Array(memory);
  words[HEADER.version] = VERSION;
  words[HEADER.slots] = slots;
  words[HEADER.slotBytes] = slotBytes;
  for (const at of ringsAt(slots, slotBytes)) {
    words[at + RING.tail] = initialCounter;
    words[at + RING.head] = initialCounter;
  }
  Atomics.store(words, HEADER.magic, MAGIC);
  return { memory };
}

/**
 * The rings of a handle: index 0 is what side 0 sends, index 1 what side 1 sends.
 *
 * @throws {TypeError} not the handle of a shared duplex
 */
export function openRings(handle: SharedDuplexHandle): readonly [SharedRing, SharedRing] {
  const words = wordsOf(handle);
  const slots = words[HEADER.slots] as number;
  const slotBytes = words[HEADER.slotBytes] as number;
  const [first, second] = ringsAt(slots, slotBytes);
  return [openRing(words, first, slots, slotBytes), openRing(words, second, slots, slotBytes)];
}

/** Takes a side for this thread; false if somebody has it, or had it. */
export function claimSide({ words }: SharedRing, side: 0 | 1): boolean {
  return Atomics.compareExchange(words, HEADER.attached[side], 0, 1) === 0;
}

function openRing(words: Int32Array, at: number, slots: number, slotBytes: number): SharedRing {
  const stride = frameStride(slotBytes);
  const start = (at + RING.words) * WORD_BYTES;
  const frames = Array.from(
    { length: slots },
    (_, slot) => new DataView(words.buffer, start + slot * stride + FRAME_HEADER_BYTES, slotBytes),
  );
  const lengthsAt = at + RING.words;
  return { words, at, slots, slotBytes, frames, lengthsAt, lengthStride: stride / WORD_BYTES };
}

function wordsOf(handle: SharedDuplexHandle): Int32Array {
  const memory: unknown = (handle as Partial<SharedDuplexHandle> | undefined)?.memory;
  if (!isSharedArrayBuffer(memory) || memory.byteLength < HEADER_WORDS * WORD_BYTES) throw notADuplex();
  const words = new Int32Array(memory);
  if (Atomics.load(words, HEADER.magic) !== MAGIC || words[HEADER.version] !== VERSION) throw notADuplex();
  return words;
}

function notADuplex(): TypeError {
  return new TypeError("not the handle of a shared duplex of this version");
}

/** First words of the two rings. */
function ringsAt(slots: number, slotBytes: number): readonly [number, number] {
  return [HEADER_WORDS, HEADER_WORDS + ringBytes(slots, slotBytes) / WORD_BYTES];
}

/** A multiple of 64, so that the second ring keeps the distances of the first. */
function ringBytes(slots: number, slotBytes: number): number {
  return Math.ceil((RING.words * WORD_BYTES + slots * frameStride(slotBytes)) / 64) * 64;
}

function frameStride(slotBytes: number): number {
  return FRAME_HEADER_BYTES + Math.ceil(slotBytes / 8) * 8;
}

/**
 * A buffer's life: filled through one mutable handle, frozen, shared by any number of immutable ones, and mutable again
 * when only one of those is left.
 *
 * Capacity is exact and never grows: a write that does not fit changes nothing. Bytes can only be seen up to `written`,
 * because the memory of an earlier buffer is not cleared. Slices share the allocation and keep it alive.
 *
 * What the types cannot prevent: views from `view`, `spareView` and `unsafeView` are plain arrays, and stay usable after
 * the handle has moved. Debug arenas find writes through them by a checksum.
 *
 * Idea: IoBufferMut and IoBuffer of Neon's pageserver. Different: no growth, a refused `tryIntoMut` leaves the handle
 * valid, a slice knows whether it is aligned, and a loan says that another thread or the kernel has the bytes.
 */
import type { Allocation } from "./allocation.js";
import { copyBytes } from "./copy-bytes.js";
import { BufferTamperedError, CapacityExceededError, FrozenBufferError } from "./errors.js";
import { Handle } from "./handle.js";
import { checkByte, checkSize } from "./sizes.js";

/** Where bytes are, for a thread that has the segment: can be posted. Offsets as in `MemoryLocation`. */
export interface Lease {
  readonly byteOffset: number;
  readonly length: number;
}

/** The only handle of a buffer, and the only way to write to it. From `AlignedArena.alloc`. */
export class IoBufferMut extends Handle implements Disposable {
  constructor(allocation: Allocation) {
    super(allocation, "IoBufferMut");
  }

  /** Room in bytes, exactly as asked for. */
  get capacity(): number {
    return this.owned().capacity;
  }

  /** Bytes in use, from the start. */
  get length(): number {
    return this.owned().length;
  }

  /** Bytes that still fit. */
  get spare(): number {
    const { capacity, length } = this.owned();
    return capacity - length;
  }

  /** Alignment it was asked for with, bytes. */
  get align(): number {
    return this.owned().align;
  }

  /** Where it starts in `segment.buffer`. */
  get byteOffset(): number {
    return this.owned().byteOffset;
  }

  /** Whether its start is provably aligned; by default to the arena's alignment. */
  isAligned(alignment?: number): boolean {
    const { home, byteOffset } = this.owned();
    return home.segment.isAligned(byteOffset, alignment ?? home.alignment);
  }

  /**
   * Adds bytes at the end.
   *
   * @param source borrowed for the call; may lie in this very buffer
   * @throws {CapacityExceededError} ERR_BUFFER_CAPACITY: they do not fit; nothing was changed
   */
  append(source: Uint8Array | IoBuffer): void {
    const bytes = source instanceof IoBuffer ? source.unsafeView() : source;
    const allocation = this.owned();
    const end = roomFor(allocation, bytes.length);
    copyBytes(bytes, allocation.home.whole, allocation.byteOffset + allocation.length);
    extend(allocation, end);
  }

  /**
   * Adds `count` times the same byte.
   *
   * @throws {CapacityExceededError} ERR_BUFFER_CAPACITY: they do not fit; nothing was changed
   */
  fill(byte: number, count: number): void {
    checkByte(byte);
    checkSize(count);
    const allocation = this.owned();
    const end = roomFor(allocation, count);
    allocation.home.segment.fill(allocation.byteOffset + allocation.length, count, byte);
    extend(allocation, end);
  }

  /** Length 0; the bytes stay where they are. */
  clear(): void {
    this.owned().length = 0;
  }

  /** Cuts to `length`; does nothing if it is that short already. */
  truncate(length: number): void {
    checkSize(length);
    const allocation = this.owned();
    allocation.length = Math.min(allocation.length, length);
  }

  /**
   * Sets the length, after somebody has written through `spareView` or a loan, or to take back a `clear`.
   *
   * @throws {CapacityExceededError} ERR_BUFFER_CAPACITY: longer than the capacity
   * @throws {RangeError} longer than what can have been written since the buffer was handed out: the rest is what an
   *   earlier buffer left behind
   */
  setLength(length: number): void {
    checkSize(length);
    const allocation = this.owned();
    if (length > allocation.capacity) throw new CapacityExceededError(allocation.capacity, length);
    if (length > allocation.written)
      throw new RangeError(`only ${String(allocation.written)} bytes were written`);
    allocation.length = length;
  }

  /** The bytes in use, borrowed until the handle moves. */
  view(): Uint8Array {
    const allocation = this.owned();
    return allocation.view(0, allocation.length);
  }

  /** The room behind them, borrowed until the handle moves: write here, then `setLength`. Old contents show. */
  spareView(): Uint8Array {
    const allocation = this.owned();
    allocation.written = allocation.capacity;
    return allocation.view(allocation.length, allocation.capacity);
  }

  /** Ends this handle: the bytes in use become immutable and can be shared. */
  freeze(): IoBuffer {
    const allocation = this.hand("freeze");
    if (allocation.home.tracker !== undefined) allocation.frozenChecksum = allocation.checksum();
    return new IoBuffer(allocation, 0, allocation.length);
  }

  /** Ends this handle and gives another: for code that must be sure that the giver lets go. */
  move(): IoBufferMut {
    return new IoBufferMut(this.hand("move"));
  }

  /** Ends this handle and lends the whole capacity to another thread, or to the kernel. */
  lend(): Loan {
    return new Loan(this.hand("lend"));
  }

  /** Gives the memory back to the arena. Does nothing if the buffer has moved or was disposed of. */
  [Symbol.dispose](): void {
    this.drop();
  }
}

/**
 * A buffer that somebody else may be writing to. There is no `dispose`: memory that the kernel or another thread still
 * has must not be given to others, so whoever lends waits for the end and takes back.
 */
export class Loan extends Handle {
  constructor(allocation: Allocation) {
    super(allocation, "Loan");
  }

  /** What to tell the borrower: the whole capacity. */
  get lease(): Lease {
    const { byteOffset, capacity: length } = this.owned();
    return { byteOffset, length };
  }

  /**
   * Ends the loan. Call it when the borrower has said that it is done.
   *
   * @param length bytes in use from now on; by default as many as when it was lent
   * @throws {CapacityExceededError} ERR_BUFFER_CAPACITY: longer than the capacity; the loan goes on
   */
  takeBack(length?: number): IoBufferMut {
    const { capacity, length: before } = this.owned();
    checkSize(length ?? before);
    if (length !== undefined && length > capacity) throw new CapacityExceededError(capacity, length);
    const allocation = this.hand("takeBack");
    allocation.written = capacity;
    allocation.length = length ?? before;
    return new IoBufferMut(allocation);
  }
}

/** Members that would write. They are no part of the type; called by force, they say what is wrong. */
const WRITING = ["append", "fill", "clear", "truncate", "setLength", "view", "spareView", "freeze", "lend"];

/** A share of an immutable buffer. */
export class IoBuffer extends Handle implements Disposable {
  readonly #begin: number;
  readonly #end: number;

  static {
    for (const member of WRITING) {
      const value = (): never => {
        throw new FrozenBufferError(member);
      };
      Object.defineProperty(this.prototype, member, { value });
    }
  }

  constructor(allocation: Allocation, begin: number, end: number) {
    super(allocation, "IoBuffer");
    this.#begin = begin;
    this.#end = end;
  }

  /** Bytes of this view. */
  get length(): number {
    this.owned();
    return this.#end - this.#begin;
  }

  /** Handles that share the buffer, this one included. */
  get refs(): number {
    return this.owned().references;
  }

  /** Where this view starts in `segment.buffer`. */
  get byteOffset(): number {
    return this.owned().byteOffset + this.#begin;
  }

  /** Where this view is, to be posted. Keep a handle until the other thread is done with it. */
  get lease(): Lease {
    return { byteOffset: this.byteOffset, length: this.length };
  }

  /** Whether this view's start is provably aligned; by default to the arena's alignment. */
  isAligned(alignment?: number): boolean {
    const { home, byteOffset } = this.owned();
    return home.segment.isAligned(byteOffset + this.#begin, alignment ?? home.alignment);
  }

  /** One more handle of the same view. */
  clone(): IoBuffer {
    const allocation = this.owned();
    allocation.references += 1;
    return new IoBuffer(allocation, this.#begin, this.#end);
  }

  /**
   * One more handle, of a part of this view; may be empty.
   *
   * @throws {RangeError} not 0 <= begin <= end <= length
   */
  slice(begin = 0, end: number = this.length): IoBuffer {
    const allocation = this.owned();
    const { length } = this;
    if (!(Number.isInteger(begin) && Number.isInteger(end) && begin >= 0 && begin <= end && end <= length))
      throw new RangeError(`no slice ${String(begin)} to ${String(end)} of ${String(length)} bytes`);
    allocation.references += 1;
    return new IoBuffer(allocation, this.#begin + begin, this.#begin + end);
  }

  /**
   * Copies as much as fits.
   *
   * @param target borrowed for the call
   * @param at where in `target` to start
   * @returns bytes copied; fewer than `length` only if `target` ends before
   */
  copyTo(target: Uint8Array, at = 0): number {
    checkSize(at);
    return copyBytes(this.unsafeView(), target, Math.min(at, target.length));
  }

  /** Whether the bytes are the same. */
  equals(other: Uint8Array | IoBuffer): boolean {
    return Buffer.compare(this.unsafeView(), other instanceof IoBuffer ? other.unsafeView() : other) === 0;
  }

  /**
   * One byte.
   *
   * @throws {RangeError} not below `length`
   */
  at(index: number): number {
    const byte = this.unsafeView()[index];
    if (byte === undefined) throw new RangeError(`no byte ${String(index)} of ${String(this.length)}`);
    return byte;
  }

  /** The bytes as an array, for calls that need one (`node:fs`). Only to be read, and only while a handle is held. */
  unsafeView(): Uint8Array {
    return this.owned().view(this.#begin, this.#end);
  }

  /**
   * Debug arenas: checks that the whole buffer still has the bytes that were frozen. Others: nothing to compare with.
   * Call it before and after the buffer is given to an I/O.
   *
   * @throws {BufferTamperedError} ERR_BUFFER_TAMPERED
   */
  verify(): void {
    const allocation = this.owned();
    if (allocation.home.tracker !== undefined && allocation.checksum() !== allocation.frozenChecksum)
      throw new BufferTamperedError(allocation.byteOffset);
  }

  /**
   * Makes the whole buffer mutable again, with the length it was frozen with, if this is the last handle.
   *
   * @returns the buffer, and this handle has moved; or the number of handles, and this one is still good
   * @throws {BufferTamperedError} ERR_BUFFER_TAMPERED, in debug mode; this handle is still good
   */
  tryIntoMut():
    { readonly ok: true; readonly buffer: IoBufferMut } | { readonly ok: false; readonly refs: number } {
    const { references } = this.owned();
    if (references > 1) return { ok: false, refs: references };
    this.verify();
    return { ok: true, buffer: new IoBufferMut(this.hand("tryIntoMut")) };
  }

  /** Drops this share; the last one gives the memory back. Does nothing if it has moved or was disposed of. */
  [Symbol.dispose](): void {
    this.drop();
  }
}

/** Where the bytes in use will end. */
function roomFor(allocation: Allocation, count: number): number {
  const end = allocation.length + count;
  if (end > allocation.capacity) throw new CapacityExceededError(allocation.capacity, end);
  return end;
}

function extend(allocation: Allocation, end: number): void {
  allocation.length = end;
  allocation.written = Math.max(allocation.written, end);
}

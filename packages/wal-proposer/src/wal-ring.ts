/**
 * Recent WAL, keyed by LSN: what acceptors that keep up are fed from.
 *
 * A ring of references, not a circular byte array. A socket holds on to the very bytes it was handed until the
 * kernel has taken them, and a slow acceptor can hold them long after the ring has moved on; in a circular array
 * the next append would change bytes that are already promised to a connection, and a corrupted stream would be
 * the result. So the ring keeps immutable pieces: a large payload is kept as the view of the socket chunk it
 * arrived in, without a copy; small payloads (one short transaction each, under light load) are copied one behind
 * the other into slabs, because each would otherwise pin a whole socket chunk and cost an object. A byte that was
 * written once is never written again; dropping a piece only drops the reference.
 *
 * Bounds: exactly the last `capacityBytes` bytes can be read. A view keeps its whole buffer alive, and how well
 * buffers are filled is up to the socket; so the ring counts the buffers it retains and copies large payloads too
 * once they come to RETAINED_MAX capacities. Copies add at most one capacity and a slab to that. Inside, positions are doubles counted from where the ring began, asserted below 2^53; bigint stays at the border.
 */
import { strict as assert } from "node:assert";
import { addBytes, formatLsn } from "@millrace/lsn";
import type { Lsn } from "@millrace/lsn";

/** Default capacity, eight default segments: an acceptor may fall that far behind and still be fed from memory. */
export const RING_BYTES_DEFAULT: number = 128 * 1024 * 1024;
/** Payloads below this are copied into slabs: at 4 KiB a copy is cheaper than an object that pins 64 KiB. */
const COPY_BELOW_BYTES = 4096;
/** Size of a slab, the same as Node's socket chunks, so that either kind of piece retains about as much. */
const SLAB_BYTES = 64 * 1024;
/** How many capacities the retained buffers may come to before large payloads are copied as well. */
const RETAINED_MAX = 2;
/** Dropped pieces are cut off the arrays once this many have gathered and they are the larger half. */
const COMPACT_AT = 1024;

/** A bounded window [startLsn, endLsn) onto the end of a log that only grows. */
export class WalRing {
  readonly capacityBytes: number;
  #baseLsn: Lsn;
  /** Bytes appended since `#baseLsn`; the end of the ring. */
  #end = 0;
  /** First readable byte. */
  #start = 0;
  // Piece i covers [#offsets[i], #offsets[i + 1]) or up to #end; its bytes begin at #pieces[i][0] and may be longer
  // than what it covers (the unused rest of a slab). Pieces below #first have been dropped.
  readonly #offsets: number[] = [];
  readonly #pieces: (Uint8Array | undefined)[] = [];
  #first = 0;
  #slab: Uint8Array = new Uint8Array(0);
  #slabUsed = 0;
  /** Whether the last piece ends exactly where the slab's next byte goes. */
  #slabIsLast = false;
  /** How many pieces lie in a buffer, for every buffer that the ring keeps alive. */
  readonly #piecesIn = new Map<ArrayBufferLike, number>();
  #retainedBytes = 0;

  /** @param options `capacityBytes` a positive integer; `startLsn` where the first appended byte belongs */
  constructor(options: { readonly startLsn: Lsn; readonly capacityBytes?: number }) {
    const capacityBytes = options.capacityBytes ?? RING_BYTES_DEFAULT;
    if (!Number.isSafeInteger(capacityBytes) || capacityBytes < 1) {
      throw new RangeError(`the capacity of a ring is a positive number of bytes, not ${capacityBytes}`);
    }
    this.capacityBytes = capacityBytes;
    this.#baseLsn = options.startLsn;
  }

  /** The oldest byte that can be read. */
  get startLsn(): Lsn {
    return addBytes(this.#baseLsn, this.#start);
  }

  /** Where the next appended byte belongs. */
  get endLsn(): Lsn {
    return addBytes(this.#baseLsn, this.#end);
  }

  /** Bytes between start and end; never more than the capacity. */
  get byteLength(): number {
    return this.#end - this.#start;
  }

  /** Size of all buffers that the ring keeps alive, at most three capacities and a slab. */
  get retainedBytes(): number {
    return this.#retainedBytes;
  }

  /** Whether a reader that stands at `lsn` can be fed from here: start <= lsn <= end. */
  contains(lsn: Lsn): boolean {
    const offset = Number(lsn - this.#baseLsn);
    return offset >= this.#start && offset <= this.#end;
  }

  /**
   * Adds bytes at the end and gives up as many at the start as the capacity asks for.
   *
   * @param bytes given: the ring may keep this very view, so neither it nor its buffer may be written to again
   */
  append(bytes: Uint8Array): void {
    const length = bytes.byteLength;
    if (length === 0) return;
    assert(this.#end + length <= Number.MAX_SAFE_INTEGER, "a ring counts bytes in a double");
    if (length < COPY_BELOW_BYTES) {
      this.#appendCopy(bytes);
    } else {
      const retain = this.#retainedBytes + bytes.buffer.byteLength <= RETAINED_MAX * this.capacityBytes;
      this.#addPiece(retain || this.#piecesIn.has(bytes.buffer) ? bytes : new Uint8Array(bytes));
      this.#slabIsLast = false;
    }
    this.#end += length;
    if (this.#end - this.#start > this.capacityBytes) this.#dropBelow(this.#end - this.capacityBytes);
  }

  /**
   * The bytes of [beginLsn, endLsn) as views, in order. Most ranges are one or two views.
   *
   * @returns borrowed views: read them, hand them to a socket, keep them as long as you like, never write to them
   * @throws {RangeError} the range is not inside the ring or its ends are swapped
   */
  views(beginLsn: Lsn, endLsn: Lsn): Uint8Array[] {
    let position = Number(beginLsn - this.#baseLsn);
    const end = Number(endLsn - this.#baseLsn);
    if (position < this.#start || end > this.#end || position > end) {
      const asked = `[${formatLsn(beginLsn)}, ${formatLsn(endLsn)})`;
      throw new RangeError(`${asked} is not inside [${formatLsn(this.startLsn)}, ${formatLsn(this.endLsn)})`);
    }
    const views: Uint8Array[] = [];
    for (let index = this.#indexOf(position); position < end; index += 1) {
      const offset = this.#offsets[index];
      const piece = this.#pieces[index];
      assert(offset !== undefined && piece !== undefined);
      const pieceEnd = Math.min(this.#offsets[index + 1] ?? this.#end, end);
      views.push(piece.subarray(position - offset, pieceEnd - offset));
      position = pieceEnd;
    }
    return views;
  }

  #appendCopy(bytes: Uint8Array): void {
    const length = bytes.byteLength;
    if (this.#slab.byteLength - this.#slabUsed < length) {
      this.#slab = new Uint8Array(SLAB_BYTES);
      this.#slabUsed = 0;
      this.#slabIsLast = false;
    }
    this.#slab.set(bytes, this.#slabUsed);
    if (!this.#slabIsLast) this.#addPiece(this.#slab.subarray(this.#slabUsed));
    this.#slabIsLast = true;
    this.#slabUsed += length;
  }

  #addPiece(bytes: Uint8Array): void {
    this.#offsets.push(this.#end);
    this.#pieces.push(bytes);
    const count = this.#piecesIn.get(bytes.buffer) ?? 0;
    if (count === 0) this.#retainedBytes += bytes.buffer.byteLength;
    this.#piecesIn.set(bytes.buffer, count + 1);
  }

  #dropPiece(index: number): void {
    const buffer = this.#pieces[index]?.buffer;
    assert(buffer !== undefined);
    this.#pieces[index] = undefined;
    const count = (this.#piecesIn.get(buffer) ?? 0) - 1;
    if (count > 0) {
      this.#piecesIn.set(buffer, count);
    } else {
      this.#piecesIn.delete(buffer);
      this.#retainedBytes -= buffer.byteLength;
    }
  }

  /** Moves the start and lets go of every piece that lies wholly below it. */
  #dropBelow(start: number): void {
    this.#start = start;
    while ((this.#offsets[this.#first + 1] ?? Number.POSITIVE_INFINITY) <= start) {
      this.#dropPiece(this.#first);
      this.#first += 1;
    }
    if (this.#first >= COMPACT_AT && this.#first * 2 >= this.#pieces.length) {
      this.#offsets.splice(0, this.#first);
      this.#pieces.splice(0, this.#first);
      this.#first = 0;
    }
  }

  /** Index of the piece that covers `position`, by bisection: readers stand anywhere between start and end. */
  #indexOf(position: number): number {
    let low = this.#first;
    let high = this.#offsets.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#offsets[middle] ?? 0) <= position) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/**
 * A read of neighbouring blocks that is under way: what was asked for, how far it is, and what its I/Os need.
 *
 * One object for as many reads as one likes, one after the other; nothing is made for each. Who reads ahead has one for each
 * I/O in flight. The array of buffers is lent to it from `startRead` to the end of `waitRead`.
 */
import { createIoReturn } from "@millrace/aio";
import type { IoReturn, IoVector, WaitRef } from "@millrace/aio";

import type { Ring } from "./ring.js";
import type { Fork, Relation } from "./tag.js";

/** A vector that is used again. */
interface Piece {
  segment: number;
  offsetBytes: number;
  lengthBytes: number;
}

/** A read. Made by `BufferManager.createReadOperation`, for the thread that made it. */
export class ReadOperation {
  /** What is read; may be changed between two reads, as may the ring that buffers come from. */
  relation: Relation;
  fork: Fork;
  ring: Ring | null;
  /** Whether `waitRead` has to be called before the pages are used. */
  needWait = false;

  /** For the reader: the caller's array, and where the read's buffers begin in it. */
  buffers: Int32Array = EMPTY;
  at = 0;
  /** First block, and blocks. */
  block = 0;
  count = 0;
  /** Entries that were set when the read began; entries looked at; blocks that are there. */
  known = 0;
  pinned = 0;
  done = 0;
  flags = 0;
  /** The I/O under way. */
  ref: WaitRef | undefined;
  readonly slot: IoReturn = createIoReturn();
  /** What the I/O is given: pieces of memory, and the buffers for its callbacks. Both are as long as they are full. */
  readonly vectors: IoVector[] = [];
  readonly data: number[] = [];
  readonly #pieces: Piece[] = [];
  #used = 0;

  constructor(relation: Relation, fork: Fork, ring: Ring | null) {
    this.relation = relation;
    this.fork = fork;
    this.ring = ring;
  }

  /** For the reader: whether the first block was there, so that there is nothing to read. To be asked before the read starts. */
  get isHit(): boolean {
    return this.done > 0;
  }

  /** For the reader: takes a new read down. The array's entries that are set are pins of an earlier call. @returns itself */
  begin(buffers: Int32Array, at: number, block: number, count: number, flags: number): this {
    this.buffers = buffers;
    this.at = at;
    this.block = block;
    this.count = count;
    this.flags = flags;
    this.done = 0;
    this.pinned = 0;
    this.ref = undefined;
    this.needWait = false;
    return this;
  }

  /** Forgets the pieces. */
  clearPieces(): void {
    this.#used = 0;
  }

  /** Adds memory: to the last piece, if it goes on there. */
  addPiece(segment: number, offsetBytes: number, lengthBytes: number): void {
    const last = this.#used === 0 ? undefined : this.#pieces[this.#used - 1];
    if (last?.segment === segment && last.offsetBytes + last.lengthBytes === offsetBytes) {
      last.lengthBytes += lengthBytes;
      return;
    }
    const piece = (this.#pieces[this.#used] ??= { segment: 0, offsetBytes: 0, lengthBytes: 0 });
    piece.segment = segment;
    piece.offsetBytes = offsetBytes;
    piece.lengthBytes = lengthBytes;
    this.vectors[this.#used] = piece;
    this.#used += 1;
  }

  /** Makes `vectors` and `data` as long as the I/O is. Changing an array's length costs more than filling it. */
  closePieces(buffers: number): void {
    if (this.vectors.length !== this.#used) this.vectors.length = this.#used;
    if (this.data.length !== buffers) this.data.length = buffers;
  }
}

const EMPTY = new Int32Array(0);

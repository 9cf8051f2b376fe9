/**
 * A handle as its issuer uses it: everything that may be said about an I/O before it starts, and the starts.
 *
 * One object a handle, made once and reused with it. Its calls are legal only while the handle is the one handed out;
 * a start defines it, stages it and, outside batch mode, submits it, after which the object must be left alone: the I/O
 * may be over and the handle somebody's next. Take the wait reference before.
 */
import { AioError } from "./errors.js";
import type { FileLease } from "./file-table.js";
import type { HandleTable } from "./handle-table.js";
import { HANDLE_STATE, STATE_MASK, unpackGeneration } from "./handle-state.js";
import type { IoVector } from "./io-vector.js";
import { byteAt, CALLBACKS_MAX, HANDLE, LENGTHS, META, VECTOR } from "./layout.js";
import { FLAG, OPERATION } from "./operations.js";
import type { IoFlag } from "./operations.js";
import type { AioRegistry } from "./registry.js";
import { TARGET_WORDS } from "./result.js";
import type { SegmentTable } from "./segment-table.js";
import type { WaitRef } from "./wait-ref.js";

/** What a handle needs of its backend. */
export interface HandleOwner {
  readonly table: HandleTable;
  readonly segments: SegmentTable;
  readonly registry: AioRegistry;
  readonly combine: number;
  /** Takes a DEFINED handle: stages and perhaps submits it. */
  stage(handle: number): void;
  /** Takes back the handle handed out. */
  takeBack(): void;
}

/** How a write is made durable as part of the same I/O: "data": an fdatasync follows it, "full": an fsync. */
export type WriteSync = "data" | "full";

const MEMORY_WORD_MAX = 2 ** 31 - 1;

/** A handle; obtained by acquiring. */
export class IoHandle {
  /** Number of the handle in the system. */
  readonly id: number;
  readonly #owner: HandleOwner;
  readonly #words: Int32Array;
  /** First word of the handle, and of its first piece. */
  readonly #at: number;
  readonly #pieceAt: number;
  /** Words of the target that may not be 0. */
  #targetLength = TARGET_WORDS;

  constructor(owner: HandleOwner, id: number) {
    this.id = id;
    this.#owner = owner;
    this.#words = owner.table.words;
    this.#at = owner.table.at(id);
    this.#pieceAt = owner.table.vectorAt(id, 0);
  }

  /** The reference to this use of the handle. @throws {AioError} ERR_AIO_BAD_STATE: it has been started */
  ref(): WaitRef {
    this.#check("refer to");
    const words = this.#words;
    // Plain: only this thread ends a life of its handles.
    const high = words[this.#at + HANDLE.generationHigh] as number;
    return { handle: this.id, generation: unpackGeneration(words[this.#at] as number, high) };
  }

  /** Adds a flag. */
  flag(flag: IoFlag): this {
    this.#check("flag");
    (this.#words[this.#at + HANDLE.meta] as number) |= FLAG[flag] << META.flags;
    return this;
  }

  /**
   * Says what the I/O is on, once.
   *
   * @param id a registered target
   * @param target up to eight words, as the target understands them; copied
   * @throws {AioError} ERR_AIO_BAD_STATE: set already, not registered, or too long
   */
  setTarget(id: number, target: ArrayLike<number>): this {
    this.#check("set the target of");
    const words = this.#words;
    const at = this.#at;
    const meta = words[at + HANDLE.meta] as number;
    const { length } = target;
    if (byteAt(meta, META.targetId) !== 0) throw badState("the target is set already");
    if (this.#owner.registry.targetOf(id) === undefined) throw badState(`no target ${id} is registered`);
    if (length > TARGET_WORDS) throw badState(`a target has at most ${TARGET_WORDS} words`);
    for (let word = 0; word < length; word++) words[at + HANDLE.target + word] = target[word] as number;
    // What an earlier life had beyond is cleared; mostly it had as many.
    for (let word = length; word < this.#targetLength; word++) words[at + HANDLE.target + word] = 0;
    this.#targetLength = length;
    words[at + HANDLE.meta] = meta | (id << META.targetId);
    return this;
  }

  /**
   * Adds callbacks; those added last run first.
   *
   * @param data a byte that they are given
   * @throws {AioError} ERR_AIO_BAD_CALLBACK: not registered; ERR_AIO_TOO_MANY_CALLBACKS: the fifth
   */
  addCallback(id: number, data = 0): this {
    this.#check("add a callback to");
    if (this.#owner.registry.callbacksOf(id) === undefined) {
      throw new AioError("ERR_AIO_BAD_CALLBACK", `no callbacks ${id} are registered`);
    }
    if (!Number.isInteger(data) || data < 0 || data > 0xff) throw new RangeError(`not a byte: ${data}`);
    const words = this.#words;
    const at = this.#at;
    const meta = words[at + HANDLE.meta] as number;
    const count = byteAt(meta, META.callbackCount);
    if (count === CALLBACKS_MAX) {
      throw new AioError("ERR_AIO_TOO_MANY_CALLBACKS", `a handle has at most ${CALLBACKS_MAX} callbacks`);
    }
    putByte(words, at + HANDLE.callbackIds, count, id);
    putByte(words, at + HANDLE.callbackData, count, data);
    words[at + HANDLE.meta] = meta + (1 << META.callbackCount);
    return this;
  }

  /**
   * Attaches words for the callbacks, once; typically the numbers of the buffers under I/O.
   *
   * @param data from one word to as many as the system's combine limit; copied
   * @throws {AioError} ERR_AIO_BAD_STATE: attached already, none, or too many
   */
  setData(data: ArrayLike<number>): this {
    this.#check("attach data to");
    const { table, combine } = this.#owner;
    if (table.dataLength(this.id) !== 0) throw badState("data is attached already");
    if (data.length < 1 || data.length > combine)
      throw badState(`from 1 to ${combine} words, not ${data.length}`);
    const at = table.dataAt(this.id);
    for (let index = 0; index < data.length; index++) table.words[at + index] = data[index] as number;
    (table.words[this.#at + HANDLE.lengths] as number) |= data.length << LENGTHS.data;
    return this;
  }

  /** Gives the handle back unused. @throws {AioError} ERR_AIO_BAD_RELEASE: it is not the one handed out */
  release(): void {
    if (!this.#isHandedOut()) {
      throw new AioError("ERR_AIO_BAD_RELEASE", `handle ${this.id} is not the one handed out`);
    }
    this.#owner.takeBack();
  }

  /**
   * Starts a read into pieces of memory, one after the other.
   *
   * @param vectors lent until the I/O has completed; at most the system's combine limit
   * @param offsetBytes position in the file
   */
  startReadv(file: FileLease, vectors: readonly IoVector[], offsetBytes: number): void {
    this.#defineTransfer(OPERATION.readv, file, vectors, offsetBytes, 0);
  }

  /** Starts a write of pieces of memory, one after the other; parameters as for a read. */
  startWritev(file: FileLease, vectors: readonly IoVector[], offsetBytes: number, sync?: WriteSync): void {
    this.#defineTransfer(OPERATION.writev, file, vectors, offsetBytes, syncFlag(sync));
  }

  /** Starts a read or write of one piece; the same without an array. */
  startTransfer(
    isWrite: boolean,
    file: FileLease,
    segment: number,
    memoryOffset: number,
    lengthBytes: number,
    offsetBytes: number,
    sync?: WriteSync,
  ): void {
    this.#checkStart(offsetBytes);
    this.#owner.segments.check(segment, memoryOffset, lengthBytes);
    const words = this.#words;
    const at = this.#pieceAt;
    words[at + VECTOR.segment] = segment;
    words[at + VECTOR.offset] = memoryOffset;
    words[at + VECTOR.length] = lengthBytes;
    const operation = isWrite ? OPERATION.writev : OPERATION.readv;
    this.#define(operation, file, 1, lengthBytes, offsetBytes, isWrite ? syncFlag(sync) : 0);
  }

  /** Starts making a file durable. It covers the writes that had completed before. */
  startFsync(file: FileLease, dataOnly: boolean): void {
    this.#checkStart(0);
    this.#define(dataOnly ? OPERATION.fdatasync : OPERATION.fsync, file, 0, 0, 0, 0);
  }

  /** Starts nothing, by way of the kernel where the method has one: what the way itself costs. */
  startNop(file: FileLease): void {
    this.#checkStart(0);
    this.#define(OPERATION.nop, file, 0, 0, 0, 0);
  }

  #defineTransfer(
    operation: number,
    file: FileLease,
    vectors: readonly IoVector[],
    offsetBytes: number,
    flags: number,
  ): void {
    this.#checkStart(offsetBytes);
    const { table, segments, combine } = this.#owner;
    if (vectors.length < 1 || vectors.length > combine) {
      throw badState(`from 1 to ${combine} pieces of memory, not ${vectors.length}`);
    }
    let length = 0;
    for (const vector of vectors) {
      segments.check(vector.segment, vector.offsetBytes, vector.lengthBytes);
      length += vector.lengthBytes;
    }
    if (length > MEMORY_WORD_MAX) throw badState(`an I/O moves less than 2 GiB, not ${length} bytes`);
    for (const [index, vector] of vectors.entries()) {
      const at = this.#pieceAt + index * VECTOR.words;
      table.words[at + VECTOR.segment] = vector.segment;
      table.words[at + VECTOR.offset] = vector.offsetBytes;
      table.words[at + VECTOR.length] = vector.lengthBytes;
    }
    this.#define(operation, file, vectors.length, length, offsetBytes, flags);
  }

  #define(
    operation: number,
    file: FileLease,
    vectorCount: number,
    lengthBytes: number,
    offsetBytes: number,
    flags: number,
  ): void {
    const { table } = this.#owner;
    const words = this.#words;
    const at = this.#at;
    (words[at + HANDLE.meta] as number) |= (operation << META.operation) | (flags << META.flags);
    (words[at + HANDLE.lengths] as number) |= vectorCount << LENGTHS.vectors;
    words[at + HANDLE.lengthBytes] = lengthBytes;
    words[at + HANDLE.fd] = file.fd;
    words[at + HANDLE.fileSlot] = file.slot;
    words[at + HANDLE.fileGeneration] = file.generation;
    table.setOffsetBytes(this.id, offsetBytes);
    table.step(this.id, HANDLE_STATE.handedOut, HANDLE_STATE.defined);
    this.#owner.stage(this.id);
  }

  /** At most one is, and only this thread has anything to say about it: a plain load. */
  #isHandedOut(): boolean {
    return ((this.#words[this.#at] as number) & STATE_MASK) === HANDLE_STATE.handedOut;
  }

  #check(what: string): void {
    if (!this.#isHandedOut()) throw badState(`cannot ${what} handle ${this.id}: it is not handed out`);
  }

  #checkStart(offsetBytes: number): void {
    this.#check("start");
    if (byteAt(this.#words[this.#at + HANDLE.meta] as number, META.targetId) === 0) {
      throw badState("an I/O needs a target");
    }
    if (!Number.isSafeInteger(offsetBytes) || offsetBytes < 0) {
      throw new RangeError(`not a position in a file: ${offsetBytes}`);
    }
  }
}

function badState(message: string): AioError {
  return new AioError("ERR_AIO_BAD_STATE", message);
}

function syncFlag(sync: WriteSync | undefined): number {
  if (sync === undefined) return 0;
  return sync === "data" ? FLAG.thenDataSync : FLAG.thenSync;
}

/** Sets byte `index` of a word that holds four. */
function putByte(words: Int32Array, at: number, index: number, byte: number): void {
  const shift = index * 8;
  words[at] = ((words[at] as number) & ~(0xff << shift)) | (byte << shift);
}

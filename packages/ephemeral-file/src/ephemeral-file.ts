/**
 * A file for as long as it is needed: bytes are appended at its end and can be read from everywhere at once.
 *
 * A byte that was acknowledged is in one of three places: in the file, in a segment on its way there, or in the buffer that is
 * being filled. Each read takes one snapshot of where, in one step with copying what is in memory; the rest is in the file
 * already, and stays there. So no read waits for an append, whatever holds that up, and none sees a byte twice or a byte of an
 * append that has not returned. When the writer has failed or was cancelled, reads go on until the file is disposed of.
 *
 * Nothing is ever made durable: the file is gone with its object.
 *
 * Idea: EphemeralFile of Neon's pageserver. Different: readers and the writer share no lock, and all unconfirmed segments can
 * be read, however many and long they are.
 */
import type { AlignedArena, IoBuffer } from "@millrace/aligned-buffers";
import { BufferedWriter } from "@millrace/buffered-writer";
import type {
  BufferedWriterOptions,
  WriterSnapshot,
  WriterState,
  WriterStats,
} from "@millrace/buffered-writer";
import { Gate } from "@millrace/duplex";
import { createTempFile } from "@millrace/virtual-file";
import type { FileEnvironment, TempFile, VirtualFile } from "@millrace/virtual-file";
import { Piece, readPieces } from "./batched-read.js";
import { EphemeralFileError } from "./errors.js";
import { endOf, roundUp } from "./read-plan.js";
import type { ByteRange } from "./read-plan.js";
import { orAbort, throwIfStopped } from "./stops.js";
import type { Stops } from "./stops.js";
import { checkBytes, checkRanges, limitsOf, newBytes, pieceBeyond, resultOf } from "./vectored.js";
import type { VectoredLimits, VectoredOptions, VectoredResult } from "./vectored.js";

const NAME_PREFIX = "ephemeral-";
const CAPACITY_DEFAULT: number = 64 * 1024;

/** How appended bytes get into the file: as in @millrace/buffered-writer, with 64 KiB for `capacity`. */
export interface EphemeralFileOptions extends Partial<
  Pick<
    BufferedWriterOptions,
    "capacity" | "queueDepth" | "signal" | "clock" | "classify" | "onFatal" | "probe"
  >
> {
  /** The file's from now on: released when its name is gone, or if it cannot be made. */
  readonly gate?: { release(): void };
}

/** How a single call can be given up. */
export interface CallOptions {
  /** Abort rejects a read at once; an append only while it waits for its turn. */
  readonly signal?: AbortSignal;
}

/** A file that is gone when it is disposed of. */
export class EphemeralFile implements AsyncDisposable {
  readonly #temporary: TempFile;
  readonly #arena: AlignedArena;
  readonly #writer: BufferedWriter<VirtualFile>;
  /** How a single read is cut into batches. */
  readonly #limits: VectoredLimits;
  /** Held by every read until nothing of it is in flight. */
  readonly #reads: Gate = new Gate();
  readonly #closing: AbortController = new AbortController();
  #disposing: Promise<void> | undefined;

  private constructor(temporary: TempFile, arena: AlignedArena, options: EphemeralFileOptions) {
    const { gate: _, capacity = CAPACITY_DEFAULT, ...others } = options;
    this.#temporary = temporary;
    this.#arena = arena;
    const { file } = temporary;
    this.#limits = limitsOf({}, file);
    this.#writer = new BufferedWriter(file, arena, { ...others, capacity, alignment: file.alignmentBytes });
  }

  /**
   * Makes a file.
   *
   * @param environment as for `VirtualFile`; its arena must have room for the writer's buffers, and a chunk for each read
   * @throws {FileIoError} ERR_FILE_IO; {ArenaExhaustedError} ERR_ARENA_EXHAUSTED: no room for `queueDepth` + 1 buffers;
   *   {RangeError} an option is out of its range. No file is left
   */
  static async create(
    directory: string,
    environment: FileEnvironment,
    options: EphemeralFileOptions = {},
  ): Promise<EphemeralFile> {
    const temporary = await createTempFile(directory, NAME_PREFIX, environment, options.gate);
    try {
      return new EphemeralFile(temporary, environment.arena, options);
    } catch (error) {
      // The first error is the one that counts.
      await temporary[Symbol.asyncDispose]().catch(() => undefined);
      throw error;
    }
  }

  get path(): string {
    return this.#temporary.file.path;
  }

  /** Whether the disk is read and written past the page cache. */
  get isDirect(): boolean {
    return this.#temporary.file.isDirect;
  }

  /** Bytes that were acknowledged: what there is to read. */
  get length(): number {
    return this.#writer.acknowledged;
  }

  /** What has become of the writer. Reads work in every state but "closed". */
  get state(): WriterState {
    return this.#writer.state;
  }

  get stats(): WriterStats {
    return this.#writer.stats;
  }

  /**
   * Appends if that needs no wait: all of `chunk`, or nothing. Makes no promise.
   *
   * @param chunk borrowed for the call
   * @returns where it begins; undefined if it has to wait: then call `append`
   * @throws as `append`
   */
  tryAppend(chunk: Uint8Array): number | undefined {
    this.#check();
    return this.#writer.tryWrite(chunk);
  }

  /**
   * Appends all of `chunk`. Calls take turns in their order.
   *
   * @param chunk borrowed until the promise settles: do not change it before. It is copied, and not kept
   * @returns where it begins; its bytes can be read from now on
   * @throws {WriterError} ERR_FLUSH_CANCELLED, ERR_WRITER_POISONED; ERR_WRITER_CLOSED: it waited when the file was disposed of
   * @throws {EphemeralFileError} ERR_EPHEMERAL_CLOSED; and the signal's reason on abort
   */
  async append(chunk: Uint8Array, options: CallOptions = {}): Promise<number> {
    this.#check();
    return await this.#writer.write(chunk, options);
  }

  /**
   * Reads if that needs no I/O: what is in memory, or behind the end.
   *
   * @param target borrowed for the call; untouched if the result is undefined
   * @returns as `read`; undefined if a part is in the file: then call `read`
   */
  tryRead(offsetBytes: number, target: Uint8Array): number | undefined {
    checkBytes("offset", offsetBytes);
    this.#check();
    const snapshot = this.#writer.snapshot();
    const count = readable(snapshot, offsetBytes, target.length);
    if (count > 0 && offsetBytes < snapshot.fileUpTo) return undefined;
    copyFromMemory(snapshot, offsetBytes, target, count);
    return count;
  }

  /**
   * Reads bytes that were acknowledged when the call was made. Waits for the disk where it has to, and for nothing else.
   *
   * @param target borrowed until the promise settles
   * @returns bytes read: fewer than `target` has room for only at the end, 0 there and beyond. What follows them in `target`
   *   is as it was; after a failure all of it may have changed
   * @throws {FileError} of @millrace/virtual-file, such as ERR_FILE_IO: the disk was not readable
   * @throws {EphemeralFileError} ERR_EPHEMERAL_CLOSED; {RangeError} no offset; and the signal's reason on abort
   */
  async read(offsetBytes: number, target: Uint8Array, options: CallOptions = {}): Promise<number> {
    checkBytes("offset", offsetBytes);
    this.#check(options.signal);
    const snapshot = this.#writer.snapshot();
    const count = readable(snapshot, offsetBytes, target.length);
    const inFile = copyFromMemory(snapshot, offsetBytes, target, count);
    if (inFile === 0) return count;
    const piece = new Piece(offsetBytes, inFile, target);
    await this.#readPieces([piece], this.#limits, options.signal);
    if (piece.error !== undefined) throw piece.error;
    return count;
  }

  /**
   * Reads everything that was acknowledged when the call was made.
   *
   * @returns a buffer of exactly that length, given: the caller disposes of it
   * @throws as `read`; {ArenaExhaustedError} ERR_ARENA_EXHAUSTED: no room for all of it in one piece; {RangeError} more than
   *   the arena has
   */
  async readAll(options: CallOptions = {}): Promise<IoBuffer> {
    const { signal } = options;
    this.#check(signal);
    const work = this.#use(signal, (stops) => this.#readAll(stops));
    return await orAbort(work, signal, (late) => late[Symbol.dispose]());
  }

  /**
   * Reads many ranges at once; see `readVectored`.
   *
   * @param ranges in any order. What ends beyond the bytes that were acknowledged when the call was made fails
   * @returns an outcome for each range, in their order
   * @throws {EphemeralFileError} ERR_EPHEMERAL_CLOSED; {RangeError}; and the signal's reason on abort
   */
  async readVectored(ranges: readonly ByteRange[], options: VectoredOptions = {}): Promise<VectoredResult[]> {
    const limits = limitsOf(options, this.#file);
    checkRanges(ranges);
    this.#check(options.signal);
    const snapshot = this.#writer.snapshot();
    const pieces = ranges.map((range) => this.#pieceOf(range, snapshot));
    const inFile = pieces.filter(({ lengthBytes }) => lengthBytes > 0);
    if (inFile.length > 0) await this.#readPieces(inFile, limits, options.signal);
    return pieces.map(resultOf);
  }

  /**
   * Closes the file and removes it. Reads and appends that are under way reject, what the kernel has is waited for, and what
   * is not in the file by then never will be. A second call waits for the first.
   *
   * @throws {FileIoError} ERR_FILE_IO: it could not be closed, or its name is still there
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposing ??= this.#dispose();
    await this.#disposing;
  }

  get #file(): VirtualFile {
    return this.#temporary.file;
  }

  async #dispose(): Promise<void> {
    this.#closing.abort(new EphemeralFileError("ERR_EPHEMERAL_CLOSED", `${this.path} was disposed of`));
    await Promise.all([this.#writer.abandon(), this.#reads.close()]);
    await this.#temporary[Symbol.asyncDispose]();
  }

  /** A range with what memory has of it; the rest is for the file. */
  #pieceOf(range: ByteRange, snapshot: WriterSnapshot): Piece {
    const { offsetBytes, lengthBytes } = range;
    const { acknowledged } = snapshot;
    if (endOf(range) > acknowledged)
      return pieceBeyond(this.path, range, Math.max(0, acknowledged - offsetBytes));
    const bytes = newBytes(lengthBytes);
    return new Piece(offsetBytes, copyFromMemory(snapshot, offsetBytes, bytes, lengthBytes), bytes);
  }

  async #readPieces(
    pieces: readonly Piece[],
    limits: VectoredLimits,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const [source, arena] = [this.#file, this.#arena];
    const work = this.#use(signal, (stops) => readPieces(pieces, { source, arena, ...limits, stops }));
    await orAbort(work, signal, () => undefined);
  }

  async #readAll(stops: Stops): Promise<IoBuffer> {
    const { alignmentBytes } = this.#file;
    const snapshot = this.#writer.snapshot();
    const { acknowledged } = snapshot;
    using buffer = this.#arena.alloc(roundUp(acknowledged, alignmentBytes), {
      align: Math.max(this.#arena.alignment, alignmentBytes),
    });
    const inFile = copyFromMemory(snapshot, 0, buffer.spareView(), acknowledged);
    // Where that is rounded up, nothing is from memory: segments end at multiples, and this one is in the file as a whole.
    await this.#file.readExactAt(buffer, 0, roundUp(inFile, alignmentBytes));
    throwIfStopped(stops);
    buffer.setLength(acknowledged);
    return buffer.freeze();
  }

  /** Does something that disposal waits for. */
  async #use<T>(signal: AbortSignal | undefined, work: (stops: Stops) => Promise<T>): Promise<T> {
    using _ = this.#reads.enter();
    const closing = this.#closing.signal;
    return await work(signal === undefined ? [closing] : [closing, signal]);
  }

  /** @throws {EphemeralFileError} ERR_EPHEMERAL_CLOSED; the reason of an aborted signal */
  #check(signal?: AbortSignal): void {
    this.#closing.signal.throwIfAborted();
    signal?.throwIfAborted();
  }
}

/** How many of the bytes that are asked for there are. */
function readable({ acknowledged }: WriterSnapshot, offsetBytes: number, lengthBytes: number): number {
  return Math.min(lengthBytes, Math.max(0, acknowledged - offsetBytes));
}

/**
 * Copies what is in memory of `count` bytes from `offsetBytes` on.
 *
 * @param target borrowed; at least `count` long
 * @returns bytes that are not in memory, but in the file: the first ones
 */
function copyFromMemory(
  snapshot: WriterSnapshot,
  offsetBytes: number,
  target: Uint8Array,
  count: number,
): number {
  const inFile = Math.min(count, Math.max(0, snapshot.fileUpTo - offsetBytes));
  if (inFile < count)
    snapshot.copyInto(target.subarray(inFile, count), offsetBytes + inFile, offsetBytes + count);
  return inFile;
}

/**
 * The end of the log in one segment: bytes that are on their way to the disk, and the one write that carries them.
 *
 * Appended bytes are copied into aligned memory. A flush writes everything that was appended with one write, from the start
 * of the block in which the durable log ends, zeros behind the end filling the last block: the bytes of that block which are
 * durable already are written again, as they are. At most one write is in flight, so no two touch a block at once; what is
 * appended meanwhile collects behind it and goes out with the next, and so do all flushes that are asked for meanwhile
 * (group commit). A long batch does not wait for its flush: from EAGER_BYTES on it is written as soon as nothing else is.
 *
 * Where the file has O_DSYNC, a completed write is durable. Elsewhere writes are not, and a flush syncs after the last one;
 * what completes while the sync runs waits for the next.
 *
 * The first failure is the last: what of the write is on disk is unknown, so nothing follows it. The owner cuts the log back
 * to what is durable, or ends, depending on what has failed.
 */
import type { AlignedArena, IoBuffer, IoBufferMut } from "@millrace/aligned-buffers";
import { FileError, FileIoError } from "@millrace/virtual-file";
import type { VirtualFile } from "@millrace/virtual-file";

import { AcceptorError, storageError } from "./errors.js";
import { closeQuietly } from "./file-system.js";
import type { AcceptorMeasures } from "./measures.js";

/** Bytes that are collected at most: a batch of the pipeline, its last message, and the block it begins in. */
export const CHUNK_BYTES: number = (1024 + 256) * 1024;
/** From here on a write is started without being asked for. Smaller ones wait for their flush, and for more to join them. */
export const EAGER_BYTES: number = 256 * 1024;

/** What a tail is made of. */
export interface LogTailOptions {
  readonly segno: bigint;
  /** Given: closed with the tail. */
  readonly file: VirtualFile;
  /** Where the log ends in the segment. Everything before is durable; everything behind reads as zeros. */
  readonly endBytes: number;
  /** Given: the bytes of the block of `endBytes` before it; as many as `endBytes` is away from the block's start. */
  readonly blockHead: Uint8Array;
  /** Memory for I/O on `file`. */
  readonly arena: AlignedArena;
  readonly measures: AcceptorMeasures;
}

/** A write on its way. */
interface Outgoing {
  readonly bytes: IoBuffer;
  readonly offsetBytes: number;
  readonly endBytes: number;
}

/** The end of the log in one segment. Appends come one at a time; flushes may come at any time, several at once. */
export class LogTail {
  readonly segno: bigint;
  readonly #file: VirtualFile;
  readonly #arena: AlignedArena;
  readonly #measures: AcceptorMeasures;
  /** Where bytes end that were appended, given to the kernel, and durable. */
  #end: number;
  #written: number;
  #durable: number;
  /** Somebody waits until this is durable. */
  #wanted = 0;
  /** What is appended next goes here, if there is room; begins at a block. */
  #chunk: IoBufferMut | undefined;
  /** The bytes of the last block that went out, up to the end of the log: the next chunk begins with them. */
  #blockHead: Uint8Array;
  #running: Promise<void> | undefined;
  #failure: AcceptorError | undefined;
  #isGivenUp = false;

  constructor(options: LogTailOptions) {
    this.segno = options.segno;
    this.#file = options.file;
    this.#arena = options.arena;
    this.#measures = options.measures;
    this.#end = this.#written = this.#durable = options.endBytes;
    this.#blockHead = options.blockHead;
  }

  /** Behind this the segment reads as zeros, whatever becomes of the write in flight. */
  get zeroFromBytes(): number {
    return this.#end;
  }

  /**
   * Appends bytes. Waits only while there is no room for them, or no memory.
   *
   * @param buffers lent until the promise settles
   * @throws {AcceptorError} what a write or sync has failed with: ERR_ACCEPTOR_NO_SPACE, _IO, _POISONED;
   *   ERR_ACCEPTOR_TRUNCATE_FIRST if the tail was discarded
   */
  async append(buffers: readonly Uint8Array[]): Promise<void> {
    for (const buffer of buffers) {
      for (let taken = 0; taken < buffer.byteLength;) {
        this.#check();
        const chunk = this.#chunk ?? (await this.#openChunk());
        const count = Math.min(chunk.spare, buffer.byteLength - taken);
        chunk.append(buffer.subarray(taken, taken + count));
        taken += count;
        this.#end += count;
        if (chunk.spare === 0) await this.#sendFullChunk();
      }
    }
    if (this.#running === undefined && (this.#chunk?.length ?? 0) >= EAGER_BYTES) this.#start();
  }

  /**
   * Makes everything durable that was appended so far.
   *
   * @throws {AcceptorError} what a write or sync has failed with: ERR_ACCEPTOR_NO_SPACE, _IO, _POISONED;
   *   ERR_ACCEPTOR_TRUNCATE_FIRST if the tail was discarded
   */
  async flush(): Promise<void> {
    const target = this.#end;
    this.#wanted = Math.max(this.#wanted, target);
    while (this.#durable < target) {
      this.#check();
      if (this.#running === undefined) this.#start();
      await this.#running;
    }
  }

  /** Forgets what was appended and not given to the kernel yet. Nothing can be appended or flushed any more. */
  discard(): void {
    this.#isGivenUp = true;
    this.#chunk?.[Symbol.dispose]();
    this.#chunk = undefined;
  }

  /**
   * Waits for the write in flight and closes the file. Flushes nothing. Called once.
   *
   * @returns what a write or sync has failed with
   */
  async close(): Promise<AcceptorError | undefined> {
    this.discard();
    await this.#running;
    await closeQuietly(this.#file);
    return this.#failure;
  }

  async #openChunk(): Promise<IoBufferMut> {
    const chunk = await this.#arena.allocAsync(CHUNK_BYTES);
    try {
      this.#check();
    } catch (error) {
      chunk[Symbol.dispose]();
      throw error;
    }
    chunk.append(this.#blockHead);
    this.#chunk = chunk;
    return chunk;
  }

  // Memory is only asked for again once this chunk is on its way: who waits for memory never holds any back.
  async #sendFullChunk(): Promise<void> {
    await this.#running;
    this.#check();
    this.#start();
  }

  #start(): void {
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  // Takes the chunk before it first waits, so that whoever comes next finds none.
  async #run(): Promise<void> {
    const outgoing = this.#takeChunk();
    try {
      if (outgoing !== undefined) await this.#write(outgoing);
      if (this.#file.isDataSync) this.#durable = this.#written;
      else if (this.#wanted > this.#durable) await this.#sync();
    } catch (error) {
      this.#failure ??= judged(error, this.#file.isDataSync);
    }
  }

  async #write({ bytes, offsetBytes, endBytes }: Outgoing): Promise<void> {
    const began = this.#measures.now();
    try {
      await this.#file.writeAllAt(bytes, offsetBytes);
    } finally {
      bytes[Symbol.dispose]();
    }
    this.#measures.writeWalSeconds.observe(this.#measures.secondsSince(began));
    this.#measures.writeWalBytes.observe(endBytes - this.#written);
    if (this.#file.isDataSync) this.#measures.durableWalWrites += 1;
    this.#written = endBytes;
  }

  async #sync(): Promise<void> {
    const covered = this.#written;
    await this.#file.sync();
    this.#measures.durableWalWrites += 1;
    this.#durable = covered;
  }

  #takeChunk(): Outgoing | undefined {
    const chunk = this.#chunk;
    if (chunk === undefined) return undefined;
    this.#chunk = undefined;
    const unit = this.#file.alignmentBytes;
    const offsetBytes = this.#end - chunk.length;
    const head = chunk.length % unit;
    this.#blockHead = chunk.view().slice(chunk.length - head);
    if (head > 0) chunk.fill(0, unit - head);
    return { bytes: chunk.freeze(), offsetBytes, endBytes: this.#end };
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#isGivenUp)
      throw new AcceptorError("ERR_ACCEPTOR_TRUNCATE_FIRST", "the end of the log was given up meanwhile");
  }
}

/** A failure in this package's words: after a failed sync, or a failed write that was to be durable, nothing is certain. */
function judged(cause: unknown, isDataSync: boolean): AcceptorError {
  const failure = storageError("write WAL", cause);
  if (!isLoss(cause, failure, isDataSync)) return failure;
  return new AcceptorError("ERR_ACCEPTOR_POISONED", failure.message, { cause: failure });
}

function isLoss(cause: unknown, failure: AcceptorError, isDataSync: boolean): boolean {
  if (!(cause instanceof FileIoError))
    return cause instanceof FileError && cause.code === "ERR_FILE_POISONED";
  // For want of room the kernel has taken nothing, and so cannot have lost it either.
  if (cause.syscall === "write") return isDataSync && failure.code !== "ERR_ACCEPTOR_NO_SPACE";
  return cause.syscall === "fdatasync";
}

/**
 * One call of the promise face: what it moves, how far it has come, whom it tells.
 *
 * The object is the return slot of its handle, and is reused. A transfer that moved less than was asked for is continued
 * with the rest (a full disk, a signal and the end of a file all look like that at first): a read ends when nothing more
 * comes, a write that moves nothing several times is an error. On a direct file a count that is not a multiple of the
 * alignment is the end of the file, and a write is continued from the last aligned byte.
 */
import { AioError } from "./errors.js";
import { FILE_TARGET } from "./file-registry.js";
import type { FileLease } from "./file-table.js";
import type { IoHandle } from "./io-handle.js";
import { remainingVectors } from "./io-vector.js";
import type { IoVector } from "./io-vector.js";
import type { IoOperation } from "./operations.js";
import { ioError } from "./report.js";
import { createIoResult, TARGET_WORDS } from "./result.js";
import type { IoResult, IoReturn } from "./result.js";

/** Writes in a row that may move nothing before that is an error. */
const IDLE_WRITES_MAX = 3;

/** The target of every request's outcome: each knows its file, and nobody looks there. */
const UNREAD = new Int32Array(TARGET_WORDS);

/** What a request needs of its file. */
export interface RequestFile {
  readonly path: string;
  readonly isDirect: boolean;
  readonly lease: FileLease;
  /** The words of its target. */
  readonly target: Int32Array;
  /** The alignment of a direct file; 1 otherwise. */
  readonly alignmentBytes: number;
  /** A request has been prepared. */
  began(): void;
  /** It is over. */
  ended(): void;
}

/** Called with bytes moved, or with the error. */
export type RequestDone = (error: Error | undefined, bytes: number) => void;
/** Called with a raw result: bytes or a negative errno. */
export type RawDone = (result: number, token: number) => void;

/** A request. */
export class EngineRequest implements IoReturn {
  readonly result: IoResult = createIoResult();
  readonly target: Int32Array = UNREAD;
  readonly onReturn: (slot: IoReturn) => void;
  #file: RequestFile | undefined;
  #operation: IoOperation = "nop";
  /** Position of the first byte, and all bytes there are to move. */
  #offsetBytes = 0;
  #lengthBytes = 0;
  /** Writes: make them durable as part of the I/O. */
  #sync: "data" | "full" | undefined;
  /** One piece of memory without an array, or several. */
  #segment = 0;
  #memoryOffset = 0;
  #vectors: readonly IoVector[] | undefined;
  #moved = 0;
  #idleWrites = 0;
  /** Who is told: the two ends of a promise, somebody who is not content with that, or a raw one with its token. */
  #resolve: ((bytes: number) => void) | undefined;
  #reject: ((error: unknown) => void) | undefined;
  #done: RequestDone | undefined;
  #rawDone: RawDone | undefined;
  #token = 0;

  /** @param onReturn is given the request */
  constructor(onReturn: (slot: IoReturn) => void) {
    this.onReturn = onReturn;
  }

  /** Whether it is on a direct file. Only while it is prepared. */
  get isDirect(): boolean {
    return (this.#file as RequestFile).isDirect;
  }

  /**
   * Prepares a request: first this, then the memory of a transfer, then who is told.
   *
   * @param offsetBytes, lengthBytes 0 for a sync
   */
  prepare(
    file: RequestFile,
    operation: IoOperation,
    offsetBytes: number,
    lengthBytes: number,
    sync?: "data" | "full",
  ): this {
    file.began();
    this.#file = file;
    this.#operation = operation;
    this.#offsetBytes = offsetBytes;
    this.#lengthBytes = lengthBytes;
    this.#sync = sync;
    this.#moved = 0;
    this.#idleWrites = 0;
    return this;
  }

  /** One piece of memory, of the request's length. */
  onMemory(segment: number, memoryOffset: number): this {
    this.#segment = segment;
    this.#memoryOffset = memoryOffset;
    return this;
  }

  /** Several pieces, together of the request's length. */
  onVectors(vectors: readonly IoVector[]): this {
    this.#vectors = vectors;
    return this;
  }

  /** Settles a promise. */
  settles(resolve: (bytes: number) => void, reject: (error: unknown) => void): this {
    this.#resolve = resolve;
    this.#reject = reject;
    return this;
  }

  /** Tells of the end. */
  tells(done: RequestDone): this {
    this.#done = done;
    return this;
  }

  /** Hands the raw result over, whatever it is. */
  handsOver(done: RawDone, token: number): this {
    this.#rawDone = done;
    this.#token = token;
    return this;
  }

  /** Starts what is left of it on a handle. */
  start(handle: IoHandle): void {
    const { lease, target } = this.#file as RequestFile;
    const operation = this.#operation;
    handle.setTarget(FILE_TARGET, target);
    if (operation === "fsync" || operation === "fdatasync") {
      handle.startFsync(lease, operation === "fdatasync");
      return;
    }
    const isWrite = operation === "writev";
    const moved = this.#moved;
    const position = this.#offsetBytes + moved;
    if (this.#vectors !== undefined) {
      const rest = moved === 0 ? this.#vectors : remainingVectors(this.#vectors, moved);
      if (isWrite) handle.startWritev(lease, rest, position, this.#sync);
      else handle.startReadv(lease, rest, position);
      return;
    }
    const memoryOffset = this.#memoryOffset + moved;
    const length = this.#lengthBytes - moved;
    handle.startTransfer(isWrite, lease, this.#segment, memoryOffset, length, position, this.#sync);
  }

  /** Takes the outcome. @returns true if the request is over, false if the rest must be started */
  settle(): boolean {
    const { result } = this;
    if (this.#rawDone !== undefined) {
      const done = this.#rawDone;
      const token = this.#token;
      const raw = result.status === "error" ? -result.error : result.result;
      this.#clear();
      done(raw, token);
      return true;
    }
    if (result.status === "error") {
      this.#finish(ioError(this.#operation, result.error, (this.#file as RequestFile).path));
      return true;
    }
    if (result.result === this.#lengthBytes - this.#moved) {
      this.#moved = this.#lengthBytes;
      this.#finish(undefined);
      return true;
    }
    return this.#settleShort(this.#file as RequestFile, result.result);
  }

  #settleShort({ path, alignmentBytes }: RequestFile, bytes: number): boolean {
    if (this.#operation === "readv") {
      this.#moved += bytes;
      if (bytes > 0 && bytes % alignmentBytes === 0) return false;
      this.#finish(undefined);
      return true;
    }
    const kept = bytes - (bytes % alignmentBytes);
    this.#moved += kept;
    this.#idleWrites = kept === 0 ? this.#idleWrites + 1 : 0;
    if (this.#idleWrites < IDLE_WRITES_MAX) return false;
    this.#finish(
      new AioError(
        "ERR_AIO_SHORT",
        `${path}: the file takes no more than ${this.#moved} of ${this.#lengthBytes} bytes`,
      ),
    );
    return true;
  }

  #finish(error: Error | undefined): void {
    const resolve = this.#resolve;
    const reject = this.#reject;
    const done = this.#done;
    const moved = this.#moved;
    this.#clear();
    if (done !== undefined) done(error, moved);
    else if (error === undefined) resolve?.(moved);
    else reject?.(error);
  }

  /** Keeps nothing alive that belongs to a caller; the next user may be another one, even in the middle of `done`. */
  #clear(): void {
    this.#file?.ended();
    this.#file = undefined;
    this.#vectors = undefined;
    this.#resolve = undefined;
    this.#reject = undefined;
    this.#done = undefined;
    this.#rawDone = undefined;
  }
}

/**
 * Small writes in, large aligned writes out, in the background: two buffers, one being filled and one on its way to the file.
 *
 * A buffer is submitted as soon as it is full. A write then waits until at most `queueDepth` segments are on their way, which
 * is the only back-pressure there is. Bytes are counted three times, as offsets in the file: `confirmed` bytes are in it,
 * `submitted` ones are in a segment at least, `acknowledged` ones belong to a write that has returned. What is not
 * confirmed can be read from memory at any time, also after a failure.
 *
 * Calls take turns in their order. `tryWrite` is the way around turns and promises: it copies into the buffer that is being
 * filled, if nothing has to wait. The first of cancelled, failed and closed decides what all later calls say.
 *
 * Idea: BufferedWriter of Neon's pageserver. Different: failures are told apart and do not end the process, all unconfirmed
 * segments can be read, padding is to the alignment, and owned buffers may go to the file without being copied.
 */
import type { AlignedArena, IoBuffer, IoBufferMut } from "@millrace/aligned-buffers";
import type { PositionalWriter } from "@millrace/virtual-file";
import { FlushCancelledError, WriterClosedError } from "./errors.js";
import { shapeOf } from "./options.js";
import type { BufferedWriterOptions, WriterShape } from "./options.js";
import { Filling } from "./filling.js";
import { Pipeline } from "./pipeline.js";
import { takeSnapshot } from "./snapshot.js";
import type { WriterSnapshot } from "./snapshot.js";
import { checkMode, planTail } from "./tail.js";
import type { ShutdownMode } from "./tail.js";
import { Turns } from "./turns.js";
import type { CallOptions, ShutdownResult, WriterState, WriterStats } from "./writer-state.js";

/** A writer. The file is its own until it is handed back by `shutdown` or `abandon`, or disposed of with it. */
export class BufferedWriter<F extends PositionalWriter> implements AsyncDisposable {
  readonly #file: F;
  readonly #shape: WriterShape;
  readonly #options: BufferedWriterOptions;
  readonly #pipeline: Pipeline;
  readonly #turns: Turns = new Turns(() => this.#setLimit());
  #phase: "open" | "closing" | "closed" = "open";
  readonly #filling: Filling = new Filling();
  /** `tryWrite` may fill up to below this without another look at anything: the capacity, or 0 if it has to look. */
  #limit = 0;
  #acknowledged: number;
  #bytesCopied = 0;
  #bytesBypassed = 0;
  /** The file is not the writer's any more. */
  #isHandedBack = false;
  #disposing: Promise<void> | undefined;

  /**
   * Takes a file, and buffers from an arena.
   *
   * @throws {RangeError} a number is out of its range
   * @throws {ArenaExhaustedError} ERR_ARENA_EXHAUSTED: no room for `queueDepth` + 1 buffers; the file stays the caller's
   */
  constructor(file: F, arena: AlignedArena, options: BufferedWriterOptions) {
    this.#shape = shapeOf(options);
    this.#options = options;
    this.#file = file;
    this.#acknowledged = this.#shape.startOffset;
    this.#pipeline = new Pipeline(file, arena, this.#shape, options, () => this.#setLimit());
    this.#tryRefill();
    options.signal?.addEventListener("abort", this.#onAbort);
    if (options.signal?.aborted === true) this.#onAbort();
  }

  /** Everything below belongs to a write that has returned, bytes from the start of the file. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Everything below is in a segment or in the file. */
  get submitted(): number {
    return this.#pipeline.segments.submitted;
  }

  /** Everything below is in the file. */
  get confirmed(): number {
    return this.#pipeline.segments.confirmed;
  }

  get state(): WriterState {
    const code = this.#phase === "closed" ? undefined : this.#pipeline.failure?.code;
    if (code === "ERR_FLUSH_CANCELLED") return "cancelled";
    return code === "ERR_WRITER_POISONED" ? "poisoned" : this.#phase;
  }

  get stats(): WriterStats {
    const { flushes, retries, replacedBuffers } = this.#pipeline;
    const [bytesCopied, bytesBypassed] = [this.#bytesCopied, this.#bytesBypassed];
    return { flushes, bytesCopied, bytesBypassed, retries, replacedBuffers };
  }

  /**
   * Writes if that needs no wait: all of `chunk`, or nothing. Makes no promise and, within a buffer, no object.
   *
   * @param chunk borrowed for the call
   * @returns where in the file it begins; undefined if it has to wait, for room or for its turn: then call `write`
   * @throws {FlushCancelledError} ERR_FLUSH_CANCELLED; {WriterPoisonedError} ERR_WRITER_POISONED; {WriterClosedError}
   *   ERR_WRITER_CLOSED
   */
  tryWrite(chunk: Uint8Array): number | undefined {
    const filling = this.#filling;
    const end = filling.used + chunk.length;
    if (end >= this.#limit) return this.#tryWriteSlowly(chunk);
    filling.room.set(chunk, filling.used);
    filling.used = end;
    this.#bytesCopied += chunk.length;
    const offset = this.#acknowledged;
    this.#acknowledged = offset + chunk.length;
    return offset;
  }

  /**
   * Writes all of `chunk`.
   *
   * @param chunk borrowed until the promise settles: do not change it before. It is copied, and not kept
   * @returns where in the file it begins. The bytes are acknowledged then, not durable
   * @throws as `tryWrite`, also while it waits; bytes of it that were taken are never acknowledged then
   */
  write(chunk: Uint8Array, options: CallOptions = {}): Promise<number> {
    const { signal } = options;
    try {
      signal?.throwIfAborted();
      const offset = this.tryWrite(chunk);
      if (offset !== undefined) return Promise.resolve(offset);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#turns.take(() => this.#write(() => this.#copyIn(chunk)), signal);
  }

  /**
   * Writes all of a buffer, without copying what lies in memory as the file needs it: from `bypassMin` bytes on, if place in
   * memory and offset in the file are congruent modulo the alignment. The result in the file is the same as that of `write`.
   *
   * @param chunk given, whatever comes of it: this handle of it has ended when the call returns
   */
  async writeOwned(chunk: IoBuffer): Promise<number> {
    using owned = chunk.clone();
    chunk[Symbol.dispose]();
    this.#check();
    return await this.#turns.take(() => this.#write(() => this.#takeIn(owned)));
  }

  /**
   * Writes everything that a source gives.
   *
   * @returns bytes written; rejects with the source's error, or as `write`. The writer stays usable after the former
   */
  async consume(source: AsyncIterable<Uint8Array>, options: CallOptions = {}): Promise<number> {
    let total = 0;
    for await (const chunk of source) {
      options.signal?.throwIfAborted();
      if (this.tryWrite(chunk) === undefined) await this.write(chunk, options);
      total += chunk.length;
    }
    return total;
  }

  /**
   * Ends the writer once all writes before it have: does with the tail what `mode` says, waits until everything is in the
   * file, and hands that back. Makes nothing durable: sync the file.
   *
   * @throws {RangeError} a mode that does not fit the alignment; the writer is as before
   * @throws as `tryWrite`; the file can be had from `abandon` then
   */
  async shutdown(mode: ShutdownMode): Promise<ShutdownResult<F>> {
    checkMode(mode, this.#shape.alignment);
    this.#check();
    this.#phase = "closing";
    return await this.#turns.take(() => this.#shutdown(mode));
  }

  /**
   * Ends the writer without writing anything more: waits for the write that is on its way and hands the file back. For after a
   * cancellation or a failure; what was not confirmed is lost.
   *
   * @throws {WriterClosedError} ERR_WRITER_CLOSED: the file was handed back or disposed of
   */
  async abandon(): Promise<F> {
    if (this.#isHandedBack || this.#phase === "closed" || this.#disposing !== undefined)
      throw new WriterClosedError();
    this.#isHandedBack = true;
    this.#phase = "closing";
    this.#pipeline.stop(new WriterClosedError());
    await this.#pipeline.drained();
    await this.#turns.ended;
    this.#finish();
    return this.#file;
  }

  /** What there is to read, as of now. */
  snapshot(): WriterSnapshot {
    const { segments } = this.#pipeline;
    const source = { segments, room: this.#filling.room, hasMemory: () => this.#phase !== "closed" };
    return takeSnapshot(source, this.#acknowledged);
  }

  /** A share of the newest segment that is not confirmed, for the caller to dispose of; undefined if there is none. */
  lastSubmitted(): IoBuffer | undefined {
    return this.#pipeline.segments.last?.buffer.clone();
  }

  /**
   * Ends a writer that was not shut down: full buffers are still written, unless it was cancelled or has failed; the tail is
   * dropped; the file is disposed of. Hands nothing back, makes nothing durable, and says nothing of failures: `onFatal`
   * has. After a shutdown it does nothing.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposing ??= this.#dispose();
    await this.#disposing;
  }

  /** All of `tryWrite` that is not the usual case. */
  #tryWriteSlowly(chunk: Uint8Array): number | undefined {
    this.#check();
    const { length } = chunk;
    const offset = this.#acknowledged;
    if (length === 0 && this.#turns.isIdle) return offset;
    const filling = this.#filling;
    if (!this.#turns.isIdle || !this.#tryRefill() || length > filling.spare) return undefined;
    // Filled up, it is submitted, and then the write may have to wait.
    if (length === filling.spare && !this.#pipeline.hasRoom) return undefined;
    this.#append(chunk);
    if (filling.isFull) this.#submitFilled();
    this.#acknowledged = offset + length;
    return offset;
  }

  /** A write in its turn. */
  async #write(takeIn: () => Promise<void>): Promise<number> {
    this.#pipeline.check();
    const offset = this.#nextOffset();
    try {
      await takeIn();
    } catch (error) {
      // A part of it may be in: nothing may follow that, or it would be acknowledged with what follows.
      throw error === this.#pipeline.failure ? error : this.#pipeline.poison(error);
    }
    this.#acknowledged = this.#nextOffset();
    return offset;
  }

  /** Where the next byte goes, in the file. */
  #nextOffset(): number {
    return this.#pipeline.segments.submitted + this.#filling.used;
  }

  /** Copies all of a chunk, submitting what gets full. */
  async #copyIn(chunk: Uint8Array): Promise<void> {
    for (let done = 0; done < chunk.length;) {
      await this.#refill();
      const part = chunk.subarray(done, done + this.#filling.spare);
      this.#append(part);
      done += part.length;
      if (this.#filling.isFull) await this.#flushFilled();
    }
  }

  /** Takes in an owned buffer: up to the next aligned offset by copying, the aligned middle as it is, the rest by copying. */
  async #takeIn(chunk: IoBuffer): Promise<void> {
    const { alignment, bypassMin } = this.#shape;
    const bytes = chunk.unsafeView();
    const head = (alignment - (this.#nextOffset() % alignment)) % alignment;
    const middle = bytes.length - head - ((bytes.length - head) % alignment);
    const isCongruent = chunk.segment.isAligned(chunk.byteOffset + head, alignment);
    if (bytes.length < bypassMin || middle <= 0 || !isCongruent) {
      await this.#copyIn(bytes);
      return;
    }
    await this.#copyIn(bytes.subarray(0, head));
    if (this.#filling.used > 0) await this.#flushFilled();
    this.#bytesBypassed += middle;
    this.#pipeline.submit(chunk.slice(head, head + middle), false);
    await this.#pipeline.waitForRoom();
    await this.#copyIn(bytes.subarray(head + middle));
  }

  #append(bytes: Uint8Array): void {
    this.#filling.append(bytes);
    this.#bytesCopied += bytes.length;
  }

  /** Hands the buffer being filled to the flush, as long as it is. */
  #submitFilled(): void {
    this.#limit = 0;
    this.#pipeline.submit(this.#filling.freeze(), true);
  }

  /** The same, and waits until the next write may go on. */
  async #flushFilled(): Promise<void> {
    this.#submitFilled();
    await this.#pipeline.waitForRoom();
  }

  /** Makes sure that there is a buffer to fill, if that needs no wait. */
  #tryRefill(): boolean {
    if (!this.#filling.isMissing) return true;
    const buffer = this.#pipeline.tryTake();
    if (buffer !== undefined) this.#fill(buffer);
    return buffer !== undefined;
  }

  /** Makes sure that there is a buffer to fill. */
  async #refill(): Promise<void> {
    if (this.#filling.isMissing) this.#fill(await this.#pipeline.take());
  }

  #fill(buffer: IoBufferMut): void {
    this.#filling.start(buffer);
    this.#setLimit();
  }

  /** Whether `tryWrite` need not look at anything but the room. */
  #setLimit(): void {
    const isOpen = this.#phase === "open" && this.#pipeline.failure === undefined;
    this.#limit = isOpen && this.#turns.isIdle ? this.#filling.room.length : 0;
  }

  async #shutdown(mode: ShutdownMode): Promise<ShutdownResult<F>> {
    const pipeline = this.#pipeline;
    pipeline.check();
    const finalLength = mode === "dropTail" ? this.#dropTail() : await this.#writeTail(mode);
    await pipeline.drained();
    pipeline.check();
    const isLonger = mode === "padThenTruncate" && pipeline.segments.submitted > finalLength;
    if (isLonger) await pipeline.setFileLength(finalLength);
    this.#isHandedBack = true;
    this.#finish();
    return { finalLength, file: this.#file };
  }

  /** Leaves out what is not submitted. */
  #dropTail(): number {
    const { submitted } = this.#pipeline.segments;
    this.#acknowledged = Math.min(this.#acknowledged, submitted);
    return submitted;
  }

  /** Submits the tail with as many zeros as it takes. */
  async #writeTail(mode: Exclude<ShutdownMode, "dropTail">): Promise<number> {
    const { padBytes, finalLength } = planTail(mode, this.#nextOffset(), this.#shape.alignment);
    await this.#pad(padBytes);
    if (this.#filling.used > 0) this.#submitFilled();
    return finalLength;
  }

  /** Adds zeros. */
  async #pad(count: number): Promise<void> {
    for (let rest = count; rest > 0;) {
      await this.#refill();
      const part = Math.min(rest, this.#filling.spare);
      this.#filling.pad(part);
      rest -= part;
      if (this.#filling.isFull) await this.#flushFilled();
    }
  }

  readonly #onAbort = (): void => {
    this.#pipeline.stop(new FlushCancelledError(this.#options.signal?.reason));
  };

  async #dispose(): Promise<void> {
    if (this.#isHandedBack || this.#phase === "closed") return;
    this.#phase = "closing";
    this.#setLimit();
    await this.#turns.ended;
    await this.#pipeline.drained();
    // A shutdown that was under way may have handed the file back.
    if (this.#isHandedBack) return;
    try {
      await disposeFile(this.#file as Partial<AsyncDisposable & Disposable>);
    } finally {
      this.#finish();
    }
  }

  /** Gives everything back. */
  #finish(): void {
    this.#phase = "closed";
    this.#options.signal?.removeEventListener("abort", this.#onAbort);
    this.#filling.dispose();
    this.#limit = 0;
    this.#pipeline.release();
    this.#options.gate?.release();
  }

  /** @throws the error of whatever has ended this writer */
  #check(): void {
    if (this.#phase === "closed") throw new WriterClosedError();
    this.#pipeline.check();
    if (this.#phase !== "open") throw new WriterClosedError();
  }
}

/** Of a file that can be. */
async function disposeFile(file: Partial<AsyncDisposable & Disposable>): Promise<void> {
  if (file[Symbol.asyncDispose] === undefined) file[Symbol.dispose]?.();
  else await file[Symbol.asyncDispose]?.();
}

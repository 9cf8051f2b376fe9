/**
 * What is between a writer and its file: segments on their way, the background that writes them, buffers that come back.
 *
 * Stopping is final and has one error, that of the first who stops: a cancellation, a failure, an abandonment. It ends every
 * wait here and keeps the background from starting anything; writes in the kernel's hands are waited for by `drained`,
 * and confirm if they succeed. Segments that are left stay readable until `release`.
 */
import type { AlignedArena, IoBuffer, IoBufferMut } from "@millrace/aligned-buffers";
import { CLOSED, duplex } from "@millrace/duplex";
import type { DuplexEnd } from "@millrace/duplex";
import type { PositionalWriter } from "@millrace/virtual-file";
import { WriterPoisonedError } from "./errors.js";
import type { WriterError } from "./errors.js";
import { runFlush } from "./flush-task.js";
import type { Returned } from "./flush-task.js";
import type { BufferedWriterOptions, WriterShape } from "./options.js";
import { OwnBuffers } from "./own-buffers.js";
import { classifyError, systemClock, untilDone } from "./retry.js";
import type { RetryOptions } from "./retry.js";
import { SegmentList } from "./segments.js";
import type { Segment } from "./segments.js";

/** Places in the duplex beyond `queueDepth`: for the segment that makes a write wait, and one to spare. */
const PLACES_MORE = 2;

/** Invariant: at most `queueDepth` + 1 segments are on their way, and one more only within `submit`. */
export class Pipeline {
  readonly segments: SegmentList;
  readonly #file: PositionalWriter;
  readonly #options: BufferedWriterOptions;
  readonly #queueDepth: number;
  readonly #buffers: OwnBuffers;
  readonly #end: DuplexEnd<Segment, Returned>;
  readonly #stop: AbortController = new AbortController();
  readonly #retry: RetryOptions;
  readonly #onStop: () => void;
  readonly #flushing: Promise<void>;
  #hasTold = false;
  retries = 0;
  flushes = 0;

  /** @param onStop called once, when everything stops */
  constructor(
    file: PositionalWriter,
    arena: AlignedArena,
    shape: WriterShape,
    options: BufferedWriterOptions,
    onStop: () => void,
  ) {
    const { capacity, alignment, startOffset, queueDepth } = shape;
    const { clock = systemClock, classify = classifyError } = options;
    this.#file = file;
    this.#options = options;
    this.#queueDepth = queueDepth;
    this.#buffers = new OwnBuffers(arena, capacity, alignment, queueDepth + 1);
    this.#onStop = onStop;
    this.segments = new SegmentList(startOffset);
    this.#retry = { clock, classify, stop: this.#stop.signal, onRetry: () => (this.retries += 1) };
    const [end, flushEnd] = duplex<Segment, Returned>(queueDepth + PLACES_MORE);
    this.#end = end;
    this.#flushing = this.#flush(flushEnd);
  }

  /** What has stopped everything, if something has. */
  get failure(): WriterError | undefined {
    const { signal } = this.#stop;
    return signal.aborted ? (signal.reason as WriterError) : undefined;
  }

  /** Buffers that were replaced because somebody held a share of them. */
  get replacedBuffers(): number {
    return this.#buffers.replaced;
  }

  /** @throws what has stopped everything */
  check(): void {
    this.#stop.signal.throwIfAborted();
  }

  /** Hands a segment to the background. Wait with `waitForRoom` before the next one. */
  submit(buffer: IoBuffer, isOwn: boolean): void {
    const segment = this.segments.add(buffer, isOwn);
    this.#options.probe?.mark("submitted", segment);
    this.#end.trySend(segment);
    this.#takeBack();
  }

  /** Whether one more segment may be submitted without a wait behind it. */
  get hasRoom(): boolean {
    return this.segments.size < this.#queueDepth;
  }

  /** Waits until at most `queueDepth` segments are on their way. */
  async waitForRoom(): Promise<void> {
    while (this.segments.size > this.#queueDepth) await this.#receive();
  }

  /** A buffer to fill, if that needs no wait. */
  tryTake(): IoBufferMut | undefined {
    this.#takeBack();
    return this.#buffers.tryTake();
  }

  /** A buffer to fill: one that comes back; if none is on its way, one from the arena for one that does not. */
  async take(): Promise<IoBufferMut> {
    for (;;) {
      const buffer = this.tryTake();
      if (buffer !== undefined) return buffer;
      if (this.segments.size === 0) return await this.#buffers.takeNew(this.#stop.signal);
      await this.#receive();
    }
  }

  /** Nothing more is submitted. Settles when everything is in the file, or nothing more will be. Never rejects. */
  async drained(): Promise<void> {
    this.#end.tx.close();
    await this.#flushing;
  }

  /** Sets the length of the file, as often as it takes. */
  async setFileLength(length: number): Promise<void> {
    try {
      await untilDone(this.#retry, () => this.#file.setLength(length));
    } catch (error) {
      throw error === this.failure ? error : this.poison(error);
    }
    this.check();
  }

  /** Stops everything. Only the first call counts. */
  stop(error: WriterError): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort(error);
    this.#onStop();
  }

  /** A failure that is final stops everything, and is told once, also if something else has stopped it before. */
  poison(cause: unknown): unknown {
    const error = new WriterPoisonedError(cause);
    this.stop(error);
    const { onFatal } = this.#options;
    if (!this.#hasTold && onFatal !== undefined) queueMicrotask(() => onFatal(error));
    this.#hasTold = true;
    return this.failure;
  }

  /** Gives all memory back. Only once it is drained. */
  release(): void {
    for (const buffer of this.#comeBack()) buffer?.[Symbol.dispose]();
    this.#end.close();
    this.segments.clear();
    this.#buffers.dispose();
  }

  /** The background. Never rejects. */
  #flush(end: DuplexEnd<Returned, Segment>): Promise<void> {
    return runFlush({
      write: ({ buffer, offset }) => this.#file.writeAllAt(buffer, offset),
      depth: this.#queueDepth,
      end,
      retry: this.#retry,
      probe: this.#options.probe,
      onConfirmed: () => {
        this.flushes += 1;
        this.segments.confirm();
      },
      onFailed: (error) => {
        if (error !== this.failure) this.poison(error);
      },
    });
  }

  #takeBack(): void {
    for (const returned of this.#comeBack()) this.#reuse(returned);
  }

  *#comeBack(): Generator<Returned> {
    for (;;) {
      const returned = this.#end.rx.tryRecv();
      if (returned === undefined || returned === CLOSED) return;
      yield returned;
    }
  }

  async #receive(): Promise<void> {
    const returned = await this.#end.recv({ signal: this.#stop.signal });
    if (returned === CLOSED) this.check();
    else this.#reuse(returned);
  }

  #reuse(returned: Returned): void {
    if (returned === null) return;
    try {
      this.#buffers.takeBack(returned);
    } catch (error) {
      // Its bytes were changed on the way: what is in the file is not what was written.
      throw this.poison(error);
    }
  }
}

/**
 * The promise face: files, reads and writes for one thread that just wants I/O done, on the same core.
 *
 * An engine is a system with one backend on the event loop. A read is a handle, staged at once; four staged ones on direct
 * files are submitted together, 32 on others, fewer at the end of the current microtasks, so that a burst of calls costs few system calls and a
 * single call waits for none. When no handle is idle, calls wait in a bounded queue in their order. Memory comes from
 * the engine's arena or from segments given to it: the kernel and the I/O workers must be able to reach it.
 */
import { AlignedArena } from "@millrace/aligned-buffers";
import type { MemorySegment } from "@millrace/aligned-buffers";
import { addressOf, adviseHugePages, nativeStatus } from "@millrace/io-uring";

import type { AioBackend } from "./backend.js";
import type { IoFile } from "./engine-file.js";
import { EngineRequest } from "./engine-request.js";
import { AioError } from "./errors.js";
import { COMBINE_MAX, SUBMIT_BATCH } from "./layout.js";
import type { MethodChoice, MethodWish, UringProbe } from "./method-choice.js";
import { openIoFile } from "./open-file.js";
import type { OpenOptions } from "./open-file.js";
import type { AioRow } from "./rows.js";
import type { Faults } from "./faults.js";
import type { IoReturn } from "./result.js";
import type { IoScope } from "./scope.js";
import type { IoStatistics } from "./statistics.js";
import { AioSystem } from "./system.js";

/** Staged I/Os on a direct file that are submitted without waiting for more: fewer cost time, more starve the device. */
const SUBMIT_EVERY_DIRECT = 4;
/** On others: what the page cache has is there at once, so no device starves, and a larger batch costs less. */
const SUBMIT_EVERY_BUFFERED: number = SUBMIT_BATCH;
const QUEUE_DEPTH_DEFAULT = 128;
/** Calls that may wait for a handle. Beyond it a caller does not listen to back-pressure. */
const WAITING_MAX_DEFAULT = 65_536;
/** Address space, not memory: pages come with their first use. */
const ARENA_BYTES_DEFAULT: number = 64 * 1024 * 1024;
/** Memory up to this size is registered with the ring, which pins it; more would surprise. */
const FIX_BYTES_MAX: number = 64 * 1024 * 1024;

/** What an engine is made of. */
export interface IoEngineOptions extends MethodWish {
  /** Bytes of the engine's own arena, at most 1 GiB; 64 MiB unless said otherwise. Only what is used takes memory. */
  readonly arenaBytes?: number;
  /** More memory that I/O may be done on. */
  readonly segments?: readonly MemorySegment[];
  /** I/Os in flight at most; 1..1024, 128 unless said otherwise. */
  readonly queueDepth?: number;
  /** Calls that may wait for one of them to end; 65536 unless said otherwise. */
  readonly waitingMax?: number;
  /** Look for completions in each turn of the event loop while there is I/O: less latency, for a whole core. */
  readonly busyPoll?: boolean;
  /** Register memory with the ring; by default if all of it together is at most 64 MiB. */
  readonly fixBuffers?: boolean;
  /** Files open at a time; 1024 unless said otherwise. */
  readonly filesMax?: number;
  /** Threads of method worker; 4 unless said otherwise. */
  readonly ioWorkers?: number;
  /** For tests. */
  readonly probe?: UringProbe;
}

/** An engine. Closing it closes its files. */
export class IoEngine implements AsyncDisposable {
  /** Memory for I/O. */
  readonly arena: AlignedArena;
  readonly #system: AioSystem;
  readonly #backend: AioBackend;
  readonly #scope: IoScope;
  readonly #waitingMax: number;
  /** Requests that wait for a handle, oldest at `#waitingFrom`. */
  #waiting: EngineRequest[] = [];
  #waitingFrom = 0;
  readonly #free: EngineRequest[] = [];
  readonly #files = new Set<IoFile>();
  #isFlushPlanned = false;
  /** Whether I/O on a file that is not direct was staged since the last submission. */
  #isBufferedStaged = false;
  #isClosed = false;
  #closing: Promise<void> | undefined;

  private constructor(options: IoEngineOptions) {
    this.#waitingMax = options.waitingMax ?? WAITING_MAX_DEFAULT;
    const isNative = nativeStatus().available;
    const hooks = isNative
      ? { addressOf, adviseHugePages: (bytes: Uint8Array) => adviseHugePages(bytes) }
      : {};
    this.arena = new AlignedArena({ bytes: options.arenaBytes ?? ARENA_BYTES_DEFAULT, hooks });
    const segments = [this.arena.segment, ...(options.segments ?? [])].map(({ memory }) => memory);
    const bytes = segments.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
    this.#system = AioSystem.create({
      method: options.method ?? "auto",
      required: options.required ?? false,
      segments,
      backendsMax: 1,
      combineMax: COMBINE_MAX,
      concurrency: options.queueDepth ?? QUEUE_DEPTH_DEFAULT,
      fixBuffers: options.fixBuffers ?? bytes <= FIX_BYTES_MAX,
      ioWorkers: options.ioWorkers ?? 4,
      filesMax: options.filesMax ?? 1024,
      ...(options.probe === undefined ? {} : { probe: options.probe }),
    });
    this.#backend = this.#system.attach({ mayBlock: false, busyPoll: options.busyPoll ?? false });
    this.#scope = this.#backend.openScope();
    this.#backend.enterBatch();
  }

  /**
   * Makes an engine.
   *
   * @throws {AioError} ERR_AIO_UNAVAILABLE: a required method cannot run here
   * @throws {RangeError} a number is out of its range
   */
  static create(options: IoEngineOptions = {}): IoEngine {
    return new IoEngine(options);
  }

  /** The method that runs, and why no better one. */
  get choice(): MethodChoice {
    return this.#system.choice;
  }

  /** The I/Os that are not over, as a view like pg_aios. */
  rows(): AioRow[] {
    return this.#system.rows();
  }

  /** What was done so far. */
  statistics(): IoStatistics {
    return this.#backend.statistics();
  }

  /** The fault hook, for tests. */
  get faults(): Faults {
    return this.#system.faults;
  }

  /**
   * Opens a file.
   *
   * @throws {AioError} ERR_AIO_IO: the file cannot be opened; ERR_AIO_UNAVAILABLE: direct I/O was insisted on, and the
   *   file system refuses it; ERR_AIO_CLOSED; ERR_AIO_LIMIT: too many files
   */
  async open(path: string, options: OpenOptions = {}): Promise<IoFile> {
    if (this.#closing !== undefined) throw new AioError("ERR_AIO_CLOSED", "the engine is closed");
    const file = await openIoFile(this, this.#backend, path, options);
    this.#files.add(file);
    return file;
  }

  /**
   * For {@link IoFile}: a request object, to be enqueued; it comes back by itself.
   *
   * @throws {AioError} ERR_AIO_CLOSED; ERR_AIO_LIMIT: too many calls wait for a handle
   */
  request(): EngineRequest {
    if (this.#isClosed) throw new AioError("ERR_AIO_CLOSED", "the engine is closed");
    if (this.#waiting.length - this.#waitingFrom >= this.#waitingMax) {
      throw new AioError("ERR_AIO_LIMIT", `${this.#waitingMax} calls wait already: await some of them first`);
    }
    return this.#free.pop() ?? new EngineRequest(this.#onReturn);
  }

  /** For {@link IoFile}: starts a request now, or when a handle is idle. */
  enqueue(request: EngineRequest): void {
    if (this.#waitingFrom < this.#waiting.length || !this.#tryStart(request)) this.#waiting.push(request);
  }

  /** For {@link IoFile}: it is closed. */
  forget(file: IoFile): void {
    this.#files.delete(file);
  }

  /** Lets everything that was started end, closes the files and the engine. A second call waits for the first. */
  async close(): Promise<void> {
    this.#closing ??= this.#close();
    await this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    for (const file of this.#files) await file.close();
    this.#isClosed = true;
    await this.#system.close();
    this.arena[Symbol.dispose]();
  }

  #tryStart(request: EngineRequest): boolean {
    const handle = this.#backend.tryAcquire(this.#scope, request);
    if (handle === undefined) return false;
    const { isDirect } = request;
    request.start(handle);
    if (!isDirect) this.#isBufferedStaged = true;
    if (this.#backend.stagedCount >= (isDirect ? SUBMIT_EVERY_DIRECT : SUBMIT_EVERY_BUFFERED)) this.#submit();
    else this.#planFlush();
    return true;
  }

  /** What the page cache has is over when this returns. */
  #submit(): void {
    this.#backend.submitStaged();
    if (this.#isBufferedStaged) this.#backend.pollSoon();
    this.#isBufferedStaged = false;
  }

  #planFlush(): void {
    if (this.#isFlushPlanned) return;
    this.#isFlushPlanned = true;
    queueMicrotask(this.#flush);
  }

  readonly #flush = (): void => {
    this.#isFlushPlanned = false;
    this.#submit();
  };

  /** The outcome of a request: to whoever asked for it, and the freed handle to whoever waits longest. */
  readonly #onReturn = (slot: IoReturn): void => {
    const request = slot as EngineRequest;
    if (request.settle()) this.#free.push(request);
    else this.#waiting.splice(this.#waitingFrom, 0, request);
    if (this.#waiting.length > 0) this.#pump();
  };

  /** Starts what waits, as far as handles go. A start may come back here before it returns (method sync). */
  #pump(): void {
    while (this.#waitingFrom < this.#waiting.length && this.#backend.idleCount > 0) {
      const request = this.#waiting[this.#waitingFrom] as EngineRequest;
      this.#waitingFrom += 1;
      this.#tryStart(request);
    }
    if (this.#waitingFrom < this.#waiting.length) return;
    this.#waiting = [];
    this.#waitingFrom = 0;
  }
}

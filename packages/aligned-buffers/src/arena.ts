/**
 * An arena: one segment, given out in buffers of exact capacity and proven alignment.
 *
 * One thread owns it: all of alloc, dispose and the handles in between happen there. Other threads attach the segment
 * (attached-arena.ts) and touch bytes that the owner has lent or leased to them; they cannot allocate.
 *
 * Room is reserved in units of the alignment. A request is served at once if any free range is long enough and nobody is
 * waiting; waiting callers are served in order, so that a stream of small requests cannot starve a large one.
 */
import { Allocation } from "./allocation.js";
import type { Home } from "./allocation.js";
import type { AttachedArenaHandle } from "./attached-arena.js";
import { AlignedBufferError, ArenaExhaustedError } from "./errors.js";
import { FreeRanges } from "./free-ranges.js";
import { IoBufferMut } from "./io-buffer.js";
import { LeakTracker } from "./leak-tracker.js";
import type { LeakReport } from "./leak-tracker.js";
import { createMemorySegment, HUGE_PAGE_BYTES, PAGE_ALIGNMENT } from "./memory-segment.js";
import type { HugePages, MemoryHooks, MemorySegment } from "./memory-segment.js";
import { checkSize, isPowerOfTwo } from "./sizes.js";
import { WaitLine } from "./wait-line.js";

/** Smallest alignment, bytes: the logical block of most disks. */
export const ALIGNMENT_MIN = 512;

/** What an arena is made of. */
export interface ArenaOptions {
  /** 1 to 1 GiB; rounded up to a multiple of the alignment. */
  readonly bytes: number;
  /** Of every buffer, bytes: a power of two from 512 to 4096, the default; to 2 MiB with the hook `addressOf`. */
  readonly alignment?: number;
  /** Checksums of frozen buffers, and stacks in errors: for tests and for looking for bugs. */
  readonly debug?: boolean;
  /** Debug: told of handles that were garbage-collected while they owned a buffer. Nothing is freed. */
  readonly onLeak?: (report: LeakReport) => void;
  /** From native code, where there is some. */
  readonly hooks?: MemoryHooks;
}

/** How a buffer is wanted. */
export interface AllocOptions {
  /** Length = capacity, all bytes zero. Otherwise the length is 0 and old contents stay hidden. */
  readonly zeroed?: boolean;
  /** Bytes; a power of two, not below the arena's alignment, not above what is provable. */
  readonly align?: number;
}

/** The same for a caller that waits. */
export interface AllocAsyncOptions extends AllocOptions {
  readonly signal?: AbortSignal;
}

/** Bytes, and how many buffers they are in. Reserved room counts: a capacity rounded up to the alignment. */
export interface ArenaStats {
  readonly total: number;
  readonly inUse: number;
  readonly peak: number;
  /** Buffers that are not given back; empty ones count too. */
  readonly liveBuffers: number;
}

interface Request {
  readonly capacity: number;
  readonly options: AllocOptions;
}

/** Invariant: the units that are taken are exactly those of the allocations that have references. */
export class AlignedArena implements Disposable {
  readonly segment: MemorySegment;
  /** Of every buffer, bytes. */
  readonly alignment: number;
  readonly #free: FreeRanges;
  readonly #home: Home;
  readonly #line: WaitLine<Request, IoBufferMut> = new WaitLine();
  #peakUnits = 0;
  #liveBuffers = 0;
  #isDisposed = false;

  /**
   * @throws {RangeError} a size or an alignment out of range
   * @throws {AlignedBufferError} ERR_ARENA_UNAVAILABLE: no memory to be had
   */
  constructor(options: ArenaOptions) {
    const { bytes, alignment = PAGE_ALIGNMENT, debug = false, onLeak = ignore, hooks } = options;
    checkSize(bytes);
    const alignmentMax = hooks?.addressOf === undefined ? PAGE_ALIGNMENT : HUGE_PAGE_BYTES;
    if (!isPowerOfTwo(alignment, ALIGNMENT_MIN, alignmentMax)) throw noAlignment(alignment);
    const units = Math.ceil(bytes / alignment);
    this.segment = createMemorySegment(units * alignment, hooks);
    this.alignment = alignment;
    this.#free = new FreeRanges(units);
    this.#home = {
      segment: this.segment,
      whole: new Uint8Array(this.segment.buffer),
      alignment,
      tracker: debug ? new LeakTracker(onLeak) : undefined,
      reclaim: (allocation) => this.#reclaim(allocation),
    };
  }

  /** Whether the memory is on huge pages, as far as the kernel said. */
  get hugePages(): HugePages {
    return this.segment.hugePages;
  }

  get stats(): ArenaStats {
    const { units, freeUnits } = this.#free;
    return {
      total: units * this.alignment,
      inUse: (units - freeUnits) * this.alignment,
      peak: this.#peakUnits * this.alignment,
      liveBuffers: this.#liveBuffers,
    };
  }

  /** What to post to another thread, which opens it with `attachArena`. */
  get handle(): AttachedArenaHandle {
    return { segment: this.segment.handle, alignment: this.alignment };
  }

  /**
   * A buffer, at once.
   *
   * @param capacity bytes, exact; 0 is allowed and takes no room
   * @throws {ArenaExhaustedError} ERR_ARENA_EXHAUSTED: no room now, or others wait for it
   * @throws {AlignedBufferError} ERR_ARENA_DISPOSED
   * @throws {RangeError} could never be served by this arena
   */
  alloc(capacity: number, options: AllocOptions = {}): IoBufferMut {
    const buffer = this.tryAlloc(capacity, options);
    if (buffer === undefined) throw new ArenaExhaustedError(capacity, this.#free.freeUnits * this.alignment);
    return buffer;
  }

  /** Like `alloc`, with undefined where that throws ERR_ARENA_EXHAUSTED. */
  tryAlloc(capacity: number, options: AllocOptions = {}): IoBufferMut | undefined {
    this.#check(capacity, options);
    return this.#line.isEmpty ? this.#take(capacity, options) : undefined;
  }

  /**
   * A buffer, as soon as there is room. Callers are served in order.
   *
   * @returns rejects with the signal's reason on abort, which takes nothing, and as `alloc` does; never with
   *   ERR_ARENA_EXHAUSTED
   */
  async allocAsync(capacity: number, options: AllocAsyncOptions = {}): Promise<IoBufferMut> {
    options.signal?.throwIfAborted();
    return (
      this.tryAlloc(capacity, options) ??
      (await this.#line.wait({ capacity, options }, options.signal, () => this.#serve()))
    );
  }

  /**
   * A buffer with a copy of `source`, as long as that is.
   *
   * @throws as `alloc`
   */
  copyFrom(source: Uint8Array): IoBufferMut {
    const buffer = this.alloc(source.length);
    buffer.append(source);
    return buffer;
  }

  /**
   * Ends allocation: waiting and later calls fail with ERR_ARENA_DISPOSED. Buffers that are out stay good, because the
   * kernel may be using them; the memory goes when the last view of it is collected.
   */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    for (let waiting = this.#line.first(); waiting !== undefined; waiting = this.#line.first()) {
      waiting.leave();
      waiting.reject(disposed());
    }
  }

  #check(capacity: number, { align = this.alignment }: AllocOptions): void {
    if (this.#isDisposed) throw disposed();
    checkSize(capacity);
    if (capacity > this.#free.units * this.alignment)
      throw new RangeError(`${String(capacity)} bytes are more than the arena has`);
    if (!isPowerOfTwo(align, this.alignment, this.segment.alignment)) throw noAlignment(align);
  }

  #take(capacity: number, { zeroed = false, align = this.alignment }: AllocOptions): IoBufferMut | undefined {
    const units = Math.ceil(capacity / this.alignment);
    const unit = units === 0 ? 0 : this.#free.take(units, align / this.alignment);
    if (unit === undefined) return undefined;
    this.#peakUnits = Math.max(this.#peakUnits, this.#free.units - this.#free.freeUnits);
    this.#liveBuffers += 1;
    const byteOffset = this.segment.byteOffset + unit * this.alignment;
    const buffer = new IoBufferMut(new Allocation(this.#home, byteOffset, capacity, align));
    if (zeroed) buffer.fill(0, capacity);
    return buffer;
  }

  #reclaim({ byteOffset, capacity }: Allocation): void {
    this.#liveBuffers -= 1;
    if (capacity > 0) this.#free.give((byteOffset - this.segment.byteOffset) / this.alignment);
    this.#serve();
  }

  /** Serves as many waiting callers as there is room for; the first one without room holds up the rest. */
  #serve(): void {
    for (let waiting = this.#line.first(); waiting !== undefined; waiting = this.#line.first()) {
      const buffer = this.#take(waiting.request.capacity, waiting.request.options);
      if (buffer === undefined) return;
      waiting.leave();
      waiting.resolve(buffer);
    }
  }
}

function noAlignment(alignment: number): RangeError {
  return new RangeError(`not an alignment that this arena can prove: ${String(alignment)}`);
}

function disposed(): AlignedBufferError {
  return new AlignedBufferError("ERR_ARENA_DISPOSED", "the arena gives out nothing any more");
}

function ignore(): void {
  // Nobody asked for reports.
}

/**
 * The calls of a buffer manager that look after the pool as a whole: its size, what is in it, what has been counted.
 */
import { AutoPrewarm } from "./auto-prewarm.js";
import type { BackendParts } from "./backend-parts.js";
import { BufferWrites } from "./buffer-writes.js";
import { releaseFrames } from "./frame-release.js";
import type { FrameRelease } from "./frame-release.js";
import { readPages, readSummary, readUsageCounts } from "./inspection.js";
import type { PageRow, PoolSummary, UsageRow } from "./inspection.js";
import {
  readBackendStatistics,
  readStatistics,
  resetStatistics,
  statisticsResetAt,
} from "./io-statistics.js";
import type { StatisticsRow } from "./io-statistics.js";
import { Prewarmer } from "./prewarm.js";
import type { PrewarmOptions } from "./prewarm.js";
import { Resizer } from "./resize.js";
import type { ResizeOptions, ResizeReport } from "./resize.js";
import type { Relation } from "./tag.js";

/** The part of a buffer manager that looks after the pool. */
export class BufferUpkeep extends BufferWrites {
  readonly #parts: BackendParts;
  readonly #resizer: Resizer;
  readonly #prewarmer: Prewarmer;

  constructor(parts: BackendParts) {
    super(parts);
    this.#parts = parts;
    const { context, allocator, locks, writer } = parts;
    const release = (from: number, to: number): FrameRelease => releaseFrames(context, from, to);
    this.#prewarmer = new Prewarmer(parts);
    this.#resizer = new Resizer({ context, allocator, locks, writer, release });
  }

  /**
   * Makes the pool have so many buffers, up to its `buffersMax`. Pages in those that go are written and thrown out, and their
   * memory is given back to the kernel where that is possible; the report says how much, or why not.
   *
   * @throws {RangeError} fewer than 16, or more than the pool has reserved
   * @throws {BufferError} ERR_BUFFER_RESIZE_BUSY; ERR_BUFFER_RESIZE_PINNED: with "fail"; ERR_BUFFER_WRITE: the size is what it
   *   was; ERR_BUFFER_WOULD_BLOCK
   */
  resize(buffers: number, options: ResizeOptions = {}): ResizeReport {
    this.#parts.check();
    return this.#parts.context.waiter.run(this.#resizer.resize(buffers, options));
  }

  /** As `resize`, without sleeping. */
  async resizeAsync(buffers: number, options: ResizeOptions = {}): Promise<ResizeReport> {
    this.#parts.check();
    return this.#parts.context.waiter.runAsync(this.#resizer.resize(buffers, options));
  }

  /**
   * Makes what writes down which pages the pool holds, and loads them again after a restart. One backend of a pool does that.
   *
   * @param path of the list: a text file, written anew and renamed each time
   */
  createAutoPrewarm(path: string): AutoPrewarm {
    this.#parts.check();
    return new AutoPrewarm(this.#parts.context, this.#parts.reader, path);
  }

  /**
   * Reads blocks of a fork before anybody asks for them: "prefetch" advises the kernel, "read" reads past the pool, "buffer" into it.
   *
   * @returns blocks of the range
   * @throws {RangeError} a block that the fork does not have
   * @throws {BufferError} ERR_BUFFER_FILE, ERR_BUFFER_READ_FAILED, ERR_BUFFER_SHORT_READ; ERR_BUFFER_NO_ADVICE: "prefetch" with
   *   direct I/O or without the native part; in the mode "buffer" as `read`; ERR_BUFFER_WOULD_BLOCK
   */
  prewarm(relation: Relation, options: PrewarmOptions = {}): number {
    this.#parts.check();
    return this.#parts.context.waiter.run(this.#prewarmer.warm(relation, options, true));
  }

  /** As `prewarm`, without sleeping. */
  async prewarmAsync(relation: Relation, options: PrewarmOptions = {}): Promise<number> {
    this.#parts.check();
    return this.#parts.context.waiter.runAsync(this.#prewarmer.warm(relation, options, false));
  }

  /** A row for each buffer, one by one: what it holds. */
  pages(): Generator<PageRow, void, undefined> {
    this.#parts.check();
    return readPages(this.#parts.context.headers);
  }

  /** The buffers in numbers. */
  summary(): PoolSummary {
    this.#parts.check();
    return readSummary(this.#parts.context.headers);
  }

  /** How many buffers have which usage count. */
  usageCounts(): UsageRow[] {
    this.#parts.check();
    return readUsageCounts(this.#parts.context.headers);
  }

  /** What all backends have counted since the last reset, as rows of pg_stat_io; null where nothing is ever counted. */
  statistics(): StatisticsRow[] {
    const { context } = this.#parts;
    return readStatistics(context, context.id, context.mayBlock);
  }

  /** What this backend has counted since it came. */
  ownStatistics(): StatisticsRow[] {
    const { context } = this.#parts;
    return readBackendStatistics(context, context.id);
  }

  /** Lets `statistics` begin at zero. @param nowMs the time, for `statisticsResetAt` */
  resetStatistics(nowMs: number = Date.now()): void {
    const { context } = this.#parts;
    resetStatistics(context, context.id, context.mayBlock, nowMs);
  }

  /** When that was last done, in milliseconds since 1970; 0 for never. */
  get statisticsResetAt(): number {
    return statisticsResetAt(this.#parts.context);
  }
}

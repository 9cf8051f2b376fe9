/**
 * Warm again after a restart: which pages the pool held is written down from time to time and at the end, and read back into a
 * pool that begins empty.
 *
 * Loading goes through the list sorted by database, tablespace, relation, fork and block, so that neighbours are read
 * together and each file once; what belongs to all databases comes first. It only fills what is free: it ends when the pool has no
 * free buffer left, and never throws anything out. Relations, forks and blocks that are gone are passed over. A load that
 * was interrupted leaves the list as it is, since what it would write down is only part of it. After autoprewarm.c of
 * PostgreSQL 18, whose list is the same, line for line.
 */
import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import { DESCRIPTOR, HEADER, STRATEGY } from "./layout.js";
import { compareTags, readPageList, writePageList } from "./page-list.js";
import type { PageListFiles } from "./page-list.js";
import { ReadOperation } from "./read-operation.js";
import type { Reader } from "./reader.js";
import type { Fork, Relation, Tag } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** What loading came to. */
export interface LoadReport {
  /** Pages that are in the pool now, of those in the list. */
  readonly warmed: number;
  /** Pages in the list. */
  readonly total: number;
  /** Whether it was ended before the list was. */
  readonly isInterrupted: boolean;
}

/** How often the list is written, unless said otherwise: PostgreSQL's 300 s. */
const INTERVAL_MS = 300_000;

type PrewarmContext = Pick<
  BackendContext,
  "words" | "layout" | "headers" | "pins" | "files" | "settings" | "waiter"
>;

/** Writes the list of a pool's pages and loads it, as one backend. */
export class AutoPrewarm {
  readonly #context: PrewarmContext;
  readonly #reader: Reader;
  readonly #path: string;
  readonly #files: PageListFiles | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  /** Whether the pool holds less than the list because a load has not come to its end. */
  #isPartial = false;
  #isStopped = false;

  /** For `BufferManager.createAutoPrewarm`. @param path of the list   @param files for tests */
  constructor(context: PrewarmContext, reader: Reader, path: string, files?: PageListFiles) {
    this.#context = context;
    this.#reader = reader;
    this.#path = path;
    this.#files = files;
  }

  /**
   * Writes down which pages the pool holds, durably. While a load is under way, or after one was interrupted, nothing is written.
   *
   * @param withUnlogged also those of unlogged relations, which are empty after a crash
   * @returns how many pages, 0 if nothing was written
   * @throws what the file system throws; the old list is whole then
   */
  dump(withUnlogged = false): number {
    if (this.#isPartial) return 0;
    const pages = this.#pages(withUnlogged);
    if (this.#files === undefined) writePageList(this.#path, pages);
    else writePageList(this.#path, pages, this.#files);
    return pages.length;
  }

  /**
   * Reads the pages of the list into the pool, as far as it has free buffers. Without a list nothing is read.
   *
   * @throws {DumpFormatError} ERR_BUFFER_BAD_DUMP: the list is damaged, nothing was read; what reading a page throws
   */
  load(): LoadReport {
    return this.#context.waiter.run(this.#load());
  }

  /** As `load`, without sleeping. */
  async loadAsync(): Promise<LoadReport> {
    return this.#context.waiter.runAsync(this.#load());
  }

  *#load(): Waiting<LoadReport> {
    const pages = readPageList(this.#path)?.toSorted(compareTags) ?? [];
    this.#isPartial = true;
    let warmed = 0;
    let at = 0;
    while (at < pages.length && !this.#isStopped) {
      const end = endOfFork(pages, at);
      const count = yield* this.#loadFork(pages.slice(at, end));
      warmed += count;
      at = end;
      if (this.#freeBuffers(1) === 0) break;
    }
    this.#isPartial = this.#isStopped;
    return { warmed, total: pages.length, isInterrupted: this.#isPartial };
  }

  /** Writes the list every so often, until `shutdown`. @param intervalMs 0 for never */
  start(intervalMs: number = INTERVAL_MS, onError: (error: unknown) => void = () => undefined): void {
    if (intervalMs === 0 || this.#timer !== undefined) return;
    this.#timer = setInterval(() => {
      try {
        this.dump();
      } catch (error) {
        onError(error);
      }
    }, intervalMs);
    this.#timer.unref();
  }

  /** Has a load that is under way end after the blocks that are being read. */
  interrupt(): void {
    this.#isStopped = true;
  }

  /** Ends the writing at intervals and writes the list a last time, with unlogged relations: this is no crash. @returns as `dump` */
  shutdown(): number {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.interrupt();
    return this.dump(true);
  }

  #pages(withUnlogged: boolean): Tag[] {
    const { headers, words } = this.#context;
    const pages: Tag[] = [];
    const count = Atomics.load(words, HEADER.high);
    for (let buffer = 0; buffer < count; buffer++) {
      if ((headers.state(buffer) & STATE.tagValid) === 0) continue;
      const state = headers.lock(buffer);
      const tag = headers.tag(buffer);
      headers.unlock(buffer, state);
      const isWanted = withUnlogged || (state & STATE.permanent) !== 0;
      if ((state & STATE.tagValid) !== 0 && isWanted) pages.push(tag);
    }
    return pages;
  }

  /** @param pages of one fork, sorted @returns how many of them are in the pool */
  *#loadFork(pages: readonly Tag[]): Waiting<number> {
    const { files, settings } = this.#context;
    const { tablespace, database, relation: number, fork } = pages[0] as Tag;
    const relation: Relation = { tablespace, database, relation: number };
    if (!files.exists(relation, fork)) return 0;
    const blocks = files.blocks(relation, fork);
    let warmed = 0;
    for (let at = 0; at < pages.length && !this.#isStopped;) {
      const { block } = pages[at] as Tag;
      if (block >= blocks) break;
      let count = 1;
      while (at + count < pages.length && pages[at + count]?.block === block + count) count += 1;
      count = Math.min(count, blocks - block, this.#freeBuffers(settings.combineLimit));
      if (count === 0) break;
      count = yield* this.#read(relation, fork, block, count);
      warmed += count;
      at += count;
    }
    return warmed;
  }

  /** @returns how many blocks were read, or there already: one at least */
  *#read(relation: Relation, fork: Fork, block: number, wanted: number): Waiting<number> {
    const buffers = new Int32Array(wanted);
    const operation = new ReadOperation(relation, fork, null);
    try {
      const count = yield* this.#reader.start(operation.begin(buffers, 0, block, wanted, 0));
      if (operation.needWait) yield* this.#reader.wait(operation);
      return count;
    } finally {
      for (const buffer of buffers) if (buffer > 0) this.#context.pins.unpin(buffer - 1);
    }
  }

  /** Buffers on the free list, counted up to a limit; a guess, as others take from it. */
  #freeBuffers(max: number): number {
    const { words, layout } = this.#context;
    let entry = words[layout.strategyAt + STRATEGY.firstFree] as number;
    let count = 0;
    while (entry > 0 && count < max) {
      count += 1;
      entry = words[layout.descriptorsAt + (entry - 1) * DESCRIPTOR.words + DESCRIPTOR.freeNext] as number;
    }
    return count;
  }
}

function endOfFork(pages: readonly Tag[], at: number): number {
  const first = pages[at] as Tag;
  let end = at + 1;
  while (
    end < pages.length &&
    compareTags({ ...(pages[end] as Tag), block: 0 }, { ...first, block: 0 }) === 0
  ) {
    end += 1;
  }
  return end;
}

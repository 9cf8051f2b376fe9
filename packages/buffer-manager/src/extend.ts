/**
 * Extending relations: new blocks of zeros at the end, with buffers that hold them, pinned.
 *
 * Buffers are made free first, because that may have to write pages; then the relation's extension lock is taken, its size is
 * looked at, the buffers get their blocks, and the file is extended once for all of them. Until that is done they are locked
 * for I/O, so that whoever finds them waits. A block behind the end may have a buffer already: a leftover of an extension
 * that failed, which is used, or data that the file lacks, which means that a disk or a kernel has lost something.
 *
 * If extending fails the blocks stay in the mapping, not valid, and the next extension takes them over. After
 * ExtendBufferedRelShared and ExtendBufferedRelTo of PostgreSQL 18.
 */
import type { Allocator } from "./allocate.js";
import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import type { ContentLocks } from "./content-locks.js";
import { BufferError } from "./errors.js";
import { IO_LOCK, terminateIo } from "./io-lock.js";
import type { IoLocks } from "./io-lock.js";
import { latch, unlatchExclusive } from "./latch.js";
import { EXTENSION_LOCKS, LINE_WORDS } from "./layout.js";
import type { PageWriter } from "./page-writer.js";
import { ringContext, ringInUse } from "./ring.js";
import type { Ring } from "./ring.js";
import { PAGE_BYTES } from "./settings.js";
import { COUNTED } from "./statistics.js";
import { FORK, hashTag, INVALID_BLOCK } from "./tag.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** Blocks that `extendTo` adds at a time. */
export const EXTEND_CHUNK = 64;
/** Blocks a fork can have: the last number is that of no block, and PostgreSQL leaves the one before it alone, too. */
const BLOCKS_MAX: number = INVALID_BLOCK - 1;
const UPPER_AT = 14;

/** How a relation is extended. */
export interface ExtendOptions {
  /** The main fork unless said otherwise. */
  readonly fork?: Fork;
  readonly ring?: Ring | null;
  /** Whether the first new page is returned locked exclusively. */
  readonly lockFirst?: boolean;
  /** Make the fork if there is none. */
  readonly createFork?: boolean;
  /** The caller sees to it that nobody else extends the relation. */
  readonly skipLock?: boolean;
}

/** What extending came to. */
export interface Extension {
  /** The first new block; where the fork ended. */
  readonly first: number;
  /** The buffers of the new blocks, each pinned; fewer than asked for if pins are short. */
  readonly buffers: number[];
}

/** What extending works with. */
export interface ExtendParts {
  readonly context: BackendContext;
  readonly allocator: Allocator;
  readonly locks: ContentLocks;
  readonly ioLocks: IoLocks;
  readonly writer: PageWriter;
  /** Buffers that this backend should pin more at most. */
  readonly additionalPins: () => number;
}

interface Wish extends ExtendOptions {
  readonly count: number;
  /** Never beyond so many blocks. */
  readonly upTo?: number;
  /** Whether the block before `upTo` is returned locked exclusively. */
  readonly lockTarget?: boolean;
}

/** Extends relations for one backend. */
export class Extender {
  readonly #parts: ExtendParts;

  constructor(parts: ExtendParts) {
    this.#parts = parts;
  }

  /**
   * Adds blocks of zeros.
   *
   * @param count from 1; fewer are added if this backend should not pin so many buffers
   * @throws {BufferError} ERR_BUFFER_BEYOND_EOF_DATA: a buffer has data of a block that the file lacks;
   *   ERR_BUFFER_MAX_BLOCKS; ERR_BUFFER_NO_UNPINNED; ERR_BUFFER_FILE: the file could not be extended
   */
  *extend(relation: Relation, count: number, options: ExtendOptions = {}): Waiting<Extension> {
    if (!Number.isInteger(count) || count < 1) throw new RangeError(`not a number of blocks: ${count}`);
    return yield* this.#extend(relation, { ...options, count });
  }

  /**
   * Extends a fork to a number of blocks, if it has fewer, and returns the buffer of the last of them, pinned.
   *
   * @param lockTarget whether that page is returned locked exclusively, if it is new
   * @returns its buffer, or -1 if somebody else has added it: then it is to be read
   * @throws {BufferError} as `extend`
   */
  *extendTo(
    relation: Relation,
    blocks: number,
    options: ExtendOptions & { readonly lockTarget?: boolean } = {},
  ): Waiting<number> {
    if (!Number.isInteger(blocks) || blocks < 1) throw new RangeError(`not a number of blocks: ${blocks}`);
    const { pins } = this.#parts.context;
    let size = this.#size(relation, options.fork ?? FORK.main, options);
    let target = -1;
    while (size < blocks) {
      const count = Math.min(EXTEND_CHUNK, blocks - size);
      const { first, buffers } = yield* this.#extend(relation, { ...options, count, upTo: blocks });
      size = first + buffers.length;
      for (const [index, buffer] of buffers.entries()) {
        if (first + index === blocks - 1) target = buffer;
        else pins.unpin(buffer);
      }
    }
    return target;
  }

  *#extend(relation: Relation, wish: Wish): Waiting<Extension> {
    const { context, allocator } = this.#parts;
    const { fork = FORK.main, ring = null } = wish;
    const charge = ringContext(ringInUse(ring));
    const victims = yield* this.#victims(
      Math.min(wish.count, Math.max(1, this.#parts.additionalPins())),
      wish,
    );
    const lock = this.#lockOf(relation);
    let isLocked = false;
    const taken: number[] = [];
    try {
      if (wish.skipLock !== true) {
        yield* latch(context.words, lock, lock + 1, "exclusive", context.id, "RelationExtension");
        isLocked = true;
      }
      context.reach("extend:locked", -1);
      const first = this.#size(relation, fork, wish);
      const room = wish.upTo === undefined ? victims.length : Math.max(0, wish.upTo - first);
      while (victims.length > room) allocator.giveBack(victims.pop() as number);
      if (first + victims.length >= BLOCKS_MAX) throw tooLong(first);
      const count = victims.length;
      while (taken.length < count)
        yield* this.#take(relation, fork, first + taken.length, victims, taken, ring);
      if (count > 0) {
        yield* this.#grow(relation, fork, first, count);
        context.counters.count(COUNTED.extend, charge, false, 1, count * PAGE_BYTES);
      }
      if (isLocked) unlatchExclusive(context.words, lock, lock + 1);
      isLocked = false;
      yield* this.#publish(first, taken, wish);
      return { first, buffers: taken };
    } catch (error) {
      this.#giveUp(victims, taken);
      throw error;
    } finally {
      if (isLocked) unlatchExclusive(context.words, lock, lock + 1);
    }
  }

  /** Buffers without a page, zeroed. */
  *#victims(count: number, { ring = null }: Wish): Waiting<number[]> {
    const { allocator, context } = this.#parts;
    const victims: number[] = [];
    try {
      while (victims.length < count) {
        const victim = yield* allocator.getVictim(ring, ringContext(ringInUse(ring)));
        victims.push(victim);
        context.frames.zero(victim);
      }
    } catch (error) {
      for (const victim of victims) allocator.giveBack(victim);
      throw error;
    }
    return victims;
  }

  *#grow(relation: Relation, fork: Fork, first: number, count: number): Waiting<void> {
    const { context, writer } = this.#parts;
    const entry = yield* writer.syncs.begin(relation, fork);
    try {
      context.files.zeroExtend(relation, fork, first, count);
    } finally {
      writer.syncs.end(entry);
    }
  }

  /** Gives a block a buffer, locked for I/O: the next victim, or the one that it has already. */
  *#take(
    relation: Relation,
    fork: Fork,
    block: number,
    victims: number[],
    taken: number[],
    ring: Ring | null,
  ): Waiting<void> {
    const { allocator, ioLocks } = this.#parts;
    const { mapping, mutexes } = allocator;
    const bucket = mapping.bucketOf(relation, fork, block);
    const mutex = mapping.mutexOf(bucket);
    if (!mutexes.tryLock(mutex)) yield* mutexes.lock(mutex);
    const existing = mapping.find(bucket, relation, fork, block);
    const victim = victims.shift() as number;
    if (existing < 0) {
      mapping.insert(bucket, relation, fork, block, victim);
      // At once, before anybody can find it and begin to read what the file does not have yet.
      const outcome = ioLocks.tryStart(victim, true);
      mutexes.unlock(mutex);
      taken.push(victim);
      if (outcome !== IO_LOCK.started) yield* this.#clear(victim);
      return;
    }
    mapping.pinLocked(existing, ringInUse(ring) !== null);
    const { isValid } = mapping;
    mutexes.unlock(mutex);
    allocator.giveBack(victim);
    if (isValid && !this.#isNew(existing)) {
      this.#parts.context.pins.unpin(existing);
      throw beyondEnd(this.#parts.context, relation, fork, block);
    }
    try {
      yield* this.#clear(existing);
    } catch (error) {
      this.#parts.context.pins.unpin(existing);
      throw error;
    }
    taken.push(existing);
  }

  /** Takes the I/O lock of a buffer that may be valid, makes it not valid, and its page zeros. */
  *#clear(buffer: number): Waiting<void> {
    const { ioLocks, context } = this.#parts;
    do {
      const state = context.headers.lock(buffer);
      context.headers.unlock(buffer, state & ~STATE.valid);
    } while (!(yield* ioLocks.start(buffer, true)));
    context.frames.zero(buffer);
  }

  /** The pages are there. Those that the caller wants locked are locked before anybody can see that. */
  *#publish(first: number, buffers: readonly number[], wish: Wish): Waiting<void> {
    const { context, locks } = this.#parts;
    for (const [index, buffer] of buffers.entries()) {
      const isTarget = wish.lockTarget === true && first + index + 1 === wish.upTo;
      if ((wish.lockFirst === true && index === 0) || isTarget) yield* locks.lock(buffer, "exclusive");
      terminateIo(context.headers, buffer, false, STATE.valid, false);
    }
  }

  /** After a failure: blocks that have a buffer keep it, not valid, for the next extension. */
  #giveUp(victims: readonly number[], taken: readonly number[]): void {
    const { allocator, context, ioLocks, locks } = this.#parts;
    for (const buffer of taken) {
      if (locks.modeOf(buffer) === "exclusive") locks.unlock(buffer);
      if ((context.headers.state(buffer) & STATE.ioInProgress) !== 0) ioLocks.abort(buffer);
      context.pins.unpin(buffer);
    }
    for (const victim of victims) allocator.giveBack(victim);
  }

  #size(relation: Relation, fork: Fork, { createFork = false }: ExtendOptions): number {
    const { files } = this.#parts.context;
    if (createFork && !files.exists(relation, fork)) return 0;
    return files.blocks(relation, fork);
  }

  #isNew(buffer: number): boolean {
    const page = this.#parts.context.frames.view(buffer);
    return page[UPPER_AT] === 0 && page[UPPER_AT + 1] === 0;
  }

  #lockOf(relation: Relation): number {
    const slot = hashTag(relation, 0, 0) & (EXTENSION_LOCKS - 1);
    return this.#parts.context.layout.extensionsAt + slot * LINE_WORDS;
  }
}

function tooLong(blocks: number): BufferError {
  const message = `a fork of ${blocks} blocks cannot be extended beyond ${BLOCKS_MAX} blocks`;
  return new BufferError("ERR_BUFFER_MAX_BLOCKS", message);
}

function beyondEnd({ files }: BackendContext, relation: Relation, fork: Fork, block: number): BufferError {
  const file = files.fileName(relation, fork, block);
  const message = `there is data in block ${block} of "${file}", which is beyond the end of the file`;
  return new BufferError("ERR_BUFFER_BEYOND_EOF_DATA", message);
}

/**
 * Extending shared relations: new blocks of zeros at the end, with buffers that hold them, pinned.
 *
 * Buffers are made free first, because that may have to write pages; then the relation's extension lock is taken, its size is
 * looked at, the buffers get their blocks, and the file is extended once for all of them. Until that is done they are locked
 * for I/O, so that whoever finds them waits. A block behind the end may have a buffer already: a leftover of an extension
 * that failed, which is used, or data that the file lacks, which means that a disk or a kernel has lost something.
 *
 * If extending fails the blocks stay in the mapping, not valid, and the next extension takes them over. After
 * ExtendBufferedRelShared of PostgreSQL 18.
 */
import type { Allocator } from "./allocate.js";
import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import type { ContentLocks } from "./content-locks.js";
import { beyondEnd, BLOCKS_MAX, forkSize, tooLong } from "./extension.js";
import type { Extension, ExtensionWish } from "./extension.js";
import { IO_LOCK, terminateIo } from "./io-lock.js";
import type { IoLocks } from "./io-lock.js";
import { latch, unlatchExclusive } from "./latch.js";
import { EXTENSION_LOCKS, LINE_WORDS } from "./layout.js";
import type { PageWriter } from "./page-writer.js";
import { ringContext, ringInUse } from "./ring.js";
import type { Ring } from "./ring.js";
import { isNewPage } from "./set-checksum.js";
import { PAGE_BYTES } from "./settings.js";
import { COUNTED } from "./statistics.js";
import { FORK, hashTag } from "./tag.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

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

/** Extends shared relations for one backend. */
export class Extender {
  readonly #parts: ExtendParts;

  constructor(parts: ExtendParts) {
    this.#parts = parts;
  }

  /**
   * Adds blocks of zeros, in one go.
   *
   * @returns the buffers of the new blocks, pinned, as indexes from 0; fewer if this backend should not pin so many buffers, or
   *   the fork has as many blocks as are wanted
   * @throws {BufferError} ERR_BUFFER_BEYOND_EOF_DATA: a buffer has data of a block that the file lacks;
   *   ERR_BUFFER_MAX_BLOCKS; ERR_BUFFER_NO_UNPINNED; ERR_BUFFER_FILE: the file could not be extended
   */
  *extend(relation: Relation, wish: ExtensionWish): Waiting<Extension> {
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
      const first = forkSize(context.files, relation, fork, wish);
      const room = wish.upTo === undefined ? victims.length : Math.max(0, wish.upTo - first);
      while (victims.length > room) allocator.giveBack(victims.pop() as number);
      if (first + victims.length >= BLOCKS_MAX) throw tooLong(first);
      const count = victims.length;
      while (taken.length < count)
        yield* this.#take(relation, fork, first + taken.length, victims, taken, ring);
      if (count > 0) yield* this.#grow(relation, fork, first, count, charge);
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
  *#victims(count: number, { ring = null }: ExtensionWish): Waiting<number[]> {
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

  *#grow(relation: Relation, fork: Fork, first: number, count: number, charge: number): Waiting<void> {
    const { context, writer } = this.#parts;
    const { counters } = context;
    const entry = yield* writer.syncs.begin(relation, fork);
    try {
      const begun = performance.now();
      context.files.zeroExtend(relation, fork, first, count);
      counters.count(COUNTED.extend, charge, false, 1, count * PAGE_BYTES);
      counters.time(COUNTED.extend, charge, false, performance.now() - begun);
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
    const { frames, pins, files } = this.#parts.context;
    if (isValid && !isNewPage(frames.view(existing))) {
      pins.unpin(existing);
      throw beyondEnd(files, relation, fork, block);
    }
    try {
      yield* this.#clear(existing);
    } catch (error) {
      pins.unpin(existing);
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
  *#publish(first: number, buffers: readonly number[], wish: ExtensionWish): Waiting<void> {
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

  #lockOf(relation: Relation): number {
    const slot = hashTag(relation, 0, 0) & (EXTENSION_LOCKS - 1);
    return this.#parts.context.layout.extensionsAt + slot * LINE_WORDS;
  }
}

/**
 * Reading one page: pinned and valid when the call is over, or made anew without a look at the file.
 *
 * Whoever writes a whole page asks for it zeroed and locked, and saves the read: others see the page only with its lock,
 * which is taken before it becomes valid. After ReadBufferExtended, ZeroAndLockBuffer, PrefetchBuffer and ReadRecentBuffer of
 * PostgreSQL 18.
 */
import type { Allocator } from "./allocate.js";
import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import type { CleanupLocks } from "./cleanup-lock.js";
import type { ContentLocks } from "./content-locks.js";
import { terminateIo } from "./io-lock.js";
import type { IoLocks } from "./io-lock.js";
import { READ_FLAG } from "./read-callbacks.js";
import { ReadOperation } from "./read-operation.js";
import type { Reader } from "./reader.js";
import { ringContext } from "./ring.js";
import type { Ring } from "./ring.js";
import { CONTEXT, COUNTED } from "./statistics.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/**
 * How a page is read. "zeroOnError": a page that no sense can be made of becomes zeros. "zeroAndLock" and
 * "zeroAndCleanupLock": a page that is not in the pool is not read but made zeros, and the page is locked exclusively, or as
 * soon as nobody else has it pinned. "normalNoLog" differs from "normal" only while a log is redone (redo-reader.ts).
 */
export type ReadMode = "normal" | "normalNoLog" | "zeroOnError" | "zeroAndLock" | "zeroAndCleanupLock";

/** Whether a page that was read in a mode is locked. */
export function isLockingMode(mode: ReadMode): boolean {
  return mode === "zeroAndLock" || mode === "zeroAndCleanupLock";
}

/** What `prefetch` did: the page is in this buffer, unpinned; or the kernel was told to read it, or not. */
export type PrefetchResult = { readonly buffer: number } | { readonly isInitiated: boolean };

/** The parts of a backend that pages are read with. */
export interface PageReaderParts {
  readonly reader: Reader;
  readonly allocator: Allocator;
  readonly ioLocks: IoLocks;
  readonly contentLocks: ContentLocks;
  readonly cleanupLocks: CleanupLocks;
}

/** Reads single pages for one backend. Buffers have the numbers that callers use. */
export class PageReader {
  readonly #context: BackendContext;
  readonly #parts: PageReaderParts;
  /** Operations that are not in use, each with its array of one buffer. */
  readonly #idle: ReadOperation[] = [];

  constructor(context: BackendContext, parts: PageReaderParts) {
    this.#context = context;
    this.#parts = parts;
  }

  /**
   * Pins a page and reads it if need be.
   *
   * @param isBlocking the caller sleeps until the page is there: the read is executed in this thread
   * @returns the buffer, pinned once more, and locked in the modes that say so
   * @throws {BufferError} as `Reader.start` and `Reader.wait`, and what taking the lock throws; nothing is pinned then
   */
  *read(
    relation: Relation,
    fork: Fork,
    block: number,
    ring: Ring | null,
    mode: ReadMode,
    isBlocking: boolean,
  ): Waiting<number> {
    if (isLockingMode(mode)) {
      return yield* this.#zeroAndLock(relation, fork, block, ring, mode === "zeroAndCleanupLock");
    }
    const { reader } = this.#parts;
    const operation = this.#take(relation, fork, ring);
    const { buffers } = operation;
    const flags =
      (mode === "zeroOnError" ? READ_FLAG.zeroOnError : 0) | (isBlocking ? READ_FLAG.synchronously : 0);
    try {
      yield* reader.start(operation.begin(buffers, 0, block, 1, flags));
      if (operation.needWait) yield* reader.wait(operation);
      return buffers[0] as number;
    } catch (error) {
      if (buffers[0] !== 0) reader.buffersOf(operation).unpin(buffers[0] as number);
      throw error;
    } finally {
      buffers[0] = 0;
      // An I/O that nobody waited for still fills the operation's slot.
      if (operation.ref === undefined) this.#idle.push(operation);
    }
  }

  /** Has a page read soon by the kernel, if it is not in the pool. Pins nothing, and is no use of the page. */
  prefetch(relation: Relation, fork: Fork, block: number): PrefetchResult {
    const buffer = this.#find(relation, fork, block);
    return buffer === 0 ? { isInitiated: this.#context.files.advise(relation, fork, block, 1) } : { buffer };
  }

  /** Whether a block has a buffer now. Pins nothing, and is no use of the page. */
  isCached(relation: Relation, fork: Fork, block: number): boolean {
    return this.#find(relation, fork, block) !== 0;
  }

  #find(relation: Relation, fork: Fork, block: number): number {
    if (relation.persistence !== "temporary")
      return this.#parts.allocator.mapping.lookup(relation, fork, block) + 1;
    const own = this.#context.ownBuffers.buffers?.lookup(relation, fork, block) ?? -1;
    return own < 0 ? 0 : -1 - own;
  }

  /**
   * Pins the buffer that held a block when it was last seen, if it still does.
   *
   * @returns whether it does, and its page is valid: it is pinned then
   */
  readRecent(relation: Relation, fork: Fork, block: number, buffer: number): boolean {
    const isTemporary = relation.persistence === "temporary";
    const isPinned = isTemporary
      ? this.#pinRecentOwn(relation, fork, block, -1 - buffer)
      : this.#pinRecent(relation, fork, block, buffer - 1);
    if (isPinned) this.#context.counters.count(COUNTED.hit, CONTEXT.normal, isTemporary);
    return isPinned;
  }

  /** Whether a pinned buffer holds a block: then there is no need to release it and to read that. */
  holds(buffer: number, relation: Relation, fork: Fork, block: number): boolean {
    const { headers, ownBuffers } = this.#context;
    if (buffer > 0) return headers.hasTag(buffer - 1, relation, fork, block);
    return ownBuffers.buffers?.hasTag(-1 - buffer, relation, fork, block) ?? false;
  }

  #take(relation: Relation, fork: Fork, ring: Ring | null): ReadOperation {
    const operation = this.#idle.pop();
    if (operation === undefined) {
      const fresh = new ReadOperation(relation, fork, ring);
      fresh.buffers = new Int32Array(1);
      return fresh;
    }
    operation.relation = relation;
    operation.fork = fork;
    operation.ring = ring;
    return operation;
  }

  #pinRecent(relation: Relation, fork: Fork, block: number, index: number): boolean {
    const { headers, pins, layout } = this.#context;
    if (!Number.isInteger(index) || index < 0 || index >= layout.buffersMax) return false;
    if (pins.count(index) > 0) {
      if ((headers.state(index) & STATE.valid) === 0 || !headers.hasTag(index, relation, fork, block))
        return false;
      pins.pinAgain(index);
      return true;
    }
    const state = headers.lock(index);
    if ((state & STATE.valid) === 0 || !headers.hasTag(index, relation, fork, block)) {
      headers.unlock(index, state);
      return false;
    }
    pins.pinLocked(index, state);
    return true;
  }

  #pinRecentOwn(relation: Relation, fork: Fork, block: number, index: number): boolean {
    const own = this.#context.ownBuffers.buffers;
    if (own === undefined || own.lookup(relation, fork, block) !== index || !own.isValid(index)) return false;
    own.pin(index);
    return true;
  }

  *#zeroAndLock(
    relation: Relation,
    fork: Fork,
    block: number,
    ring: Ring | null,
    isCleanup: boolean,
  ): Waiting<number> {
    const { reader, contentLocks, cleanupLocks } = this.#parts;
    const pool = reader.buffersOf({ relation });
    const buffer = pool.tryPin(relation, fork, block, ring) || (yield* pool.pin(relation, fork, block, ring));
    const { found } = pool;
    try {
      if (found)
        this.#context.counters.count(
          COUNTED.hit,
          pool.isTemporary ? CONTEXT.normal : ringContext(ring),
          pool.isTemporary,
        );
      if (pool.isTemporary) {
        if (!found) yield* this.#zeroOwn(-1 - buffer);
        return buffer;
      }
      const index = buffer - 1;
      if (!found && (yield* this.#zeroShared(index))) return buffer;
      if (isCleanup) yield* cleanupLocks.lock(index);
      else if (!contentLocks.tryLock(index, "exclusive")) yield* contentLocks.lock(index, "exclusive");
      return buffer;
    } catch (error) {
      pool.unpin(buffer);
      throw error;
    }
  }

  /** Makes the page zeros and locks it. @returns false if somebody else has made it valid meanwhile: it is not locked then */
  *#zeroShared(index: number): Waiting<boolean> {
    const { headers, frames } = this.#context;
    const { ioLocks, contentLocks } = this.#parts;
    if (!(yield* ioLocks.start(index, true))) return false;
    try {
      frames.zero(index);
      // Before the page is valid: nobody is to see it empty.
      if (!contentLocks.tryLock(index, "exclusive")) yield* contentLocks.lock(index, "exclusive");
    } catch (error) {
      ioLocks.abort(index);
      throw error;
    }
    terminateIo(headers, index, false, STATE.valid, false);
    return true;
  }

  *#zeroOwn(index: number): Waiting<void> {
    const { frames, ownBuffers } = this.#context;
    const own = ownBuffers.buffers;
    if (own === undefined) return;
    for (let ref = own.io(index); ref !== undefined; ref = own.io(index)) yield { kind: "io", ref };
    if (own.isValid(index)) return;
    frames.zero(own.frame(index));
    own.terminateIo(index, false, STATE.valid, false);
  }
}

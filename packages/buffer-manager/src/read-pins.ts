/**
 * The first half of a read: its blocks are pinned, until one is there already.
 *
 * Pins that an earlier call took and did not use are in the caller's array and are accepted. What ends the read is pinned too and
 * stays in the array for the next call, unless it is the first block: then there is nothing to read.
 */
import type { BackendContext } from "./backend-context.js";
import type { ReadBuffers } from "./read-buffers.js";
import type { ReadOperation } from "./read-operation.js";
import { COUNTED } from "./statistics.js";
import type { Waiting } from "./waiting.js";

/** Pins the blocks of one backend's reads. */
export class ReadPins {
  readonly #context: BackendContext;

  constructor(context: BackendContext) {
    this.#context = context;
  }

  /** Pins the blocks as far as nothing has to be waited for. @returns whether that is all; `pin` goes on if not */
  pinNow(operation: ReadOperation, pool: ReadBuffers): boolean {
    pool.begin(operation.count - operation.pinned);
    try {
      while (operation.pinned < operation.count) {
        if (!this.#pinNext(operation, pool)) return false;
      }
      return true;
    } finally {
      pool.end();
    }
  }

  /** Pins the rest, waiting. */
  *pin(operation: ReadOperation, pool: ReadBuffers): Waiting<void> {
    const { relation, fork, ring, buffers, at, block } = operation;
    while (!this.pinNow(operation, pool)) {
      const index = operation.pinned;
      buffers[at + index] = yield* pool.pin(relation, fork, block + index, ring);
      this.#notePinned(operation, pool, true, pool.found);
    }
  }

  /** Gives back what was pinned for this read, and makes its entries 0 again. */
  unpinNew({ buffers, at, known, pinned }: ReadOperation, pool: ReadBuffers): void {
    for (let index = known; index < pinned; index++) {
      pool.unpin(buffers[at + index] as number);
      buffers[at + index] = 0;
    }
  }

  /** Pins the next block. @returns false if that has to wait */
  #pinNext(operation: ReadOperation, pool: ReadBuffers): boolean {
    const { buffers, at, pinned } = operation;
    const known = buffers[at + pinned] as number;
    if (known !== 0) {
      this.#notePinned(operation, pool, false, pool.isValid(known));
      return true;
    }
    const { relation, fork, ring, block } = operation;
    const buffer = pool.tryPin(relation, fork, block + pinned, ring);
    if (buffer === 0) return false;
    buffers[at + pinned] = buffer;
    this.#notePinned(operation, pool, true, pool.found);
    return true;
  }

  /** A block is pinned. One that is there already ends the read; if it is the first, there is nothing to read. */
  #notePinned(operation: ReadOperation, pool: ReadBuffers, isNew: boolean, isValid: boolean): void {
    const index = operation.pinned;
    operation.pinned = index + 1;
    if (isValid) {
      if (isNew) countReadHit(this.#context, operation, pool);
      operation.count = Math.max(1, index);
      if (index === 0) operation.done = 1;
    } else if (index === 0) {
      operation.count = Math.min(operation.count, this.#context.files.runMax(operation.block));
    }
  }
}

/** Counts a block of a read that was there, or that somebody else has read. */
export function countReadHit({ counters }: BackendContext, { ring }: ReadOperation, pool: ReadBuffers): void {
  counters.count(COUNTED.hit, pool.context(ring), pool.isTemporary);
}

/**
 * Extending relations of any kind, by a number of blocks or up to a size, in the numbers that callers use.
 *
 * A shared relation is extended under its lock (extend.ts), a temporary one in the backend's own buffers (local-extend.ts).
 * Up to a size goes in chunks, and only the last page stays pinned. If somebody else has extended the relation that far, the
 * page is read: the caller gets it in any case. After ExtendBufferedRelBy and ExtendBufferedRelTo of PostgreSQL 18.
 */
import type { BackendContext } from "./backend-context.js";
import type { Extender } from "./extend.js";
import { EXTEND_CHUNK, forkSize } from "./extension.js";
import type { Extension, ExtensionWish, ExtendOptions, ExtendToOptions } from "./extension.js";
import { extendLocal } from "./local-extend.js";
import type { LocalBuffers } from "./local-buffers.js";
import { isLockingMode } from "./page-reader.js";
import type { PageReader } from "./page-reader.js";
import { FORK } from "./tag.js";
import type { Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** What extending needs of its backend. */
export interface RelationExtenderParts {
  readonly context: BackendContext;
  /** Its buffers for temporary relations. */
  readonly local: LocalBuffers;
  readonly pages: PageReader;
}

/** Extends relations for one backend. Buffers have the numbers that callers use. */
export class RelationExtender {
  readonly #parts: RelationExtenderParts;
  readonly #shared: Extender;

  /** @param shared extends what all backends see */
  constructor(parts: RelationExtenderParts, shared: Extender) {
    this.#parts = parts;
    this.#shared = shared;
  }

  /**
   * Adds blocks of zeros.
   *
   * @param count from 1; fewer are added if this backend should not pin so many buffers
   * @returns where the fork ended, and the buffers of the new blocks, pinned
   * @throws {BufferError} ERR_BUFFER_BEYOND_EOF_DATA: a buffer has data of a block that the file lacks;
   *   ERR_BUFFER_MAX_BLOCKS; ERR_BUFFER_NO_UNPINNED, ERR_BUFFER_NO_LOCAL; ERR_BUFFER_FILE: the file could not be extended
   */
  *extend(relation: Relation, count: number, options: ExtendOptions = {}): Waiting<Extension> {
    if (!Number.isInteger(count) || count < 1) throw new RangeError(`not a number of blocks: ${count}`);
    return yield* this.#extend(relation, { ...options, count });
  }

  /**
   * Extends a fork to a number of blocks, if it has fewer.
   *
   * @param isBlocking the caller sleeps until the page is there
   * @returns the buffer of the last of them, pinned, and locked if the mode says so, whoever has made it
   * @throws {BufferError} as `extend`, and as reading the page in this mode
   */
  *extendTo(
    relation: Relation,
    blocks: number,
    options: ExtendToOptions = {},
    isBlocking = true,
  ): Waiting<number> {
    if (!Number.isInteger(blocks) || blocks < 1) throw new RangeError(`not a number of blocks: ${blocks}`);
    const { context, pages } = this.#parts;
    const { fork = FORK.main, ring = null, mode = "normal", createFork = false, skipLock = false } = options;
    const fixed = { fork, ring, createFork, skipLock, upTo: blocks, lockTarget: isLockingMode(mode) };
    let size = forkSize(context.files, relation, fork, options);
    let target = 0;
    while (size < blocks) {
      const count = Math.min(EXTEND_CHUNK, blocks - size);
      const { first, buffers } = yield* this.#extend(relation, { ...fixed, count });
      size = first + buffers.length;
      for (const [index, buffer] of buffers.entries()) {
        if (first + index === blocks - 1) target = buffer;
        else this.#unpin(buffer);
      }
    }
    return target === 0 ? yield* pages.read(relation, fork, blocks - 1, ring, mode, isBlocking) : target;
  }

  #unpin(buffer: number): void {
    if (buffer > 0) this.#parts.context.pins.unpin(buffer - 1);
    else this.#parts.local.unpin(-1 - buffer);
  }

  *#extend(relation: Relation, wish: ExtensionWish): Waiting<Extension> {
    const isTemporary = relation.persistence === "temporary";
    const { context, local } = this.#parts;
    const { first, buffers } = isTemporary
      ? yield* extendLocal(context, local, relation, wish)
      : yield* this.#shared.extend(relation, wish);
    return { first, buffers: buffers.map((buffer) => (isTemporary ? -1 - buffer : buffer + 1)) };
  }
}

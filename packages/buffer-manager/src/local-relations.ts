/**
 * What is done with all pages of a temporary relation: writing them, forgetting them.
 *
 * Another flow of the thread may change what a buffer holds while this one waits: each is looked at again. After
 * FlushRelationBuffers and DropRelationLocalBuffers of PostgreSQL 18.
 */
import { REFCOUNT_MASK, STATE } from "./buffer-state.js";
import type { ForkFrom } from "./drop.js";
import { BufferError } from "./errors.js";
import type { LocalBuffers } from "./local-buffers.js";
import type { Relation, Tag } from "./tag.js";
import type { Waiting } from "./waiting.js";

/**
 * Writes every dirty page of a temporary relation.
 *
 * @returns pages written
 * @throws {AioIoError} one could not be written: it stays dirty
 */
export function* flushLocal(locals: LocalBuffers, relation: Relation): Waiting<number> {
  let written = 0;
  for (const buffer of locals.ofRelation(relation)) {
    if ((locals.state(buffer) & STATE.dirty) === 0 || !isOf(locals.tag(buffer), relation)) continue;
    locals.pin(buffer, false);
    try {
      yield* locals.flush(buffer);
      written += 1;
    } finally {
      locals.unpin(buffer);
    }
  }
  return written;
}

/**
 * Forgets pages of a temporary relation's forks, dirty or not, from a block on each. I/O under way is waited for.
 *
 * @returns pages forgotten
 * @throws {BufferError} ERR_BUFFER_PINNED_IN_DROP: a page is pinned; those before it are forgotten
 */
export function* dropLocal(
  locals: LocalBuffers,
  relation: Relation,
  forks: readonly ForkFrom[],
): Waiting<number> {
  let dropped = 0;
  for (const buffer of locals.ofRelation(relation)) {
    if (!isDropped(locals.tag(buffer), relation, forks)) continue;
    yield* locals.waitForIo(buffer);
    const tag = locals.tag(buffer);
    if (!isDropped(tag, relation, forks)) continue;
    if ((locals.state(buffer) & REFCOUNT_MASK) !== 0) {
      const message = `block ${tag.block} of temporary relation ${tag.relation} is pinned and cannot be dropped`;
      throw new BufferError("ERR_BUFFER_PINNED_IN_DROP", message);
    }
    locals.forget(buffer);
    dropped += 1;
  }
  return dropped;
}

function isOf(tag: Tag, { tablespace, database, relation }: Relation): boolean {
  return tag.relation === relation && tag.database === database && tag.tablespace === tablespace;
}

function isDropped(tag: Tag, relation: Relation, forks: readonly ForkFrom[]): boolean {
  return isOf(tag, relation) && forks.some(({ fork, from }) => fork === tag.fork && tag.block >= from);
}

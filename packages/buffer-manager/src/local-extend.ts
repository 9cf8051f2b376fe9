/**
 * Extending a temporary relation: new blocks of zeros, in local buffers.
 *
 * No lock is needed, since nobody else knows the relation; the buffers are had before the file grows, so that a pool without a
 * free one leaves it as it was. After ExtendBufferedRelLocal of PostgreSQL 18.
 */
import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import { BufferError } from "./errors.js";
import type { LocalBuffers } from "./local-buffers.js";
import { isNewPage } from "./set-checksum.js";
import { PAGE_BYTES } from "./settings.js";
import { CONTEXT, COUNTED } from "./statistics.js";
import { INVALID_BLOCK } from "./tag.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/** New blocks. */
export interface Extension {
  readonly firstBlock: number;
  /** Local buffers from 0, pinned, one for each block. */
  readonly buffers: readonly number[];
}

/**
 * Appends blocks to a temporary relation: as many as wanted, but no more than the pins that may still be added, and one
 * in any case.
 *
 * @throws {BufferError} ERR_BUFFER_NO_LOCAL; ERR_BUFFER_MAX_BLOCKS; ERR_BUFFER_BEYOND_EOF_DATA: the pool has a page there
 *   that is not empty, as if the file had become shorter behind its back. Nothing stays pinned then
 */
export function* extendLocal(
  context: BackendContext,
  locals: LocalBuffers,
  relation: Relation,
  fork: Fork,
  wanted: number,
): Waiting<Extension> {
  const count = Math.max(1, Math.min(wanted, locals.additionalPins));
  const buffers: number[] = [];
  try {
    while (buffers.length < count) buffers.push(yield* locals.getVictim());
    const firstBlock = context.files.blocks(relation, fork);
    if (firstBlock + count > INVALID_BLOCK) {
      throw new BufferError(
        "ERR_BUFFER_MAX_BLOCKS",
        `relation ${relation.relation} has as many blocks as it can`,
      );
    }
    for (let index = 0; index < count; index++) {
      buffers[index] = adopt(context, locals, relation, fork, firstBlock + index, buffers[index] as number);
    }
    context.files.zeroExtend(relation, fork, firstBlock, count);
    for (const buffer of buffers) locals.terminateIo(buffer, false, STATE.valid, false);
    context.counters.count(COUNTED.extend, CONTEXT.normal, true, 1, count * PAGE_BYTES);
    return { firstBlock, buffers };
  } catch (error) {
    for (const buffer of buffers) locals.unpin(buffer);
    throw error;
  }
}

/** The buffer for a new block, zeroed: the victim, or what an extension that failed has left. */
function adopt(
  context: BackendContext,
  locals: LocalBuffers,
  relation: Relation,
  fork: Fork,
  block: number,
  victim: number,
): number {
  const known = locals.lookup(relation, fork, block);
  const buffer = known < 0 ? victim : known;
  const frame = locals.frame(buffer);
  if (known < 0) locals.insert(victim, relation, fork, block);
  else {
    if (locals.isValid(known) && !isNewPage(context.frames.view(frame))) {
      const message = `relation ${relation.relation} is to be extended by block ${block}, which has a page that is not empty`;
      throw new BufferError("ERR_BUFFER_BEYOND_EOF_DATA", message);
    }
    locals.pin(known);
    locals.unpin(victim);
    locals.clearValid(known);
  }
  context.frames.zero(frame);
  return buffer;
}

/**
 * Extending a temporary relation: new blocks of zeros, in local buffers.
 *
 * No lock is needed, since nobody else knows the relation; the buffers are had before the file grows, so that a pool without a
 * free one leaves it as it was. From the look at the size on nothing is waited for: another flow of the same thread may extend
 * the relation as well. After ExtendBufferedRelLocal of PostgreSQL 18.
 */
import type { BackendContext } from "./backend-context.js";
import { STATE } from "./buffer-state.js";
import { beyondEnd, BLOCKS_MAX, forkSize, tooLong } from "./extension.js";
import type { Extension, ExtensionWish } from "./extension.js";
import type { LocalBuffers } from "./local-buffers.js";
import { isNewPage } from "./set-checksum.js";
import { PAGE_BYTES } from "./settings.js";
import { CONTEXT, COUNTED } from "./statistics.js";
import { FORK } from "./tag.js";
import type { Fork, Relation } from "./tag.js";
import type { Waiting } from "./waiting.js";

/**
 * Appends blocks to a temporary relation: as many as wanted, but no more than the pins that may still be added, and one
 * in any case.
 *
 * @returns local buffers from 0, pinned, one for each block; fewer if the fork has as many blocks as are wanted
 * @throws {BufferError} ERR_BUFFER_NO_LOCAL; ERR_BUFFER_MAX_BLOCKS; ERR_BUFFER_FILE; ERR_BUFFER_BEYOND_EOF_DATA: a buffer has
 *   a page there that is not empty, as if the file had become shorter behind its back. Nothing stays pinned then
 */
export function* extendLocal(
  context: BackendContext,
  locals: LocalBuffers,
  relation: Relation,
  wish: ExtensionWish,
): Waiting<Extension> {
  const { files, counters } = context;
  const { fork = FORK.main, upTo = Infinity } = wish;
  const wanted = Math.max(1, Math.min(wish.count, locals.additionalPins));
  const buffers: number[] = [];
  try {
    while (buffers.length < wanted) buffers.push(yield* locals.getVictim());
    const first = yield* endOf(context, locals, relation, wanted, wish);
    while (buffers.length > Math.max(0, upTo - first)) locals.unpin(buffers.pop() as number);
    const count = buffers.length;
    if (first + count >= BLOCKS_MAX) throw tooLong(first);
    for (let index = 0; index < count; index++) {
      buffers[index] = adopt(context, locals, relation, fork, first + index, buffers[index] as number);
    }
    if (count > 0) {
      const begun = performance.now();
      files.zeroExtend(relation, fork, first, count);
      counters.count(COUNTED.extend, CONTEXT.normal, true, 1, count * PAGE_BYTES);
      counters.time(COUNTED.extend, CONTEXT.normal, true, performance.now() - begun);
    }
    for (const buffer of buffers) locals.terminateIo(buffer, false, STATE.valid, false);
    return { first, buffers };
  } catch (error) {
    for (const buffer of buffers) locals.unpin(buffer);
    throw error;
  }
}

/** Where the fork ends, once no I/O is under way on the blocks behind it: somebody may have tried to read them. */
function* endOf(
  { files }: BackendContext,
  locals: LocalBuffers,
  relation: Relation,
  count: number,
  wish: ExtensionWish,
): Waiting<number> {
  const { fork = FORK.main } = wish;
  for (;;) {
    const first = forkSize(files, relation, fork, wish);
    let ref;
    for (let block = first; block < first + count && ref === undefined; block++) {
      const known = locals.lookup(relation, fork, block);
      if (known >= 0) ref = locals.io(known);
    }
    if (ref === undefined) return first;
    yield { kind: "io", ref };
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
    const isData = locals.isValid(known) && !isNewPage(context.frames.view(frame));
    if (isData) throw beyondEnd(context.files, relation, fork, block);
    locals.pin(known);
    locals.unpin(victim);
    locals.clearValid(known);
  }
  context.frames.zero(frame);
  return buffer;
}
